package policy

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// limitOf is the limit that a refusal names, by its key in lls.toml.
func limitOf(r *Refusal) string {
	if r == nil {
		return ""
	}
	return regexp.MustCompile(`limits\.[a-z_]+`).FindString(r.Why)
}

// holding is the use of so many volumes of 10 bytes, of which these are in the trash.
func holding(volumes, snapshots, trash int) Use {
	var u Use
	for i := range volumes {
		u.Add(Held{Name: fmt.Sprintf("v%d", i), Size: 10, Snapshot: i < snapshots, Trash: i >= volumes-trash})
	}
	return u
}

func TestAdmitRefusesJustPastEachLimit(t *testing.T) {
	l := Limits{Volumes: 3, Snapshots: 2, Size: 100, Exclusive: 50}
	tests := []struct {
		name  string
		use   Use
		ask   Ask
		limit string
	}{
		{"one volume before the last", holding(1, 0, 0), Ask{Volume: true}, ""},
		{"the last volume", holding(2, 0, 0), Ask{Volume: true}, ""},
		{"one volume too many", holding(3, 0, 0), Ask{Volume: true}, "limits.volumes"},
		{"too many already", holding(4, 0, 0), Ask{Volume: true}, "limits.volumes"},
		{"trash counts", holding(3, 0, 3), Ask{Volume: true}, "limits.volumes"},
		{"one snapshot before the last", holding(1, 0, 0), Ask{Volume: true, Snapshot: true}, ""},
		{"the last snapshot", holding(2, 1, 0), Ask{Volume: true, Snapshot: true}, ""},
		{"one snapshot too many", holding(2, 2, 0), Ask{Volume: true, Snapshot: true}, "limits.snapshots"},
		{"a snapshot in the trash counts", Use{Volumes: 2, Snapshots: 2, Trash: 2}, Ask{Volume: true, Snapshot: true}, "limits.snapshots"},
		{"no snapshot is asked for", holding(2, 2, 0), Ask{Volume: true}, ""},
		{"growth at full numbers", holding(3, 2, 0), Ask{Size: 50}, ""},
		{"one byte less than all", Use{Size: 50}, Ask{Size: 49}, ""},
		{"the last byte", Use{Size: 50}, Ask{Size: 50}, ""},
		{"one byte too many", Use{Size: 50}, Ask{Size: 51}, "limits.size"},
		{"no overflow", Use{Size: 50}, Ask{Size: 1<<63 - 1}, "limits.size"},
		{"no growth although the limit has sunk", Use{Size: 200}, Ask{}, ""},
		{"one byte of its own less", Use{Exclusive: 49}, Ask{Volume: true}, ""},
		{"all of its own bytes", Use{Exclusive: 50}, Ask{Volume: true}, "limits.exclusive"},
		{"more of its own bytes", Use{Exclusive: 51}, Ask{Size: 1}, "limits.exclusive"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := limitOf(l.Admit(tt.use, tt.ask)); got != tt.limit {
				t.Errorf("refused by %q, want %q", got, tt.limit)
			}
		})
	}
	many := Use{Volumes: 1e6, Snapshots: 1e6, Size: 1 << 60, Exclusive: 1 << 60}
	if r := (Limits{}).Admit(many, Ask{Volume: true, Snapshot: true, Size: 1 << 40}); r != nil {
		t.Errorf("no limits refuse: %v", r)
	}
}

func TestAQuotaSaysWhatIsUsedByWhatAndWhatToType(t *testing.T) {
	var u Use
	for _, h := range []Held{
		{Name: "small", Size: 512 << 20, Trash: true}, {Name: "big", Size: 100 << 30, Snapshot: true, Trash: true}, {Name: "old", Size: 1536 << 20, Trash: true},
		{Name: "mid", Size: 10 << 30, Snapshot: true, Trash: true}, {Name: "live", Size: 3 << 40, Snapshot: true}, {Name: "other", Size: 1 << 40},
		{Name: "replaced", Size: 9 << 40, Snapshot: true, Trash: true, Uncounted: true},
	} {
		u.Add(h)
	}
	live := Use{}
	live.Add(Held{Name: "one", Size: 2 << 30})
	data := func(frees ...int64) Use {
		use := Use{Exclusive: 20 << 20, ExclusiveAge: 190 * time.Second}
		for n, h := range []Held{{Name: "data", Size: 1 << 30}, {Name: "more", Size: 9 << 30}, {Name: "empty", Size: 900 << 30, Trash: true}, {Name: "mine", Ref: "mine.aaaaaaa", Size: 1 << 30, Trash: true, Uncounted: true}} {
			h.Frees = frees[n]
			use.Add(h)
		}
		return use
	}
	pair := Use{}
	pair.Add(Held{Name: "mine", Ref: "mine.bbbbbbb", Size: 1 << 30, Snapshot: true, Trash: true, Behind: "mine.aaaaaaa"})
	const exclusive = "limits.exclusive allows 10M: 20M of data was in no volume but these 3 volumes, 1 of them in the trash, 3m 10s ago"
	snap := Ask{Volume: true, Snapshot: true, Size: 1 << 40}
	for _, tt := range []struct {
		limits    Limits
		use       Use
		why, hint string
	}{
		{
			Limits{Volumes: 6}, u,
			"limits.volumes allows 6: used up by 6 volumes, 4 of them in the trash (the largest are big 100G, mid 10G, old 1.5G)",
			"lls purge big --yes frees one volume for good; all that counts: lls list --all",
		},
		{
			Limits{Snapshots: 3}, u,
			"limits.snapshots allows 3: used up by 3 snapshots, 2 of them in the trash (big 100G, mid 10G)",
			"lls purge big --yes frees one snapshot for good; all that counts: lls list --all",
		},
		{
			Limits{Size: 5 << 40}, u,
			"limits.size allows 5T: 4.11T is in use by 6 volumes, 4 of them in the trash (the largest are big 100G, mid 10G, old 1.5G), and this needs 1T more",
			"lls purge big --yes frees 100G for good; all that counts: lls list --all",
		},
		{
			Limits{Exclusive: 10 << 20}, data(12<<20, 3<<20, 0, 5<<20), exclusive,
			"lls purge mine.aaaaaaa --yes frees 5M for good; what each frees: lls list --all",
		},
		{
			Limits{Exclusive: 10 << 20}, data(12<<20, 13<<20, 0, 0), exclusive,
			"make room: lls delete NAME, then lls purge NAME --yes; what frees most: more 13M, data 12M",
		},
		{
			Limits{Exclusive: 10 << 20}, data(0, 0, 0, 0), exclusive,
			"make room: delete files, then lls trim; or delete and purge several volumes, as each shares its data with others of yours: lls list --all",
		},
		{
			Limits{Volumes: 1}, pair,
			"limits.volumes allows 1: used up by 1 volume, 1 of them in the trash (mine 1G)",
			"lls purge mine.bbbbbbb mine.aaaaaaa --yes frees one volume for good; all that counts: lls list --all",
		},
		{
			Limits{Volumes: 1}, live,
			"limits.volumes allows 1: used up by 1 volume",
			"make room: lls delete NAME, then lls purge NAME --yes; the largest: one 2G",
		},
		{
			Limits{Size: 1 << 30}, Use{},
			"limits.size allows 1G: 0B is in use by 0 volumes, and this needs 1T more",
			"make room: lls delete NAME, then lls purge NAME --yes; lls usage shows what counts",
		},
	} {
		r := tt.limits.Admit(tt.use, snap)
		if r == nil || r.Why != tt.why || r.Hint != tt.hint {
			t.Errorf("%+v:\n%+v\nwant\n%s\n%s", tt.limits, r, tt.why, tt.hint)
		}
	}
}

func TestAPoolWatchesDataMetadataAndItsPromises(t *testing.T) {
	p := PoolRules{DataPercent: 95, MetadataPercent: 90, Overcommit: 2.5}
	full := func(data, metadata float64) Fill {
		return Fill{DataPercent: data, MetadataPercent: metadata, Known: true, Size: 100}
	}
	snap := Ask{Volume: true, Snapshot: true, Size: 10}
	tests := []struct {
		name  string
		fill  Fill
		ask   Ask
		limit string
	}{
		{"just below both", full(94.99, 89.99), snap, ""},
		{"at the data's level", full(95, 0), snap, "limits.data_percent"},
		{"above the data's level", full(95.01, 0), Ask{Size: 1}, "limits.data_percent"},
		{"at the metadata's level", full(0, 90), snap, "limits.metadata_percent"},
		{"above the metadata's level", full(0, 90.01), snap, "limits.metadata_percent"},
		{"inactive", Fill{DataPercent: 100, MetadataPercent: 100, Size: 100}, snap, ""},
		{"nothing is asked for", full(100, 100), Ask{}, ""},
		{"one byte before the promises' end", Fill{Size: 100, Virtual: 239}, snap, ""},
		{"at the promises' end", Fill{Size: 100, Virtual: 240}, snap, ""},
		{"one byte past it", Fill{Size: 100, Virtual: 241}, snap, "limits.overcommit"},
		{"past it already", Fill{Size: 100, Virtual: 300}, Ask{Size: 1}, "limits.overcommit"},
		{"no overflow", Fill{Size: 100, Virtual: 1}, Ask{Size: 1<<63 - 1}, "limits.overcommit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := limitOf(p.Admit(tt.fill, tt.ask)); got != tt.limit {
				t.Errorf("refused by %q, want %q", got, tt.limit)
			}
		})
	}
	for _, overcommit := range []float64{0, 1e300} {
		p.Overcommit = overcommit
		if r := p.Admit(Fill{Size: 1 << 40, Virtual: 1 << 60}, snap); r != nil {
			t.Errorf("an overcommit of %v refuses: %v", overcommit, r)
		}
	}
}

func TestAFullPoolSaysWhatWouldHelp(t *testing.T) {
	grows := Growth{Threshold: 80, Step: Step{Percent: 20}, Cap: 200 << 30, Reserve: Step{Percent: 10}}
	fill := Fill{DataPercent: 96.25, Known: true, Size: 100 << 30, GroupSize: 500 << 30, GroupFree: 51 << 30}
	with := func(change func(g *Growth, f *Fill)) (PoolRules, Fill) {
		g, f := grows, fill
		change(&g, &f)
		return PoolRules{DataPercent: 95, MetadataPercent: 90, Data: g, Metadata: g}, f
	}
	for _, tt := range []struct {
		name   string
		change func(g *Growth, f *Fill)
		hope   string
	}{
		{"growing", func(*Growth, *Fill) {}, "it grows by itself, so try again in a moment"},
		{"not yet growing", func(g *Growth, _ *Fill) { g.Threshold = 98 }, "it grows by itself, but only from 98% on (growth.data.threshold), which the sysadmin can lower"},
		{"growing but for its metadata", func(g *Growth, f *Fill) { g.Reserve, f.GroupFree, f.ForMetadata = Step{}, 1<<30, 1<<30 }, "its volume group has no more room: it takes another disk"},
		{"off", func(g *Growth, _ *Fill) { g.Threshold = 0 }, "it does not grow by itself (growth.data.threshold is 0): the sysadmin can grow it"},
		{"at the cap of its metadata", func(_ *Growth, f *Fill) { f.DataFor = func(int64) int64 { return f.Size } }, "more data would take more metadata than growth.metadata.cap (200G) allows, which the sysadmin can raise"},
		{"at its cap", func(_ *Growth, f *Fill) { f.Size = 200 << 30 }, "it has grown to its cap (growth.data.cap is 200G), which the sysadmin can raise"},
		{"at the reserve", func(_ *Growth, f *Fill) { f.GroupFree = 50 << 30 }, "its volume group has no more room than growth.data.reserve keeps: it takes another disk"},
		{"out of space", func(g *Growth, f *Fill) { g.Reserve, f.GroupFree = Step{}, 0 }, "its volume group has no more room: it takes another disk"},
	} {
		p, f := with(tt.change)
		r := p.Admit(f, Ask{Size: 1})
		if r == nil || r.Why != "the pool's data is 96.2% full, and nothing new is made from 95% on (limits.data_percent)" ||
			r.Hint != "make room: lls delete NAME, then lls purge NAME --yes; "+tt.hope {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
	p, f := with(func(g *Growth, f *Fill) {
		f.DataPercent, f.MetadataPercent, f.MetadataSize, g.Cap = 1, 91, 16<<30, 15<<30
	})
	if r := p.Admit(f, Ask{Size: 1}); limitOf(r) != "limits.metadata_percent" ||
		r.Hint != "make room: lls delete NAME, then lls purge NAME --yes; it has grown to its cap (growth.metadata.cap is 15G), which the sysadmin can raise" {
		t.Errorf("metadata: %+v", r)
	}
	p, f = with(func(g *Growth, f *Fill) {
		g.Reserve, f.DataPercent, f.MetadataPercent, f.MetadataSize, f.Extent, f.GroupFree = Step{}, 1, 91, 1<<30, 4<<20, 4<<20
	})
	if r := p.Admit(f, Ask{Size: 1}); r == nil || !strings.HasSuffix(r.Hint, "its volume group has no more room: it takes another disk") {
		t.Errorf("metadata, whose spare would have no room: %+v", r)
	}
	p, f = PoolRules{DataPercent: 95, MetadataPercent: 90, Overcommit: 2}, Fill{Size: 50 << 30, Virtual: 99 << 30}
	want := "limits.overcommit allows volumes of 100G in all in a pool of 50G: 99G is given away, and this needs 2G more"
	if r := p.Admit(f, Ask{Size: 2 << 30}); r == nil || r.Why != want {
		t.Errorf("overcommit: %+v", r)
	}
}

func TestARateHoldsInEveryMinute(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var r Rate
	at := func(d time.Duration) *Refusal { return r.Admit("limits.x", 3, start.Add(d)) }
	for _, d := range []time.Duration{0, 10 * time.Second, 20 * time.Second} {
		if no := at(d); no != nil {
			t.Fatalf("%v: %v", d, no)
		}
	}
	for d, wait := range map[time.Duration]string{20 * time.Second: "40s", 20*time.Second + 1: "40s", time.Minute - 1: "1s"} {
		no := at(d)
		if limitOf(no) != "limits.x" || no.Wait != time.Minute-d || no.Hint != "try again in "+wait || no.Why != "limits.x allows 3 within a minute" {
			t.Errorf("%v: %+v", d, no)
		}
	}
	if no := at(time.Minute); no != nil {
		t.Errorf("the first is a minute ago, but: %v", no)
	}
	if no := at(time.Minute); no == nil || no.Wait != 10*time.Second {
		t.Errorf("the second is not: %+v", no)
	}
	if no := r.Admit("limits.x", 1, start.Add(time.Minute)); no == nil || no.Wait != time.Minute {
		t.Errorf("with a limit that has sunk: %+v", no)
	}
	if r.Idle(start.Add(2*time.Minute-1)) || !r.Idle(start.Add(2*time.Minute)) {
		t.Error("idle is not after a minute")
	}
	for range 1000 {
		if no := r.Admit("limits.x", 0, start); no != nil || !r.Idle(start) {
			t.Fatal("no limit is one")
		}
	}
	if no := r.Admit("limits.x", 1, start.Add(time.Hour)); no != nil {
		t.Error(no)
	}
	if no := r.Admit("limits.x", 1, start); no != nil {
		t.Errorf("a clock that was set back holds everything up: %v", no)
	}
}

// Whatever the times, no minute has more than was allowed in it.
func FuzzRate(f *testing.F) {
	f.Add([]byte{0, 1, 2, 250, 0, 0, 9}, 2)
	f.Fuzz(func(t *testing.T, steps []byte, most int) {
		if most < 1 || most > 20 {
			return
		}
		var r Rate
		var taken []time.Time
		now := time.Unix(0, 0)
		for _, s := range steps {
			now = now.Add(time.Duration(s) * 200 * time.Millisecond)
			no := r.Admit("x", most, now)
			if no == nil {
				taken = append(taken, now)
				if n := len(taken); n > most && taken[n-1].Sub(taken[n-1-most]) < time.Minute {
					t.Fatalf("%d within %v", most+1, taken[n-1].Sub(taken[n-1-most]))
				}
				continue
			}
			if no.Wait <= 0 || no.Wait > time.Minute {
				t.Fatalf("to wait: %v", no.Wait)
			}
			later := Rate{admitted: append([]time.Time(nil), r.admitted...)}
			if early := (&Rate{admitted: append([]time.Time(nil), r.admitted...)}).Admit("x", most, now.Add(no.Wait-1)); early == nil {
				t.Fatal("it need not have waited so long")
			}
			if still := later.Admit("x", most, now.Add(no.Wait)); still != nil {
				t.Fatalf("it waited as long as it was told, and: %v", still)
			}
		}
	})
}
