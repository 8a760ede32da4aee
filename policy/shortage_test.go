package policy

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestAPoolIsShortOnlyWhereItCannotGrow(t *testing.T) {
	rules := PoolRules{DataPercent: 90, MetadataPercent: 90,
		Data:     Growth{Threshold: 80, Step: Step{Percent: 20}, Reserve: Step{Percent: 5}},
		Metadata: Growth{Threshold: 70, Step: Step{Percent: 50}, Cap: 15 * gib}}
	fill := Fill{DataPercent: 91, MetadataPercent: 10, Known: true, Size: 100 * gib, MetadataSize: gib, GroupSize: 1000 * gib, GroupFree: 500 * gib, Extent: 4 * mib}
	for _, tt := range []struct {
		name     string
		change   func(p *PoolRules, f *Fill)
		data     int64
		metadata bool
		why      string
	}{
		{"it can grow", func(*PoolRules, *Fill) {}, 0, false, ""},
		{"it is not full enough to grow", func(p *PoolRules, _ *Fill) { p.Data.Threshold = 95 }, 0, false, ""},
		{"it is not full enough to grow, and never will", func(p *PoolRules, _ *Fill) { p.Data.Threshold = 0 }, gib + 1, false, "the pool's data is 91% full and cannot grow: it does not grow by itself"},
		{"not known how full", func(p *PoolRules, f *Fill) { p.Data.Threshold, f.Known = 0, false }, 0, false, ""},
		{"below the level", func(p *PoolRules, f *Fill) { p.Data.Threshold, f.DataPercent = 0, 89.9 }, 0, false, ""},
		{"at the level", func(p *PoolRules, f *Fill) { p.Data.Threshold, f.DataPercent = 0, 90 }, 1, false, "cannot grow"},
		{"at its cap", func(p *PoolRules, _ *Fill) { p.Data.Cap = 100 * gib }, gib + 1, false, "does not grow by itself beyond 100G"},
		{"at the cap of the metadata that more data takes", func(_ *PoolRules, f *Fill) { f.DataFor = func(metadata int64) int64 { return metadata / 15 * 100 } }, gib + 1, false, "growth.metadata.cap allows no more than 15G of that"},
		{"metadata has no cap", func(p *PoolRules, f *Fill) {
			p.Metadata.Cap, f.DataFor = 0, func(int64) int64 { return 0 }
		}, 0, false, ""},
		{"at the reserve", func(_ *PoolRules, f *Fill) { f.GroupFree = 50 * gib }, gib + 1, false, "50G of it are to stay free"},
		{"at the end of the group", func(p *PoolRules, f *Fill) { p.Data.Reserve, f.GroupFree = Step{}, 0 }, gib + 1, false, "0B free"},
		{"all the group has would go to the metadata", func(p *PoolRules, f *Fill) { p.Data.Reserve, f.GroupFree, f.ForMetadata = Step{}, gib, gib }, gib + 1, false, "0B free"},
		{"metadata can grow", func(_ *PoolRules, f *Fill) { f.DataPercent, f.MetadataPercent = 10, 95 }, 0, false, ""},
		{"metadata at its cap", func(_ *PoolRules, f *Fill) { f.DataPercent, f.MetadataPercent, f.MetadataSize = 10, 95, 15*gib }, 0, true, "the pool's metadata is 95% full and cannot grow: 95% full, but it is 15G large"},
		{"no room for the spare", func(_ *PoolRules, f *Fill) { f.DataPercent, f.MetadataPercent, f.GroupFree = 10, 95, 4*mib }, 0, true, "2M free"},
		{"both", func(p *PoolRules, f *Fill) { p.Data.Threshold, p.Metadata.Threshold, f.MetadataPercent = 0, 0, 100 }, gib + 1, true, "metadata"},
	} {
		p, f := rules, fill
		tt.change(&p, &f)
		got := p.Shortage(f)
		if got.Data != tt.data || got.Metadata != tt.metadata || got.Any() != (tt.data > 0 || tt.metadata) || !strings.Contains(strings.Join(got.Why, "; "), tt.why) || got.Any() != (len(got.Why) > 0) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// Time and more data in a pool are no shortage as long as it grows: whoever is short does not grow, however full it becomes.
func TestWhatIsShortNeverGrows(t *testing.T) {
	r, short := rand.New(rand.NewPCG(3, 5)), 0
	for range 20000 {
		g := Growth{Threshold: pick(r, 0, 50+50*r.Float64()), Step: pick(r, Step{Percent: 20}, Step{Bytes: gib}), Cap: pick(r, 0, r.Int64N(200*gib)), Reserve: pick(r, Step{}, Step{Percent: 10})}
		p := PoolRules{Data: g, Metadata: g, DataPercent: 1 + 99*r.Float64(), MetadataPercent: 100}
		f := Fill{DataPercent: 100 * r.Float64(), Known: true, Size: 1 + r.Int64N(100*gib), MetadataSize: gib, GroupSize: 200 * gib, GroupFree: pick(r, 0, r.Int64N(100*gib)), ForMetadata: r.Int64N(gib), Extent: 4 * mib,
			DataFor: pick(r, nil, func(metadata int64) int64 { return metadata })}
		if !p.Shortage(f).Any() {
			continue
		}
		short++
		s := p.State(PartData, f)
		s.Percent = 100
		if d := g.Decide(s); d.To > 0 {
			t.Fatalf("%+v is short with %+v, and grows: %+v", f, p, d)
		}
	}
	if short < 500 {
		t.Errorf("%d were short, which shows little", short)
	}
}
