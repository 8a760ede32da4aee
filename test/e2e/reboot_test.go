package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"lls/test/kit"
)

// beforeReboot is where the state before the reboot is kept.
const beforeReboot = "/root/before-reboot.json"

// rebootFacts are what must be the same afterwards.
type rebootFacts struct {
	Names []string // NAME.ID and the tags of the pool and of every volume
	File  string   // that holds the pool
}

// prepareReboot makes the guest as it was before LLS was set up, and sets it up as a newcomer would: with no words at all.
func prepareReboot() error {
	run := func(args ...string) (string, error) {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return string(out), err
	}
	if _, err := os.Stat("/var/lib/lxc/alice"); err == nil {
		for _, name := range []string{"alice", "bob", "root"} {
			if _, err := run("lxc-destroy", "--force", "-n", name); err != nil {
				return err
			}
		}
	}
	for _, step := range [][]string{
		{"systemctl", "stop", kit.Unit},
		{"sh", "-c", "if vgs lls; then vgremove -ff -y lls && pvremove \"$LLS_LAB_DISK\"; fi"},
		{"cp", "/usr/share/lls/lls.toml", kit.Config},
		{"systemctl", "start", kit.Unit},
		{"lls-agent", "init"},
		{"lls-agent", "create", "base", "--size", "1G"},
		{"lls-agent", "mount", "base", "/mnt"},
		{"sh", "-c", "echo kept >/mnt/file"},
		{"lls-agent", "umount", "base"},
		{"lab-container", "carol"},
		{"lab-exec", "carol", "lls", "snapshot", "base", "mine", "--mount", "/data"},
		{"lab-exec", "carol", "sh", "-c", "echo mine >/data/file; sync"},
		{"lab-exec", "carol", "lls", "create", "gone", "--size", "64M"},
		{"lab-exec", "carol", "lls", "delete", "gone"},
	} {
		if _, err := run(step...); err != nil {
			return err
		}
	}
	for name, how := range autostarted() {
		if _, err := run(append([]string{"lab-container", name, "--no-start"}, how.flags...)...); err != nil {
			return err
		}
		// Its init writes down what is mounted before it does anything else.
		for _, step := range [][]string{
			{"sh", "-c", "cd /var/lib/lxc/" + name + "/rootfs/sbin && mv init init.lab && cp -a init.lab init && " +
				"printf '#!/bin/sh\\n/bin/busybox cat /proc/self/mountinfo >" + first + "\\nexec /bin/sh /sbin/init.lab\\n' >init"},
			{"lxc-start", "-n", name},
			{"lab-exec", name, "lls", "snapshot", "base", "mine", "--mount", "/data"},
			{"lab-exec", name, "sh", "-c", "echo " + name + " >/data/file; sync"},
			{"lab-exec", name, "lls", "mount", "mine", "/data", "--save"},
			{"sh", "-c", how.enable},
			// What is there after the reboot is new.
			{"sh", "-c", "cd /var/lib/lxc/" + name + "/rootfs && until [ -e run/ready ]; do sleep 0.2; done; rm run/ready ." + first},
		} {
			if _, err := run(step...); err != nil {
				return err
			}
		}
	}
	names, err := run("lvs", "--noheadings", "-o", "lv_name,lv_tags", kit.VG)
	if err != nil {
		return err
	}
	config, err := os.ReadFile(kit.Config)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(config), "\nloop = \"")
	file, _, _ := strings.Cut(rest, "\"")
	facts, err := json.Marshal(rebootFacts{Names: words(names), File: file})
	if err != nil {
		return err
	}
	return os.WriteFile(beforeReboot, facts, 0o600)
}

// first is where the init of a container that the host starts writes what is mounted, as its very first act.
const first = "/var/log/first"

// autostarted are containers that the host starts by itself, by both ways that LXC's package has for it.
func autostarted() map[string]struct {
	flags  []string
	enable string
} {
	return map[string]struct {
		flags  []string
		enable string
	}{
		"dora": {nil, "echo lxc.start.auto = 1 >>/var/lib/lxc/dora/config"},
		"erik": {[]string{"--privileged"}, "systemctl enable lxc@erik.service"},
	}
}

// words are the lines of a report, with single spaces.
func words(report string) []string {
	var all []string
	for line := range strings.Lines(report) {
		if f := strings.Fields(line); len(f) > 0 {
			all = append(all, strings.Join(f, " "))
		}
	}
	return all
}

// TestAfterAHostReboot looks at what prepareReboot left, in the guest that has been booted again.
func TestAfterAHostReboot(t *testing.T) {
	kit.Guest(t)
	var before rebootFacts
	if err := json.Unmarshal([]byte(read(t, beforeReboot)), &before); err != nil {
		t.Fatal(err)
	}
	if before.File == "" || len(before.Names) != 4+len(autostarted()) {
		t.Fatalf("before the reboot there was %+v", before)
	}
	if loop := kit.Must(t, "losetup", "--noheadings", "--output", "NAME", "--associated", before.File); loop == "" {
		t.Fatalf("no loop device of %s", before.File)
	}
	if now := words(kit.Must(t, "lvs", "--noheadings", "-o", "lv_name,lv_tags", kit.VG)); strings.Join(now, "\n") != strings.Join(before.Names, "\n") {
		t.Errorf("the volumes were\n%s\nand are\n%s", strings.Join(before.Names, "\n"), strings.Join(now, "\n"))
	}
	onHost(t, "base", func(dir string) {
		if got := read(t, dir+"/file"); got != "kept\n" {
			t.Errorf("the dataset says %q", got)
		}
	})
	carol := &kit.Container{Name: "carol"}
	if !carol.Running(t) {
		carol.Start(t)
	}
	carol.Do(t, "mount", "mine", "/data")
	wantMounted(t, carol, "/data", kit.FindLV(t, "carol", "mine"))
	if got := carol.Must(t, "cat", "/data/file"); got != "mine" {
		t.Errorf("the snapshot says %q", got)
	}
	carol.Do(t, "undelete", "gone")
	carol.Do(t, "mount", "gone", "/mnt")
	wantMounted(t, carol, "/mnt", kit.FindLV(t, "carol", "gone"))
	var list []struct{ Name string }
	carol.LLS(t, "list", "--json").JSON(t, &list)
	if len(list) != 3 {
		t.Errorf("carol sees %+v", list)
	}
}

// TestContainersThatTheHostStarts looks at the containers that the host has started by itself after its boot: what their fstab says was
// there before their init's first instruction, though the pool's file had to be attached first.
func TestContainersThatTheHostStarts(t *testing.T) {
	kit.Guest(t)
	var before rebootFacts
	if err := json.Unmarshal([]byte(read(t, beforeReboot)), &before); err != nil {
		t.Fatal(err)
	}
	for name := range autostarted() {
		c := &kit.Container{Name: name}
		kit.Eventually(t, "the host starts "+name, func() bool { return c.Running(t) })
		c.WaitReady(t)
		v := kit.FindLV(t, name, "mine")
		wantMounted(t, c, "/data", v)
		if found := read(t, c.Root()+first); strings.Count(found, " "+v.Device()+" / /data ") != 1 {
			t.Errorf("when the init of %s began, %s was not mounted:\n%s", name, v.Device(), found)
		}
		if got := c.Must(t, "cat", "/data/file"); got != name {
			t.Errorf("the snapshot of %s says %q", name, got)
		}
		for _, file := range []string{first, "/run/ready"} { // what is there after the next boot is new
			if err := os.Remove(c.Root() + file); err != nil {
				t.Error(err)
			}
		}
		own := kit.UnitTime(t, "lxc@"+name+".service", "ExecMainStartTimestampMonotonic")
		if (own > 0) != (name == "erik") {
			t.Errorf("lxc@%s.service began at %v", name, own)
		}
	}
	kit.WantAgentBeforeContainers(t)
	loop := kit.Must(t, "losetup", "--noheadings", "--output", "NAME", "--associated", before.File)
	began, attached := kit.UnitTime(t, kit.Unit, "ExecMainStartTimestampMonotonic"), attachedAt(t, loop)
	lxc := kit.UnitTime(t, "lxc.service", "ExecMainStartTimestampMonotonic")
	if attached < began || attached > lxc {
		t.Errorf("%s was attached at %v, the agent began at %v and lxc.service at %v", loop, attached, began, lxc)
	}
	t.Logf("the agent began %v after the boot, %s was attached at %v, lxc.service began at %v", began, loop, attached, lxc)
	kit.Must(t, "sync")
}

// attachedAt is when the kernel said that a loop device has got a size, after the boot.
func attachedAt(t *testing.T, device string) time.Duration {
	t.Helper()
	said := strings.TrimPrefix(device, "/dev/") + ": detected capacity change from 0"
	for line := range strings.Lines(kit.Must(t, "journalctl", "-k", "-b", "--no-pager", "-o", "json")) {
		var entry struct {
			Message string `json:"MESSAGE"`
			At      string `json:"_SOURCE_MONOTONIC_TIMESTAMP"` // microseconds
		}
		if json.Unmarshal([]byte(line), &entry) != nil || !strings.HasPrefix(entry.Message, said) {
			continue
		}
		at, err := time.ParseDuration(entry.At + "us")
		if err != nil {
			t.Fatalf("cannot read %s: %v", line, err)
		}
		return at
	}
	t.Fatalf("the kernel's log does not tell of %q", said)
	return 0
}
