package fault

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"lls/test/kit"
)

// onTheHost writes a file of the dataset.
func onTheHost(t *testing.T, name, file, text string) {
	t.Helper()
	dir := t.TempDir()
	kit.Agent(t, "mount", name, dir).Want(t, 0)
	if err := os.WriteFile(dir+"/"+file, []byte(text), 0o644); err != nil {
		t.Error(err)
	}
	kit.Agent(t, "umount", dir).Want(t, 0)
}

// wantWhole fails the test unless exactly one volume x is live, and what was written before is there: in it, or in the trash.
func wantWhole(t *testing.T, what, edit, oldUUID string) (refreshed bool) {
	t.Helper()
	var live, trash []kit.LV
	for _, v := range kit.FindLVs(t, box.Name, "x") {
		switch state := v.Tag("lls.s"); {
		case state == "live":
			live = append(live, v)
		case strings.HasPrefix(state, "trash:"):
			trash = append(trash, v)
		}
	}
	if len(live) != 1 || len(trash) > 1 {
		t.Fatalf("%s: live are %+v, in the trash %+v", what, live, trash)
	}
	if box.MountAt(t, "/a") == nil {
		box.LLS(t, "mount", "x", "/a").Want(t, 0)
	}
	if !isAt(t, "x", "/a") {
		t.Fatalf("%s: at /a is %+v", what, box.MountAt(t, "/a"))
	}
	refreshed = live[0].UUID != oldUUID
	inside := box.Exec(t, "cat", "/a/edit")
	if !refreshed {
		if len(trash) != 0 || strings.TrimSpace(inside.Stdout) != edit {
			t.Fatalf("%s: it is not refreshed, and has lost its edit: %v; in the trash %+v", what, inside, trash)
		}
		return false
	}
	if len(trash) != 1 || trash[0].UUID != oldUUID || inside.Exit == 0 || box.Must(t, "cat", "/a/state") != edit {
		t.Fatalf("%s: it is refreshed, and wrong: %v; in the trash %+v", what, inside, trash)
	}
	box.LLS(t, "undelete", "x", "--as", "back").Want(t, 0)
	box.LLS(t, "mount", "back", "/b").Want(t, 0)
	if got := box.Must(t, "cat", "/b/edit"); got != edit {
		t.Fatalf("%s: what is back says %q", what, got)
	}
	return true
}

// clear destroys what a round left.
func clear(t *testing.T) {
	t.Helper()
	for _, name := range []string{"x", "back"} {
		box.LLS(t, "umount", name)
		for range kit.FindLVs(t, box.Name, name) {
			box.Purge(t, name)
		}
	}
}

// An agent is killed in at least so many refreshes, and then on until this time is over.
const (
	refreshRounds = 12
	refreshTime   = 60 * time.Second
)

func TestKilledInARefreshTheAgentLosesNeitherTheOldNorTheNew(t *testing.T) {
	scene(t)
	kit.Must(t, "lls-agent", "create", "feed", "--size", "64M")
	box.Do(t, "snapshot", "feed", "x", "--mount", "/a")
	whole := box.LLS(t, "refresh", "x", "--yes").Want(t, 0).Took
	clear(t)
	old, replaced, unmounted := 0, 0, 0
	for began, round := time.Now(), 0; round < refreshRounds || time.Since(began) < refreshTime; round++ {
		edit := fmt.Sprintf("edit %d", round)
		box.LLS(t, "snapshot", "feed", "x", "--mount", "/a").Want(t, 0)
		box.Sh(t, "echo "+edit+" >/a/edit; sync")
		onTheHost(t, "feed", "state", edit)
		was := kit.FindLV(t, box.Name, "x")
		// Each round in its part of the time, so that some come too early and some too late.
		delay := time.Duration((float64(round%refreshRounds) + rand.Float64()) / refreshRounds * 2.5 * float64(whole))
		what := fmt.Sprintf("round %d, killed after %v", round, delay)
		done := start(t, "refresh", "x", "--yes")
		killAgent(t, delay)
		r := <-done
		recovered(t, what)
		if r.Exit != 0 && r.Exit != 14 {
			t.Errorf("%s: %v", what, r)
		}
		mounted := box.MountAt(t, "/a") != nil
		refreshed := wantWhole(t, what, edit, was.UUID)
		t.Logf("%s: exit %d, refreshed %v, mounted %v", what, r.Exit, refreshed, mounted)
		switch {
		case r.Exit == 0 && (!refreshed || !mounted):
			t.Errorf("%s: it was answered as done, and is not: %v", what, r)
		case refreshed:
			replaced++
		default:
			old++
		}
		if !mounted {
			unmounted++
		}
		clear(t)
	}
	t.Logf("%d were as before, %d refreshed; %d were not mounted", old, replaced, unmounted)
	if old == 0 || replaced == 0 {
		t.Errorf("%d were as before and %d refreshed: the agent was not killed in the middle", old, replaced)
	}
	kit.Purge(t, "feed")
}

// TestARefreshCutInItsMiddleIsFinished has the agent die between the two changes that exchange the volumes.
func TestARefreshCutInItsMiddleIsFinished(t *testing.T) {
	scene(t)
	kit.Must(t, "lls-agent", "create", "feed", "--size", "64M")
	box.Do(t, "snapshot", "feed", "x", "--mount", "/a")
	box.Sh(t, "echo cut >/a/edit; sync")
	onTheHost(t, "feed", "state", "cut")
	was := kit.FindLV(t, box.Name, "x")
	const once = "/var/tmp/once"
	if err := os.WriteFile(once, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	pid := kit.AgentPID(t)
	mend := brokenLVM(t, fmt.Sprintf(`case "$*" in *--addtag=lls.s=live*) if [ -e %s ]; then /var/tmp/real/lvm lvs --noheadings -o lv_tags %s >%s.tags; rm %s; kill -9 %d; exit 5; fi ;; esac`,
		once, kit.VG, once, once, pid))
	box.LLS(t, "refresh", "x", "--yes").WantError(t, 14)
	kit.AgentBack(t, pid)
	mend()
	tags, err := os.ReadFile(once + ".tags")
	if err != nil || !strings.Contains(string(tags), "lls.s=new") || !strings.Contains(string(tags), "lls.x=") {
		t.Errorf("it was not cut in its middle: %v\n%s", err, tags)
	}
	recovered(t, "a refresh that was cut in its middle")
	if m := box.MountAt(t, "/a"); m != nil {
		t.Errorf("at /a is %+v", m)
	}
	if !wantWhole(t, "cut in its middle", "cut", was.UUID) {
		t.Error("it was not finished")
	}
	clear(t)
	kit.Purge(t, "feed")
}
