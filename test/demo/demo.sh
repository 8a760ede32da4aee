#!/bin/sh
# The main job of LLS, told step by step, in the lab's guest: real LVM, real LXC. Each step is checked; the first that does not hold
# ends the story with status 1. What follows a "#" prompt is what somebody types; the checks are this script's own.
set -u

say() { printf '\n%s\n' "$*"; }
ok() { printf '   ok: %s\n' "$*"; }
fail() {
    printf '\nFAILED: %s\n' "$*"
    journalctl --no-pager -q -u lls-agent -n 30
    exit 1
}

# sysadmin COMMAND...: root types it on the host.
sysadmin() {
    printf '\nsysadmin# %s\n' "$*"
    "$@" || fail "'$*' ended with status $?"
}
# dev CONTAINER COMMAND...: root of the container types it there.
dev() {
    printf '\n%s# ' "$1"
    who=$1
    shift
    printf '%s\n' "$*"
    lab-exec "$who" "$@" || fail "'$*' in $who ended with status $?"
}
# devsh CONTAINER TEXT: a line with redirections, typed into the container's shell.
devsh() {
    printf '\n%s# %s\n' "$1" "$2"
    lab-exec "$1" sh -c "$2" || fail "'$2' in $1 ended with status $?"
}
# quiet CONTAINER COMMAND...: a look of ours into a container.
quiet() { lab-exec "$@" </dev/null; }

# mounted CONTAINER PATH: is there a mount at PATH, in the kernel's words?
mounted() { quiet "$1" grep -q " / $2 " /proc/1/mountinfo; }
# mount_id CONTAINER PATH: which mount it is; the number changes when it is made anew.
mount_id() { quiet "$1" awk -v p="$2" '$5 == p { print $1 ":" $3 }' /proc/1/mountinfo; }
sums() { (cd "$1" && find . -type f -exec sha256sum {} + | sort -k 2); }

# dataset_unchanged WHO: the dataset, looked at on the host, is what the sysadmin put there.
dataset_unchanged() {
    lls-agent mount genomes /mnt/genomes --ro >/dev/null || fail "the dataset cannot be looked at"
    sums /mnt/genomes >/root/sums.now
    lls-agent umount genomes >/dev/null || fail "the dataset cannot be unmounted"
    cmp -s /root/sums.then /root/sums.now || fail "$1 changed the dataset: $(diff /root/sums.then /root/sums.now)"
    ok "the dataset is unchanged: the same $(wc -l </root/sums.now) files with the same checksums"
}
# story CONTAINER: a developer takes a snapshot and works in it.
story() {
    c=$1
    dev "$c" lls list
    quiet "$c" lls list --json | jq -e 'any(.name == "genomes" and .owner == "host")' >/dev/null || fail "$c does not see the dataset"
    began=$(date +%s%N)
    dev "$c" lls snapshot genomes mine --mount /data
    ok "$((($(date +%s%N) - began) / 1000000)) ms, entering the container included"
    mounted "$c" /data || fail "/data of $c is not mounted"
    [ "$(quiet "$c" cat /data/human/chr1.fa | sha256sum)" = "$(sed -n 's,  ./human/chr1.fa$,  -,p' /root/sums.then)" ] ||
        fail "$c does not find the dataset's file in its snapshot"
    devsh "$c" "echo 'my notes' >/data/notes; rm /data/human/chr2.fa; echo changed >>/data/human/chr1.fa; sync"
    dev "$c" ls -l /data /data/human
    [ "$(quiet "$c" cat /data/notes)" = "my notes" ] && ! quiet "$c" test -e /data/human/chr2.fa || fail "$c's changes are not in its snapshot"
    [ "$(quiet "$c" stat -c %u:%g /data/notes /data/human | sort -u)" = 0:0 ] || fail "the files in $c do not belong to its root"
    dataset_unchanged "$c"
}

say "== 1. The sysadmin sets up LLS on an empty disk and publishes a dataset."
sysadmin lls-agent init --device "$LLS_LAB_DISK"
sysadmin lls-agent create genomes --size 2G
sysadmin mkdir -p /mnt/genomes
sysadmin lls-agent mount genomes /mnt/genomes
say "It is filled with files, by whatever means the sysadmin has."
sysadmin mkdir /mnt/genomes/human
for n in 1 2 3 4; do
    printf '\nsysadmin# dd if=/dev/urandom of=/mnt/genomes/human/chr%s.fa bs=1M count=8\n' "$n"
    dd if=/dev/urandom of="/mnt/genomes/human/chr$n.fa" bs=1M count=8 2>/dev/null || fail "cannot write chr$n.fa"
done
sums /mnt/genomes >/root/sums.then
[ "$(wc -l </root/sums.then)" = 4 ] || fail "the dataset has not its 4 files"
sysadmin lls-agent umount genomes
sysadmin lls-agent list
grep -q ' /mnt/genomes ' /proc/self/mountinfo && fail "the dataset is still mounted on the host"
lls-agent info genomes --json | jq -e '.size == 2147483648 and .visibility == "visible" and .access == "ro"' >/dev/null || fail "the dataset is not a visible one of 2 GiB"
ok "a visible dataset of 2 GiB, mounted nowhere"

say "== 2. A developer in an unprivileged container, whose root is no more than an ordinary user of the host."
sysadmin lab-container c1
story c1

say "== 3. A second developer, in a privileged container, does exactly the same, under the same name."
sysadmin lab-container c2 --privileged
story c2
[ "$(quiet c1 cat /proc/self/uid_map | awk '{print $2}')" != 0 ] && [ "$(quiet c2 cat /proc/self/uid_map | awk '{print $2}')" = 0 ] ||
    fail "the containers are not of the two kinds"
sysadmin lls-agent list
[ "$(lls-agent list --json | jq '[.[] | select(.name | endswith("/mine"))] | length')" = 2 ] || fail "there are not two snapshots called mine"
ok "two snapshots called mine, each its container's own"

say "== 4. The second developer deletes the snapshot, and thinks better of it."
dev c2 lls umount mine
dev c2 lls delete mine
quiet c2 lls list --json | jq -e 'any(.name == "mine") | not' >/dev/null || fail "mine is still listed after delete"
dev c2 lls list --all
dev c2 lls undelete mine
dev c2 lls mount mine /data
mounted c2 /data && [ "$(quiet c2 cat /data/notes)" = "my notes" ] || fail "what was undeleted is not what was deleted"
ok "the notes are still there"
mounted c1 /data || fail "c1 lost its mount meanwhile"

say "== 5. The agent is killed. Programs of both developers have files open in their snapshots and go on writing."
for c in c1 c2; do
    printf '\n%s# (exec 3<>/data/log; while echo tick >&3; do sleep 0.2; done) &\n' "$c"
    lab-exec "$c" sh -c 'exec 3<>/data/log; echo $$ >/run/writer; while echo tick >&3; do sleep 0.2; done' </dev/null >/dev/null 2>&1 &
done
for c in c1 c2; do
    for _ in $(seq 50); do quiet "$c" test -s /data/log && break; sleep 0.1; done
    eval "writer_$c=\$(quiet $c cat /run/writer) id_$c=\$(mount_id $c /data) lines_$c=\$(quiet $c wc -l </dev/null /data/log | awk '{print \$1}')"
done
agent=$(systemctl show --property MainPID --value lls-agent)
init_c1=$(lxc-info -n c1 -p -H) init_c2=$(lxc-info -n c2 -p -H)
[ "$agent" -gt 1 ] || fail "the agent does not run"
sysadmin kill -KILL "$agent"
say "systemd starts it again."
for _ in $(seq 100); do
    now=$(systemctl show --property MainPID --value lls-agent)
    [ "$now" != 0 ] && [ "$now" != "$agent" ] && systemctl is-active --quiet lls-agent && lls-agent status >/dev/null 2>&1 && break
    sleep 0.1
done
[ "$now" != 0 ] && [ "$now" != "$agent" ] || fail "systemd did not start the agent again"
sysadmin systemctl show --property MainPID,NRestarts,ActiveState lls-agent
for c in c1 c2; do
    eval "writer=\$writer_$c id=\$id_$c lines=\$lines_$c init=\$init_$c"
    [ "$(lxc-info -n "$c" -p -H)" = "$init" ] || fail "$c was restarted"
    [ -n "$id" ] && [ "$(mount_id "$c" /data)" = "$id" ] || fail "the mount at /data of $c is not the one it was: $id"
    [ "$(quiet "$c" readlink "/proc/$writer/fd/3")" = /data/log ] || fail "the program in $c lost its open file"
    more=$(quiet "$c" wc -l /data/log | awk '{print $1}')
    for _ in $(seq 50); do
        [ "$more" -gt "$lines" ] && break
        sleep 0.1
        more=$(quiet "$c" wc -l /data/log | awk '{print $1}')
    done
    [ "$more" -gt "$lines" ] || fail "the program in $c does not write any more"
    ok "$c: the same mount, the same open file, $((more - lines)) lines more in it"
    dev "$c" lls snapshot mine second --mount /srv
    mounted "$c" /srv && [ "$(quiet "$c" cat /srv/notes)" = "my notes" ] || fail "lls does not work again in $c"
    quiet "$c" kill "$writer"
done
ok "lls works again in both containers, which were not restarted"

say "== 6. A container is restarted and finds /lls working."
sysadmin lxc-stop -n c1
sysadmin lxc-start -n c1
sysadmin lxc-wait -n c1 -s RUNNING -t 30
for _ in $(seq 100); do quiet c1 test -e /run/ready 2>/dev/null && break; sleep 0.1; done
dev c1 ls /lls /lls/bin
dev c1 lls list
quiet c1 lls list --json | jq -e 'any(.name == "mine" and .origin == "genomes") and any(.name == "second")' >/dev/null || fail "c1 does not find its snapshots"
dev c1 lls mount mine /data
mounted c1 /data && [ "$(quiet c1 cat /data/notes)" = "my notes" ] || fail "c1 does not find its notes"
dataset_unchanged "all of this"

say "Every step held."
