package agent

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/container"
	"lls/agent/mount"
)

// trees are the file systems that containers see: some have every step wait until they are let go, the others work.
type trees struct {
	mu    sync.Mutex
	held  map[string]chan struct{} // by the container's key
	begun map[string]int           // steps
	do    bool                     // what a step does
}

// trees puts fakes in place of all containers' trees. A step is late only where it is held up.
func (b *bench) trees() *trees {
	f := &trees{held: map[string]chan struct{}{}, begun: map[string]int{}}
	b.agent.steps.patience = func(key string) <-chan time.Time {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.held[key] == nil {
			return nil
		}
		soon := make(chan time.Time)
		close(soon)
		return soon
	}
	b.agent.steps.run = func(key string, do func() error) error {
		f.mu.Lock()
		f.begun[key]++
		held := f.held[key]
		f.mu.Unlock()
		if held != nil {
			<-held
		}
		if f.do {
			return do()
		}
		return nil
	}
	return f
}

func (f *trees) hold(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held[key] = make(chan struct{})
}

func (f *trees) letGo(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held[key] != nil {
		close(f.held[key])
	}
	delete(f.held, key)
}

func (f *trees) steps(key string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begun[key]
}

// serveBoth has both containers served, with a tree and nodes that only the fakes of trees know.
func (b *bench) serveBoth() (g1, g2 *guest) {
	b.t.Helper()
	g1 = b.guest1
	c2 := b.agent.containers.(fakeContainers).all[1]
	g2 = &guest{Container: c2, box: &mount.Box{PID: os.Getpid(), Mapped: true}}
	for _, g := range []*guest{g1, g2} {
		g.tree, g.nodes = new(mount.Tree), new(mount.Nodes)
		g.ready.Store(true)
		b.agent.guests.all[g.Key()] = g
	}
	return g1, g2
}

// ends fails the test unless do returns.
func ends(t *testing.T, what string, do func()) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		do()
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatalf("%s does not end", what)
	}
}

func (b *bench) isListed(name, as string) bool {
	b.t.Helper()
	var all []api.Container
	if err := b.admin.Get(b.t.Context(), api.PathContainers, nil, &all); err != nil {
		b.t.Fatal(err)
	}
	for _, c := range all {
		if c.Name == name {
			return strings.Contains(c.LLS, as)
		}
	}
	return false
}

func TestAContainerThatHoldsUpItsTreeHoldsUpNobodyElse(t *testing.T) {
	b := newBench(t)
	f := b.trees()
	g1, g2 := b.serveBoth()
	f.hold(g1.Key())
	t.Cleanup(func() { f.letGo(g1.Key()) })
	b.follow()
	within(t, "it is listed as not answering", func() bool { return b.isListed("c1", "do not answer") })
	b.bus.mu.Lock()
	told, steps := len(b.bus.signals), f.steps(g2.Key())
	b.bus.mu.Unlock()
	g2.showing.Lock()
	g2.settled = false // so that there is something to do
	g2.showing.Unlock()
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "pub", Size: "1G"}, "")
	b.told(told + 1)
	within(t, "the other's devices are shown", func() bool { return f.steps(g2.Key()) > steps })
	if !b.isListed("c2", "ok") {
		t.Error("the other container is not fine")
	}
	for what, do := range map[string]func(){
		"the reminders": b.agent.remindAll,
		"the reload":    func() { b.reload(testConfig) },
		"the end":       func() { b.agent.raw.end(); b.agent.showAll(t.Context()) },
	} {
		ends(t, what, do)
	}
	if n := f.steps(g1.Key()); n != 1 {
		t.Errorf("%d steps were begun where one is late", n)
	}
}

func TestAContainerThatHoldsUpItsTreeIsBroughtUpToDateLater(t *testing.T) {
	b := newBench(t)
	f := b.trees()
	g1, _ := b.serveBoth()
	f.hold(g1.Key())
	b.agent.showAll(t.Context())
	ends(t, "adopting", func() { b.adoptServed() })
	if !b.isListed("c1", "do not answer") {
		t.Fatal("nothing is told of it")
	}
	steps := f.steps(g1.Key())
	f.letGo(g1.Key())
	select {
	case <-b.agent.again:
	case <-time.After(time.Minute):
		t.Fatal("nobody is told that it answers again")
	}
	b.adoptServed()
	if !b.isListed("c1", "ok") || !g1.settled || f.steps(g1.Key()) < steps+2 { // its tree, and its nodes
		t.Errorf("after it answers: %q, settled %v, %d steps", g1.status(), g1.settled, f.steps(g1.Key())-steps)
	}
}

// adoptServed is adopt for guests that have no init of their own.
func (b *bench) adoptServed() {
	for _, g := range b.agent.guests.list() {
		if g.status() != "ok" && b.agent.inject(b.t.Context(), g) != nil {
			continue
		}
		_ = b.agent.showNodesTo(b.t.Context(), g)
	}
}

func TestAnAgentStartsWithAContainerThatHoldsUpItsTree(t *testing.T) {
	b := newBench(t)
	f := b.trees()
	fake := b.agent.containers.(fakeContainers)
	fake.inits = map[string]int{"c1": os.Getpid()}
	b.agent.containers = fake
	key := b.guest1.Key()
	f.do = true
	f.hold(key)
	ends(t, "adopting", func() { b.agent.adopt(t.Context()) })
	if !b.isListed("c1", "do not answer") {
		t.Error("nothing is told of it")
	}
	if p := strings.Join(b.problems(), "\n"); !strings.Contains(p, "container c1: ") {
		t.Errorf("the status has %q", p)
	}
	f.letGo(key)
	within(t, "it is looked at again", func() bool {
		b.agent.adopt(t.Context())
		return b.isListed("c1", "shares the mounts of the host") // which our own process does
	})
}

func TestRightsThatCannotBeTakenBackFromAContainerThatHoldsUpItsNodesAreKept(t *testing.T) {
	b := newBench(t)
	f := b.trees()
	g1, _ := b.serveBoth()
	v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
	x := grant{g1.Key(), catalog.ID(v.ID), device{253, 7}, false} // by no rule of lls.toml any more
	if err := b.agent.hold(b.agent.store.latest(), g1, map[grant]bool{x: true}); err != nil || !b.agent.raw.has(x) {
		t.Fatal(err)
	}
	f.hold(g1.Key())
	t.Cleanup(func() { f.letGo(g1.Key()) })
	if err := b.agent.settle(t.Context(), x.id); !errors.Is(err, errGranted) || !b.agent.raw.has(x) {
		t.Errorf("while its nodes cannot be changed: %v, the device is held: %v", err, b.agent.raw.has(x))
	}
	f.letGo(g1.Key())
	within(t, "the right is taken back", func() bool { return b.agent.settle(t.Context(), x.id) == nil && !b.agent.raw.has(x) })
}

func TestWhatIsLateIsOverBeforeTheNextBegins(t *testing.T) {
	c := container.Container{Dir: "/d", Base: "c", Owner: catalog.Owner{Name: "c"}}
	var stuck, answers int
	s := newSteps(func(container.Container) { stuck++ }, func(container.Container) { answers++ })
	now := make(chan time.Time)
	close(now)
	s.patience = func(string) <-chan time.Time { return now }
	held, order := make(chan struct{}), []string{} // without a lock: the race detector tells of two at once
	began := make(chan struct{})
	err := s.do(c, func() error { close(began); <-held; order = append(order, "late"); return nil }, func() { order = append(order, "undone") })
	if !errors.Is(err, errStuck) || !s.isLate(c.Key()) {
		t.Fatalf("%v, late %v", err, s.isLate(c.Key()))
	}
	<-began
	refused := func() error { t.Error("a step begins beside one that is late"); return nil }
	if err := s.do(c, refused, func() { t.Error("what never began is undone") }); !errors.Is(err, errStuck) {
		t.Errorf("the next is told %v", err)
	}
	closed := make(chan struct{})
	ends(t, "what has to be done", func() { s.last(c, func() { order = append(order, "last"); close(closed) }) })
	s.patience = func(string) <-chan time.Time { return nil }
	close(held)
	<-closed
	within(t, "it answers", func() bool { return !s.isLate(c.Key()) })
	if err := s.do(c, func() error { order = append(order, "next"); return nil }, nil); err != nil {
		t.Error(err)
	}
	s.last(c, func() { order = append(order, "end") })
	if got := strings.Join(order, " "); got != "late undone last next end" || stuck != 1 || answers != 1 {
		t.Errorf("%s, %d times stuck, %d times not any more", got, stuck, answers)
	}
}

// Its nodes stay, but without the rule they open nothing, whatever volume has the number by then.
func TestLostRulesAreTakenBackFromAContainerThatHoldsUpItsTreeAtTheStart(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a mount namespace")
	}
	b := newBench(t)
	f := b.trees()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/unshare", "--mount", "/bin/sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	within(t, "it has mounts of its own", func() bool {
		box, err := mount.OpenBox(cmd.Process.Pid, nil)
		if err == nil {
			err = box.Close()
		}
		return err == nil
	})
	fake := b.agent.containers.(fakeContainers)
	fake.inits = map[string]int{"c1": cmd.Process.Pid}
	m := &monitors{fakeContainers: fake}
	b.agent.containers = m
	key := b.guest1.Key()
	var err error
	if b.agent.raw, err = newRaw(&keeper{kept: map[string][]*os.File{"raw-" + key + "-aaaaaaa-rw-253-7": {}}}); err != nil {
		t.Fatal(err)
	}
	f.hold(key)
	t.Cleanup(func() { f.letGo(key) })
	ends(t, "taking back what was lost", func() { b.agent.retractAll(t.Context()) })
	if got := strings.Join(m.told, ", "); got != "c1 false b 253:7 rw" || len(b.agent.raw.lostOf(key)) != 0 {
		t.Errorf("the monitor was told %q, and lost are still %v", got, b.agent.raw.lostOf(key))
	}
}
