package e2e

import (
	"strings"
	"testing"

	"lls/test/kit"
)

// held is what --json tells of a busy volume.
type held struct {
	Error struct {
		Code    string
		Holders []holder
	}
}

type holder struct {
	Container, Command, Path string
	PID                      int
}

func TestUnmountByNameAndByPath(t *testing.T) {
	w := lab(t)
	for _, c := range []*kit.Container{w.alice, w.root} {
		dirs(t, c, "/u1", "/u2", "/u3")
		own(t, c, "many")
		for _, p := range []string{"/u1", "/u2", "/u3"} {
			c.Do(t, "mount", "many", p)
			wantMounted(t, c, p, kit.FindLV(t, c.Name, "many"))
		}
		if out := c.Do(t, "mount", "many", "/u1"); !strings.Contains(out, "already") {
			t.Errorf("mounting it again says %q", out)
		}
		c.Do(t, "umount", "/u2")
		if c.MountAt(t, "/u2") != nil || c.MountAt(t, "/u1") == nil || c.MountAt(t, "/u3") == nil {
			t.Errorf("after umount of one path, %s has %+v", c.Name, c.Mounts(t))
		}
		c.Exec(t, "sh", "-c", "cd /u3/.. && lls umount ./u3/").Want(t, 0)
		if c.MountAt(t, "/u3") != nil {
			t.Errorf("%s has /u3 still", c.Name)
		}
		c.Do(t, "mount", "many", "/u2")
		c.Do(t, "umount", "many")
		wantNotMounted(t, c, kit.FindLV(t, c.Name, "many"))
	}
}

// TestBusyNamesItsHolders: one's own processes by pid and command, those of others as another container.
func TestBusyNamesItsHolders(t *testing.T) {
	w := lab(t)
	for _, c := range []*kit.Container{w.alice, w.bob} {
		dirs(t, c, "/busy")
	}
	own(t, w.alice, "busy", "--visible", "--mount", "/busy")
	w.alice.Do(t, "set", "busy", "--access", "rw")
	w.alice.Sh(t, ": >/busy/file")
	pid := w.alice.Background(t, "sleep", "exec sleep 987 </busy/file")
	before := kit.TakeState(t)
	w.alice.LLS(t, "umount", "busy").WantError(t, 11, "held by", pid, "sleep")
	w.alice.LLS(t, "umount", "/busy").WantError(t, 11, pid)
	w.alice.LLS(t, "delete", "busy").WantError(t, 11)
	w.alice.LLS(t, "purge", "busy", "--yes").WantError(t, 10, "not in the trash")
	kit.Agent(t, "delete", "alice/busy").WantError(t, 11, "lls-agent umount alice/busy --container alice")
	before.WantSame(t)
	var h held
	r := w.alice.LLS(t, "umount", "busy", "--json").Want(t, 11)
	(kit.Result{Args: r.Args, Stdout: r.Stderr}).JSON(t, &h)
	if h.Error.Code != "busy" || len(h.Error.Holders) != 1 || itoa(h.Error.Holders[0].PID) != pid || !strings.Contains(h.Error.Holders[0].Command, "sleep") || h.Error.Holders[0].Container != "alice" {
		t.Errorf("held by %+v, want pid %s", h, pid)
	}

	w.bob.Do(t, "mount", "alice/busy", "/busy")
	bobs := w.bob.Background(t, "sleep", "exec sleep 654 </busy/file")
	var info struct{ Holders []holder }
	w.alice.LLS(t, "info", "busy", "--json").Want(t, 0).JSON(t, &info)
	others, mine := 0, 0
	for _, h := range info.Holders {
		switch {
		case h == holder{Container: "another container"}:
			others++
		case h.Container == "alice" && itoa(h.PID) == pid:
			mine++
		default:
			t.Errorf("alice is told of %+v (bob's is pid %s)", h, bobs)
		}
	}
	if others != 1 || mine != 1 {
		t.Errorf("alice is told of %+v", info.Holders)
	}
	out := w.alice.Do(t, "info", "busy")
	if strings.Contains(out, "bob") || strings.Contains(out, "654") {
		t.Errorf("alice is told of bob:\n%s", out)
	}
	admin := kit.Must(t, "lls-agent", "info", "alice/busy")
	if !strings.Contains(admin, "bob") || !strings.Contains(admin, "alice") {
		t.Errorf("the sysadmin is told:\n%s", admin)
	}
	w.bob.LLS(t, "umount", "/busy").WantError(t, 11, bobs)

	w.alice.Must(t, "kill", pid)
	w.alice.Do(t, "umount", "busy")
	w.alice.Do(t, "delete", "busy") // which bob keeps until he lets go
	w.alice.LLS(t, "purge", "busy", "--yes").WantError(t, 11, "another container")
	wantMounted(t, w.bob, "/busy", kit.FindLV(t, "alice", "busy"))
	w.bob.Must(t, "kill", bobs)
	w.bob.Do(t, "umount", "/busy")
	w.alice.Do(t, "purge", "busy", "--yes")
}

// TestBusyInANamespaceOfItsOwn: a mount that only another mount namespace of a container still has, which no table of its init shows.
func TestBusyInANamespaceOfItsOwn(t *testing.T) {
	w := lab(t)
	const hold = "exec unshare -m --propagation private sleep 987"
	for _, c := range []*kit.Container{w.alice, w.root} {
		dirs(t, c, "/apart")
		own(t, c, "apart", "--mount", "/apart")
		pid := c.Background(t, "sleep", hold)
		c.Do(t, "umount", "/apart")
		before := kit.TakeState(t)
		c.LLS(t, "delete", "apart").WantError(t, 11, "held by sleep (pid "+pid+")", "/apart", "lls delete apart")
		kit.Agent(t, "delete", c.Name+"/apart").WantError(t, 11, "sleep", c.Name)
		before.WantSame(t)
		c.Must(t, "kill", pid)
		kit.Eventually(t, "nobody holds it", func() bool { return c.LLS(t, "delete", "apart").Exit == 0 })
		c.Do(t, "purge", "apart", "--yes")
	}

	dirs(t, w.bob, "/apart")
	own(t, w.alice, "lent", "--visible")
	w.bob.Do(t, "mount", "alice/lent", "/apart")
	pid := w.bob.Background(t, "sleep", hold)
	w.bob.Do(t, "umount", "/apart")
	out := w.alice.Do(t, "delete", "lent")
	if !strings.Contains(out, "held by another container") || strings.Contains(out, "bob") || strings.Contains(out, "sleep") {
		t.Errorf("alice is told:\n%s", out)
	}
	w.bob.LLS(t, "mount", "alice/lent", "/apart").WantError(t, 10)
	w.alice.LLS(t, "purge", "lent", "--yes").WantError(t, 11, "another container")
	w.bob.Must(t, "kill", pid)
	kit.Eventually(t, "it is deactivated after its last close, and purged", func() bool { return w.alice.LLS(t, "purge", "lent", "--yes").Exit == 0 })
}
