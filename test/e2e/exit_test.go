package e2e

import (
	"fmt"
	"strings"
	"testing"

	"lls/test/kit"
)

// TestExitStatuses sees the statuses for real that need the host to be in a state of its own; 2, 10, 11, 12, 16 and 17 are seen in the
// tests of bad input, rights and holders.
func TestExitStatuses(t *testing.T) {
	w := lab(t)
	own(t, w.alice, "one")
	t.Run("0 and 1: an answer that cannot be written", func(t *testing.T) {
		w.alice.LLS(t, "list").Want(t, 0)
		r := w.alice.Exec(t, "sh", "-c", "lls list >/dev/full")
		if r.WantError(t, 1); !strings.Contains(r.Stderr, "cannot write the answer") {
			t.Errorf("it says %q", r.Stderr)
		}
	})
	t.Run("13: the quota of volumes", func(t *testing.T) {
		kit.WithConfig(t, "\n[limits]\nvolumes = 1\n")
		tryBad(t, w.alice.LLS, []badRow{
			{"create", 13, []string{"create", "two", "--size", "64M"}},
			{"snapshot", 13, []string{"snapshot", dataset, "two", "--mount", "/data"}},
		})
	})
	t.Run("13: the quota of snapshots", func(t *testing.T) {
		purgeAfter(t, w.alice, "s1", "two")
		w.alice.Do(t, "snapshot", "one", "s1")
		kit.WithConfig(t, "\n[limits]\nsnapshots = 1\n")
		tryBad(t, w.alice.LLS, []badRow{{"snapshot", 13, []string{"snapshot", dataset, "two"}}})
		w.alice.Do(t, "create", "two", "--size", "64M")
		w.alice.Purge(t, "two")
		w.alice.Do(t, "delete", "s1") // the trash counts
		tryBad(t, w.alice.LLS, []badRow{{"snapshot with one in the trash", 13, []string{"snapshot", dataset, "two"}}})
		w.alice.Do(t, "purge", "s1", "--yes")
		w.alice.Do(t, "snapshot", dataset, "two")
	})
	t.Run("13: the quota of space", func(t *testing.T) {
		kit.WithConfig(t, "\n[limits]\nsize = \"128M\"\n")
		tryBad(t, w.alice.LLS, []badRow{
			{"create", 13, []string{"create", "two", "--size", "128M"}},
			{"resize", 13, []string{"resize", "one", "+128M"}},
			{"snapshot", 13, []string{"snapshot", dataset, "two"}},
		})
		purgeAfter(t, w.alice, "two")
		w.alice.Do(t, "create", "two", "--size", "64M")
		kit.Agent(t, "create", "two-gib", "--size", "2G").Want(t, 0) // the sysadmin is not limited
		kit.Purge(t, "two-gib")
	})
	t.Run("13: the pool is full", func(t *testing.T) {
		kit.WithConfig(t, "\n[limits]\ndata_percent = 0.001\n[growth.data]\nthreshold = 0\n")
		rows := []badRow{
			{"create", 13, []string{"create", "two", "--size", "64M"}},
			{"snapshot", 13, []string{"snapshot", dataset, "two"}},
		}
		tryBad(t, w.alice.LLS, rows)
		tryBad(t, kit.Agent, rows)
	})
	t.Run("a mistake in lls.toml changes nothing", func(t *testing.T) {
		old := read(t, kit.Config)
		t.Cleanup(func() { write(t, kit.Config, old); kit.Agent(t, "reload").Want(t, 0) })
		write(t, kit.Config, old+"\nnosuch = 1\n")
		kit.Agent(t, "reload").WantError(t, 2, "nosuch")
		w.alice.Do(t, "list")
	})
	t.Run("15: the pool has lost its tag", func(t *testing.T) {
		kit.Must(t, "lvchange", "--deltag", "lls.pool=main", kit.VG+"/"+kit.PoolLV)
		t.Cleanup(func() {
			kit.Must(t, "lvchange", "--addtag", "lls.pool=main", kit.VG+"/"+kit.PoolLV)
			kit.Eventually(t, "LLS sees its volumes again", func() bool { return w.alice.LLS(t, "info", "one").Exit == 0 })
		})
		kit.Eventually(t, "LLS sees what was done behind its back", func() bool {
			return strings.Contains(kit.Agent(t, "status").Stdout, "does not carry the tag")
		})
		w.alice.LLS(t, "create", "two", "--size", "64M").WantError(t, 15)
	})
	t.Run("14: the agent is stopped", func(t *testing.T) {
		dirs(t, w.alice, "/stopped")
		w.alice.Do(t, "mount", "one", "/stopped")
		t.Cleanup(func() { w.alice.Do(t, "umount", "one") })
		before := kit.TakeState(t)
		kit.StopAgent(t)
		for _, args := range [][]string{{"list"}, {"snapshot", dataset, "two", "--mount", "/data"}, {"umount", "one"}} {
			w.alice.LLS(t, args...).WantError(t, 14)
		}
		kit.Agent(t, "list").WantError(t, 14)
		before.WantSame(t)
		w.alice.Sh(t, "echo still >/stopped/works")
		kit.StartAgent(t)
		before.WantSame(t)
		if out := w.alice.Do(t, "list"); !strings.Contains(out, "/stopped") {
			t.Errorf("lls list says:\n%s", out)
		}
	})
}

// TestUsageCountsTheTrash compares what `lls usage` says with what LVM has.
func TestUsageCountsTheTrash(t *testing.T) {
	w := lab(t)
	own(t, w.bob, "a")
	own(t, w.bob, "b")
	purgeAfter(t, w.bob, "c")
	w.bob.Do(t, "snapshot", "a", "c")
	w.bob.Do(t, "delete", "b")
	var volumes, trash, snapshots int
	var size int64
	for _, v := range kit.LVs(t) {
		if !strings.HasPrefix(v.Tag("lls.o"), "bob#") {
			continue
		}
		volumes++
		size += v.Bytes(t)
		if v.Origin != "" {
			snapshots++
		}
		if strings.HasPrefix(v.Tag("lls.s"), "trash") {
			trash++
		}
	}
	var use []struct {
		Container                 string
		Volumes, Snapshots, Trash int
		Size, SizeMax             int64
		VolumesMax                int `json:"volumes_max"`
	}
	w.bob.LLS(t, "usage", "--json").Want(t, 0).JSON(t, &use)
	if len(use) != 1 {
		t.Fatalf("bob uses %+v", use)
	}
	got := fmt.Sprint(use[0].Container, use[0].Volumes, use[0].Snapshots, use[0].Trash, use[0].Size, use[0].VolumesMax)
	if want := fmt.Sprint("bob", volumes, snapshots, trash, size, 500); got != want || volumes != 3 || trash != 1 {
		t.Errorf("bob uses %s, and LVM says %s", got, want)
	}
}
