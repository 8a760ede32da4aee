package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/history"
	"lls/agent/thin"
	"lls/lvm"
	"lls/policy"
)

func TestALevelIsToldOfWhenItIsPassedRising(t *testing.T) {
	b := newBench(t)
	p, _ := b.agent.config().Pool("main")
	for _, tt := range []struct {
		percent float64
		want    string
	}{
		{79.9, ""}, {80, "passed 80%: it is 80% full"}, {85, ""}, {79, ""}, {81, ""}, {77, ""}, {80.5, "passed 80%"}, {96, "passed 95%: it is 96% full"},
		{94, ""}, {95, ""}, {92, ""}, {95, "passed 95%"}, {10, ""}, {90, "passed 90%"},
	} {
		b.agent.level(t.Context(), p, policy.PartMetadata, tt.percent)
		got := b.news()
		if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], "pool main: metadata "+tt.want)) {
			t.Errorf("at %v it says %q, want %q", tt.percent, got, tt.want)
		}
	}
	b.agent.level(t.Context(), p, policy.PartData, 80)
	wantLines(t, b.news(), "pool main: data passed 80%")
}

func TestTheStatusForetellsAndNamesWhoWrites(t *testing.T) {
	b := newBench(t)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "10G"}, "")
	v := b.volumes()[0]
	use := func(percent float64) {
		b.lvm.Edit(testVG, v.Name, func(v *lvm.Volume) { v.UsedPercent, v.UsedKnown = percent, true })
	}
	look := func(step time.Duration) {
		view, err := b.agent.store.current(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		b.agent.sample(view, step)
	}
	b.fill(10, 10)
	use(1)
	look(time.Minute)
	for i := range 10 {
		b.fill(10+float64(i), 10)
		use(1 + float64(i)*5)
		look(5 * time.Minute)
	}
	var s api.Status
	if err := b.admin.Get(t.Context(), api.PathStatus, nil, &s); err != nil {
		t.Fatal(err)
	}
	p := s.Pools[0]
	if p.DataForecast == nil || !p.DataForecast.Known || p.DataForecast.FullAt == nil || !strings.Contains(p.DataForecast.Text, "data is full in") || p.MetadataForecast.Text != "metadata is not filling" {
		t.Errorf("the forecast is %+v, %+v", p.DataForecast, p.MetadataForecast)
	}
	if len(p.Writers) != 1 || p.Writers[0].Name != "c1/a" || p.Writers[0].Bytes < 4<<30 {
		t.Errorf("those who write are %+v", p.Writers)
	}
	if s.Mail == nil || !slices.Equal(s.Mail.To, []string{"root"}) {
		t.Errorf("of mail it says %+v", s.Mail)
	}
	look(time.Hour) // what was an hour ago is where it begins
	b.agent.past.with(func(h *history.History) {
		if len(h.Samples["main"]) == 0 || h.Mapped[string(v.Name[strings.LastIndexByte(string(v.Name), '.')+1:])] < 4<<30 {
			t.Errorf("kept are %+v, %+v", h.Samples, h.Mapped)
		}
	})
	written := func() (bytes int64) {
		view, err := b.agent.store.current(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := b.agent.config().Pool("main")
		for _, w := range b.agent.writers(view, p) {
			bytes += w.Bytes
		}
		return bytes
	}
	if written() < 4<<30 {
		t.Error("just then nobody wrote anything")
	}
	for range 11 {
		look(5 * time.Minute)
	}
	if written() < 4<<30 {
		t.Error("within the hour it is forgotten who wrote")
	}
	look(5 * time.Minute)
	if n := written(); n != 0 {
		t.Errorf("after more than an hour of silence it has still written %d", n)
	}
}

func TestAMailCanBeTried(t *testing.T) {
	b := newBench(t)
	b.post(b.admin, api.PathMailTest, api.Empty{}, "")
	b.mail.err = errors.New("cannot send mail: connection refused")
	err := b.admin.Post(t.Context(), api.PathMailTest, api.Empty{}, nil)
	if e := api.AsError(err); e.Code != api.Failed || e.Message != "cannot send mail: connection refused" || !strings.Contains(e.Hint, b.config) {
		t.Errorf("it says %+v", e)
	}
	b.reload(testConfig + "[mail]\nto = [\"a@b\"]\nrelay = \"h:25\"\nevery = \"1m\"\n")
	b.mail.mu.Lock()
	defer b.mail.mu.Unlock()
	if c := b.mail.config; !slices.Equal(c.To, []string{"a@b"}) || c.Relay != "h:25" || c.Every != time.Minute {
		t.Errorf("mail goes by %+v", c)
	}
}

// A block that takes the place of a shared one leaves what is mapped as it is, and gives both volumes that shared it more of their own.
func TestWhoOverwritesInASnapshotWritesMost(t *testing.T) {
	b := newBench(t)
	data := b.thinID(b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "data", Size: "1G"}, "").ID)
	mine := b.thinID(b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "data", Name: "mine"}, "").ID)
	r, full := newReading(), 10.0
	read := func(at uint32, alone map[int]lvm.Size, own map[int]thin.Volume) {
		t.Helper()
		full++
		b.fill(full, 10) // so that it is worth while
		b.agent.store.forget()
		b.meter.time, b.meter.alone, b.meter.own = at, alone, own
		b.measure(r)
	}
	want := func(when string, want ...api.Writer) {
		t.Helper()
		var s api.Status
		if err := b.admin.Get(t.Context(), api.PathStatus, nil, &s); err != nil {
			t.Fatal(err)
		}
		if got := s.Pools[0].Writers; !slices.Equal(got, want) {
			t.Errorf("%s: those who write are %+v, want %+v", when, got, want)
		}
	}
	hour := func() {
		t.Helper()
		view, err := b.agent.store.current(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		b.agent.sample(view, time.Hour)
	}
	want("before anything was read")
	read(1, map[int]lvm.Size{data: 0, mine: 30 << 20}, map[int]thin.Volume{data: {Since: 1}, mine: {Since: 1, Own: 30 << 20}})
	want("when nobody knows since when")
	both := map[int]lvm.Size{data: 110 << 20, mine: 140 << 20}
	read(1, both, map[int]thin.Volume{data: {Since: 1}, mine: {Since: 1, Own: 140 << 20}})
	want("after it overwrote", api.Writer{Name: "c1/mine", Bytes: 110 << 20})
	hour()
	want("within the hour", api.Writer{Name: "c1/mine", Bytes: 110 << 20})
	hour()
	want("after more than an hour of silence")

	// What was made since then has written all that it has of its own, what had a snapshot taken of it what it has since that.
	born := b.thinID(b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "mine", Name: "born"}, "").ID)
	both[born] = 5 << 20
	read(2, both, map[int]thin.Volume{data: {Since: 1}, mine: {Since: 2, Own: 7 << 20}, born: {Since: 2, Own: 5 << 20}})
	want("with one more", api.Writer{Name: "c1/mine", Bytes: 7 << 20}, api.Writer{Name: "c1/born", Bytes: 5 << 20})

	// To purge what shared its blocks, or to trim, writes nothing.
	hour()
	hour()
	b.destroy(b.c1, "mine")
	read(2, map[int]lvm.Size{data: 900 << 20, born: 800 << 20}, map[int]thin.Volume{data: {Since: 1}, born: {Since: 2, Own: 1 << 20}})
	want("after a purge")
}
