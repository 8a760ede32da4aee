package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/container"
	"lls/agent/event/bus"
	"lls/agent/filesystem"
	"lls/agent/mount"
	"lls/agent/notify"
	"lls/lvm"
	"lls/lvm/lvmtest"
)

const (
	testVG   = lvm.VG("vg")
	testPool = lvm.Name("pool")
)

// bench is an agent on fakes, with a socket of the sysadmin and one of a container.
type bench struct {
	t      *testing.T
	agent  *Agent
	lvm    *lvmtest.Fake
	mounts *fakeMounts
	dev    *fakeDevices
	meter  *fakeMeter
	trims  *fakeTrimmer
	config string
	bus    fakeBus
	mail   fakeMail
	admin  *api.Client
	c1     *api.Client
	guest1 *guest
}

// fakeMounts says that every mount worked, or the error it was given for a target.
type fakeMounts struct {
	mu    sync.Mutex
	fail  map[string]error
	fstab string // of every container
	dark  error  // of reading it
	done  []mount.Request
	wait  chan struct{} // when set, each mount waits for it
}

func (f *fakeMounts) Mount(_ context.Context, _ *mount.Tree, _ *mount.Box, r mount.Request) (mount.Placed, error) {
	f.mu.Lock()
	wait, err := f.wait, f.fail[r.Target]
	f.done = append(f.done, r)
	f.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return mount.Placed{Path: r.Target, ReadOnly: r.ReadOnly || r.ReadOnlyDevice}, err
}

func (f *fakeMounts) MountHost(ctx context.Context, r mount.Request) (mount.Placed, error) {
	return f.Mount(ctx, nil, nil, r)
}
func (f *fakeMounts) Inject(context.Context, *mount.Tree, *mount.Box) error             { return nil }
func (f *fakeMounts) Injected(*mount.Box, *mount.Tree) (bool, error)                    { return true, nil }
func (f *fakeMounts) Unmount(context.Context, *mount.Box, uint32, uint32, string) error { return nil }
func (f *fakeMounts) ReadFile(context.Context, *mount.Box, string, int) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dark != nil {
		return nil, f.dark
	}
	if f.fstab == "" {
		return nil, os.ErrNotExist
	}
	return []byte(f.fstab), nil
}
func (f *fakeMounts) UnmountHost(context.Context, string, uint32, uint32) error { return nil }

func (f *fakeMounts) InjectNodes(context.Context, *mount.Nodes, *mount.Box) error { return nil }
func (f *fakeMounts) NodesInjected(*mount.Box, *mount.Nodes) (bool, error)        { return true, nil }

func (f *fakeMounts) last() mount.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done[len(f.done)-1]
}

// fakeDevices number the volumes with a major that no real device has.
type fakeDevices struct {
	mu      sync.Mutex
	made    []string
	grown   []string
	makeErr error
	growErr error
	space   map[string]filesystem.Space                 // of mounted file systems, by device
	usage   func(path string) (filesystem.Space, error) // instead of space
	sync    func(ctx context.Context, path string) error
	fill    *PoolFill
	looks   int64             // at a pool, without fill
	held    bool              // a snapshot of the metadata is
	number  func() error      // what Number gives, where that is an error
	check   func() error      // instead of finding no mistake
	read    []string          // devices whose superblocks were read
	claimed []bool            // what Claimed says, one after the other; false in the end
	cut     map[lvm.Name]bool // cut off
}

func (f *fakeDevices) Number(_ lvm.VG, name lvm.Name) (uint32, uint32, error) {
	f.mu.Lock()
	number := f.number
	f.mu.Unlock()
	if number != nil {
		if err := number(); err != nil {
			return 0, 0, err
		}
	}
	var n uint32
	for _, c := range name {
		n = n*31 + uint32(c)
	}
	return 499, n & 0xfffff, nil
}

func (f *fakeDevices) Make(_ context.Context, path string, _ filesystem.Type) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made = append(f.made, path)
	return f.makeErr
}

func (f *fakeDevices) Grow(_ context.Context, path string, _ filesystem.Type) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grown = append(f.grown, path)
	return f.growErr
}
func (f *fakeDevices) Identify(path string) (filesystem.Identity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read = append(f.read, path)
	return filesystem.Identity{UUID: "uuid-of-" + strings.Split(filepath.Base(path), ".")[0]}, nil
}

func (f *fakeDevices) Open(lvm.VG, lvm.Name, uint32, uint32) (*os.File, error) {
	return os.Open(os.DevNull)
}
func (f *fakeDevices) Claimed(string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.claimed) == 0 {
		return false
	}
	now := f.claimed[0]
	f.claimed = f.claimed[1:]
	return now
}
func (f *fakeDevices) Check(context.Context, string, filesystem.Type, bool) error {
	f.mu.Lock()
	check := f.check
	f.mu.Unlock()
	if check == nil {
		return nil
	}
	return check()
}
func (f *fakeDevices) Usage(_ context.Context, path string, _ filesystem.Type) (filesystem.Space, error) {
	f.mu.Lock()
	s, ok := f.space[path]
	usage := f.usage
	f.mu.Unlock()
	if usage != nil {
		return usage(path)
	}
	if !ok {
		return filesystem.Space{}, filesystem.ErrNotMounted
	}
	return s, nil
}
func (f *fakeDevices) Sync(ctx context.Context, path string, _ filesystem.Type) error {
	f.mu.Lock()
	sync := f.sync
	f.mu.Unlock()
	if sync == nil {
		return filesystem.ErrNotMounted
	}
	return sync(ctx, path)
}
func (f *fakeDevices) Fill(context.Context, lvm.VG, lvm.Name) (PoolFill, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fill != nil {
		return *f.fill, nil
	}
	f.looks++
	return PoolFill{DataBlocks: f.looks, Held: f.held}, nil // never as at the look before: LVM has to be asked
}
func (f *fakeDevices) CutOff(_ context.Context, _ lvm.VG, name lvm.Name) error {
	f.setCutOff(name, true)
	return nil
}
func (f *fakeDevices) IsCutOff(_ lvm.VG, name lvm.Name) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cut[name], nil
}
func (f *fakeDevices) setCutOff(name lvm.Name, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut == nil {
		f.cut = map[lvm.Name]bool{}
	}
	f.cut[name] = cut
}

type noKeeper struct{}

func (noKeeper) Kept() (map[string][]*os.File, error) { return nil, nil }
func (noKeeper) Keep(string, string, *os.File) error  { return nil }
func (noKeeper) Renote(string, string) error          { return nil }
func (noKeeper) Noted(string) (string, error)         { return "", nil }
func (noKeeper) Forget(string) error                  { return nil }

type fakeContainers struct {
	all   []container.Container
	inits map[string]int // of those that run, by name
}

func (f fakeContainers) List([]container.Path) ([]container.Container, error) { return f.all, nil }
func (f fakeContainers) Find(_ []container.Path, _, base string) (container.Container, error) {
	for _, c := range f.all {
		if c.Base == base {
			return c, c.Err
		}
	}
	return container.Container{}, container.ErrNone
}
func (f fakeContainers) Init(_ context.Context, c container.Container) (int, error) {
	if pid := f.inits[c.Base]; pid != 0 {
		return pid, nil
	}
	return 0, container.ErrNotRunning
}
func (f fakeContainers) SetDevice(context.Context, container.Container, bool, string) error {
	return nil
}

// fakeBus keeps what root's programs would see and hear.
type fakeBus struct {
	mu      sync.Mutex
	tree    bus.Tree
	signals []bus.Event
	seen    []bus.Tree // what was shown at each signal
	// activity are the signals of devices that came and went.
	activity []bus.Event
}

func (f *fakeBus) Run(ctx context.Context) { <-ctx.Done() }
func (f *fakeBus) Update(t bus.Tree) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tree = t
}
func (f *fakeBus) Emit(e bus.Event) {
	for key := range e.Details {
		if !strings.Contains(e.Signal.Doc(), key) {
			panic(fmt.Sprintf("introspection does not tell of the detail %s of %s", key, e.Signal))
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.Details["Active"] != "" { // how often LLS itself activates something for a moment is nobody's business
		f.activity = append(f.activity, e)
		return
	}
	f.signals, f.seen = append(f.signals, e), append(f.seen, f.tree)
}

// fakeMail keeps what would be mailed.
type fakeMail struct {
	mu     sync.Mutex
	items  []notify.Item
	config notify.Config
	err    error // of a test
}

func (f *fakeMail) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
func (f *fakeMail) Add(it notify.Item) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items = append(f.items, it)
	return nil
}
func (f *fakeMail) SetConfig(c notify.Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.config = c
}
func (f *fakeMail) Status() notify.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return notify.Status{Queued: len(f.items)}
}
func (f *fakeMail) Test(context.Context) error { return f.err }

type noLoops struct{}

func (noLoops) Attach(context.Context, string) error { return nil }

const testConfig = `
[pools.main]
vg = "vg"
lv = "pool"
[limits]
volumes = 5
snapshots = 3
size = "20G"
`

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{t: t, lvm: lvmtest.NewFake(lvm.Options{Managed: catalog.Managed}), mounts: &fakeMounts{fail: map[string]error{}}, dev: &fakeDevices{}, meter: &fakeMeter{}, trims: &fakeTrimmer{}, config: dir + "/lls.toml"}
	b.write(testConfig)
	b.lvm.AddGroup(testVG, 100<<30)
	err := b.lvm.CreatePool(t.Context(), lvm.CreatePool{VG: testVG, Name: testPool, Size: 50 << 30, Tags: []lvm.Tag{catalog.PoolTag("main")}})
	if err != nil {
		t.Fatal(err)
	}
	c1 := container.Container{Dir: "/var/lib/lxc", Base: "c1", Owner: catalog.Owner{Name: "c1", Token: "t1"}}
	c2 := container.Container{Dir: "/var/lib/lxc", Base: "c2", Owner: catalog.Owner{Name: "c2", Token: "t2"}}
	b.agent, err = New(Options{Config: b.config, Kept: b.config + ".kept", Trees: "/nonexistent", Version: "test", History: dir + "/history.json", SelfPID: os.Getpid(), Log: slog.New(slog.DiscardHandler), Now: time.Now},
		b.parts(fakeContainers{all: []container.Container{c1, c2}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.agent.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.agent.work.Wait) // after the sockets are closed
	b.guest1 = &guest{Container: c1, box: &mount.Box{PID: os.Getpid(), RootUID: uint32(os.Getuid()), Mapped: true}}
	b.admin, b.c1 = b.socket(dir+"/a", nil), b.socket(dir+"/c", b.guest1)
	return b
}

// parts are what an agent of the bench works with.
func (b *bench) parts(containers Containers) Parts {
	return Parts{LVM: b.lvm, Mounts: b.mounts, Devices: b.dev, Containers: containers, Loops: noLoops{}, Bus: &b.bus, Mailer: &b.mail, Keeper: noKeeper{}, Meter: b.meter, Trimmer: b.trims}
}

func (b *bench) write(config string) {
	b.t.Helper()
	if err := os.WriteFile(b.config, []byte(config), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) socket(path string, g *guest) *api.Client {
	b.t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		b.t.Fatal(err)
	}
	s := b.agent.listen(ln, g)
	b.t.Cleanup(s.close)
	return api.Dial(path)
}

// post expects an error code, or none, and returns the volume of the answer.
func (b *bench) post(c *api.Client, path string, in any, want api.Code) api.Volume {
	b.t.Helper()
	var out json.RawMessage
	err := c.Post(b.t.Context(), path, in, &out)
	switch {
	case want == "" && err != nil:
		b.t.Fatalf("%s %+v: %v (%v)", path, in, err, api.AsError(err).Code)
	case want != "" && !want.Is(err):
		b.t.Fatalf("%s %+v: %v; want code %s", path, in, err, want)
	case want != "" && api.AsError(err).Hint == "":
		b.t.Errorf("%s %+v: no hint with %v", path, in, err)
	}
	var v api.Volume
	_ = json.Unmarshal(out, &v) // not every answer is a volume
	return v
}

// destroy deletes a live volume and purges it from the trash.
func (b *bench) destroy(c *api.Client, name string) {
	b.t.Helper()
	b.post(c, api.PathDelete, api.NameRequest{Name: name}, "")
	b.post(c, api.PathPurge, api.NameRequest{Name: name}, "")
}

func (b *bench) list(c *api.Client, all bool) []api.Volume {
	b.t.Helper()
	q := url.Values{}
	if all {
		q.Set("all", "1")
	}
	var out []api.Volume
	if err := c.Get(b.t.Context(), api.PathVolumes, q, &out); err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bench) names(c *api.Client, all bool) string {
	b.t.Helper()
	var names []string
	for _, v := range b.list(c, all) {
		names = append(names, v.Name+"="+v.State)
	}
	return strings.Join(names, " ")
}

// volumes is what LVM has.
func (b *bench) volumes() []lvm.Volume {
	b.t.Helper()
	groups, err := b.lvm.Report(b.t.Context(), testVG)
	if err != nil {
		b.t.Fatal(err)
	}
	return groups[0].Volumes
}

// follow has the agent follow changes until the test ends, and waits until it has its first view, where following begins.
func (b *bench) follow() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	b.t.Cleanup(cancel)
	b.agent.work.Go(func() { b.agent.follow(ctx) })
	b.list(b.admin, false)
	within(b.t, "the first view is shown", func() bool {
		b.bus.mu.Lock()
		defer b.bus.mu.Unlock()
		return len(b.bus.tree.Pools) > 0
	})
}

// told waits until so many changes have been told of.
func (b *bench) told(n int) {
	b.t.Helper()
	within(b.t, fmt.Sprintf("%d changes are told of", n), func() bool {
		b.bus.mu.Lock()
		defer b.bus.mu.Unlock()
		return len(b.bus.signals) >= n
	})
}
