package e2e

import (
	"testing"

	"lls/test/kit"
)

// TestPurgeTakesNothingAlong: lvremove -y takes what depends on a volume with it. LLS refuses, and nothing disappears.
func TestPurgeTakesNothingAlong(t *testing.T) {
	w := lab(t)
	const vg = kit.VG + "/"
	remove := func(t *testing.T, lv string) {
		t.Cleanup(func() {
			if kit.Run(t, "lvs", vg+lv).Exit == 0 {
				kit.Must(t, "lvremove", "-y", vg+lv)
			}
		})
	}
	refused := func(t *testing.T) {
		t.Helper()
		before := kit.TakeState(t)
		w.alice.LLS(t, "purge", "origin", "--yes").WantError(t, 10, "cannot purge origin: it is not in the trash", "lls delete origin")
		kit.Agent(t, "purge", "alice/origin", "--yes").WantError(t, 10, "it is not in the trash", "lls-agent delete alice/origin")
		before.WantSame(t)
		w.alice.Do(t, "delete", "origin")
		before = kit.TakeState(t)
		w.alice.LLS(t, "purge", "origin", "--yes").WantError(t, 11, "depend")
		kit.Agent(t, "purge", "alice/origin", "--yes").WantError(t, 11, "hand")
		before.WantSame(t)
		kit.Must(t, "lvs", vg+"hand")
	}
	t.Run("a classic snapshot", func(t *testing.T) {
		own(t, w.alice, "origin")
		remove(t, "hand")
		kit.Must(t, "lvchange", "-ay", "-K", vg+kit.FindLV(t, "alice", "origin").Name)
		kit.Must(t, "lvcreate", "-q", "-s", "-L", "16M", "-n", "hand", vg+kit.FindLV(t, "alice", "origin").Name)
		refused(t)
		kit.Must(t, "lvremove", "-y", vg+"hand")
		w.alice.Do(t, "purge", "origin", "--yes")
	})
	t.Run("a thin volume with it as external origin", func(t *testing.T) {
		own(t, w.alice, "origin")
		origin := vg + kit.FindLV(t, "alice", "origin").Name
		remove(t, "other")
		remove(t, "hand")
		kit.Must(t, "lvcreate", "-q", "-L", "64M", "-T", vg+"other")
		kit.Must(t, "lvchange", "-an", origin)
		kit.Must(t, "lvchange", "-pr", origin)
		kit.Must(t, "lvcreate", "-q", "-s", "--thinpool", "other", "-n", "hand", origin)
		refused(t)
		kit.Must(t, "lvremove", "-y", vg+"hand")
		w.alice.Do(t, "purge", "origin", "--yes")
	})
	t.Run("thin snapshots do not depend on it", func(t *testing.T) {
		own(t, w.alice, "origin")
		purgeAfter(t, w.alice, "child")
		dirs(t, w.alice, "/child")
		w.alice.Do(t, "snapshot", "origin", "child", "--mount", "/child")
		w.alice.Sh(t, "echo kept >/child/file")
		w.alice.Purge(t, "origin")
		wantMounted(t, w.alice, "/child", kit.FindLV(t, "alice", "child"))
		if got := w.alice.Must(t, "cat", "/child/file"); got != "kept" {
			t.Errorf("the file says %q", got)
		}
	})
}

// TestUntaggedVolumesAreNeverTouched: what LLS did not make is nobody's, whatever it is called and wherever it lies.
func TestUntaggedVolumesAreNeverTouched(t *testing.T) {
	w := lab(t)
	const vg = kit.VG + "/"
	for _, args := range [][]string{
		{"lvcreate", "-q", "-V", "64M", "--thinpool", kit.PoolLV, "-n", "plain.aaaaaaa", kit.VG},
		{"lvcreate", "-q", "-L", "16M", "-n", "linear", kit.VG},
		// A whole set of tags, but outside of LLS's pools.
		{"lvcreate", "-q", "-L", "16M", "-n", "forged.bbbbbbb", "--addtag", "lls.n=forged", "--addtag", "lls.o=host", "--addtag", "lls.s=new", "--addtag", "lls.v=v", "--addtag", "lls.a=rw", kit.VG},
	} {
		kit.Must(t, args...)
	}
	t.Cleanup(func() { kit.Must(t, "lvremove", "-y", vg+"plain.aaaaaaa", vg+"linear", vg+"forged.bbbbbbb") })
	before := kit.TakeState(t)
	for _, name := range []string{"plain", "linear", "forged", "pool"} {
		for _, args := range [][]string{{"delete", name}, {"purge", name, "--yes"}, {"resize", name, "1G"}, {"set", name, "--access", "rw"}, {"mount", name, "/srv"}} {
			kit.Agent(t, args...).WantError(t, 10)
		}
	}
	w.alice.LLS(t, "info", "forged").WantError(t, 10)
	before.WantSame(t)
	kit.KillAgent(t) // a start takes away what was never finished: of its own
	before.WantSame(t)
}
