package fault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lls/test/kit"
)

// step is one operation that is cut short, with what is done before, and what has to hold when it was answered as done.
type step struct {
	name   string
	before [][]string
	does   []string
	done   func(t *testing.T) bool
}

func live(t *testing.T, name, state string) bool {
	t.Helper()
	found := kit.FindLVs(t, box.Name, name)
	return len(found) == 1 && strings.HasPrefix(found[0].Tag("lls.s"), state)
}

var steps = []step{
	{"create", nil, []string{"create", "x", "--size", "128M"}, func(t *testing.T) bool { return live(t, "x", "live") }},
	{"create with mount", nil, []string{"create", "x", "--size", "64M", "--mount", "/a"}, func(t *testing.T) bool { return isAt(t, "x", "/a") }},
	{"snapshot", nil, []string{"snapshot", dataset, "x"}, func(t *testing.T) bool { return live(t, "x", "live") }},
	{"snapshot with mount", nil, []string{"snapshot", dataset, "x", "--mount", "/a"}, func(t *testing.T) bool { return isAt(t, "x", "/a") }},
	{"mount", [][]string{{"snapshot", dataset, "x"}}, []string{"mount", "x", "/a"}, func(t *testing.T) bool { return isAt(t, "x", "/a") }},
	{"umount", [][]string{{"snapshot", dataset, "x", "--mount", "/a"}}, []string{"umount", "x"}, func(t *testing.T) bool { return !isAt(t, "x", "/a") }},
	{"resize", [][]string{{"snapshot", dataset, "x"}}, []string{"resize", "x", "512M"}, func(t *testing.T) bool { return kit.FindLV(t, box.Name, "x").Bytes(t) == 512<<20 }},
	{"set", [][]string{{"snapshot", dataset, "x"}}, []string{"set", "x", "--visibility", "visible"}, func(t *testing.T) bool { return kit.FindLV(t, box.Name, "x").Tag("lls.v") == "v" }},
	{"delete", [][]string{{"snapshot", dataset, "x"}}, []string{"delete", "x"}, func(t *testing.T) bool { return live(t, "x", "trash") }},
	{"undelete", [][]string{{"snapshot", dataset, "x"}, {"delete", "x"}}, []string{"undelete", "x"}, func(t *testing.T) bool { return live(t, "x", "live") }},
	{"purge", [][]string{{"snapshot", dataset, "x"}, {"delete", "x"}}, []string{"purge", "x", "--yes"}, func(t *testing.T) bool { return len(kit.FindLVs(t, box.Name, "x")) == 0 }},
}

// The agent is killed so often in each step at the least, and then on until this time is over.
const (
	killRounds = 3
	killTime   = 80 * time.Second
)

// whole is how long each step takes when nobody is killed.
func whole(t *testing.T) []time.Duration {
	t.Helper()
	var took []time.Duration
	for _, s := range steps {
		for _, b := range s.before {
			box.LLS(t, b...).Want(t, 0)
		}
		took = append(took, box.LLS(t, s.does...).Want(t, 0).Took)
		if !s.done(t) {
			t.Fatalf("%s is not done", s.name)
		}
		tidy(t)
	}
	return took
}

// tidy takes away what a step left.
func tidy(t *testing.T) {
	t.Helper()
	if box.MountAt(t, "/a") != nil {
		box.LLS(t, "umount", "/a").Want(t, 0)
	}
	if len(kit.FindLVs(t, box.Name, "x")) == 1 {
		box.Purge(t, "x")
	}
}

func TestKilledAtAnyMomentTheAgentLosesNothing(t *testing.T) {
	scene(t)
	box.Do(t, "snapshot", dataset, "keep", "--mount", "/keep")
	box.Background(t, "sleep", "exec sleep 1000 > /keep/open")
	kept := box.MountAt(t, "/keep")
	took := whole(t)
	answered, rounds := 0, 0
	for began := time.Now(); rounds < killRounds*len(steps) || time.Since(began) < killTime; rounds++ {
		round := rounds
		s := steps[round%len(steps)]
		for _, b := range s.before {
			box.LLS(t, b...).Want(t, 0)
		}
		// Each round of a step in its part of the time, so that some come too early and some too late.
		part := (float64(round/len(steps)%killRounds) + rand.Float64()) / killRounds
		delay := time.Duration(part * 2.5 * float64(took[round%len(steps)]))
		what := fmt.Sprintf("round %d: %s, killed after %v", round, s.name, delay)
		done := start(t, s.does...)
		killAgent(t, delay)
		r := <-done
		recovered(t, what)
		t.Logf("%s: exit %d", what, r.Exit)
		switch {
		case r.Exit == 0:
			answered++
			if !s.done(t) {
				t.Errorf("%s: it was answered as done and is not: %v; LVM has %+v", what, r, kit.FindLVs(t, box.Name, "x"))
			}
		case r.Exit != 14:
			t.Errorf("%s: %v", what, r)
		}
		if m := box.MountAt(t, "/keep"); m == nil || m.ID != kept.ID {
			t.Fatalf("%s: the mount that was there is %+v now", what, m)
		}
		if n := len(kit.FindLVs(t, box.Name, "x")); n > 1 || n == 0 && s.before != nil && s.name != "purge" {
			t.Fatalf("%s: LVM has %d volumes of that name", what, n)
		}
		tidy(t)
	}
	t.Logf("%d of %d rounds were answered before the agent died", answered, rounds)
	if answered == 0 || answered == rounds {
		t.Errorf("%d of %d rounds were answered: the agent was not killed in the middle", answered, rounds)
	}
	box.Sh(t, "echo still > /keep/alive")
	kit.Run(t, "lab-exec", box.Name, "killall", "sleep")
	kit.Eventually(t, "the kept volume is let go", func() bool { return box.LLS(t, "umount", "keep").Exit == 0 })
	box.Purge(t, "keep")
}

// helper is the program that places mounts.
const helper = "/usr/lib/lls/lls-mount"

// withDyingHelper has every helper killed as it enters its n-th such system call, while do runs, and fails the test when none was.
func withDyingHelper(t *testing.T, call string, n int, do func()) {
	t.Helper()
	died := filepath.Join(t.TempDir(), "died")
	script := fmt.Sprintf("#!/bin/sh\nstrace -f -qq -o /dev/null -e trace=%s -e inject=%[1]s:signal=KILL:when=%d %s.real \"$@\"\n"+
		"e=$?; [ $e != 137 ] || echo died >> %s; exit $e\n", call, n, helper, died)
	if err := errors.Join(os.Rename(helper, helper+".real"), os.WriteFile(helper, []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Rename(helper+".real", helper); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(died); err != nil {
			t.Errorf("no helper was killed at %s number %d", call, n)
		}
	}()
	do()
}

func TestAKilledHelperLeavesAMountOrNone(t *testing.T) {
	scene(t)
	box.Do(t, "snapshot", dataset, "h")
	for _, at := range []struct {
		call  string
		n     int
		there bool // the mount was placed before
	}{
		{"setns", 1, false},      // before it enters the container
		{"openat2", 1, false},    // before it walks the path
		{"move_mount", 1, false}, // before the mount is placed
		{"write", 1, true},       // before it answers
	} {
		t.Run(fmt.Sprintf("%s %d", at.call, at.n), func(t *testing.T) {
			withDyingHelper(t, at.call, at.n, func() {
				r := box.LLS(t, "mount", "h", "/b")
				switch there := isAt(t, "h", "/b"); {
				case r.Exit == 0 && !there:
					t.Errorf("answered as mounted, and is not: %v", r)
				case there != at.there:
					t.Errorf("there is a mount: %t, want %t; the answer was %v", there, at.there, r)
				}
			})
			if isAt(t, "h", "/b") {
				box.Do(t, "umount", "h")
			}
		})
	}
	recovered(t, "helpers were killed")
	box.LLS(t, "mount", "h", "/b").Want(t, 0)
	box.Do(t, "umount", "h")
	box.Purge(t, "h")
}

func TestAMountHalfWayInAContainerThatEndsMeanwhileIsLetGo(t *testing.T) {
	scene(t)
	c := kit.TempContainer(t, "brief")
	for _, delay := range []time.Duration{60, 120, 200} {
		c.Do(t, "snapshot", dataset, "s")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = kit.Try(t.Context(), kit.Patience, "", "lab-exec", c.Name, "lls", "mount", "s", "/data")
		}()
		pid := kit.AgentPID(t)
		time.Sleep(delay * time.Millisecond)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		kit.Must(t, "lxc-stop", "-k", "-n", c.Name)
		<-done
		kit.AgentBack(t, pid)
		recovered(t, "the container ended with the agent")
		kit.Eventually(t, "nothing holds the volume", func() bool {
			kit.Agent(t, "delete", "brief/s")
			return kit.Agent(t, "purge", "brief/s", "--yes").Exit == 0
		})
		c.Start(t)
		kit.Eventually(t, "the container is served after its restart", func() bool { return c.LLS(t, "list").Exit == 0 })
	}
}
