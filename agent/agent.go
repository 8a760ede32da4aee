// Package agent is the order of things: who is it, is it allowed, one writer, do, verify, answer. It ties the rooms below and
// beside it together and keeps no truth of its own: volumes are what their tags say, mounts what the kernel says.
package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"lls/agent/catalog"
	"lls/agent/container"
	"lls/agent/event"
	"lls/agent/history"
	"lls/agent/mount"
	"lls/agent/setup"
	"lls/lvm"
	"lls/policy"
)

// Options say where things are. All of them are needed.
type Options struct {
	Config  string // lls.toml
	Kept    string // a file for the text of the lls.toml that was taken last
	Client  string // the static client that containers get
	Trees   string // a directory of the host for the containers' trees
	Socket  string // the sysadmin's
	Version string
	History string // a file for what was observed over time
	SelfPID int    // a process in the host's mount namespace
	// PoolWait is how long the start waits for pools that are not active; 0 is not at all.
	PoolWait time.Duration
	Log      *slog.Logger
	Now      func() time.Time
}

// Containers finds containers; *container.Host is the real one.
type Containers interface {
	List(paths []container.Path) ([]container.Container, error)
	Find(paths []container.Path, dir, base string) (container.Container, error)
	Init(ctx context.Context, c container.Container) (int, error)
	SetDevice(ctx context.Context, c container.Container, allow bool, rule string) error
}

// Loops attaches the files that hold a pool.
type Loops interface {
	Attach(ctx context.Context, file string) error
}

// Agent is the daemon.
type Agent struct {
	opts       Options
	log        *slog.Logger
	store      *store
	mounts     Mounts
	devices    Devices
	containers Containers
	loops      Loops
	guests     *guests
	steps      *steps
	again      chan struct{} // has an element when all containers are to be looked at at once
	pids       *pidWatch
	endpoints  []endpoint
	pidNS      string // ours, so that a process of the host is not taken for a container's
	started    time.Time
	feed       *feed
	ears       ears
	hears      bool // there are sources
	bus        Bus
	herald     *herald
	up         atomic.Bool // containers that run already at the start are served
	sources    []Source
	gate       gate
	raw        *rawAccess
	past       *past
	meter      Meter
	measured   measured
	trimmer    Trimmer
	trims      trims
	points     func(g *guest, keep mount.Keep) ([]mount.Point, error) // mounts of some devices in a running container, or on the host for nil
	release    func()                                                 // lets the host go down
	reread     chan struct{}                                          // has an element when lls.toml was read since idling looked
	stopping   chan struct{}                                          // closed when the agent begins to stop
	work       sync.WaitGroup                                         // every goroutine of the agent

	called   *called
	journals throttles

	rates   rates
	mailer  Mailer
	growers *growers
	volumes *volumeGrowers
	holds   func(ctx context.Context, major, minor uint32) ([]mount.Holder, error) // who holds a device; a mount.Finder's
	placing shared[*whereabouts]
	// lastPlaces are those that were read last, for whoever need not read them anew; nil before the first time.
	lastPlaces atomic.Pointer[whereabouts]

	mu        sync.Mutex
	cfg       *policy.Config
	badConfig error           // why the last reload left cfg as it was, or nil
	reserved  map[string]bool // names being made, OWNER/NAME
}

// Parts are what an agent works with. All are needed, but Sources and Release, without which it looks from time to time.
type Parts struct {
	LVM        LVM
	Mounts     Mounts
	Devices    Devices
	Containers Containers
	Loops      Loops
	Bus        Bus
	Mailer     Mailer
	Keeper     Keeper
	Meter      Meter
	Trimmer    Trimmer
	Sources    []Source
	Release    func() // lets the host go down, after an event.Shutdown
}

// New makes an agent of its parts. Run starts it.
func New(o Options, p Parts) (*Agent, error) {
	pids, err := newPIDWatch()
	if err != nil {
		return nil, err
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, fmt.Errorf("cannot find our own pid namespace: %w", err)
	}
	raw, err := newRaw(p.Keeper)
	if err != nil {
		o.Log.Warn("cannot take over all devices that were kept", "error", err)
	}
	old, err := history.Load(o.History)
	if err != nil {
		o.Log.Warn("what was observed before is lost, so all is kept longer", "error", err)
	}
	a := &Agent{
		called: newCalled(), mailer: p.Mailer, growers: newGrowers(), volumes: newVolumeGrowers(), meter: p.Meter, trimmer: p.Trimmer, raw: raw,
		past:   &past{path: o.History, history: old, run: rand.Text()},
		points: hostPoints(o.SelfPID), holds: new(mount.Finder).Holders, opts: o, log: o.Log, mounts: p.Mounts, devices: p.Devices, containers: p.Containers, loops: p.Loops,
		bus: p.Bus, herald: newHerald(), sources: p.Sources, hears: len(p.Sources) > 0, release: p.Release, ears: ears{coalescer: event.NewCoalescer(event.DefaultTiming()), late: lateEvent},
		guests: newGuests(), pids: pids, endpoints: endpoints(), feed: newFeed(), reread: make(chan struct{}, 1), stopping: make(chan struct{}), pidNS: ns, started: o.Now(), reserved: map[string]bool{},
	}
	a.again, a.steps = make(chan struct{}, 1), newAgentSteps(a)
	a.store = newStore(p.LVM, o.Log, o.Now, &a.gate)
	a.store.begin = a.listening
	return a, nil
}

// admin is the sysadmin.
func (a *Agent) admin() catalog.Asker { return catalog.Asker{Owner: catalog.Host(), Admin: true} }

func (a *Agent) config() *policy.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg
}

// Reload reads lls.toml. On an error the configuration that is in force stays, and the status tells of it.
func (a *Agent) Reload(ctx context.Context) error {
	cfg, text, err := a.readConfig()
	a.mu.Lock()
	a.badConfig = err
	a.mu.Unlock()
	if problems, ok := errors.AsType[policy.Problems](err); ok {
		for _, p := range problems {
			a.log.Error("a mistake in the configuration", "problem", p)
		}
	}
	if err != nil {
		return err
	}
	a.take(ctx, cfg)
	if err := history.Save(a.opts.Kept, text); err != nil {
		a.log.Warn("cannot keep what lls.toml says for a start with a bad one", "error", err)
	}
	return nil
}

// readConfig reads lls.toml, whose text it gives as well; none is empty.
func (a *Agent) readConfig() (*policy.Config, []byte, error) {
	text, err := os.ReadFile(a.opts.Config)
	if errors.Is(err, os.ErrNotExist) {
		if old := a.config(); old != nil && len(old.Pools) > 0 {
			return nil, nil, fmt.Errorf("%s is gone, and it named pools", a.opts.Config) // an editor may be about to put it back
		}
	} else if err != nil {
		return nil, nil, fmt.Errorf("cannot read %s: %w", a.opts.Config, err)
	}
	cfg, err := setup.ParseConfig(a.opts.Config, text)
	return cfg, text, err
}

// firstConfig reads lls.toml at the start. Where it is refused, the one that was taken last is in force, as it was for the agent before: a
// mistake must not end what it did not change. Where there is none, the agent cannot run.
func (a *Agent) firstConfig(ctx context.Context) error {
	bad := a.Reload(ctx)
	if bad == nil {
		return nil
	}
	text, err := os.ReadFile(a.opts.Kept)
	if errors.Is(err, os.ErrNotExist) {
		return bad
	}
	var cfg *policy.Config
	if err == nil {
		cfg, err = setup.ParseConfig(a.opts.Kept, text)
	}
	if err != nil {
		return errors.Join(bad, fmt.Errorf("cannot take the configuration that was taken last: %w", err))
	}
	a.log.Error("the configuration that was taken last stays in force", "error", bad)
	a.take(ctx, cfg)
	return nil
}

// take has a configuration in force.
func (a *Agent) take(ctx context.Context, cfg *policy.Config) {
	for _, p := range cfg.Pools {
		if p.Loop == "" {
			continue
		}
		if err := a.loops.Attach(ctx, p.Loop); err != nil {
			a.log.Error("cannot attach the file of a pool", "pool", p.Name, "file", p.Loop, "error", err)
		}
	}
	a.mu.Lock()
	a.cfg = cfg
	a.mu.Unlock()
	a.store.setPools(cfg.Pools)
	select {
	case a.reread <- struct{}{}:
	default: // it is about to be looked at already
	}
	a.mailer.SetConfig(mailConfig(cfg.Mail))
	a.syncGrowers(cfg.Pools)
	for _, g := range a.guests.list() {
		a.complain("cannot tell the container its configuration", g.Container, a.retell(g, cfg))
	}
	a.log.Info("configuration read", "pools", len(cfg.Pools), "lxcpaths", len(cfg.LXCPaths))
}

// Timing of what goes on by itself.
const (
	adoptEvery  = 15 * time.Second
	backupQuiet = time.Minute
	drainTime   = 60 * time.Second
)

// Run serves until ctx ends: first it repairs what a crash left, then it listens, then it serves the containers that run. ready is
// called when the sysadmin's socket answers, running containers have been looked at and pools have been waited for; reload is a channel of
// requests to read lls.toml again.
func (a *Agent) Run(ctx context.Context, ready func(), reload <-chan os.Signal) error {
	if err := a.firstConfig(ctx); err != nil {
		return err
	}
	a.recover(ctx)
	a.retractAll(ctx)
	a.work.Go(func() { a.growAll(ctx) }) // not before: a frozen file system would keep everybody waiting
	_ = os.Remove(a.opts.Socket)         // of an agent that was killed; a second one is kept out by the lock
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: a.opts.Socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("cannot listen for the sysadmin: %w", err)
	}
	if err := os.Chmod(a.opts.Socket, 0o600); err != nil {
		return errors.Join(fmt.Errorf("cannot listen for the sysadmin: %w", err), ln.Close())
	}
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	a.work.Go(func() {
		if err := a.pids.run(watching); err != nil {
			a.log.Error("cannot tell when containers end", "error", err)
		}
	})
	a.work.Go(func() { a.follow(watching) })
	a.work.Go(func() { a.ageing(watching) })
	a.work.Go(func() { a.idling(ctx) })
	a.work.Go(func() { a.measuring(watching) })
	a.startGrowing(watching)
	a.work.Go(func() { // not before lls.toml said where to
		if err := a.mailer.Run(watching); err != nil {
			a.log.Error("cannot send mail", "error", err)
		}
	})
	a.work.Go(func() { a.bus.Run(watching) })
	a.hear(watching, a.sources)
	admin := a.listen(ln, nil)
	a.adopt(ctx)
	a.awaitPools(ctx)
	a.work.Go(func() { a.firstLook(watching) })
	a.up.Store(true)
	ready()
	a.loop(ctx, reload)

	a.log.Info("stopping")
	close(a.stopping)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	var drained sync.WaitGroup // all at once: none may use up the time of the others
	drained.Go(func() { admin.drain(drain) })
	for _, g := range a.guests.list() {
		drained.Go(func() { g.server.drain(drain) })
	}
	drained.Wait()
	a.endRaw(context.WithoutCancel(ctx))
	stopWatching()
	a.work.Wait()
	a.savePast()
	a.store.backup(drain, 0)
	return nil
}

// loop does what has to be done from time to time, until ctx ends.
func (a *Agent) loop(ctx context.Context, reload <-chan os.Signal) {
	tick := time.NewTicker(adoptEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
			if err := a.Reload(ctx); err != nil {
				a.log.Error("the old configuration stays in force", "error", err)
			}
		case <-tick.C:
			a.store.backup(ctx, backupQuiet)
			a.undoMaking(ctx)
		case <-a.again:
		}
		a.adopt(ctx)
	}
}

// recover undoes what a crash left half done: volumes that never became live go.
func (a *Agent) recover(ctx context.Context) {
	v, err := a.store.current(ctx, 0)
	if err != nil {
		a.log.Error("cannot read the volume groups", "error", err)
		return
	}
	for _, problem := range append(v.Missing, v.Catalog.Odd...) {
		a.log.Warn("found at the start", "problem", problem)
	}
	a.undoMaking(ctx)
}

// growAll lets file systems grow that a crash kept from it.
func (a *Agent) growAll(ctx context.Context) {
	v, err := a.store.current(ctx, time.Hour)
	if err != nil {
		return // recover has told of it
	}
	for _, r := range v.Catalog.Records {
		if !r.Growing || r.State == catalog.Making {
			continue
		}
		a.log.Info("growing a file system to its volume", "volume", r.LV.Name)
		if !a.during(ctx, func(ctx context.Context) { err = a.finishGrowth(ctx, r.ID) }) {
			return
		}
		if err != nil {
			a.log.Error("cannot grow a file system to its volume", "volume", r.LV.Name, "error", err)
		}
	}
}

// undoMaking takes away the volumes that never became live and that no request is making. A mkfs that outlived its agent keeps such a
// volume in use, so this is tried again from time to time. One whose name and place a refresh has freed already becomes live instead.
func (a *Agent) undoMaking(ctx context.Context) {
	v, err := a.store.current(ctx, time.Hour)
	if err != nil {
		return // the next report tells of it
	}
	for _, r := range v.Catalog.Records {
		if r.State != catalog.Making || a.isReserved(r) {
			continue
		}
		if !a.during(ctx, func(ctx context.Context) { a.settleMaking(ctx, v, r) }) {
			return
		}
	}
}

func (a *Agent) settleMaking(ctx context.Context, v *View, r *catalog.Record) {
	if v.Catalog.Replaced(r.ID) != nil {
		if err := a.finishRefresh(ctx, r); err != nil {
			a.log.Error("cannot finish a refresh", "volume", r.LV.Name, "error", err)
		}
		return
	}
	a.log.Info("taking away a volume that was never finished", "volume", r.LV.Name)
	err := a.discard(ctx, r, func(now *catalog.Record) bool { return a.unfinished(now) && !a.isReserved(now) })
	if err != nil && !errors.Is(err, lvm.ErrNotFound) {
		a.log.Warn("cannot take away a volume that was never finished", "volume", r.LV.Name, "error", err)
	}
}

// isReserved says whether a request is making a volume of that owner and name.
func (a *Agent) isReserved(r *catalog.Record) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reserved[r.Owner.String()+"/"+string(r.Name)]
}
