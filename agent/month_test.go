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
}

// note is what the observer knows: running time, of the agent's ticks alone.
type note struct {
	unused  time.Duration // since it was last used, or wanted
	trashed time.Duration // in the trash
	byUser  bool          // whoever deleted it
	told    bool
	tags    string // before it went to the trash, without its state
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

func (f *monthMounts) ReadFile(_ context.Context, b *mount.Box, _ string, _ int) ([]byte, error) {
	var text strings.Builder
	for name := range f.m.fstab[f.m.containers[b.PID].Owner] {
		fmt.Fprintf(&text, "lls:%s /data/%s lls noauto,x-lls.auto 0 0\n", name, name)
	}
	return []byte(text.String()), nil
}

func newMonth(t *testing.T, seed uint64) *month {
	m := &month{T: t, rand: rand.New(rand.NewPCG(seed, 1)), lvm: lvmtest.NewFake(lvm.Options{Managed: catalog.Managed}), wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		running: map[catalog.Owner]bool{}, mounted: map[catalog.ID]catalog.Owner{}, devices: map[catalog.ID]device{}, fstab: map[catalog.Owner]map[catalog.Name]bool{}, notes: map[catalog.ID]*note{}, acted: map[policy.Action]int{}}
	m.lvm.AddGroup(testVG, 100<<40)
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
	m.opts = Options{Config: config, Trees: "/nonexistent", History: filepath.Join(dir, "history.json"), Version: "test", SelfPID: os.Getpid(),
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
	m.agent = a
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
	want(m, out, err)
	m.notes[catalog.ID(out.ID)] = &note{}
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

// foretold is what policy explain says of every volume before a tick.
func (m *month) foretold() map[catalog.ID]policy.Verdict {
	a := m.agent
	v, err := a.store.current(m.Context(), 0)
	if err != nil {
		m.Fatal(err)
	}
	f, out := a.gather(m.Context(), v), map[catalog.ID]policy.Verdict{}
	for _, r := range v.Catalog.Records {
		s, e := a.subject(v, f, r), a.expiry(v, r)
		out[r.ID] = e.Judge(s, e.Observe(a.past.age(r.ID), s, 0, m.wall), m.wall)
	}
	return out
}

// tick lets time pass and holds what the agent did against what was foretold and noted.
func (m *month) tick() {
	before, said := m.records(), m.foretold()
	ages := map[catalog.ID]policy.Age{}
	for id := range before {
		ages[id] = m.agent.past.age(id)
	}
	m.wall = m.wall.Add(monthTick)
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
		if v := said[id]; did != v.Action && (did != v.Next || v.Wait > monthTick) {
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
	if g := m.group(); len(g.Others) != m.plain {
		m.Errorf("%d volumes are nobody's now, and were %d", len(g.Others), m.plain)
	}
}

// check is the oracle.
func (m *month) check(r *catalog.Record, n *note, did policy.Action) {
	m.acted[did]++
	bad := func(why string) { m.Errorf("%s: %s, but %s", r.LV.Name, did, why) }
	switch did {
	case policy.Keep:
		return
	case policy.Trash, policy.Announce:
		_, mounted := m.mounted[r.ID]
		switch {
		case r.Origin == "":
			bad("it is no snapshot")
		case r.Visible:
			bad("it is a dataset")
		case mounted:
			bad("it is mounted")
		case r.Forever || r.Lease.After(m.wall):
			bad("it is leased")
		case m.fstab[r.Owner][r.Name]:
			bad("its fstab names it")
		case !m.running[r.Owner]:
			bad("its container is stopped")
		case n.unused+monthTick < monthUnused:
			bad("it is young: unused for " + n.unused.String())
		case did == policy.Trash && !n.told:
			bad("its owner was not told")
		case did == policy.Trash && n.unused+monthTick < monthUnused+monthNotice:
			bad("its owner was told too late: unused for " + n.unused.String())
		}
	case policy.Purge:
		if r.State != catalog.Trash || n.trashed+monthTick < monthTrash {
			bad("it was in the trash for " + n.trashed.String())
		}
	}
}

// age is what the observer notes after a tick.
func (m *month) age(r *catalog.Record, n *note, did policy.Action) {
	_, mounted := m.mounted[r.ID]
	switch {
	case did == policy.Announce:
		n.told = true
		n.unused += monthTick
	case did == policy.Trash:
		n.trashed, n.byUser, n.tags = 0, false, tagsOf(r)
	case r.State == catalog.Trash:
		n.trashed += monthTick
	case mounted || r.Visible:
		n.unused = 0
	default:
		n.unused += monthTick
	}
}

// TestAMonthOfLife lets 40 containers live with 400 volumes for a month, over restarts of the agent and jumps of the clock.
func TestAMonthOfLife(t *testing.T) {
	m := newMonth(t, 42)
	m.populate()
	for i := range monthTicks {
		if i%monthPace == 0 {
			m.live()
		}
		m.tick()
		switch {
		case i%701 == 700: // the agent is away for a while: nothing of that counts
			m.wall = m.wall.Add(time.Duration(m.rand.IntN(72)) * time.Hour)
			m.restart()
		case i%1801 == 1800:
			m.wall = m.wall.AddDate(10-20*m.rand.IntN(2), 0, 0)
		}
		if t.Failed() {
			t.Fatalf("at tick %d", i)
		}
	}
	t.Logf("done by the policy: %v; %d volumes undeleted, %d at the end", m.acted, m.undeleted, len(m.records()))
	for _, action := range []policy.Action{policy.Announce, policy.Trash, policy.Purge} {
		if m.acted[action] < monthLeast {
			t.Errorf("%s was done %d times only, so little was shown", action, m.acted[action])
		}
	}
	if m.undeleted < monthLeast {
		t.Errorf("%d volumes were undeleted only", m.undeleted)
	}
	m.quietWeek()
}

// quietWeek holds the dry-run against a week in which nobody does anything.
func (m *month) quietWeek() {
	foretold := map[string]string{}
	a := m.agent
	v, err := a.store.current(m.Context(), 0)
	if err != nil {
		m.Fatal(err)
	}
	f := a.gather(m.Context(), v)
	for _, r := range v.Catalog.Records {
		e, s, age := a.look(v, f, r)
		for _, h := range e.Project(s, age, m.wall, quietDays*24*time.Hour, monthTick) {
			foretold[fmt.Sprintf("%s %s", r.ID, h.Action)] = h.After.String()
		}
	}
	happened := map[string]string{}
	for n := range int(quietDays * 24 * time.Hour / monthTick) {
		before, announced := m.records(), map[catalog.ID]bool{}
		for id := range before {
			announced[id] = a.past.age(id).Announced
		}
		m.tick()
		after := m.records()
		when := (time.Duration(n+1) * monthTick).String()
		for id, was := range before {
			switch now := after[id]; {
			case now == nil:
				happened[fmt.Sprintf("%s %s", id, policy.Purge)] = when
			case was.State != now.State:
				happened[fmt.Sprintf("%s %s", id, policy.Trash)] = when
			case a.past.age(id).Announced && !announced[id]:
				happened[fmt.Sprintf("%s %s", id, policy.Announce)] = when
			}
		}
	}
	if !maps.Equal(foretold, happened) {
		for what, when := range foretold {
			if happened[what] != when {
				m.Errorf("dry-run foretold %s after %s; it happened after %q", what, when, happened[what])
			}
		}
		for what, when := range happened {
			if foretold[what] == "" {
				m.Errorf("%s happened after %s, and was not foretold", what, when)
			}
		}
	}
	if len(foretold) < monthLeast {
		m.Errorf("%d things were foretold for the week, so little was shown", len(foretold))
	}
	m.Logf("%d things happened in the week, as foretold", len(happened))
}
