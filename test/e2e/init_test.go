package e2e

import (
	"os"
	"strings"
	"testing"

	"lls/test/kit"
)

// TestInitTakesNothingThatHoldsData refuses, in words and with the disk as it was, whatever holds something.
func TestInitTakesNothingThatHoldsData(t *testing.T) {
	lab(t)
	config := read(t, kit.Config)
	sum := func(device string) string { return kit.Must(t, "sha256sum", device) }
	refused := func(what, device string, sum func(string) string) {
		t.Run(what, func(t *testing.T) {
			before, was := kit.TakeState(t), sum(device)
			r := kit.Agent(t, "init", "--device", device, "--vg", "taken")
			if (r.Exit != 12 && r.Exit != 11) || !strings.Contains(r.Stderr, "hint: ") {
				t.Errorf("want a refusal of: %v", r)
			}
			before.WantSame(t)
			if sum(device) != was {
				t.Errorf("%s was written to", device)
			}
		})
	}
	for fs, size := range map[string]int64{"ext4": 16 << 20, "xfs": 300 << 20} {
		device := kit.Loop(t, size)
		kit.Must(t, "mkfs."+fs, "-q", device)
		refused("a disk with "+fs, device, sum)
	}
	mounted := kit.Loop(t, 16<<20)
	kit.Must(t, "mkfs.ext4", "-q", mounted)
	kit.Must(t, "mount", "-o", "ro", mounted, "/srv") // the kernel itself writes to what is mounted otherwise
	t.Cleanup(func() { kit.Must(t, "umount", "/srv") })
	refused("a disk that is mounted", mounted, sum)
	swap := kit.Loop(t, 16<<20)
	kit.Must(t, "mkswap", swap)
	refused("a disk with swap", swap, sum)
	pv := kit.Loop(t, 64<<20)
	kit.Must(t, "pvcreate", "-q", pv)
	refused("a physical volume", pv, sum)
	refused("the disk that is LLS's already", kit.Disk(t), func(disk string) string { return kit.Must(t, "pvs", "-o", "pv_all", disk) })
	t.Run("a disk that is not there", func(t *testing.T) {
		kit.Agent(t, "init", "--device", "/dev/nosuch", "--vg", "taken").WantError(t, 10)
	})
	t.Run("a second time", func(t *testing.T) {
		before := kit.TakeState(t)
		kit.Agent(t, "init", "--device", kit.Disk(t)).WantError(t, 16)
		kit.Agent(t, "init").WantError(t, 16)
		kit.Agent(t, "init", "--vg", kit.VG, "--pool", kit.PoolLV).WantError(t, 16)
		kit.Agent(t, "init", "--loop", "2G").WantError(t, 16)
		before.WantSame(t)
	})
	for _, args := range [][]string{{"--vg", "nosuch"}, {"--vg", "nosuch", "--pool", "p"}, {"--vg", kit.VG, "--pool", "nosuch"}} {
		kit.Agent(t, append([]string{"init"}, args...)...).WantError(t, 10)
	}
	for _, args := range [][]string{{"--vg", "a/b"}, {"--pool", "p"}, {"--loop", "0"}, {"--loop", "2G", "--device", "/dev/sdz"}} {
		kit.Agent(t, append([]string{"init"}, args...)...).WantError(t, 2)
	}
	if now := read(t, kit.Config); now != config {
		t.Errorf("lls.toml was\n%s\nand is\n%s", config, now)
	}
	if left, err := os.ReadDir("/var/lib/lls"); err != nil || strings.Contains(names(left), ".img") {
		t.Errorf("/var/lib/lls has %s: %v", names(left), err)
	}
}

func names(entries []os.DirEntry) string {
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// TestInitInAGroup makes a pool in a volume group that is there, and takes in a pool that is there, beside what others have in them.
func TestInitInAGroup(t *testing.T) {
	w := lab(t)
	old := read(t, kit.Config)
	restore := func() {
		write(t, kit.Config, old)
		kit.Agent(t, "reload").Want(t, 0)
	}
	group := func(t *testing.T, vg string) {
		device := kit.Loop(t, 1200<<20)
		kit.Must(t, "vgcreate", vg, device)
		t.Cleanup(func() {
			restore()
			kit.Must(t, "vgremove", "-ff", "-y", vg)
			kit.Must(t, "pvremove", device)
		})
	}
	// Without lv_attr: udev has a device open for a moment, whenever it likes, and that tells so.
	others := func(t *testing.T, vg string) string {
		return kit.Must(t, "lvs", "--noheadings", "-o", "lv_name,lv_uuid,lv_layout,lv_role,lv_permissions,lv_active,lv_size,lv_tags", vg+"/theirs")
	}
	t.Run("with a new pool", func(t *testing.T) {
		group(t, "data1")
		kit.Must(t, "lvcreate", "-q", "-L", "64M", "-n", "theirs", "data1")
		was := others(t, "data1")
		kit.Agent(t, "init", "--vg", "data1").Want(t, 0)
		if tags := kit.Must(t, "lvs", "--noheadings", "-o", "lv_tags", "data1/pool"); tags != "lls.pool=main2" {
			t.Errorf("the pool's tags are %q", tags)
		}
		purgeAfter(t, w.alice, "there")
		w.alice.Do(t, "create", "there", "--size", "64M", "--pool", "main2", "--mount", "/data")
		if v := kit.FindLV(t, "alice", "there"); v.VG != "data1" {
			t.Errorf("LVM says %+v", v)
		}
		wantMounted(t, w.alice, "/data", kit.FindLV(t, "alice", "there"))
		w.alice.LLS(t, "snapshot", dataset, "there").WantError(t, 16) // names are unique across pools
		w.alice.Do(t, "umount", "there")
		w.alice.Purge(t, "there")
		if now := others(t, "data1"); now != was {
			t.Errorf("what was there became\n%s\nof\n%s", now, was)
		}
	})
	t.Run("with a pool that is there", func(t *testing.T) {
		group(t, "data2")
		kit.Must(t, "lvcreate", "-q", "-L", "400M", "-T", "data2/thin")
		kit.Must(t, "lvcreate", "-q", "-V", "64M", "--thinpool", "thin", "-n", "theirs", "data2")
		was := others(t, "data2")
		kit.Agent(t, "init", "--vg", "data2", "--pool", "thin").Want(t, 0)
		if tags := kit.Must(t, "lvs", "--noheadings", "-o", "lv_tags", "data2/thin"); tags != "lls.pool=main2" {
			t.Errorf("the pool's tags are %q", tags)
		}
		kit.Agent(t, "create", "mine", "--size", "64M", "--pool", "main2").Want(t, 0)
		for _, args := range [][]string{{"delete", "theirs"}, {"purge", "theirs", "--yes"}, {"info", "theirs"}, {"mount", "theirs", "/srv"}} {
			kit.Agent(t, args...).WantError(t, 10)
		}
		if list := kit.Must(t, "lls-agent", "list", "--all"); strings.Contains(list, "theirs") {
			t.Errorf("it is listed:\n%s", list)
		}
		kit.Purge(t, "mine")
		if now := others(t, "data2"); now != was {
			t.Errorf("what was there became\n%s\nof\n%s", now, was)
		}
	})
}
