package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/thin"
	"lls/lvm"
	"lls/policy"
)

// fakeMeter says that each volume has as many bytes of its own as it was given by name, and each owner the sum and what its volumes share.
type fakeMeter struct {
	mu       sync.Mutex
	alone    map[int]lvm.Size    // by thin id
	own      map[int]thin.Volume // of each, when it is its own since then and what of it
	time     uint32              // of the pool
	shared   map[string]lvm.Size // by owner
	err      error
	during   func() // what happens meanwhile
	measured int
	released int
}

func (f *fakeMeter) Measure(_ context.Context, _ lvm.VG, _ lvm.Name, owner func(int) string) (thin.Usage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.measured++
	if f.during != nil {
		f.during()
	}
	u := thin.Usage{Time: f.time, Volumes: map[int]thin.Volume{}, Owners: map[string]lvm.Size{}}
	for id, n := range f.alone {
		u.Volumes[id] = thin.Volume{Mapped: 2 * n, Exclusive: n, Own: f.own[id].Own, Since: f.own[id].Since}
		u.Owners[owner(id)] += n
	}
	for o, n := range f.shared {
		u.Owners[o] += n
	}
	return u, f.err
}

func (f *fakeMeter) ReleaseLeftovers(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.released++
	return nil
}

// thinID is LVM's number of a volume.
func (b *bench) thinID(id string) int {
	b.t.Helper()
	for _, v := range b.volumes() {
		if strings.HasSuffix(string(v.Name), "."+id) {
			return v.ThinID
		}
	}
	b.t.Fatalf("no volume %s", id)
	return 0
}

// measure reads the pool main as the agent's goroutine does.
func (b *bench) measure(r *reading) {
	b.t.Helper()
	r.next = time.Time{}
	b.agent.measureDue(b.t.Context(), b.agent.config().Pools[0], r)
}

func newReading() *reading { return &reading{full: map[catalog.Owner]bool{}} }

func TestFreesAreToldToTheOwnerAndTheSysadminAlone(t *testing.T) {
	b := newBench(t)
	visible := true
	d := b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "data", Size: "1G"}, "")
	s := b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "data", Name: "mine", Visible: &visible}, "")
	if b.list(b.c1, false)[0].Frees != nil {
		t.Error("frees are known before anything was read")
	}
	b.meter.alone = map[int]lvm.Size{b.thinID(d.ID): 100 << 20, b.thinID(s.ID): 7 << 20}
	b.measure(newReading())
	for _, tt := range []struct {
		who   *api.Client
		id    string
		frees int64
	}{{b.admin, d.ID, 100 << 20}, {b.admin, s.ID, 7 << 20}, {b.c1, d.ID, -1}, {b.c1, s.ID, 7 << 20}} {
		for _, v := range b.list(tt.who, false) {
			if v.ID != tt.id {
				continue
			}
			if (v.Frees == nil) != (tt.frees < 0) || v.Frees != nil && *v.Frees != tt.frees || (v.Frees == nil) != (v.FreesAt == nil) {
				t.Errorf("%s frees %v as of %v, want %d", v.Name, v.Frees, v.FreesAt, tt.frees)
			}
		}
	}
	var info api.Volume
	if err := b.c1.Get(t.Context(), api.PathVolume, url.Values{"name": {"mine"}}, &info); err != nil || info.Frees == nil || time.Since(*info.FreesAt) > time.Minute {
		t.Errorf("%+v, %v", info, err)
	}
	if got, known := b.agent.frees(catalog.ID(s.ID)); got != 7<<20 || !known {
		t.Errorf("%d, %v", got, known)
	}
}

func TestAPoolIsReadWhenItChangedAndNotTooOften(t *testing.T) {
	b := newBench(t)
	now := time.Now()
	b.agent.opts.Now = func() time.Time { return now }
	r, main := newReading(), b.agent.config().Pools[0]
	want := func(n int, why string) {
		t.Helper()
		b.agent.store.setPools(b.agent.config().Pools) // what the fake changed is read
		b.agent.measureDue(t.Context(), main, r)
		if b.meter.measured != n {
			t.Errorf("%s: %d readings, want %d", why, b.meter.measured, n)
		}
	}
	want(0, "no volumes")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	want(1, "the first")
	b.lvm.SetFill(testVG, testPool, 10, 1)
	want(1, "fuller, but a moment ago")
	now = now.Add(measureEvery)
	want(2, "fuller")
	now = now.Add(time.Hour)
	want(2, "nothing changed")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "b", Size: "1G"}, "")
	b.meter.during = func() { now = now.Add(time.Minute) }
	want(3, "one more volume")
	b.lvm.SetFill(testVG, testPool, 11, 1)
	now = now.Add(measureShare*time.Minute - time.Second)
	want(3, "it took long")
	now = now.Add(time.Second)
	want(4, "it took long, and is over")
	b.lvm.SetFill(testVG, testPool, 12, 1)
	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.Known = false })
	now = now.Add(time.Hour)
	want(4, "inactive")
	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.Known = true })
	b.meter.err = thin.ErrHeld
	want(5, "held by the sysadmin")
	want(5, "held, a moment ago")
	now, b.meter.err = now.Add(time.Hour), nil
	want(6, "no longer held")
	if b.agent.measured.of(main).at != now {
		t.Error("the age is not that of the last reading")
	}
}

func TestAnIDUsedAgainSpoilsAReading(t *testing.T) {
	b := newBench(t)
	a := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	c := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "c", Size: "1G"}, "")
	first := b.thinID(a.ID)
	b.meter.alone = map[int]lvm.Size{first: 1 << 20}
	b.meter.during = func() { // a goes, and a new one gets its id
		b.lvm.Edit(testVG, lvm.Name("a."+a.ID), func(v *lvm.Volume) { v.ThinID = 77 })
		b.lvm.Edit(testVG, lvm.Name("c."+c.ID), func(v *lvm.Volume) { v.ThinID = first })
	}
	if _, err := b.agent.measure(t.Context(), b.agent.config().Pools[0]); !errors.Is(err, errReused) {
		t.Errorf("%v", err)
	}
}

func TestTheSoftLimitOfExclusiveBytes(t *testing.T) {
	b := newBench(t)
	b.reload(strings.Replace(testConfig, `size = "20G"`, `exclusive = "10M"`, 1))
	s := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	u := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "b", Size: "1G"}, "")
	r := newReading()
	usage := func(who *api.Client) api.Usage {
		var all []api.Usage
		if err := who.Get(t.Context(), api.PathUsage, url.Values{}, &all); err != nil || len(all) == 0 {
			t.Fatal(err)
		}
		for _, one := range all {
			if one.Container == "c1" {
				return one
			}
		}
		return api.Usage{}
	}
	if got := usage(b.c1); got.Exclusive != nil || got.ExclusiveMax != 10<<20 {
		t.Errorf("before anything was read: %+v", got)
	}
	b.meter.alone = map[int]lvm.Size{b.thinID(s.ID): 4 << 20, b.thinID(u.ID): 3 << 20}
	b.measure(r)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "c", Size: "1G"}, "")
	b.meter.shared = map[string]lvm.Size{b.guest1.Owner.String(): 3 << 20} // by a and b: neither's alone, and nobody else's
	b.measure(r)
	for _, who := range []*api.Client{b.c1, b.admin} {
		if got := usage(who); got.Exclusive == nil || *got.Exclusive != 10<<20 || got.ExclusiveAt == nil {
			t.Errorf("%+v", got)
		}
	}
	v := b.agent.store.latest()
	if !r.full[b.guest1.Owner] || !strings.Contains(b.agent.fullNotice(v, b.guest1.Owner), "10M is allowed") {
		t.Errorf("told: %v, notice %q", r.full, b.agent.fullNotice(v, b.guest1.Owner))
	}
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, api.Full)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	// Nobody is refused for what was purged since.
	b.destroy(b.c1, "a")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	if got := usage(b.c1); *got.Exclusive != 6<<20 {
		t.Errorf("after the purge: %d", *got.Exclusive)
	}
	// What was given away counts for who got it.
	b.post(b.admin, api.PathGive, api.GiveRequest{From: "c1", To: "c2"}, "")
	v, f := b.agent.store.latest(), b.agent.measured.of(b.agent.config().Pools[0])
	if got := f.exclusive(v, catalog.Owner{Name: "c2", Token: "t2"}); got != 3<<20 {
		t.Errorf("c2 was given %d", got)
	}
}

func TestTheSysadminHearsOnceOfAFullContainer(t *testing.T) {
	b := newBench(t)
	b.reload(strings.Replace(testConfig, `size = "20G"`, `exclusive = "100M"`, 1))
	o, host := b.guest1.Owner, catalog.Host()
	v, err := b.agent.store.current(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	told := map[catalog.Owner]bool{}
	for _, tt := range []struct {
		mega int64
		want bool
	}{{99, false}, {100, true}, {97, true}, {100, true}, {94, false}, {101, true}} {
		b.agent.tellFull(b.t.Context(), v, policy.Pool{Name: "main"}, &figures{owners: map[catalog.Owner]int64{o: tt.mega << 20, host: 1 << 40}}, told)
		if told[o] != tt.want || told[host] {
			t.Errorf("at %d: %v", tt.mega, told)
		}
	}
}

func TestMeasuringReleasesWhatAKilledAgentHeld(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.agent.measuring(ctx)
	if b.meter.released != 1 {
		t.Errorf("%d times", b.meter.released)
	}
}

func TestJSONOfAVolumeWithoutFigures(t *testing.T) {
	text, err := json.Marshal(api.Volume{})
	if err != nil || strings.Contains(string(text), "frees") {
		t.Errorf("%s, %v", text, err)
	}
}
