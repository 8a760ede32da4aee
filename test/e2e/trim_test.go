package e2e

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"lls/test/kit"
)

// littered makes a volume at path, of which deleted files still keep so many megabytes of the pool, and gives what of the pool is used.
func littered(t *testing.T, c *kit.Container, name, path string, megabytes int, flags ...string) int64 {
	t.Helper()
	dirs(t, c, path)
	purgeAfter(t, c, name)
	c.Do(t, append([]string{"create", name, "--size", "400M", "--mount", path}, flags...)...)
	empty := poolUsed(t)
	free := func() int64 {
		fields := strings.Fields(c.Must(t, "stat", "-f", "-c", "%f %S", path))
		blocks, err := strconv.ParseInt(fields[0], 10, 64)
		size, sizeErr := strconv.ParseInt(fields[1], 10, 64)
		if err = errors.Join(err, sizeErr); err != nil {
			t.Fatal(err)
		}
		return blocks * size
	}
	room := free()
	fill(t, c, path+"/file", megabytes)
	c.Must(t, "rm", path+"/file")
	kit.Eventually(t, "what was deleted is free", func() bool { return free() >= room-mega }) // xfs does that behind everybody's back
	c.Must(t, "sync", "-f", path)
	used := poolUsed(t)
	if used < empty+int64(megabytes)*mega {
		t.Fatalf("the pool went from %d to %d, so there is nothing to trim", empty, used)
	}
	return used
}

func TestTrimGivesDeletedFilesBack(t *testing.T) {
	w := lab(t)
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			before := littered(t, w.alice, "tidy", "/tidy", 64, "--fs", fs)
			w.bob.LLS(t, "trim", "alice/tidy").WantError(t, 10)
			var done []struct {
				Name     string `json:"name"`
				Returned int64  `json:"returned"`
			}
			w.alice.LLS(t, "trim", "tidy", "--json").Want(t, 0).JSON(t, &done)
			if len(done) != 1 || done[0].Name != "tidy" || done[0].Returned < 60*mega || done[0].Returned > 80*mega {
				t.Errorf("the answer is %+v", done)
			}
			kit.Eventually(t, "the pool has the space back", func() bool { return before-poolUsed(t) >= 60*mega })
			w.alice.LLS(t, "trim", "tidy").WantError(t, 11, "minute")
			kit.Agent(t, "trim", "alice/tidy").Want(t, 0)
			kit.Agent(t, "trim").Want(t, 0)
			w.alice.Do(t, "umount", "tidy")
			w.alice.LLS(t, "trim", "tidy").WantError(t, 10, "not mounted")
		})
	}
}

func TestAFullPoolIsTrimmedByItself(t *testing.T) {
	w := lab(t)
	before := littered(t, w.alice, "litter", "/litter", 64)
	kit.WithConfig(t, "\n[[rules]]\ntrim.pressure = 0.5\n")
	kit.Eventually(t, "the pool has the space back", func() bool { return before-poolUsed(t) >= 60*mega })
}

// A container's root may freeze its file system: others are trimmed all the same, and it is when it is thawed.
func TestAFrozenFileSystemHoldsUpNobodyElse(t *testing.T) {
	w := lab(t)
	dirs(t, w.root, "/ice")
	own(t, w.root, "ice", "--mount", "/ice")
	before := littered(t, w.alice, "tidy", "/tidy", 64)
	w.root.Must(t, "fsfreeze", "--freeze", "/ice")
	thaw := true
	t.Cleanup(func() {
		if thaw {
			w.root.Must(t, "fsfreeze", "--unfreeze", "/ice")
		}
	})
	r := w.root.LLS(t, "trim", "ice")
	t.Logf("frozen: %v", r)
	if r.Exit != 0 && r.Exit != 11 {
		t.Errorf("frozen: exit %d", r.Exit)
	}
	w.alice.LLS(t, "trim", "tidy").Want(t, 0)
	kit.Eventually(t, "the pool has the space back", func() bool { return before-poolUsed(t) >= 60*mega })
	w.root.Must(t, "fsfreeze", "--unfreeze", "/ice")
	thaw = false
	kit.Eventually(t, "it can be trimmed again", func() bool { return kit.Agent(t, "trim", "root/ice").Exit == 0 })
}

func TestMountsDiscardWhereThePolicySaysSo(t *testing.T) {
	w := lab(t)
	dirs(t, w.alice, "/eager", "/lazy")
	kit.WithConfig(t, "\n[[rules]]\nvolume = \"eager\"\ntrim.discard = true\n")
	own(t, w.alice, "eager", "--mount", "/eager")
	own(t, w.alice, "lazy", "--mount", "/lazy")
	for path, want := range map[string]bool{"/eager": true, "/lazy": false} {
		if m := w.alice.MountAt(t, path); m == nil || m.Super("discard") != want {
			t.Errorf("at %s: %+v", path, m)
		}
	}
}
