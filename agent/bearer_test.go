package agent

import (
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/container"
)

// process is one that runs until the test ends, or until the result is called.
func process(t *testing.T) (pid int, end func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		}
	}
	t.Cleanup(end)
	return cmd.Process.Pid, end
}

func TestABearerHasEndedOnlyForCertain(t *testing.T) {
	pid, _ := process(t)
	runs := runOf(pid)
	pid, end := process(t)
	ended := runOf(pid)
	end()
	reused := runs + "0" // another start time
	for _, tt := range []struct {
		what, init, monitor string
		want                bool
	}{
		{"both run", runs, runs, false},
		{"it is started anew by its monitor", ended, runs, false},
		{"its monitor was killed", runs, ended, false},
		{"both have ended", ended, ended, true},
		{"both pids are others' now", reused, reused, true},
		{"one pid is another's now", reused, runs, false},
		{"its monitor had gone before, and it runs", runs, "", false},
		{"its monitor had gone before, and it has ended", ended, "", true},
		{"nothing is known", "", "", false},
		{"no init is known", "", ended, false},
		{"what was noted is no process", "x 1", "x 1", false},
		{"what was noted are all processes", "-1 1", "-1 1", false},
	} {
		if got := (bearer{Init: tt.init, Monitor: tt.monitor}).hasEnded(); got != tt.want {
			t.Errorf("%s: %v", tt.what, got)
		}
	}
}

func TestABearerIsNotedWithItsInitAndItsMonitor(t *testing.T) {
	c := container.Container{Dir: "/var/lib/lxc", Base: "c1"}
	pid, end := process(t)
	got := bearerOf(c, pid)
	if want := (bearer{"/var/lib/lxc", "c1", runOf(pid), runOf(os.Getpid())}); got != want || got.Init == "" || got.Monitor == "" {
		t.Errorf("%+v, want %+v", got, want)
	}
	end()
	if b := bearerOf(c, pid); b != (bearer{}) {
		t.Errorf("of a process that has ended: %+v", b)
	}
	for note, want := range map[string]bearer{got.note(): got, bearer{}.note(): {}, "": {}, "{\"init\":": {}, "[]": {}} {
		if back := readBearer(note); back != want {
			t.Errorf("%q is read as %+v", note, back)
		}
	}
}

// crashed has the agent of a bench begin after one that was killed, and whose files were lost: all that is left of a grant is its note.
func (b *bench) crashed(k *keeper, x grant, of bearer) {
	b.t.Helper()
	var err error
	k.kept = map[string][]*os.File{x.name(): {}}
	if of != (bearer{}) {
		if err := k.Renote(x.name(), of.note()); err != nil {
			b.t.Fatal(err)
		}
	}
	if b.agent.raw, err = newRaw(k); err != nil {
		b.t.Fatal(err)
	}
}

func TestWhatAnUnlistedContainerMayOpenIsHeldUntilItHasEnded(t *testing.T) {
	for _, known := range []bool{true, false} {
		b := newBench(t)
		v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
		lv := b.see(v.ID, false).LV
		x := grant{b.guest1.Key(), catalog.ID(v.ID), device{lv.Major, lv.Minor}, true}
		pid, end := process(t)
		var of bearer
		if known {
			of = bearer{"/var/lib/lxc", "c1", runOf(pid), runOf(pid)}
		}
		k := &keeper{}
		b.crashed(k, x, of)
		all := b.agent.containers.(fakeContainers).all
		b.agent.containers = fakeContainers{all: all[1:]}
		held := func(when string) {
			t.Helper()
			for range 2 {
				b.agent.adopt(t.Context())
			}
			if !b.agent.raw.has(x) || len(b.agent.raw.lostOf("")) != 1 || len(k.forgotten) != 0 || readBearer(k.notes[x.name()]) != of {
				t.Errorf("%s, known %v: held %v, forgotten %q, noted %q", when, known, b.agent.raw.has(x), k.forgotten, k.notes)
			}
			p := strings.Join(b.problems(), "\n")
			if !strings.Contains(p, "not listed") || !strings.Contains(p, "vg/"+string(lv.Name)) || known && !strings.Contains(p, "container c1 in /var/lib/lxc: ") {
				t.Errorf("%s, known %v: the status has %q", when, known, p)
			}
		}
		held("it runs")
		end()
		if !known {
			held("nobody knows what has ended")
			b.agent.containers = fakeContainers{all: all}
		}
		b.agent.adopt(t.Context())
		if b.agent.raw.has(x) || len(b.agent.raw.lostOf("")) != 0 || !slices.Equal(k.forgotten, []string{x.name()}) {
			t.Errorf("ended, known %v: held %v, forgotten %q", known, b.agent.raw.has(x), k.forgotten)
		}
		if p := b.problems(); len(p) != 0 {
			t.Errorf("ended, known %v: the status has %q", known, p)
		}
	}
}

func TestWhatAnUnlistedContainerMayOpenIsTakenBackWhenItIsListedAgain(t *testing.T) {
	b := newBench(t)
	pid, _ := process(t)
	x := grant{b.guest1.Key(), "aaaaaaa", device{253, 7}, true}
	k := &keeper{}
	b.crashed(k, x, bearer{"/var/lib/lxc", "c1", runOf(pid), runOf(pid)})
	all := b.agent.containers.(fakeContainers).all
	m := &monitors{fakeContainers: fakeContainers{all: all[1:]}}
	b.agent.containers = m
	b.agent.adopt(t.Context())
	if len(m.told) != 0 || len(k.forgotten) != 0 {
		t.Errorf("unlisted: told %q, forgotten %q", m.told, k.forgotten)
	}
	m.all = all
	b.guest1.box.Mapped = false
	b.guest1.ready.Store(true)
	b.agent.guests.all[b.guest1.Key()] = b.guest1
	defer delete(b.agent.guests.all, b.guest1.Key())
	if err := b.agent.showNodesTo(t.Context(), b.guest1); err != nil || !slices.Equal(m.told, []string{"c1 false b 253:7 rw"}) || !slices.Equal(k.forgotten, []string{x.name()}) {
		t.Errorf("listed again: %v, told %q, forgotten %q", err, m.told, k.forgotten)
	}
}

// A container that is started anew keeps what its monitor lets it open.
func TestAGrantIsNotedAsThatOfTheLatestRun(t *testing.T) {
	b := newBench(t)
	k := &keeper{}
	var err error
	if b.agent.raw, err = newRaw(k); err != nil {
		t.Fatal(err)
	}
	v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	x := grant{b.guest1.Key(), catalog.ID(v.ID), device{253, 7}, false}
	for _, of := range []bearer{{"/d", "c1", "7 1", "6 1"}, {"/d", "c1", "8 2", "6 1"}, {}} {
		b.guest1.bearer = of
		if err := b.agent.hold(b.agent.store.latest(), b.guest1, map[grant]bool{x: true}); err != nil {
			t.Fatal(err)
		}
		if got := readBearer(k.notes[x.name()]); got != of || b.agent.raw.bearer(x) != of || len(k.notes) != 1 {
			t.Errorf("%+v is noted as %+v, of %v", of, got, slices.Collect(maps.Keys(k.notes)))
		}
	}
}
