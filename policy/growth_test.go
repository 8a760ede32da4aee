package policy

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
)

func TestGrowthDecides(t *testing.T) {
	g := Growth{Threshold: 80, Step: Step{Percent: 20}, Cap: 200 * gib, Reserve: Step{Percent: 10}, CoolDown: 10 * time.Minute}
	pool := func(percent float64) GrowthState {
		return GrowthState{Size: 100 * gib, Percent: percent, PercentKnown: true, Extent: 4 * mib, FromGroup: true, GroupSize: 1000 * gib, GroupFree: 500 * gib}
	}
	state := func(percent float64, change func(*GrowthState)) GrowthState {
		s := pool(percent)
		change(&s)
		return s
	}
	policy := func(change func(*Growth)) Growth {
		c := g
		change(&c)
		return c
	}
	tests := []struct {
		name  string
		g     Growth
		s     GrowthState
		to    int64
		block Block // Blocked, or Partial where it grows
		atCap bool
		why   string
	}{
		{"below", g, pool(79.9), 0, "", false, "79.9% full; it grows from 80% on"},
		{"just below", g, pool(79.99), 0, "", false, "79.9% full; it grows from 80% on"},
		{"at the threshold", g, pool(80), 120 * gib, "", false, "80% full, and it grows from 80% on: from 100G to 120G by 20G, one step"},
		{"off", policy(func(g *Growth) { g.Threshold = 0 }), pool(99), 0, BlockedOff, false, "the policy says so"},
		{"no step", policy(func(g *Growth) { g.Step = Step{} }), pool(99), 0, BlockedOff, false, "the policy says so"},
		{"unknown", g, state(99, func(s *GrowthState) { s.PercentKnown = false }), 0, BlockedUnknown, false, "not known how full or how large"},
		{"not a number", g, pool(math.NaN()), 0, BlockedUnknown, false, "not known how full or how large"},
		{"a size that cannot be", g, state(99, func(s *GrowthState) { s.Size = math.MaxInt64 }), 0, BlockedUnknown, true, "not known how full or how large"},
		{"bytes", policy(func(g *Growth) { g.Step = Step{Bytes: 5 * gib} }), pool(80), 105 * gib, "", false, "one step"},
		{"less than an extent", policy(func(g *Growth) { g.Step = Step{Bytes: 1} }), pool(80), 100*gib + 4*mib, "", false, "by 4M, one step"},
		{"a fast writer", g, pool(97), 141*gib + 256*mib, "", false, "more than a step, because one step would leave it above that"},
		{"at most twice its size", policy(func(g *Growth) { g.Threshold, g.Cap = 50, 0 }), pool(100), 200 * gib, "", false, "more than a step"},
		{"a step is more than twice", policy(func(g *Growth) { g.Step.Bytes = 150 * gib; g.Cap = 0 }), pool(99), 250 * gib, "", false, "one step"},
		{"up to the cap", policy(func(g *Growth) { g.Cap = 110 * gib }), pool(80), 110 * gib, BlockedCap, true, "but not beyond its cap of 110G"},
		{"a cap within an extent", policy(func(g *Growth) { g.Cap = 110*gib + 1 }), pool(80), 110 * gib, BlockedCap, true, "cap"},
		{"at the cap", policy(func(g *Growth) { g.Cap = 100*gib + 1 }), pool(80), 0, BlockedCap, true, "does not grow by itself beyond 100G"},
		{"beyond the cap", policy(func(g *Growth) { g.Cap = 50 * gib }), pool(10), 0, "", true, "10% full"},
		{"no cap", policy(func(g *Growth) { g.Cap = 0 }), pool(80), 120 * gib, "", false, ""},
		{"up to the cap of its metadata", g, state(80, func(s *GrowthState) { s.Most, s.MetadataCap = 110*gib+1, 8*mib }), 110 * gib, BlockedMetadata, false, "only as far as the metadata, which LVM extends along with it, stays within growth.metadata.cap, 8M"},
		{"at the cap of its metadata", g, state(80, func(s *GrowthState) { s.Most, s.MetadataCap = 100*gib, 8*mib }), 0, BlockedMetadata, false, "growth.metadata.cap allows no more than 8M of that: raise it"},
		{"far from the cap of its metadata", g, state(80, func(s *GrowthState) { s.Most = math.MaxInt64 }), 120 * gib, "", false, "one step"},
		{"its own cap is nearer", policy(func(g *Growth) { g.Cap = 110 * gib }), state(80, func(s *GrowthState) { s.Most = 115 * gib }), 110 * gib, BlockedCap, true, "but not beyond its cap"},
		{"the reserve is nearer", g, state(80, func(s *GrowthState) { s.GroupFree, s.Most = 107*gib, 115*gib }), 107 * gib, BlockedReserve, false, "no more than leaves 100G"},
		{"up to the reserve", g, state(80, func(s *GrowthState) { s.GroupFree = 107 * gib }), 107 * gib, BlockedReserve, false, "no more than leaves 100G of the volume group free"},
		{"at the reserve", g, state(80, func(s *GrowthState) { s.GroupFree = 100 * gib }), 0, BlockedReserve, false, "has 100G free, and 100G of it are to stay free"},
		{"below the reserve", g, state(80, func(s *GrowthState) { s.GroupFree = 10 * gib }), 0, BlockedReserve, false, "free"},
		{"the group's last bytes", policy(func(g *Growth) { g.Reserve = Step{} }), state(80, func(s *GrowthState) { s.GroupFree = gib }), 101 * gib, BlockedGroup, false, "has no more"},
		{"a full group", g, state(80, func(s *GrowthState) { s.GroupFree = 0 }), 0, BlockedGroup, false, "has 0B free"},
		{"a volume needs no group", g, state(80, func(s *GrowthState) { s.FromGroup, s.GroupFree = false, 0 }), 120 * gib, "", false, ""},
		{"cooling", g, state(90, func(s *GrowthState) { s.Grown, s.SinceGrown = true, time.Minute }), 0, BlockedCool, false, "it grew 1m ago, and 10m must pass"},
		{"cooled", g, state(90, func(s *GrowthState) { s.Grown, s.SinceGrown = true, 10*time.Minute }), 120 * gib, "", false, ""},
		{"cooling, but nearly full", g, state(95, func(s *GrowthState) { s.Grown, s.SinceGrown = true, time.Minute }), 120 * gib, "", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.g.Decide(tt.s)
			block := v.Blocked
			if v.To != 0 {
				block = v.Partial
			}
			if v.To != tt.to || block != tt.block || v.AtCap != tt.atCap || !strings.Contains(v.Why, tt.why) {
				t.Errorf("got %+v\nwant to %d, %q, at cap %v, a word of %q", v, tt.to, tt.block, tt.atCap, tt.why)
			}
		})
	}
	if v := g.Decide(state(90, func(s *GrowthState) { s.Grown, s.SinceGrown = true, time.Minute })); v.Wait != 9*time.Minute {
		t.Errorf("wait %v", v.Wait)
	}
}

func TestGrowthStaysWithinItsBoundsAndEnds(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	grown, partial, stopped := 0, 0, 0
	for i := range 20000 {
		extent := pick(r, 0, 1, 4*mib, 3*mib+512)
		g := Growth{Threshold: pick(r, 1, 50, 80, 99.5, 100), Step: pick(r, Step{Percent: r.Float64() * 50}, Step{Bytes: r.Int64N(20 * gib)}, Step{Percent: 1e300}, Step{Bytes: math.MaxInt64}),
			Cap: pick(r, 0, r.Int64N(400*gib), math.MaxInt64), Reserve: pick(r, Step{}, Step{Percent: r.Float64() * 100}, Step{Bytes: r.Int64N(200 * gib)})}
		s := GrowthState{Size: pick(r, 1+r.Int64N(200*gib), (1+r.Int64N(2000))*4*mib, 1<<59, 1<<61), Percent: pick(r, r.Float64()*100, 100, 1e308), PercentKnown: true,
			Most: pick(r, 0, math.MaxInt64, r.Int64N(400*gib)), Extent: extent, FromGroup: r.IntN(2) == 0, GroupSize: r.Int64N(900 * gib), GroupFree: pick(r, r.Int64N(400*gib), -1, 0)}
		used := float64(s.Size) * s.Percent / 100
		for rounds := 0; ; rounds++ {
			v := g.Decide(s)
			if v.Why == "" {
				t.Fatalf("case %d: no reason", i)
			}
			if v.To == 0 {
				if s.Percent >= g.Threshold && v.Blocked == BlockedNot {
					t.Fatalf("case %d: full, and nothing stands against it: %+v %+v %+v", i, g, s, v)
				}
				if v.Blocked != BlockedNot {
					stopped++
				}
				break
			}
			grown++
			if v.Partial != BlockedNot {
				partial++
			}
			took := v.To - s.Size
			reserve := g.Reserve.inBytes(s.GroupSize)
			switch {
			case took <= 0:
				t.Fatalf("case %d: shrinks from %d to %d", i, s.Size, v.To)
			case g.Cap > 0 && v.To > g.Cap:
				t.Fatalf("case %d: beyond its cap: %+v %+v", i, g, v)
			case s.Most > 0 && v.To > s.Most:
				t.Fatalf("case %d: beyond what its metadata allows: %+v %+v", i, s, v)
			case s.FromGroup && (took > s.GroupFree || s.GroupFree-took < reserve):
				t.Fatalf("case %d: into the reserve: %+v %+v %+v", i, g, s, v)
			case extent > 0 && v.To%extent != 0:
				t.Fatalf("case %d: %d is no multiple of %d", i, v.To, extent)
			case v.Partial == BlockedNot && float64(took) < math.Min(float64(g.Step.inBytes(s.Size)), float64(math.MaxInt64-s.Size-max(extent, 1))):
				t.Fatalf("case %d: less than a step: %+v %+v %+v", i, g, s, v)
			case rounds > 100000:
				t.Fatalf("case %d: does not end: %+v %+v", i, g, s)
			}
			s.GroupFree -= took
			s.Size = v.To
			s.Percent = used / float64(s.Size) * 100
			if rounds > 20 {
				break
			}
		}
	}
	t.Logf("%d growths, %d of them partial, %d at their end", grown, partial, stopped)
	if grown < 5000 || partial < 500 || stopped < 1000 {
		t.Error("the cases say little")
	}
}

func TestMoreUseNeverGrowsLess(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	for range 5000 {
		g := Growth{Threshold: 50 + 50*r.Float64(), Step: pick(r, Step{Percent: r.Float64() * 50}, Step{Bytes: r.Int64N(20 * gib)}), Cap: pick(r, 0, r.Int64N(400*gib))}
		s := GrowthState{Size: 1 + r.Int64N(200*gib), Percent: r.Float64() * 100, PercentKnown: true, Extent: 4 * mib}
		less := g.Decide(s)
		s.Percent += r.Float64() * (100 - s.Percent)
		if more := g.Decide(s); more.To < less.To {
			t.Fatalf("%+v %+v: %d, and %d when less full", g, s, more.To, less.To)
		}
	}
}

func TestPollsFollowTheFillRate(t *testing.T) {
	tests := []struct {
		left int64
		rate float64
		want time.Duration
	}{
		{100 * gib, 0, time.Minute}, {100 * gib, -5, time.Minute}, {100 * gib, math.NaN(), time.Minute}, {100 * gib, float64(mib), time.Minute},
		{0, 0, time.Second}, {-1, 1, time.Second}, {40 * mib, float64(mib), 10 * time.Second}, {mib, float64(160 * mib), time.Second},
		{math.MaxInt64, 1, time.Minute}, {gib, math.Inf(1), time.Second},
	}
	for _, tt := range tests {
		if got := PollAfter(tt.left, tt.rate); got != tt.want {
			t.Errorf("%d bytes left at %v/s: %v, want %v", tt.left, tt.rate, got, tt.want)
		}
	}
	g := Growth{Threshold: 80}
	if got := g.Left(GrowthState{Size: 100 * gib, Percent: 60, PercentKnown: true}); got != 20*gib {
		t.Errorf("left %d", got)
	}
	if got := (Growth{}).Left(GrowthState{Size: 100 * gib, Percent: 60, PercentKnown: true}); got != math.MaxInt64 {
		t.Errorf("without a threshold %d", got)
	}
}
