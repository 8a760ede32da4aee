#!/bin/sh
# A guest to play in: LLS on the empty disk, a dataset with some files, and two containers.
set -e
lls-agent init --device "$LLS_LAB_DISK" --yes
lls-agent create genomes --size 1G
mkdir -p /mnt/genomes
lls-agent mount genomes /mnt/genomes
for n in 1 2 3; do head -c 1000000 /dev/urandom >"/mnt/genomes/sample$n"; done
lls-agent umount genomes
lab-container c1
lab-container c2 --privileged
cat <<'WELCOME'

This is the host. c1 is an unprivileged container, c2 a privileged one.
  lls-agent status                                            what the sysadmin sees
  lab-exec c1 lls snapshot genomes mine --mount /data         what a developer types in c1
  lab-exec c1 sh                                              to be root of c1
exit ends it all.
WELCOME
exec bash -l
