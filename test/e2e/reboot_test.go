package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

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
	if before.File == "" || len(before.Names) != 4 {
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
