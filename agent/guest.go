package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/container"
	"lls/agent/event/bus"
	"lls/agent/mount"
)

// injectDeadline bounds what is done for the start of one container.
const injectDeadline = 20 * time.Second

// guest is a running container that the agent serves. Only its own mutex guards what changes.
type guest struct {
	container.Container
	box    *mount.Box
	bearer bearer // it, as one that is granted something; the zero one where that is not known
	tree   *mount.Tree
	nodes  *mount.Nodes // of /dev/mf; nil when they cannot be had
	server *socketServer

	showing sync.Mutex     // held while /dev/mf is brought up to what is
	shown   []mount.Node   // there
	laid    bool           // what lies there was set by this agent
	granted map[grant]bool // what may be opened there; a privileged container has been given the rules
	settled bool           // what is there, and what may be opened, is what should be
	ready   atomic.Bool    // liblxc may be asked about it: its start-host hook has ended

	mu      sync.Mutex
	broken  error   // why /lls does not work in it, or nil
	story   *memory // what became of its fstab; nil before that was replayed. It is not changed
	notice  string  // that lies in its /lls, when noticed
	noticed bool
	served  bool // it worked once

	replaying sync.Mutex // held while its fstab is replayed

	// Held shared by whoever uses box, tree or nodes outside the guest's start, until they are closed. What opens something in tree or
	// nodes is a step besides (Agent.touch).
	use    sync.RWMutex
	closed bool
}

func (g *guest) asker() catalog.Asker {
	return catalog.Asker{Owner: g.Owner, Privileged: !g.box.Mapped}
}

// status is "ok", or why /lls does not work in it.
func (g *guest) status() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.broken != nil {
		return g.broken.Error()
	}
	return "ok"
}

// fstab is what became of the container's fstab.
func (g *guest) fstab() []api.Replayed {
	if m := g.memory(); m != nil {
		return m.Lines
	}
	return nil
}

func (g *guest) memory() *memory {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.story
}

func (g *guest) setMemory(m *memory) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.story = m
}

// hold keeps box, tree and nodes from being closed until release; mount.ErrGone when they are already.
func (g *guest) hold() (release func(), err error) {
	g.use.RLock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		g.use.RUnlock()
		return nil, mount.ErrGone
	}
	return g.use.RUnlock, nil
}

// serve makes LLS work in a container whose init is pid: it lays out its tree, listens there, and injects it. It is idempotent, and
// the one way in for the hook, the agent's start and the reconciliation. It asks liblxc nothing.
func (a *Agent) serve(ctx context.Context, c container.Container, pid int) (err error) {
	ctx, cancel := context.WithTimeout(ctx, injectDeadline)
	defer cancel()
	leave, err := a.guests.enter(ctx, c.Key())
	if err != nil {
		return err
	}
	defer leave()
	defer func() {
		if g := a.guests.get(c.Key()); g != nil && err == nil {
			a.injectNodes(ctx, g)
		}
	}()
	if old := a.guests.get(c.Key()); old != nil {
		if old.box.PID == pid && old.box.Alive() {
			return a.inject(ctx, old)
		}
		a.drop(old, false)
	}
	g, err := a.newGuest(c, pid)
	a.guests.note(c, pid, err)
	if err != nil {
		return fmt.Errorf("cannot serve container %s: %w", c.Owner.Name, err)
	}
	a.guests.mu.Lock()
	a.guests.all[c.Key()] = g
	a.guests.mu.Unlock()
	if err := a.pids.add(int(g.box.PIDFD.Fd()), func() { a.work.Go(func() { a.ended(g) }) }); err != nil {
		a.drop(g, false)
		a.guests.note(c, pid, err)
		return fmt.Errorf("cannot serve container %s: %w", c.Owner.Name, err)
	}
	return a.inject(ctx, g)
}

func (a *Agent) newGuest(c container.Container, pid int) (*guest, error) {
	if c.Err != nil {
		return nil, c.Err
	}
	var g *guest
	var ln *net.UnixListener
	err := a.steps.do(c, func() (err error) {
		g, ln, err = a.layOut(c, pid)
		return err
	}, func() {
		if g == nil {
			return
		}
		if err := errors.Join(ln.Close(), g.close()); err != nil {
			a.log.Warn("cannot let go of a container that did not answer", "container", c.Owner, "error", err)
		}
	})
	if err != nil {
		return nil, err
	}
	g.server = a.listen(ln, g)
	return g, nil
}

// layOut makes what a container is served by, but for the service.
func (a *Agent) layOut(c container.Container, pid int) (g *guest, ln *net.UnixListener, err error) {
	box, err := mount.OpenBox(pid, nil)
	if err != nil {
		return nil, nil, err
	}
	bearer := bearerOf(c, pid)
	if !box.Alive() { // what was read may be another's
		return nil, nil, errors.Join(mount.ErrGone, box.Close())
	}
	tree, err := mount.OpenTree(a.opts.Trees, c.Key())
	if err != nil {
		return nil, nil, errors.Join(err, box.Close())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tree.Close(), box.Close())
		}
	}()
	if err := tree.Sweep(); err != nil {
		return nil, nil, err
	}
	if ln, err = tree.Listen("lls.sock", 0o666); err != nil {
		return nil, nil, err
	}
	g = &guest{Container: c, box: box, bearer: bearer, tree: tree, broken: errors.New("not injected yet")}
	if g.nodes, err = mount.OpenNodes(a.opts.Trees, c.Key()); err != nil {
		a.log.Warn("cannot make /dev/mf for the container", "container", c.Owner, "error", err)
		g.nodes = nil // LLS works without
	}
	return g, ln, nil
}

// close releases box, tree and nodes, which stay.
func (g *guest) close() error {
	err := errors.Join(g.box.Close(), g.tree.Close())
	if g.nodes != nil {
		err = errors.Join(err, g.nodes.Close())
	}
	return err
}

// inject puts the client and the tree into the container, again when its root took them away.
func (a *Agent) inject(ctx context.Context, g *guest) error {
	if there, err := a.mounts.Injected(g.box, g.tree); err == nil && there && g.status() == "ok" {
		return nil
	}
	err := a.touch(g, func() error { return a.fill(g) })
	if err == nil {
		err = a.mounts.Inject(ctx, g.tree, g.box)
	}
	g.mu.Lock()
	was, begun := g.broken, err == nil && !g.served
	g.broken, g.served = err, g.served || err == nil
	g.mu.Unlock()
	if begun && a.up.Load() {
		a.sayContainer(bus.ContainerStarted, g.Container)
	} else {
		poke(a.herald.wake)
	}
	if err == nil {
		a.log.Info("serving the container", "container", g.Owner, "pid", g.box.PID)
	} else if was == nil || was.Error() != err.Error() {
		a.complain("cannot make /lls in the container", g.Container, err)
	}
	return err
}

// ended clears up after a container that has ended, unless it runs again already.
func (a *Agent) ended(g *guest) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*injectDeadline)
	defer cancel()
	leave, err := a.guests.enter(ctx, g.Key())
	if err != nil {
		a.log.Warn("cannot clear up after the container", "container", g.Owner, "error", err)
		return
	}
	defer leave()
	a.drop(g, a.guests.get(g.Key()) == g)
	if !g.box.Mapped && len(a.raw.of(func(x grant) bool { return x.key == g.Key() })) > 0 {
		a.work.Go(func() { a.monitorEnded(g.Container) })
	}
}

// monitorEnded lets go of the devices of a privileged container soon after it has ended; the reconciliation would as well.
func (a *Agent) monitorEnded(c container.Container) {
	for range 10 {
		select {
		case <-a.stopping:
			return
		case <-time.After(time.Second):
		}
		ctx, cancel := context.WithTimeout(context.Background(), injectDeadline)
		a.adoptOne(ctx, c)
		cancel()
		if a.guests.get(c.Key()) != nil || len(a.raw.of(func(x grant) bool { return x.key == c.Key() })) == 0 {
			return
		}
	}
}

// drop ends the service of a guest. ended says that the container itself has ended, so that its tree goes too.
func (a *Agent) drop(g *guest, ended bool) {
	g.mu.Lock()
	closed, served := g.closed, g.served
	g.closed = true
	g.mu.Unlock()
	if closed {
		return
	}
	a.guests.mu.Lock()
	if a.guests.all[g.Key()] == g {
		delete(a.guests.all, g.Key())
	}
	a.guests.mu.Unlock()
	if served {
		a.sayContainer(bus.ContainerStopped, g.Container)
	} else {
		poke(a.herald.wake)
	}
	a.pids.forget(int(g.box.PIDFD.Fd()))
	g.server.close()
	g.use.Lock() // whoever has hold of it is done soon: every use has a deadline
	defer g.use.Unlock()
	a.steps.last(g.Container, func() { a.close(g, ended) })
	a.log.Info("container ended", "container", g.Owner)
}

// close is a step of drop.
func (a *Agent) close(g *guest, ended bool) {
	err := g.box.Close()
	if g.nodes != nil {
		if ended && g.box.Mapped { // a privileged one's rules may outlive it in its monitor
			if _, setErr := g.nodes.Set(nil); setErr == nil {
				a.letGo(func(key string) bool { return key == g.Key() })
			}
		}
		err = errors.Join(err, pick(ended, g.nodes.Remove, g.nodes.Close)())
	}
	if err = errors.Join(err, pick(ended, g.tree.Remove, g.tree.Close)()); err != nil {
		a.log.Warn("cannot clear up after the container", "container", g.Owner, "error", err)
	}
}

// pick is one of two.
func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// areLaid says whether the guest's nodes were set since it is served, whatever else failed.
func (g *guest) areLaid() bool {
	g.showing.Lock()
	defer g.showing.Unlock()
	return g.laid
}

// injectNodes puts /dev/mf into the container, and what it is to show. Without it LLS works all the same.
func (a *Agent) injectNodes(ctx context.Context, g *guest) {
	if g.nodes == nil {
		return
	}
	if there, err := a.mounts.NodesInjected(g.box, g.nodes); err == nil && there {
		return
	}
	if err := a.showNodesSoon(ctx, g); err != nil {
		a.complain("cannot show all devices at /dev/mf", g.Container, err)
		if !g.areLaid() && !errors.As(err, new(*mount.SetError)) {
			return // what lies there may be of an earlier start
		}
	}
	err := a.mounts.InjectNodes(ctx, g.nodes, g.box)
	if err == nil {
		err = a.touch(g, func() error { g.nodes.Tidy(); return nil })
	}
	a.complain("cannot put /dev/mf into the container", g.Container, err)
}

// adopt serves every running container that is not served, and mends /lls in those that are.
func (a *Agent) adopt(ctx context.Context) {
	cfg := a.config()
	all, err := a.containers.List(paths(cfg))
	if err != nil {
		a.log.Warn("cannot list all containers", "error", err)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, c := range all {
		if g := a.guests.get(c.Key()); g != nil && g.box.Alive() {
			a.guests.note(c, g.box.PID, c.Err)
			wg.Go(func() { a.mend(ctx, g) })
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			a.adoptOne(ctx, c)
		})
	}
	wg.Wait()
	if err == nil {
		unlisted := func(key string) bool {
			return !slices.ContainsFunc(all, func(c container.Container) bool { return c.Key() == key })
		}
		a.letGoUnlisted(unlisted)
		a.guests.forget(unlisted)
	}
}

// mend looks whether all of a guest is as it should be: its root may have taken something away, or an earlier try have failed.
func (a *Agent) mend(ctx context.Context, g *guest) {
	if ok, err := a.mounts.Injected(g.box, g.tree); err != nil || !ok || g.status() != "ok" {
		if a.serve(ctx, g.Container, g.box.PID) != nil {
			return // serve tells the journal
		}
	}
	a.injectNodes(ctx, g)
	a.served(ctx, g)
	_ = a.showNodesTo(ctx, g) // what could not be done before, and was told of then
}

// served goes on with a guest that has its /lls, when that was not, or not only, its hook's doing: liblxc may be asked about it once no hook
// is, and what its fstab says is mounted, as far as it is not.
func (a *Agent) served(ctx context.Context, g *guest) {
	if a.guests.inHook(g.Key()) {
		return // it does the same
	}
	g.ready.Store(true)
	a.work.Go(func() {
		a.during(context.WithoutCancel(ctx), func(ctx context.Context) { a.replayLate(ctx, g) })
	})
}

func (a *Agent) adoptOne(ctx context.Context, c container.Container) {
	ask, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pid, err := a.containers.Init(ask, c)
	if errors.Is(err, container.ErrSilent) && a.guests.get(c.Key()) == nil {
		a.guests.note(c, unknownPID, err) // it runs: there is somebody who does not answer
	}
	if errors.Is(err, container.ErrNotRunning) {
		a.guests.note(c, 0, c.Err)
		if a.clear(ctx, c) && a.guests.get(c.Key()) == nil {
			a.letGo(func(key string) bool { return key == c.Key() })
		}
		return
	}
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = a.serve(ctx, c, pid)
	}
	if g := a.guests.get(c.Key()); g != nil && err == nil {
		a.served(ctx, g)
		a.work.Go(func() { _ = a.showNodesTo(context.WithoutCancel(ctx), g) }) // it is tried again, and told of then
	}
	if !errors.Is(err, mount.ErrHostMounts) {
		a.complain("cannot serve the container", c, err)
	}
}

// clear takes away the tree of a container that ended while no agent ran. A mount half way would keep its volume in use for ever. It is
// false when that waits for what the container has done, whose devices are not let go of before.
func (a *Agent) clear(ctx context.Context, c container.Container) bool {
	if _, err := os.Lstat(filepath.Join(a.opts.Trees, c.Key())); err != nil {
		return !a.steps.isLate(c.Key())
	}
	leave, err := a.guests.enter(ctx, c.Key())
	if err != nil {
		return !a.steps.isLate(c.Key())
	}
	defer leave()
	if a.guests.get(c.Key()) != nil {
		return true // it has been started meanwhile
	}
	err = a.steps.do(c, func() error { return a.removeTrees(c) }, nil)
	a.complain("cannot clear up after the container", c, err)
	return !errors.Is(err, errStuck)
}

func (a *Agent) removeTrees(c container.Container) error {
	tree, err := mount.OpenTree(a.opts.Trees, c.Key())
	if err == nil {
		err = tree.Remove()
	}
	nodes, nodesErr := mount.OpenNodes(a.opts.Trees, c.Key())
	if nodesErr == nil { // before the devices are let go of
		_, nodesErr = nodes.Set(nil)
		nodesErr = errors.Join(nodesErr, nodes.Remove())
	}
	return errors.Join(err, nodesErr)
}

// listen serves a guest's socket; nil stands for the sysadmin.
func (a *Agent) listen(ln *net.UnixListener, g *guest) *socketServer {
	s := newSocketServer(a, ln, g)
	a.work.Go(s.serve)
	return s
}
