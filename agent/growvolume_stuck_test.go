package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/lvm"
)

// stuckAs is what stands against a volume's growth, as its owner is told, after a look at it at 90 percent.
func (b *bench) stuckAs(id catalog.ID, w *volumeGrowing, at func(float64, *volumeGrowing) time.Duration) stuck {
	b.t.Helper()
	at(90, w)
	b.agent.volumes.mu.Lock()
	b.agent.volumes.all[id] = w
	b.agent.volumes.mu.Unlock()
	return b.agent.volumes.why(id)
}

func TestWhatStandsAgainstAVolumesGrowthIsToldWithWhatHelps(t *testing.T) {
	b := newBench(t) // 20G and 5 volumes for each
	const capped = "[growth.volume]\ncap = \"2G\"\n"
	b.reload(testConfig + quietMail + capped)
	c := b.growClock()
	id, at := b.growingBy("a", "1G")
	w := &volumeGrowing{}
	want := func(kind, remedy, news string) {
		t.Helper()
		if s := b.stuckAs(id, w, at); s.kind != kind || !strings.Contains(s.why, "90% full, and cannot grow: ") || s.remedy != remedy {
			t.Errorf("it is %+v, want %s, %s", s, kind, remedy)
		}
		if news == "" {
			wantLines(t, b.news())
		} else {
			wantLines(t, b.news(), news)
		}
		c.pass(30 * time.Second)
	}
	b.news()
	want("cap", "lls set a --grow-to MAX, or lls resize a +1G", "c1/a cannot grow, and is 90% full")
	b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", GrowTo: "2G"}, "")
	big := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "big", Size: "19G"}, "")
	want("limits.size", "make room: lls delete NAME, then lls purge NAME --yes; the largest: big 19G, a 1G", "c1/a cannot grow, and is 90% full")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "big"}, "")
	c.pass(time.Minute)
	want("limits.size", "lls purge big."+big.ID+" --yes frees 19G for good; all that counts: lls list --all", "") // that was told
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "big"}, "")
	b.lvm.Fail("Extend", errors.New("vg/a.xyz: no"))
	c.pass(time.Minute)
	want("failed", api.Failed.Hint(), "c1/a cannot grow, and is 90% full")
	if s := b.agent.volumes.why(id); strings.Contains(s.why, "xyz") || !strings.Contains(s.cause, "xyz") {
		t.Errorf("told is %+v", s)
	}
	for b.fresh(id).LV.Size < 2*lvm.GiB {
		c.pass(2 * time.Minute)
		at(90, w)
	}
	b.news()
	want("cap", "lls resize a +1G", "c1/a cannot grow, and is 90% full") // no more than that may be asked for
	c.pass(time.Minute)
	at(10, w)
	if s := b.agent.volumes.why(id); s != (stuck{}) {
		t.Errorf("with room it is %+v", s)
	}
}

func TestAVolumeWhoseFileSystemCannotBeGrownGrowsNoFurther(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail)
	c := b.growClock()
	id, at := b.growingBy("a", "10G")
	w := &volumeGrowing{}
	b.news()
	b.dev.growErr = errors.New("resize2fs says no")
	for range 20 {
		at(90, w)
		c.pass(time.Minute)
	}
	r := b.fresh(id)
	if r.LV.Size != 1232*lvm.MiB || !r.Growing || len(b.dev.grown) != 20 {
		t.Errorf("it is %+v, tried %d times", r, len(b.dev.grown))
	}
	wantLines(t, b.news(), "c1/a cannot grow, and is 90% full")
	b.dev.growErr = nil
	at(90, w)
	if r = b.fresh(id); r.LV.Size != 1232*lvm.MiB || r.Growing {
		t.Errorf("it is %+v", r)
	}
	wantLines(t, b.news(), "c1/a: its file system has grown to 1.2G after all")
	c.pass(time.Minute)
	at(90, w)
	if r = b.fresh(id); r.LV.Size <= 1232*lvm.MiB || r.Growing {
		t.Errorf("then it is %+v", r)
	}
}

func TestOfDataOfItsOwnARefusalNamesWhatFreesMost(t *testing.T) {
	b := newBench(t)
	b.reload(strings.Replace(testConfig, `size = "20G"`, `exclusive = "10M"`, 1))
	now := time.Now()
	b.agent.opts.Now = func() time.Time { return now }
	data := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "data", Size: "1G"}, "")
	empty := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "empty", Size: "900G"}, "")
	gone := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "gone", Size: "1G"}, "")
	b.meter.alone = map[int]lvm.Size{b.thinID(data.ID): 20 << 20, b.thinID(empty.ID): 0, b.thinID(gone.ID): 1 << 20}
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "empty"}, "")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "gone"}, "")
	b.measure(newReading())
	now = now.Add(130 * time.Second)
	refused := func(why, hint string) {
		t.Helper()
		e := api.AsError(b.c1.Post(t.Context(), api.PathCreate, api.CreateRequest{Name: "x", Size: "1G"}, nil))
		if e == nil || e.Message != "cannot create x: limits.exclusive allows 10M: "+why || e.Hint != hint {
			t.Errorf("%v\n%s", e, e.Hint)
		}
	}
	refused("21M of data was in no volume but these 3 volumes, 2 of them in the trash, 2m 10s ago",
		fmt.Sprintf("lls purge gone.%s --yes frees 1M for good; what each frees: lls list --all", gone.ID))
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "gone"}, "")
	refused("20M of data was in no volume but these 2 volumes, 1 of them in the trash, 2m 10s ago", "make room: lls delete NAME, then lls purge NAME --yes; what frees most: data 20M")
}

func TestAPoolThatLVMIsToGrowFirstIsSaidToBeFilling(t *testing.T) {
	b := newBench(t)
	b.lvm.Fail("CreateThin", lvm.ErrThreshold)
	e := api.AsError(b.c1.Post(t.Context(), api.PathCreate, api.CreateRequest{Name: "x", Size: "1G"}, nil))
	if e == nil || e.Code != api.Full || !strings.Contains(e.Message, "until it has grown") || !strings.Contains(e.Hint, "try again in a moment") {
		t.Errorf("%v, %s", e, e.Hint)
	}
}
