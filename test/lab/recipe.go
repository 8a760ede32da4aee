package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
)

// recipeEpoch is raised when the way images are made changes in the code rather
// than in a recipe's fields.
const recipeEpoch = 1

const mirror = "http://deb.debian.org/debian"

// recipe says all that makes up a guest image. Its hash names the image, so a
// changed recipe is a new image.
type recipe struct {
	Epoch    int
	Backend  backendName
	Guest    suite
	Mirror   string
	Packages []string
	Files    map[string]imageFile // by absolute path in the guest
	Links    map[string]string    // symbolic links, by absolute path
	Early    map[string]imageFile // files that must be there before packages are configured
	Profiles []string             `json:",omitempty"` // names (globs) of the AppArmor profiles to keep; nil keeps all
	Size     int64                // bytes of the root file system (sparse)
	Kernel   string               // hash of the kernel's recipe, "" where the image brings its own
}

// imageFile is a file put into an image, owned by root.
type imageFile struct {
	Mode uint32
	Text string
}

// guestPackages is what every guest has.
var guestPackages = []string{
	"systemd", "systemd-sysv", "udev", "dbus", "libpam-systemd", "kmod", "iproute2", "util-linux",
	"lvm2", "lvm2-dbusd", "thin-provisioning-tools", "dmsetup", "dmeventd",
	"lxc", "uidmap", "busybox-static", "apparmor",
	"e2fsprogs", "xfsprogs", "fuse3", "attr", "acl",
	"procps", "psmisc", "jq", "strace", "socat", "curl", "fio",
	"postfix",
}

// masked units cost boot time and mean nothing in a guest that lives for one
// command.
var masked = []string{
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
	"fstrim.timer", "xfs_scrub_all.timer", "logrotate.timer", "man-db.timer", "systemd-tmpfiles-clean.timer",
	"getty.target", "getty@tty1.service", "console-getty.service", "serial-getty@.service",
	"systemd-pstore.service", "systemd-networkd-wait-online.service",
	"ldconfig.service", "systemd-hwdb-update.service", "systemd-journal-catalog-update.service", "systemd-update-done.service",
	"postfix-resolvconf.path", "postfix-resolvconf.service",
}

// asleep services start at boot on a machine of their own; here the tests that need one start it. A link to nothing masks the
// dependency, not the service: systemd.unit(5).
var asleep = []string{"postfix.service"}

// The guest boots into lab.target, which comes after all of multi-user.target,
// so that the command finds every service started, LLS's included.
const (
	labTarget = `[Unit]
Description=The lab
Requires=multi-user.target
After=multi-user.target
Wants=lab.service
AllowIsolate=yes
`
	labService = `[Unit]
Description=The lab's guest side
After=multi-user.target
RequiresMountsFor=/lab /share

[Service]
Type=simple
ExecStart=/lab/lab guest
WorkingDirectory=/root
StandardInput=null
StandardOutput=journal+console
StandardError=journal+console
KillMode=process
Delegate=yes
OOMScoreAdjust=-900
TasksMax=infinity
LimitNOFILE=1048576
`
	// Nobody is there to log in: say why and go down, which ends the run.
	emergency = `[Unit]
Description=The guest did not boot
DefaultDependencies=no
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
ExecStart=/usr/bin/journalctl -b --no-pager -p warning
StandardOutput=tty
TTYPath=/dev/console
`
	// The package goes in before systemd starts, so that its services start as
	// they do on a machine that has it, and without the reloads that an
	// installation under a running systemd takes (2.5 s, 16 s translated).
	firstProcess = `#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc -o nosuid,nodev,noexec proc /proc
mount /lab
if [ -e ` + guestDeb + ` ] && [ ! -e ` + guestHasDeb + ` ]; then
	if dpkg -i ` + guestDeb + ` >` + guestDebLog + ` 2>&1 && sync; then
		: >` + guestHasDeb + `
	fi
fi
exec /sbin/init "$@"
`
	// lxc-net would wait for a bridge for half a minute: the guest has a
	// loopback network only.
	lxcNet = "USE_LXC_BRIDGE=\"false\"\n"
	// 64 ranges of 65536 ids, one for each unprivileged container.
	subordinateIDs = "root:100000:4194304\n"
	// A mail server for this machine alone, as its package would set it up for "local only", with root's mail to root and not to
	// an alias.
	postfixMain = `compatibility_level = 3.6
myhostname = lab
mydestination = lab, localhost
mynetworks = 127.0.0.0/8 [::1]/128
inet_interfaces = loopback-only
alias_maps =
alias_database =
biff = no
`
	machineID = "6c61622d6c6c732d6c61622d6c6c7301\n"
)

// fstab mounts the lab's and the caller's folder. bookworm's mount speaks the
// old system call, to which hostfs wants the bare path, trixie's the new one, to
// which it wants a key.
func fstab(b backendName, s suite) string {
	if b == backendUML {
		key := "hostfs="
		if s == suiteBookworm {
			key = ""
		}
		return fmt.Sprintf("none /lab hostfs %s/run/lab 0 0\nnone /share hostfs %s/share 0 0\n", key, key)
	}
	const opts = "trans=virtio,version=9p2000.L,msize=262144,cache=mmap"
	return "lab /lab 9p " + opts + " 0 0\nshare /share 9p " + opts + " 0 0\n"
}

// guestRecipe is the recipe of one backend's image of one suite.
func guestRecipe(b backendName, s suite) recipe {
	r := recipe{
		Epoch: recipeEpoch, Backend: b, Guest: s, Mirror: mirror, Size: 8 << 30,
		Packages: append([]string(nil), guestPackages...),
		Files: map[string]imageFile{
			"/etc/fstab":                                   {0o644, fstab(b, s)},
			"/etc/hostname":                                {0o644, "lab\n"},
			"/etc/hosts":                                   {0o644, "127.0.0.1 localhost\n127.0.1.1 lab\n::1 localhost\n"},
			"/etc/machine-id":                              {0o444, machineID},
			"/etc/mailname":                                {0o644, "lab\n"},
			"/etc/postfix/main.cf":                         {0o644, postfixMain},
			"/etc/subuid":                                  {0o644, subordinateIDs},
			"/etc/subgid":                                  {0o644, subordinateIDs},
			"/etc/default/lxc-net":                         {0o644, lxcNet},
			"/etc/systemd/system/lab.target":               {0o644, labTarget},
			"/usr/local/sbin/lab-init":                     {0o755, firstProcess},
			"/etc/systemd/system/emergency.service":        {0o644, emergency},
			"/etc/systemd/system/lab.service":              {0o644, labService},
			"/etc/systemd/system.conf.d/lab.conf":          {0o644, "[Manager]\nDefaultTimeoutStopSec=15s\n"},
			"/etc/systemd/journald.conf.d/lab.conf":        {0o644, "[Journal]\nRateLimitIntervalSec=0\n"},
			"/etc/dpkg/dpkg.cfg.d/lab":                     {0o644, "force-unsafe-io\n"},
			"/etc/sysctl.d/lab.conf":                       {0o644, "kernel.sysrq = 1\nkernel.printk = 5 4 1 5\n"},
			"/etc/systemd/system/lxc-net.service.d/l.conf": {0o644, "[Unit]\nAfter=\nAfter=network.target\n"},
		},
		Links: map[string]string{
			"/etc/systemd/system/default.target": "/etc/systemd/system/lab.target",
			"/usr/local/bin/lab-container":       "/lab/lab",
			"/usr/local/bin/lab-exec":            "/lab/lab",
			"/usr/local/bin/lab-reboot":          "/lab/lab",
		},
	}
	for _, unit := range masked {
		r.Links["/etc/systemd/system/"+unit] = "/dev/null"
	}
	for _, unit := range asleep {
		r.Links["/etc/systemd/system/multi-user.target.wants/"+unit] = "/dev/null"
	}
	if b == backendQEMU {
		r.Packages = append(r.Packages, "linux-image-amd64", "initramfs-tools", "zstd")
		// A hundred profiles of programs that are not there would be compiled at
		// each boot.
		r.Profiles = []string{"lxc-containers", "usr.bin.lxc-*"}
		r.Early = map[string]imageFile{
			"/etc/initramfs-tools/conf.d/lab":          {0o644, "MODULES=list\nCOMPRESS=zstd\n"},
			"/usr/share/initramfs-tools/modules.d/lab": {0o644, "virtio_pci\nvirtio_blk\next4\n"},
		}
	} else {
		r.Kernel = umlKernelRecipe().key()
	}
	sort.Strings(r.Packages)
	return r
}

// kernelRecipe says where user-mode Linux comes from. It needs a libc newer
// than the machine's or the guest's, so it brings its own.
type kernelRecipe struct {
	Epoch    int
	Suite    string
	Mirror   string
	Packages []string
}

func umlKernelRecipe() kernelRecipe {
	return kernelRecipe{Epoch: recipeEpoch, Suite: "forky", Mirror: mirror, Packages: []string{"user-mode-linux", "libc6", "libgcc-s1"}}
}

func (r recipe) key() string       { return fmt.Sprintf("%s-%s-%s", r.Guest, r.Backend, hash(r)) }
func (r kernelRecipe) key() string { return "uml-kernel-" + hash(r) }

// hash is a short name for a value: equal values have equal names.
func hash(v any) string {
	// Maps are encoded in the order of their keys. Recipes always encode.
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("recipe does not encode: %v", err))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}
