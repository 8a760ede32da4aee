#!/bin/sh
# Builds the Debian package from the programs in build/bin: deb.sh VERSION ARCH
set -eu
version=$1 arch=$2
cd "$(dirname "$0")/.."
root=build/deb
rm -rf "$root"
install -D -m 755 build/bin/lls-agent "$root/usr/bin/lls-agent"
for p in lls lls-hook lls-mount; do install -D -m 755 "build/bin/$p" "$root/usr/lib/lls/$p"; done
install -D -m 644 packaging/systemd/lls-agent.service "$root/usr/lib/systemd/system/lls-agent.service"
install -D -m 644 packaging/lxc/lls.conf "$root/usr/share/lxc/config/common.conf.d/30-lls.conf"
install -D -m 644 packaging/dbus/org.lls.Agent1.conf "$root/usr/share/dbus-1/system.d/org.lls.Agent1.conf"
install -D -m 644 packaging/lls.toml "$root/usr/share/lls/lls.toml"
install -D -m 644 lls.toml.example "$root/usr/share/doc/lls/lls.toml.example"
for f in README.md ARCHITECTURE.md CHANGELOG.md; do install -D -m 644 "$f" "$root/usr/share/doc/lls/$f"; done
install -D -m 644 packaging/completions/lls-agent.bash "$root/usr/share/bash-completion/completions/lls-agent"
install -D -m 644 packaging/completions/lls.bash "$root/usr/share/lls/completions/lls.bash"
install -D -m 644 packaging/completions/lls-agent.zsh "$root/usr/share/zsh/vendor-completions/_lls-agent"
install -D -m 644 packaging/completions/lls.zsh "$root/usr/share/lls/completions/_lls"
for page in lls.1 lls-agent.8; do
    install -d "$root/usr/share/man/man${page##*.}"
    gzip -9n <"packaging/man/$page" >"$root/usr/share/man/man${page##*.}/$page.gz"
done
install -d "$root/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" packaging/debian/control >"$root/DEBIAN/control"
for s in postinst prerm postrm; do install -m 755 "packaging/debian/$s" "$root/DEBIAN/$s"; done
dpkg-deb --root-owner-group -Zgzip --build "$root" "build/lls_${version}_${arch}.deb" >/dev/null
echo "build/lls_${version}_${arch}.deb"
