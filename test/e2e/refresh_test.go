package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"lls/test/kit"
)

// generation makes a dataset of one file, /state, or writes it anew.
func generation(t *testing.T, name, fs, state string) {
	t.Helper()
	if len(kit.FindLVs(t, "host", name)) == 0 {
		t.Cleanup(func() { kit.Purge(t, name) })
		kit.Agent(t, "create", name, "--size", "400M", "--fs", fs).Want(t, 0)
	}
	onHost(t, name, func(dir string) { write(t, dir+"/state", state+"\n") })
}

// states are the volumes of a container by that name: the one that is live, and those in the trash.
func states(t *testing.T, c *kit.Container, name string) (live kit.LV, trash []kit.LV) {
	t.Helper()
	n := 0
	for _, v := range kit.FindLVs(t, c.Name, name) {
		switch state := v.Tag("lls.s"); {
		case state == "live":
			live, n = v, n+1
		case strings.HasPrefix(state, "trash:"):
			trash = append(trash, v)
		default:
			t.Errorf("half made: %+v", v)
		}
	}
	if n != 1 {
		t.Fatalf("%d volumes %s of %s are live", n, name, c.Name)
	}
	return live, trash
}

// purgeAll destroys what there is of a name, in the trash and live, when the test ends.
func purgeAll(t *testing.T, c *kit.Container, names ...string) {
	t.Cleanup(func() {
		for _, name := range names {
			c.LLS(t, "umount", name)
			c.LLS(t, "delete", name)
			for range kit.FindLVs(t, c.Name, name) {
				c.LLS(t, "purge", name, "--yes")
			}
			if left := kit.FindLVs(t, c.Name, name); len(left) > 0 {
				t.Errorf("cannot clear up: %+v", left)
			}
		}
	})
}

// idOf is the id in a volume's LVM name.
func idOf(v kit.LV) string { return v.Name[strings.LastIndexByte(v.Name, '.')+1:] }

func TestRefreshPutsThePresentStateAtTheSamePlaces(t *testing.T) {
	w := lab(t)
	for _, c := range []*kit.Container{w.alice, w.root} {
		dirs(t, c, "/r1", "/r2", "/r3", "/back")
		for _, fs := range []string{"ext4", "xfs"} {
			t.Run(fs+" in "+c.Name, func(t *testing.T) { refreshed(t, c, "feed-"+fs, fs) })
		}
	}
}

// counted is what a container's quota counts, without what is read from the pool from time to time.
func counted(t *testing.T, c *kit.Container) string {
	t.Helper()
	var pools []map[string]any
	c.LLS(t, "usage", "--json").JSON(t, &pools)
	if len(pools) == 0 {
		t.Fatal("no usage")
	}
	for _, p := range pools {
		delete(p, "exclusive")
		delete(p, "exclusive_at")
	}
	return fmt.Sprint(pools)
}

func refreshed(t *testing.T, c *kit.Container, dataset, fs string) {
	generation(t, dataset, fs, "one")
	purgeAll(t, c, "mine", "mine-old")
	c.Do(t, "snapshot", dataset, "mine", "--mount", "/r1")
	c.Do(t, "mount", "mine", "/r2", "--ro")
	c.Must(t, "mount", "-o", "bind", "/r1", "/r3")
	c.Do(t, "set", "mine", "--visibility", "visible", "--access", "rw")
	c.Do(t, "keep", "mine", "--for", "7d")
	c.Sh(t, "echo mine >/r1/edit; echo changed >/r1/state")
	old, _ := states(t, c, "mine")
	usage := counted(t, c)
	generation(t, dataset, fs, "two")

	c.LLS(t, "refresh", "mine").WantError(t, 2, "--yes")
	c.Must(t, "umount", "/r3")
	r := c.LLS(t, "refresh", "mine", "--yes").Want(t, 0)
	t.Logf("it took %v:\n%s", r.Took, r.Stdout)
	for _, words := range []string{"mine is now what " + dataset + " was at 20", "mounted at /r1 and /r2", "in the trash", "lls undelete mine --as mine-old"} {
		if !strings.Contains(r.Stdout, words) {
			t.Errorf("want %q in:\n%s", words, r.Stdout)
		}
	}
	now, trash := states(t, c, "mine")
	if len(trash) != 1 || trash[0].UUID != old.UUID || trash[0].Tag("lls.x") != idOf(now) || trash[0].Active() || trash[0].Tag("lls.l") != "" {
		t.Errorf("in the trash: %+v", trash)
	}
	for _, tag := range []string{"lls.v", "lls.a", "lls.l", "lls.f", "lls.p"} {
		if now.Tag(tag) != old.Tag(tag) {
			t.Errorf("%s was %q and is %q", tag, old.Tag(tag), now.Tag(tag))
		}
	}
	if m := wantMounted(t, c, "/r1", now); m.FS != fs || m.Has("ro") {
		t.Errorf("at /r1 is %+v", m)
	}
	if m := wantMounted(t, c, "/r2", now); !m.Has("ro") {
		t.Errorf("at /r2 is %+v", m)
	}
	if got := c.Sh(t, "cat /r1/state; ls /r1 | grep -c edit; echo new >/r1/new && cat /r2/new"); got != "two\n0\nnew" {
		t.Errorf("in it is %q", got)
	}
	c.Exec(t, "sh", "-c", ": >/r2/x").Want(t, 1)
	if now := counted(t, c); now != usage {
		t.Errorf("usage was %s and is %s", usage, now)
	}

	c.Do(t, "undelete", "mine", "--as", "mine-old")
	c.Do(t, "mount", "mine-old", "/back")
	back := wantMounted(t, c, "/back", kit.FindLV(t, c.Name, "mine-old"))
	if got := c.Must(t, "cat", "/back/edit", "/back/state"); got != "mine\nchanged" || back.Device == now.Device() {
		t.Errorf("what is back says %q", got)
	}
	if v := kit.FindLV(t, c.Name, "mine-old"); v.UUID != old.UUID || v.Tag("lls.x") != "" {
		t.Errorf("back is %+v", v)
	}
}

func TestRefreshOfWhatIsInUseChangesNothing(t *testing.T) {
	w := lab(t)
	for _, c := range []*kit.Container{w.alice, w.root} {
		t.Run(c.Name, func(t *testing.T) {
			dirs(t, c, "/r1", "/r2")
			generation(t, "feed", "ext4", "one")
			purgeAll(t, c, "mine")
			c.Do(t, "snapshot", "feed", "mine", "--mount", "/r1")
			c.Sh(t, "mkdir /r1/sub; : >/r1/file")
			v := kit.FindLV(t, c.Name, "mine")

			pid := c.Background(t, "sleep", "exec sleep 987 </r1/file")
			before := kit.TakeState(t)
			c.LLS(t, "refresh", "mine", "--yes").WantError(t, 11, "held by", pid, "sleep")
			before.WantSame(t)
			c.Do(t, "mount", "mine", "/r2", "--ro") // goes first, and has to come back
			c.LLS(t, "refresh", "mine", "--yes").WantError(t, 11, "held by", pid, "sleep")
			if m := wantMounted(t, c, "/r2", v); !m.Has("ro") {
				t.Errorf("at /r2 is %+v", m)
			}
			wantMounted(t, c, "/r1", v)
			c.Do(t, "umount", "/r2")
			c.Must(t, "kill", pid)

			c.Must(t, "mount", "-t", "tmpfs", "none", "/r1/sub")
			before = kit.TakeState(t)
			c.LLS(t, "refresh", "mine", "--yes").WantError(t, 11, "/r1/sub")
			before.WantSame(t)
			c.Must(t, "umount", "/r1/sub")
			c.Must(t, "mount", "-o", "bind", "/r1/sub", "/r2")
			before = kit.TakeState(t)
			c.LLS(t, "refresh", "mine", "--yes").WantError(t, 11, "/r2")
			before.WantSame(t)
			c.Must(t, "umount", "/r2")

			// A mount namespace of its own keeps what was mounted when it was made.
			pid = c.Background(t, "sleep", "exec unshare -m sh -c 'mount --make-rprivate /; exec sleep 986'")
			c.LLS(t, "refresh", "mine", "--yes").WantError(t, 11, "held by", pid, "sleep")
			wantMounted(t, c, "/r1", v)
			c.Must(t, "kill", pid)
			if left := kit.FindLVs(t, c.Name, "mine"); len(left) != 1 || left[0].UUID != v.UUID || left[0].TagList != v.TagList {
				t.Errorf("LVM has %+v", left)
			}
			c.Do(t, "refresh", "mine", "--yes")
		})
	}
}

// TestRefreshInSeveralContainers: one's own mounts one may swap, those of others only the sysadmin.
func TestRefreshInSeveralContainers(t *testing.T) {
	w := lab(t)
	for _, c := range []*kit.Container{w.alice, w.bob} {
		dirs(t, c, "/shared")
	}
	generation(t, "feed", "ext4", "one")
	purgeAll(t, w.alice, "team")
	w.alice.Do(t, "snapshot", "feed", "team", "--visible", "--mount", "/shared")
	w.bob.Do(t, "mount", "alice/team", "/shared")
	generation(t, "feed", "ext4", "two")
	before := kit.TakeState(t)
	w.alice.LLS(t, "refresh", "team", "--yes").WantError(t, 11, "held by another container")
	w.bob.LLS(t, "refresh", "alice/team", "--yes").WantError(t, 12)
	before.WantSame(t)
	onHost(t, "alice/team", func(dir string) {
		kit.Agent(t, "refresh", "alice/team", "--yes").Want(t, 0)
		if got := read(t, dir+"/state"); got != "two\n" {
			t.Errorf("the host reads %q", got)
		}
	})
	now, _ := states(t, w.alice, "team")
	if m := wantMounted(t, w.alice, "/shared", now); m.Has("ro") {
		t.Errorf("alice has %+v", m)
	}
	if m := wantMounted(t, w.bob, "/shared", now); !m.Has("ro") {
		t.Errorf("bob has %+v", m)
	}
	for _, c := range []*kit.Container{w.alice, w.bob} {
		if got := c.Must(t, "cat", "/shared/state"); got != "two" {
			t.Errorf("%s reads %q", c.Name, got)
		}
	}
	w.bob.Do(t, "umount", "/shared")
}

func TestRefreshOfAReadOnlySnapshotAndOfOneThatIsNotMounted(t *testing.T) {
	w := lab(t)
	dirs(t, w.alice, "/fixed")
	generation(t, "feed-xfs", "xfs", "one")
	purgeAll(t, w.alice, "fixed", "idle")
	w.alice.Do(t, "snapshot", "feed-xfs", "fixed", "--ro", "--mount", "/fixed")
	w.alice.Do(t, "snapshot", "feed-xfs", "idle")
	generation(t, "feed-xfs", "xfs", "two")
	w.alice.Do(t, "refresh", "fixed", "--yes")
	now, _ := states(t, w.alice, "fixed")
	if m := wantMounted(t, w.alice, "/fixed", now); !m.Has("ro") || now.Writable != "read-only" || w.alice.Must(t, "cat", "/fixed/state") != "two" {
		t.Errorf("%+v is at %+v", now, m)
	}
	w.alice.Do(t, "refresh", "idle", "--yes")
	if now, trash := states(t, w.alice, "idle"); now.Active() || len(trash) != 1 {
		t.Errorf("%+v, %+v", now, trash)
	}
	own(t, w.alice, "plain")
	w.alice.LLS(t, "refresh", "plain", "--yes").WantError(t, 2, "lls snapshot")
	kit.Agent(t, "set", "feed-xfs", "--visibility", "hidden").Want(t, 0)
	before := kit.TakeState(t)
	hidden := w.alice.LLS(t, "refresh", "idle", "--yes").WantError(t, 10)
	before.WantSame(t)
	if strings.Contains(hidden.Stderr, "feed-xfs") {
		t.Errorf("alice is told of a hidden origin: %v", hidden)
	}
}

func TestRefreshAtTheEdgeOfTheQuota(t *testing.T) {
	w := lab(t)
	dirs(t, w.bob, "/edge")
	generation(t, "feed", "ext4", "one")
	purgeAll(t, w.bob, "edge")
	w.bob.Do(t, "snapshot", "feed", "edge", "--mount", "/edge")
	kit.WithConfig(t, "\n[[rules]]\ncontainer = \"bob\"\nlimits.volumes = 1\n")
	w.bob.LLS(t, "snapshot", "feed", "more").WantError(t, 13)
	w.bob.Do(t, "refresh", "edge", "--yes")
	before := kit.TakeState(t)
	w.bob.LLS(t, "refresh", "edge", "--yes").WantError(t, 13, "lls purge edge.")
	w.bob.LLS(t, "undelete", "edge", "--as", "edge-old").WantError(t, 13)
	before.WantSame(t)
	live, trash := states(t, w.bob, "edge")
	w.bob.Do(t, "purge", "edge", "--yes")
	if now, left := states(t, w.bob, "edge"); now.UUID != live.UUID || len(left) != 0 || len(trash) != 1 {
		t.Errorf("%+v, %+v", now, left)
	}
	w.bob.Do(t, "refresh", "edge", "--yes")
}

func TestWatchTellsOfARefresh(t *testing.T) {
	w := lab(t)
	dirs(t, w.alice, "/seen")
	generation(t, "feed", "ext4", "one")
	purgeAll(t, w.alice, "seen")
	w.alice.Do(t, "snapshot", "feed", "seen", "--mount", "/seen")
	w.alice.Background(t, "lls", "exec lls watch >/tmp/watched")
	kit.Eventually(t, "watch hears", func() bool {
		w.alice.Do(t, "keep", "seen", "--for", "1d")
		w.alice.Do(t, "set", "seen", "--access", "rw")
		w.alice.Do(t, "set", "seen", "--access", "ro")
		return strings.Contains(w.alice.Must(t, "cat", "/tmp/watched"), "changed seen")
	})
	w.alice.Do(t, "refresh", "seen", "--yes")
	var told []string
	kit.Eventually(t, "watch tells of the mount", func() bool {
		told = nil
		_, text, _ := strings.Cut(w.alice.Must(t, "cat", "/tmp/watched"), "changed seen")
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); len(f) > 2 && f[2] == "seen" && f[1] != "changed" {
				told = append(told, f[1])
			}
		}
		return slices.Contains(told, "mounted") && slices.Contains(told, "created")
	})
	t.Logf("told were %v", told)
	if went, came := slices.Index(told, "deleted"), slices.Index(told, "created"); told[0] != "unmounted" || went < 0 || came != went+1 {
		t.Errorf("told were %v", told)
	}
}
