package e2e

import (
	"strings"
	"testing"
	"time"

	"lls/test/kit"
)

// state is what lls list --all says of a volume: "" when it is not there.
func state(t *testing.T, c *kit.Container, name string) (state string, expires bool) {
	t.Helper()
	var all []struct {
		Name, State string
		Expires     *time.Time
	}
	c.LLS(t, "list", "--all", "--json").Want(t, 0).JSON(t, &all)
	for _, v := range all {
		if v.Name == name {
			return v.State, v.Expires != nil
		}
	}
	return "", false
}

// TestUnusedSnapshotsExpire has seconds for the days of a policy, and shows that what is used or wanted stays.
func TestUnusedSnapshotsExpire(t *testing.T) {
	w := lab(t)
	dirs(t, w.alice, "/held")
	purgeAfter(t, w.alice, "idle", "back", "held", "named", "leased", "published")
	purgeAfter(t, w.bob, "resting")
	own(t, w.alice, "plain")
	w.bob.Do(t, "snapshot", dataset, "resting")
	w.bob.Stop(t)
	t.Cleanup(func() {
		if !w.bob.Running(t) {
			w.bob.Start(t)
		}
	})
	for _, name := range []string{"idle", "back", "named", "leased"} {
		w.alice.Do(t, "snapshot", dataset, name)
	}
	w.alice.Do(t, "snapshot", dataset, "published", "--visible")
	w.alice.Do(t, "snapshot", dataset, "held", "--mount", "/held")
	w.alice.Do(t, "keep", "leased", "--for", "1h")
	w.alice.Sh(t, "cp -p /etc/fstab /root/fstab.was 2>/dev/null || : >/root/fstab.was; echo 'lls:named /named lls noauto,x-lls.auto 0 0' >>/etc/fstab")
	t.Cleanup(func() { w.alice.Sh(t, "cat /root/fstab.was >/etc/fstab; rm /root/fstab.was") })

	kit.WithConfig(t, "\n[[rules]]\nexpiry = { unused = \"40s\", notice = \"35s\", trash = \"40s\" }\n")
	if said := kit.Agent(t, "policy", "explain", "alice/idle").Want(t, 0).Stdout; !strings.Contains(said, "unused for") {
		t.Errorf("policy explain: %s", said)
	}
	if said := kit.Agent(t, "policy", "dry-run").Want(t, 0).Stdout; !strings.Contains(said, "alice/idle") || strings.Contains(said, "alice/held") {
		t.Errorf("policy dry-run: %s", said)
	}
	kit.Eventually(t, "its owner is told that it will go", func() bool {
		_, told := state(t, w.alice, "idle")
		return told
	})
	kit.Eventually(t, "/lls/NOTICE tells how to keep it", func() bool { // it is written once the list says so
		return strings.Contains(w.alice.Must(t, "cat", "/lls/NOTICE"), "lls keep idle --for")
	})
	kit.KillAgent(t)
	for range 10 {
		notice := w.alice.Must(t, "cat", "/lls/NOTICE")
		if now, _ := state(t, w.alice, "idle"); now == "live" && !strings.Contains(notice, "lls keep idle --for") {
			t.Errorf("with a new agent, NOTICE says %q", notice)
			break
		}
	}
	kit.Eventually(t, "it goes to the trash", func() bool {
		now, _ := state(t, w.alice, "idle")
		return now == "trash"
	})
	kit.Eventually(t, "the other one too", func() bool {
		now, _ := state(t, w.alice, "back")
		return now == "trash"
	})
	w.alice.Do(t, "undelete", "back")
	w.alice.Do(t, "keep", "back", "--for", "1h")
	kit.Eventually(t, "it is purged", func() bool {
		now, _ := state(t, w.alice, "idle")
		return now == ""
	})
	if left := kit.FindLVs(t, "alice", "idle"); len(left) > 0 {
		t.Errorf("it is still there: %+v", left)
	}
	for _, name := range []string{"held", "named", "leased", "published", "plain", "back"} {
		if now, told := state(t, w.alice, name); now != "live" || told {
			t.Errorf("%s is %q, its owner was told: %v", name, now, told)
		}
	}
	if v := kit.FindLV(t, "bob", "resting"); v.Tag("lls.s") != "live" {
		t.Errorf("what a stopped container has is %s", v.Tag("lls.s"))
	}
}

// TestLeasesAreCapped shows how long a container may keep something, and the sysadmin.
func TestLeasesAreCapped(t *testing.T) {
	w := lab(t)
	own(t, w.alice, "kept")
	w.alice.LLS(t, "keep", "kept", "--for", "91d").WantError(t, 12, "90d")
	w.alice.LLS(t, "keep", "kept", "--for", "never").WantError(t, 12, "90d")
	w.alice.LLS(t, "keep", "kept", "--for", "soon").WantError(t, 2, "7d")
	w.alice.LLS(t, "keep", "kept").WantError(t, 2, "--for")
	w.alice.LLS(t, "keep", dataset, "--for", "1d").WantError(t, 12, "belongs to host")
	if said := w.alice.Do(t, "keep", "kept", "--for", "90d"); !strings.Contains(said, "kept until") {
		t.Error(said)
	}
	if tag := kit.FindLV(t, "alice", "kept").Tag("lls.l"); tag == "" {
		t.Error("the lease is not in its tags")
	}
	kit.Agent(t, "keep", "alice/kept", "--for", "never").Want(t, 0)
	if tag := kit.FindLV(t, "alice", "kept").Tag("lls.l"); tag != "never" {
		t.Errorf("the lease is %q", tag)
	}
	w.alice.Do(t, "keep", "kept", "--for", "0")
	if tag := kit.FindLV(t, "alice", "kept").Tag("lls.l"); tag != "" {
		t.Errorf("the lease is %q, want none", tag)
	}
}
