package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lls/test/kit"
)

// TestTheStory is the main job from one end to the other: a sysadmin publishes a dataset, two developers work on snapshots of it.
func TestTheStory(t *testing.T) {
	w := lab(t)
	t.Run("the pool on the empty disk is LLS's", func(t *testing.T) {
		pool := kit.Must(t, "lvs", "--noheadings", "-o", "lv_tags,zero", kit.VG+"/"+kit.PoolLV)
		if f := strings.Fields(pool); !slices.Equal(f, []string{"lls.pool=main", "zero"}) {
			t.Errorf("LVM says of the pool %q", pool)
		}
		if pv := kit.Must(t, "pvs", "--noheadings", "-o", "pv_name,vg_name", kit.Disk(t)); !slices.Equal(strings.Fields(pv), []string{kit.Disk(t), kit.VG}) {
			t.Errorf("LVM says of the disk %q", pv)
		}
	})
	const name = "tales"
	dir := "/mnt/tales"
	t.Run("the sysadmin makes, fills and unmounts a dataset", func(t *testing.T) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		kit.Agent(t, "create", name, "--size", "2G").Want(t, 0)
		v := kit.FindLV(t, "host", name)
		if v.Bytes(t) != 2<<30 || v.Pool != kit.PoolLV {
			t.Errorf("LVM says %+v", v)
		}
		kit.Agent(t, "mount", name, dir).Want(t, 0)
		v = kit.FindLV(t, "host", name)
		if m := kit.MountAt(kit.HostMounts(t), dir); m == nil || m.Device != v.Device() || !m.Has("nodev") || !m.Has("nosuid") || !m.Super("errors=remount-ro") {
			t.Fatalf("on the host: %+v, want device %s", m, v.Device())
		}
		for _, f := range []string{"one", "two", "deep/three"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, f), strings.Repeat(f+"\n", 10000))
		}
		kit.Agent(t, "umount", name).Want(t, 0)
		if m := kit.MountAt(kit.HostMounts(t), dir); m != nil {
			t.Errorf("still mounted on the host: %+v", m)
		}
	})
	t.Cleanup(func() { kit.Purge(t, name) })
	for _, c := range []*kit.Container{w.alice, w.root} {
		c.Exec(t, "mkdir", "-p", "/data")
		purgeAfter(t, c, "mine")
		t.Run("the developer in "+c.Name+" works on a snapshot", func(t *testing.T) { develop(t, c, name) })
	}
	t.Run("the dataset is unchanged", func(t *testing.T) {
		onHost(t, name, func(dir string) {
			if got := read(t, dir+"/one"); got != strings.Repeat("one\n", 10000) {
				t.Errorf("one has %d bytes now", len(got))
			}
			if _, err := os.Stat(dir + "/new"); !os.IsNotExist(err) {
				t.Errorf("new is there: %v", err)
			}
			if got := read(t, dir+"/deep/three"); len(got) != len("deep/three\n")*10000 {
				t.Errorf("deep/three has %d bytes now", len(got))
			}
		})
	})
	if t.Failed() {
		return
	}
	t.Run("a volume goes to the trash and comes back", func(t *testing.T) { trashAndBack(t, w.alice) })
	t.Run("the agent's end disturbs nobody", func(t *testing.T) { agentDies(t, w) })
	t.Run("a container that starts again finds LLS", func(t *testing.T) { restarts(t, w) })
}

// develop is a developer's session, the same in any container.
func develop(t *testing.T, c *kit.Container, dataset string) {
	if list := c.Do(t, "list"); !strings.Contains(list, "\n"+dataset+" ") {
		t.Errorf("lls list does not show the dataset:\n%s", list)
	}
	r := c.LLS(t, "snapshot", dataset, "mine", "--mount", "/data").Want(t, 0)
	t.Logf("snapshot and mount took %v, with entering the container", r.Took.Round(time.Millisecond))
	v := kit.FindLV(t, c.Name, "mine")
	if origin := kit.FindLV(t, "host", dataset); v.Origin != origin.Name || !strings.HasPrefix(v.Attr, "Vwi-ao") {
		t.Errorf("LVM says %+v, want a writable snapshot of %s", v, origin.Name)
	}
	if m := wantMounted(t, c, "/data", v); m.Has("ro") {
		t.Errorf("it is read-only: %v", m.Options)
	}
	if got := c.Must(t, "head", "-1", "/data/deep/three"); got != "deep/three" {
		t.Errorf("deep/three says %q", got)
	}
	c.Sh(t, "echo changed >/data/one && echo new >/data/new && rm /data/deep/three && sync")
	if got := c.Must(t, "cat", "/data/one", "/data/new"); got != "changed\nnew" {
		t.Errorf("the files say %q", got)
	}
}

func trashAndBack(t *testing.T, c *kit.Container) {
	c.LLS(t, "delete", "mine").WantError(t, 11)
	c.Do(t, "umount", "mine")
	wantNotMounted(t, c, kit.FindLV(t, c.Name, "mine"))
	c.Do(t, "delete", "mine")
	v := kit.FindLV(t, c.Name, "mine")
	if !strings.HasPrefix(v.Tag("lls.s"), "trash:") {
		t.Errorf("its tags are %s", v.TagList)
	}
	if list := c.Do(t, "list"); strings.Contains(list, "mine") {
		t.Errorf("it is listed still:\n%s", list)
	}
	c.LLS(t, "mount", "mine", "/data").WantError(t, 10)
	if list := c.Do(t, "list", "--all"); !strings.Contains(list, "mine") {
		t.Errorf("the trash does not show it:\n%s", list)
	}
	c.Do(t, "undelete", "mine")
	if now := kit.FindLV(t, c.Name, "mine"); now.Name != v.Name || now.UUID != v.UUID || now.Tag("lls.s") != "live" {
		t.Errorf("LVM says %+v, which was %+v", now, v)
	}
	c.Do(t, "mount", "mine", "/data")
	if got := c.Must(t, "cat", "/data/one"); got != "changed" {
		t.Errorf("one says %q", got)
	}
}

func agentDies(t *testing.T, w *world) {
	both := []*kit.Container{w.alice, w.root}
	before := map[string]*kit.Mount{}
	pids := map[string]string{}
	for _, c := range both {
		before[c.Name] = c.MountAt(t, "/data")
		pids[c.Name] = c.Holder(t, "exec 3>/data/open; echo before >&3; while sleep 1; do echo alive >&3; done")
	}
	state := kit.TakeState(t)
	kit.KillAgent(t)
	state.WantSame(t)
	for _, c := range both {
		if m := c.MountAt(t, "/data"); m == nil || before[c.Name] == nil || m.ID != before[c.Name].ID {
			t.Errorf("%s: the mount was %+v and is %+v", c.Name, before[c.Name], m)
		}
		lines := func() int { return strings.Count(c.Must(t, "cat", "/data/open"), "alive") }
		was := lines()
		kit.Eventually(t, "the open file of "+c.Name+" is written on", func() bool { return lines() > was })
		if out := c.Do(t, "list"); !strings.Contains(out, "mine") || !strings.Contains(out, "/data") {
			t.Errorf("lls list in %s says:\n%s", c.Name, out)
		}
		c.Do(t, "snapshot", "mine", "after")
		kit.FindLV(t, c.Name, "after")
		c.Purge(t, "after")
		c.Exec(t, "kill", "-9", pids[c.Name])
	}
}

func restarts(t *testing.T, w *world) {
	for _, c := range []*kit.Container{w.alice, w.root} {
		v := kit.FindLV(t, c.Name, "mine")
		c.Stop(t)
		if left := kit.MountAt(kit.HostMounts(t), "/data"); left != nil {
			t.Errorf("the host has %+v", left)
		}
		c.Start(t)
		usable(t, c, v)
		old := c.PID(t)
		c.Exec(t, "reboot")
		kit.Eventually(t, c.Name+" reboots", func() bool {
			r := kit.Run(t, "lxc-info", "-n", c.Name, "-p", "-H")
			pid := strings.TrimSpace(r.Stdout)
			return r.Exit == 0 && pid != "" && pid != "-1" && pid != itoa(old)
		})
		c.WaitReady(t)
		usable(t, c, v)
	}
}

// usable fails the test unless LLS works in a container that has just started, and its volume is as it was.
func usable(t *testing.T, c *kit.Container, v kit.LV) {
	t.Helper()
	if m := c.MountAt(t, "/lls"); m == nil {
		t.Fatalf("%s has no /lls", c.Name)
	}
	if list := c.Do(t, "list"); !strings.Contains(list, "mine") {
		t.Errorf("lls list in %s says:\n%s", c.Name, list)
	}
	c.Do(t, "mount", "mine", "/data")
	if m := c.MountAt(t, "/data"); m == nil {
		t.Fatalf("nothing is mounted at /data of %s", c.Name)
	}
	if got := c.Must(t, "cat", "/data/one"); got != "changed" {
		t.Errorf("one says %q", got)
	}
	if now := kit.FindLV(t, c.Name, "mine"); now.UUID != v.UUID {
		t.Errorf("the volume was %+v and is %+v", v, now)
	}
}
