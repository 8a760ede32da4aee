package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/container"
	"lls/agent/mount"
	"lls/lvm"
	"lls/lvm/lvmtest"
	"lls/policy"
)

// The simulated month has 40 containers and about 400 volumes. Only what the agent does by itself is under test: what users do is done with
// the same functions that their requests call.
const (
	monthTick   = policy.MaxStep
	monthTicks  = int(monthDays * 24 * time.Hour / monthTick)
	monthUnused = 3 * 24 * time.Hour
	monthNotice = 24 * time.Hour
	monthTrash  = 2 * 24 * time.Hour
)

const monthConfig = `
[pools.main]
vg = "vg"
lv = "pool"
[limits]
volumes = 0
snapshots = 0
overcommit = 0.0
operations_per_minute = 0
snapshots_per_minute = 0
[trim]
every = "0"
pressure = 0
[expiry]
unused = "3d"
notice = "1d"
trash = "2d"
`

// month is the simulated host, and what an observer who knows nothing of the policy's code notes about each volume.
type month struct {
	*testing.T
	rand       *rand.Rand
	lvm        *lvmtest.Fake
	opts       Options
	agent      *Agent
	wall       time.Time
	containers []container.Container
	running    map[catalog.Owner]bool
	mounted    map[catalog.ID]catalog.Owner
	devices    map[catalog.ID]device // of what is mounted
	fstab      map[catalog.Owner]map[catalog.Name]bool
	notes      map[catalog.ID]*note
	plain      int
	read       map[catalog.ID]*catalog.Record // after so many changes
	changes    int
	acted      map[policy.Action]int
	undeleted  int
	mono       time.Duration // running time of all agents
	pool       monthPool
	forecast   *forecast // nil: none that still holds

	early, explained, hidden, foreseen, foretoldNow, refreshed, given int
}

type monthDevices struct {
	fakeDevices
	m *month
}

func (d *monthDevices) Number(vg lvm.VG, name lvm.Name) (major, minor uint32, err error) {
	d.m.lvm.Edit(vg, name, func(v *lvm.Volume) { major, minor = v.Major, v.Minor }) // a report would wait for the writer that asks
	return major, minor, nil
}

type monthMounts struct {
	fakeMounts
	m *month
}

func (f *monthMounts) Unmount(_ context.Context, _ *mount.Box, major, minor uint32, _ string) error {
	for id, d := range f.m.devices {
		if _, there := f.m.mounted[id]; there && d == (device{major, minor}) {
			f.m.unmount(id)
			return nil
		}
	}
	return mount.ErrNotMounted
}

func (f *monthMounts) ReadFile(_ context.Context, b *mount.Box, _ string, _ int) ([]byte, error) {
	var text strings.Builder
	for name := range f.m.fstab[f.m.containers[b.PID].Owner] {
		fmt.Fprintf(&text, "lls:%s /data/%s lls noauto,x-lls.auto 0 0\n", name, name)
	}
	return []byte(text.String()), nil
}

// newMonth is the same life for the same seed, the ids of volumes included.
func newMonth(t *testing.T, seed uint64) *month {
	cryptotest.SetGlobalRandom(t, seed)
	m := &month{T: t, rand: rand.New(rand.NewPCG(seed, 1)), lvm: lvmtest.NewFake(lvm.Options{Managed: catalog.Managed}), wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		running: map[catalog.Owner]bool{}, mounted: map[catalog.ID]catalog.Owner{}, devices: map[catalog.ID]device{}, fstab: map[catalog.Owner]map[catalog.Name]bool{}, notes: map[catalog.ID]*note{}, acted: map[policy.Action]int{},
		pool: monthPool{phase: calm, bytes: map[catalog.ID]int64{}, measured: map[catalog.ID]bool{}, metadata: 10}}
	m.lvm.AddGroup(testVG, 1000<<40)
	err := m.lvm.CreatePool(t.Context(), lvm.CreatePool{VG: testVG, Name: testPool, Size: 50 << 40, Tags: []lvm.Tag{catalog.PoolTag("main")}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // nobody's, and in the way
		m.lvm.AddPlain(testVG, lvm.Name(fmt.Sprintf("plain%d", i)), 1<<30)
		m.plain++
	}
	for i := range monthContainers {
		o := catalog.Owner{Name: fmt.Sprintf("c%02d", i), Token: fmt.Sprintf("token%03d", i)}
		m.containers = append(m.containers, container.Container{Dir: "/c", Base: o.Name, Owner: o})
		m.running[o], m.fstab[o] = true, map[catalog.Name]bool{}
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "lls.toml")
	if err := os.WriteFile(config, []byte(monthConfig), 0o644); err != nil {
		t.Fatal(err)
	}
	m.opts = Options{Config: config, Kept: config + ".kept", Trees: "/nonexistent", History: filepath.Join(dir, "history.json"), Version: "test", SelfPID: os.Getpid(),
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return m.wall }}
	m.restart()
	return m
}

// restart is an agent that knows nothing but what lies on the disk.
func (m *month) restart() {
	dev := &monthDevices{m: m}
	mounts := &monthMounts{m: m}
	a, err := New(m.opts, Parts{LVM: m.lvm, Mounts: mounts, Devices: dev, Containers: fakeContainers{all: m.containers}, Loops: noLoops{}, Bus: &fakeBus{}, Mailer: &fakeMail{}, Keeper: noKeeper{}, Meter: &fakeMeter{}, Trimmer: &fakeTrimmer{}})
	if err == nil {
		err = a.Reload(m.Context())
	}
	if err != nil {
		m.Fatal(err)
	}
	a.points = m.points
	a.growers.now = func() time.Time { return time.Unix(0, 0).Add(m.mono) }
	m.agent, m.forecast, m.pool.grower = a, nil, newGrower(a, "main")
	clear(m.pool.measured)
	for i, c := range m.containers {
		if m.running[c.Owner] {
			m.boot(i)
		}
	}
}

func (m *month) boot(i int) {
	c := m.containers[i]
	m.agent.guests.all[c.Key()] = &guest{Container: c, box: &mount.Box{PID: i, Mapped: true}}
}

// points are the mounts of a guest, or of the host.
func (m *month) points(g *guest, _ mount.Keep) ([]mount.Point, error) {
	if g == nil {
		return nil, nil
	}
	var all []mount.Point
	for id, o := range m.mounted {
		if o == g.Owner {
			d := m.devices[id]
			all = append(all, mount.Point{Major: d.major, Minor: d.minor, Root: "/", Path: "/data/" + string(id)})
		}
	}
	return all, nil
}

func (m *month) group() lvm.Group {
	groups, err := m.lvm.Report(m.Context(), testVG)
	if err != nil {
		m.Fatal(err)
	}
	return groups[0]
}

func (m *month) volume(id catalog.ID) lvm.Volume {
	for _, v := range m.group().Volumes {
		if strings.HasSuffix(string(v.Name), "."+string(id)) {
			return v
		}
	}
	return lvm.Volume{}
}

func (m *month) records() map[catalog.ID]*catalog.Record {
	n := 0
	for _, step := range []string{"CreateThin", "Snapshot", "Retag", "Activate", "Deactivate", "Remove"} {
		n += m.lvm.Calls(step)
	}
	if m.read != nil && n == m.changes {
		return m.read
	}
	m.changes = n
	all := map[catalog.ID]*catalog.Record{}
	for _, r := range catalog.New([]lvm.Group{m.group()}).Records {
		all[r.ID] = r
	}
	m.read = all
	return all
}

// as is a request of an owner.
func (m *month) as(o catalog.Owner) *call {
	c := &call{agent: m.agent, asker: catalog.Asker{Owner: o}, config: m.agent.config()}
	for _, g := range m.agent.guests.list() {
		if g.Owner == o {
			c.guest = g
		}
	}
	return c
}

// want fails the test when something that users do is refused.
func want[T any](m *month, v T, err error) T {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
	return v
}

// populate makes the datasets and snapshots of the beginning.
func (m *month) populate() {
	admin := &call{agent: m.agent, asker: m.agent.admin(), config: m.agent.config()}
	visible := true
	for i := range 10 {
		want(m, api.Volume{}, m.dataset(admin, fmt.Sprintf("set%d", i), &visible))
	}
	for i := range monthVolumes - 10 {
		m.snapshot(m.containers[i%monthContainers].Owner)
	}
}

func (m *month) dataset(c *call, name string, visible *bool) error {
	_, err := c.create(m.Context(), api.CreateRequest{Name: name, Size: "1G", Visible: visible})
	return err
}

func (m *month) snapshot(o catalog.Owner) {
	name := fmt.Sprintf("s%d", m.rand.IntN(1<<30))
	out, err := m.as(o).snapshot(m.Context(), api.SnapshotRequest{Source: fmt.Sprintf("set%d", m.rand.IntN(10)), Name: name})
	if out, ok := wantMade(m, out, err); ok {
		m.made(catalog.ID(out.ID), &note{})
	}
}

// made notes a new volume.
func (m *month) made(id catalog.ID, n *note) {
	m.notes[id], m.pool.bytes[id] = n, m.rand.Int64N(40<<30)
	m.touch(id)
	m.pour()
}

// one is any of the volumes that fit, or nil.
func (m *month) one(fits func(*catalog.Record) bool) *catalog.Record {
	all := m.records()
	ids := slices.Sorted(maps.Keys(all))
	for range 20 {
		if r := all[ids[m.rand.IntN(len(ids))]]; fits(r) && !r.Owner.IsHost() {
			return r
		}
	}
	return nil
}

// tick lets time pass and holds what the agent did against what was foretold and noted.
func (m *month) tick() {
	before, said := m.records(), m.foretold()
	data, metadata := m.shortOf()
	var early []*catalog.Record
	natural := false
	ages := map[catalog.ID]policy.Age{}
	for id := range before {
		ages[id] = m.agent.past.age(id)
	}
	m.wall, m.mono = m.wall.Add(monthTick), m.mono+monthTick
	m.agent.tend(m.Context(), monthTick)
	after := m.records()
	for id, was := range before {
		n, now := m.notes[id], after[id]
		did := policy.Keep
		switch {
		case now == nil:
			did = policy.Purge
		case was.State == catalog.Live && now.State == catalog.Trash:
			did = policy.Trash
		case m.agent.past.age(id).Announced && !ages[id].Announced:
			did = policy.Announce
		}
		v := said[id]
		asSaid := did == v.Action || did == v.Next && v.Wait <= monthTick
		if did != policy.Keep {
			m.happened(was, did, !asSaid)
		}
		if did == policy.Purge && n != nil && !asSaid {
			early = append(early, was)
			continue
		}
		natural = natural || did == policy.Purge
		if !asSaid {
			m.Errorf("%s: %s was done; foretold was %s, then %s after %v: %v", was.LV.Name, did, v.Action, v.Next, v.Wait, v.Reasons)
		}
		if n == nil {
			if did != policy.Keep {
				m.Errorf("the host's %s: %s", was.LV.Name, did)
			}
			continue
		}
		m.check(was, n, did)
		m.age(was, n, did)
	}
	m.checkEarly(before, early, data, metadata, natural)
	m.grow()
	if g := m.group(); len(g.Others) != m.plain {
		m.Errorf("%d volumes are nobody's now, and were %d", len(g.Others), m.plain)
	}
}

// TestAMonthOfLife lets 40 containers live with 400 volumes for a month, over restarts of the agent and jumps of the clock.
func TestAMonthOfLife(t *testing.T) {
	m := newMonth(t, 42)
	m.populate()
	const day = int(24 * time.Hour / monthTick)
	for i := range monthTicks {
		if i%day == 0 {
			m.endForecast()
			m.enter(phases[i/day%len(phases)])
		}
		if i%monthPace == 0 {
			m.live()
		}
		if i%(3*day) == day/2 {
			m.giveSome()
		}
		m.write()
		m.pour()
		if hour := i % day * 24 / day; i%(day/24) == 0 && (hour == 2 || hour%4 == 2 && m.pool.phase != calm && m.pool.phase != grows) {
			m.endForecast()
			m.press()
			m.ask()
		}
		m.tick()
		switch {
		case i%701 == 700: // the agent is away for a while: nothing of that counts
			m.wall = m.wall.Add(time.Duration(m.rand.IntN(72)) * time.Hour)
			m.restart()
		case i%1801 == 1800:
			m.wall = m.wall.AddDate(10-20*m.rand.IntN(2), 0, 0)
			m.forecast = nil
		}
		if t.Failed() {
			t.Fatalf("at tick %d", i)
		}
	}
	m.endForecast()
	m.enter(calm)
	m.quietWeek()
	m.saw()
}

// saw fails the test when it showed too little.
func (m *month) saw() {
	m.Logf("done by the policy: %v; %d volumes undeleted, %d at the end", m.acted, m.undeleted, len(m.records()))
	m.Logf("%d purged early, the pool grew %d times, %d refreshed, %d given", m.early, m.pool.grown, m.refreshed, m.given)
	m.Logf("%d explained, %d of them by NAME.ID; %d things foreseen in the morning, %d at once", m.explained, m.hidden, m.foreseen, m.foretoldNow)
	for what, n := range map[string]int{"purged early": m.early, "foreseen": m.foreseen} {
		if n < monthLeast {
			m.Errorf("%d were %s only, so little was shown", n, what)
		}
	}
	for what, n := range map[string]int{"the pool growing": m.pool.grown, "one that its name alone does not find": m.hidden, "a refresh": m.refreshed, "a volume given": m.given, "an early purge foretold": m.foretoldNow} {
		if n == 0 {
			m.Errorf("%s was never seen", what)
		}
	}
	for _, action := range []policy.Action{policy.Announce, policy.Trash, policy.Purge} {
		if m.acted[action] < monthLeast {
			m.Errorf("%s was done %d times only, so little was shown", action, m.acted[action])
		}
	}
	if m.undeleted < monthLeast {
		m.Errorf("%d volumes were undeleted only", m.undeleted)
	}
}
