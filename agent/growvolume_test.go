package agent

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/filesystem"
	"lls/lvm"
	"lls/policy"
)

// growing makes an active volume of c1, 1G large, that grows to a size by itself, and gives what tends it.
func (b *bench) growing(name, to string) (catalog.ID, func(percent float64) time.Duration) {
	b.t.Helper()
	id, at := b.growingBy(name, to)
	w := &volumeGrowing{}
	return id, func(percent float64) time.Duration { return at(percent, w) }
}

// growingBy is growing, with what is remembered of the volume in the caller's hand.
func (b *bench) growingBy(name, to string) (catalog.ID, func(percent float64, w *volumeGrowing) time.Duration) {
	b.t.Helper()
	made := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: name, Size: "1G", Mount: "/" + name}, "")
	b.post(b.c1, api.PathSet, api.SetRequest{Name: name, GrowTo: to}, "")
	id := catalog.ID(made.ID)
	return id, func(percent float64, w *volumeGrowing) time.Duration {
		b.t.Helper()
		v := b.fresh(id)
		b.dev.mu.Lock()
		b.dev.space = map[string]filesystem.Space{lvm.Device(testVG, v.LV.Name): {Size: v.LV.Size, Free: v.LV.Size - lvm.Size(float64(v.LV.Size)/100*percent) - 1}}
		b.dev.mu.Unlock()
		return b.agent.tendVolume(b.t.Context(), id, w)
	}
}

func (b *bench) fresh(id catalog.ID) *catalog.Record {
	b.t.Helper()
	v, err := b.agent.store.current(b.t.Context(), 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return v.Catalog.ByID(id)
}

func TestSetSaysHowFarAVolumeGrows(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + "[growth.volume]\ncap = \"8G\"\n[[rules]]\nvolume = \"no\"\ngrowth.volume.threshold = 0.0\n")
	for _, name := range []string{"a", "no"} {
		b.post(b.c1, api.PathCreate, api.CreateRequest{Name: name, Size: "2G"}, "")
	}
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "a", Name: "ro", ReadOnly: true}, "")
	for _, tt := range []struct {
		name, to string
		code     api.Code
		words    string
	}{
		{"a", "9G", api.Denied, "growth.volume.cap lets it grow by itself to 8G"},
		{"a", "1G", api.Malformed, "it has 2G already"},
		{"a", "much", api.Malformed, "is no size"},
		{"a", "-1", api.Malformed, "is no size"},
		{"no", "4G", api.Denied, "lets no volume here grow by itself"},
		{"ro", "4G", api.Denied, "it is read-only"},
	} {
		b.post(b.c1, api.PathSet, api.SetRequest{Name: tt.name, GrowTo: tt.to}, tt.code)
		if err := b.c1.Post(t.Context(), api.PathSet, api.SetRequest{Name: tt.name, GrowTo: tt.to}, nil); !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%+v: it says %v", tt, err)
		}
	}
	if v := b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", GrowTo: "8G"}, ""); v.GrowTo != 8<<30 {
		t.Errorf("it is %+v", v)
	}
	if v := b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", Access: "rw"}, ""); v.GrowTo != 8<<30 {
		t.Errorf("another change made it %+v", v)
	}
	if v := b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", GrowTo: "none"}, ""); v.GrowTo != 0 {
		t.Errorf("it is %+v", v)
	}
}

func TestTheHintOfACapCanBeTyped(t *testing.T) {
	for cap, words := range map[string]string{
		"8G":          "lets it grow by itself to 8G, not to 9G",
		"1267M":       "lets it grow by itself to 1267M, not to 9G",
		"1328545793B": "lets it grow by itself to 1328545793B, not to 9G",
		"8193M":       "lets it grow by itself to 8193M, not to 9G",
	} {
		b := newBench(t)
		b.reload(testConfig + "[growth.volume]\ncap = \"" + cap + "\"\n")
		b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
		e := api.AsError(b.c1.Post(t.Context(), api.PathSet, api.SetRequest{Name: "a", GrowTo: "9G"}, nil))
		size, ok := strings.CutPrefix(e.Hint, "try: lls set a --grow-to ")
		if !ok || !strings.Contains(e.Message, words) {
			t.Errorf("%v; %s", e, e.Hint)
		}
		if v := b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", GrowTo: size}, ""); v.GrowTo <= 1<<30 {
			t.Errorf("%s gives %+v", size, v)
		}
	}
}

func TestAVolumeGrowsToWhatItsOwnerSaid(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail)
	c := b.growClock()
	b.news()
	id, at := b.growing("a", "1300M")
	at(10)
	at(85)
	if r := b.fresh(id); r.LV.Size != 1232*lvm.MiB || r.Growing || len(b.dev.grown) != 1 { // 20 % in extents of 4M
		t.Errorf("it is %+v, file systems grown: %v", r, b.dev.grown)
	}
	wantLines(t, b.news(), "c1/a grew from 1G to 1.2G, because it was 85% full")
	c.pass(10 * time.Second)
	at(85) // its cool-down
	if r := b.fresh(id); r.LV.Size != 1232*lvm.MiB {
		t.Errorf("within its cool-down it is %+v", r)
	}
	c.pass(time.Minute)
	at(85)
	if r := b.fresh(id); r.LV.Size != 1300*lvm.MiB {
		t.Errorf("it is %+v", r)
	}
	b.news()
	for range 3 {
		c.pass(time.Minute)
		at(90)
	}
	wantLines(t, b.news(), "c1/a cannot grow, and is 90% full")
	if r := b.fresh(id); r.LV.Size != 1300*lvm.MiB {
		t.Errorf("beyond its most it is %+v", r)
	}
	b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", GrowTo: "none"}, "")
	c.pass(time.Minute)
	if wait := at(99); wait != policy.PollMax || b.fresh(id).LV.Size != 1300*lvm.MiB {
		t.Error("it grows although nobody wants it to")
	}
}

func TestAVolumeGrowsWithinItsOwnersQuotaAndOnlyTheOwnerHears(t *testing.T) {
	b := newBench(t) // 20G for each
	b.reload(testConfig + quietMail)
	c := b.growClock()
	id, at := b.growing("a", "10G")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "big", Size: "19G"}, "")
	b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", Visibility: "visible"}, "")
	b.news()
	w := b.agent.feed.join()
	for range 3 {
		at(90)
		c.pass(time.Minute)
	}
	if r := b.fresh(id); r.LV.Size != lvm.GiB {
		t.Errorf("beyond the quota it is %+v", r)
	}
	wantLines(t, b.news(), "c1/a cannot grow, and is 90% full")
	b.agent.feed.leave(w)
	other := &call{agent: b.agent, asker: catalog.Asker{Owner: catalog.Owner{Name: "c2", Token: "t2"}}}
	owner := &call{agent: b.agent, asker: b.guest1.asker(), guest: b.guest1}
	heard := 0
	for ch := range w {
		if ch.what != api.EventFull {
			continue
		}
		heard++
		if e, ok := owner.event(ch); !ok || e.Name != "a" || !strings.Contains(e.Why, "limits.size allows 20G") {
			t.Errorf("the owner hears %+v, %v", e, ok)
		}
		if e, ok := other.event(ch); ok {
			t.Errorf("another container hears %+v", e)
		}
	}
	if heard != 1 {
		t.Errorf("it was told %d times", heard)
	}
	b.destroy(b.c1, "big")
	at(90)
	if r := b.fresh(id); r.LV.Size <= lvm.GiB {
		t.Errorf("with room again it is %+v", r)
	}
}

func TestNoVolumeWaitsForAnother(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	slow, _ := b.growing("slow", "10G")
	quick, _ := b.growing("quick", "10G")
	stuck, free := make(chan struct{}), make(chan struct{})
	b.dev.mu.Lock()
	b.dev.usage = func(path string) (filesystem.Space, error) {
		if strings.HasPrefix(filepath.Base(path), "slow.") {
			close(stuck)
			<-free
			return filesystem.Space{}, errors.New("too late")
		}
		return filesystem.Space{Size: lvm.GiB, Free: lvm.GiB / 10}, nil
	}
	b.dev.mu.Unlock()
	b.fresh(slow) // reads
	b.agent.lookAtVolumes(ctx)
	<-stuck
	within(t, "the other grows", func() bool { return b.fresh(quick).LV.Size > lvm.GiB })
	if b.agent.lookAtVolumes(ctx); b.fresh(slow).LV.Size != lvm.GiB {
		t.Error("the slow one grew")
	}
	close(free)
}

// In a quarter of the time in which a sudden writer is at the threshold, of 80 percent.
func TestAnIdleVolumeIsLookedAtBeforeAFastWriterFillsIt(t *testing.T) {
	for name, tt := range map[string]struct {
		size     lvm.Size
		to       string
		percent  float64
		others   int // that grow by themselves
		from, up time.Duration
	}{
		"small":                 {lvm.GiB, "5G", 10, 0, policy.PollMin, policy.PollMin},
		"large":                 {100 * lvm.GiB, "200G", 30, 0, 6 * time.Second, 7 * time.Second},
		"huge":                  {900 * lvm.GiB, "1T", 10, 0, policy.PollMax, policy.PollMax},
		"large, among hundreds": {100 * lvm.GiB, "200G", 70, 400, 4 * time.Second, 5 * time.Second},
		"small, among hundreds": {lvm.GiB, "5G", 10, 400, 2 * time.Second, 4 * time.Second}, // as if by 64 MiB/s
		"at its cap":            {lvm.GiB, "1G", 10, 0, 2 * time.Second, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.reload(strings.Replace(testConfig, `size = "20G"`, `size = "2T"`, 1) + quietMail)
			b.growClock()
			made := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: strconv.FormatInt(int64(tt.size), 10) + "B", Mount: "/a"}, "")
			b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", GrowTo: tt.to}, "")
			b.dev.usage = func(string) (filesystem.Space, error) {
				return filesystem.Space{Size: tt.size, Free: lvm.Size(float64(tt.size) / 100 * (100 - tt.percent))}, nil
			}
			for n := range tt.others {
				b.agent.volumes.all[catalog.ID(strconv.Itoa(n))] = &volumeGrowing{}
			}
			if wait := b.agent.tendVolume(t.Context(), catalog.ID(made.ID), &volumeGrowing{}); wait < tt.from || wait > tt.up {
				t.Errorf("it is looked at in %v, want %v to %v", wait, tt.from, tt.up)
			}
		})
	}
}

// As a mount does, or another limit, while the look finds it as it was before.
func TestALookThatIsAskedForDuringALookIsTaken(t *testing.T) {
	b := newBench(t)
	b.growClock() // no time passes
	id, _ := b.growing("a", "10G")
	begun, free := make(chan struct{}, 2), make(chan struct{}, 2)
	b.dev.mu.Lock()
	b.dev.usage = func(string) (filesystem.Space, error) {
		begun <- struct{}{}
		<-free
		return filesystem.Space{}, filesystem.ErrNotMounted
	}
	b.dev.mu.Unlock()
	b.fresh(id) // reads
	looking := func() bool {
		b.agent.volumes.mu.Lock()
		defer b.agent.volumes.mu.Unlock()
		return b.agent.volumes.all[id].busy
	}
	for n, during := range []func(){func() { b.agent.volumes.look(id) }, func() {}} {
		if b.agent.lookAtVolumes(t.Context()); !looking() {
			t.Fatalf("after %d looks it is not looked at", n)
		}
		<-begun
		during()
		free <- struct{}{}
		within(t, "the look ends", func() bool { return !looking() })
	}
	if b.agent.lookAtVolumes(t.Context()); looking() {
		t.Error("it is looked at although nobody asked")
		free <- struct{}{}
	}
}

// Its owner thinks better of it, or resizes it by hand, after it was decided and before it is done.
func TestAGrowthThatIsNotWantedAnyMoreIsNotTold(t *testing.T) {
	for name, meanwhile := range map[string]func(b *bench){
		"none":   func(b *bench) { b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", GrowTo: "none"}, "") },
		"resize": func(b *bench) { b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "a", Size: "3G"}, "") },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.reload(testConfig + quietMail)
			b.growClock()
			id, _ := b.growing("a", "4G")
			b.news()
			var once sync.Once
			var r *catalog.Record
			b.dev.usage = func(string) (filesystem.Space, error) {
				once.Do(func() { meanwhile(b); r = b.fresh(id) })
				return filesystem.Space{Size: lvm.GiB, Free: lvm.GiB / 10}, nil
			}
			w := &volumeGrowing{}
			if wait := b.agent.tendVolume(t.Context(), id, w); wait != policy.PollMin || !w.grownAt.IsZero() {
				t.Errorf("it is looked at in %v, with a cool-down since %v", wait, w.grownAt)
			}
			if now := b.fresh(id); now.LV.Size != r.LV.Size {
				t.Errorf("it has grown from %s to %s", r.LV.Size, now.LV.Size)
			}
			wantLines(t, b.news())
		})
	}
}
