package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/history"
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
