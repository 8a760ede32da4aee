package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lls/agent/event"
	"lls/agent/event/bus"
	"lls/agent/notify"
	"lls/lvm"
	"lls/policy"
)

// clock is one that a test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) pass(d time.Duration)    { c.at = c.at.Add(d) }
func (b *bench) growClock() *clock       { c := &clock{time.Now()}; b.agent.growers.now = c.now; return c }
func (b *bench) fill(data, meta float64) { b.lvm.SetFill(testVG, testPool, data, meta) }
func (b *bench) grower() *grower         { return newGrower(b.agent, "main") }
func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
}

func (b *bench) pool() lvm.Pool {
	b.t.Helper()
	groups, err := b.lvm.Report(b.t.Context(), testVG)
	if err != nil {
		b.t.Fatal(err)
	}
	p, ok := groups[0].Pool(testPool)
	if !ok {
		b.t.Fatal("the pool is gone")
	}
	return p
}

// news is what was mailed since the last call.
func (b *bench) news() []string {
	b.mail.mu.Lock()
	defer b.mail.mu.Unlock()
	var lines []string
	for _, it := range b.mail.items {
		lines = append(lines, it.Line)
	}
	b.mail.items = nil
	return lines
}

const quietMail = "[mail]\nlevels = []\n"

func TestAPoolGrowsInStepsToItsCap(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail + "[growth.data]\ncap = \"70G\"\nreserve = \"0\"\ncooldown = \"10s\"\n")
	c, g := b.growClock(), b.grower()
	b.fill(50, 10)
	if wait := g.step(t.Context()); wait != policy.PollMax || len(b.news()) != 0 {
		t.Errorf("half full it is looked at in %v", wait)
	}
	b.fill(81, 10)
	c.pass(time.Minute)
	g.step(t.Context())
	if p := b.pool(); p.Size != 60*lvm.GiB {
		t.Errorf("it grew to %s", p.Size)
	}
	b.mail.mu.Lock()
	it := b.mail.items[0]
	b.mail.mu.Unlock()
	var names []string
	for _, d := range it.Details {
		names = append(names, d.Name)
	}
	if want := []string{"why", "left in the group", "pool main", "forecast"}; !slices.Equal(names, want) || it.Severity != notify.Info {
		t.Errorf("the mail says %+v", it)
	}
	wantLines(t, b.news(), "pool main: data grew from 50G to 60G, because it was 81% full")

	b.fill(85, 10) // within its cool-down
	c.pass(5 * time.Second)
	if wait := g.step(t.Context()); wait > policy.PollMin || b.pool().Size != 60*lvm.GiB {
		t.Errorf("in its cool-down it is looked at in %v and has %s", wait, b.pool().Size)
	}
	b.fill(96, 10) // nearly full: no waiting
	g.step(t.Context())
	if p := b.pool(); p.Size != 70*lvm.GiB {
		t.Errorf("it grew to %s", p.Size)
	}
	wantLines(t, b.news(), "pool main: data grew from 60G to 70G, because it was 96% full", "pool main: data cannot grow, and is 82.2% full")
	b.fill(90, 10)
	for range 5 {
		c.pass(time.Minute)
		if wait := g.step(t.Context()); wait != blockedEvery {
			t.Errorf("at its cap it is looked at in %v", wait)
		}
	}
	wantLines(t, b.news()) // it was told
	if got := b.problems(); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "data cannot grow: 90% full, but it is 70G large") }) {
		t.Errorf("the status says %q", got)
	}
	b.fill(99, 10)
	c.pass(time.Hour)
	g.step(t.Context())
	wantLines(t, b.news(), "pool main: data cannot grow, and is 99% full")
	if b.pool().Size != 70*lvm.GiB {
		t.Error("it grew beyond its cap")
	}
	b.fill(40, 10)
	c.pass(time.Minute)
	g.step(t.Context())
	if got := b.problems(); len(got) != 0 {
		t.Errorf("the status says %q", got)
	}
	b.bus.mu.Lock()
	defer b.bus.mu.Unlock()
	var heard []bus.Signal
	for _, s := range b.bus.signals {
		heard = append(heard, s.Signal)
	}
	if !slices.Equal(heard, []bus.Signal{bus.PoolGrown, bus.PoolGrown, bus.PoolWarned, bus.PoolWarned}) {
		t.Errorf("on the bus is heard %v", heard)
	}
}

func TestNeitherPartOfAPoolWaitsForTheOther(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail)
	c, g := b.growClock(), b.grower()
	was := b.pool()
	b.fill(85, 75)
	b.lvm.Fail("ExtendPool", errors.New("metadata: LVM is away")) // metadata is first
	g.step(t.Context())
	now := b.pool()
	if now.Size <= was.Size || now.MetadataSize != was.MetadataSize {
		t.Errorf("with metadata failing the pool is %+v", now)
	}
	wantLines(t, b.news(), "pool main: metadata cannot grow, and is 75% full", "pool main: data grew from 50G to 60G")
	g.step(t.Context())
	if b.pool().MetadataSize != was.MetadataSize {
		t.Error("it was tried again at once")
	}
	c.pass(retryAtLeast)
	g.step(t.Context())
	if now = b.pool(); now.MetadataSize <= was.MetadataSize {
		t.Error("it was not tried again")
	}
	wantLines(t, b.news(), "pool main: metadata grew from")

	// Now data fails for good, and metadata grows all the same.
	c.pass(time.Minute)
	b.fill(85, 75)
	was = b.pool()
	if err := b.lvm.Write(t.Context(), testVG, func(w lvm.Writer) error {
		return w.ExtendPool(t.Context(), testPool, was.Size+30*lvm.GiB, 0) // what is left is the reserve
	}); err != nil {
		t.Fatal(err)
	}
	b.fill(90, 75)
	g.step(t.Context())
	if now = b.pool(); now.MetadataSize <= was.MetadataSize || now.Size > was.Size+30*lvm.GiB+5*lvm.GiB {
		t.Errorf("the pool was %+v and is %+v", was, now)
	}
}

func TestAnEventHasAPoolLookedAt(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail)
	b.fill(10, 10)
	var later atomic.Int64
	b.agent.growers.now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	b.agent.startGrowing(ctx)
	within(t, "it is looked at first", func() bool { return b.agent.past.size("main", policy.PartData) > 0 })
	within(t, "the fallback is attached", func() bool { return b.pool().Fallback() == lvm.Fallback{Threshold: 85, Percent: 20} })
	time.Sleep(50 * time.Millisecond)
	b.fill(85, 10)
	b.agent.heard(event.PoolChanged{Name: "other-pool-tpool"})
	time.Sleep(100 * time.Millisecond)
	if b.pool().Size != 50*lvm.GiB {
		t.Error("it grew without being looked at")
	}
	b.agent.heard(event.PoolChanged{Name: "vg-pool-tpool"})
	within(t, "it grows", func() bool { return b.pool().Size == 60*lvm.GiB })
	b.fill(85, 10)
	later.Store(int64(time.Hour)) // its cool-down is over
	b.agent.heard(event.Resync{Why: "lost"})
	within(t, "it grows once more", func() bool { return b.pool().Size > 60*lvm.GiB })
	b.reload("") // no pool any more
	b.agent.growers.mu.Lock()
	left := len(b.agent.growers.all)
	b.agent.growers.mu.Unlock()
	if left != 0 {
		t.Errorf("%d pools are still looked at", left)
	}
}

func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestLooksArePacedByTheRate(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail)
	c, g := b.growClock(), b.grower()
	set := func(data, meta int64) {
		b.dev.fill = &PoolFill{Data: data, DataBlocks: 1000, Metadata: meta, MetadataBlocks: 100}
		b.fill(float64(data)/10, float64(meta))
	}
	set(100, 1)
	g.step(t.Context())
	g.step(t.Context())
	reports := b.lvm.Calls("Report")
	c.pass(time.Minute)
	if wait := g.step(t.Context()); wait != policy.PollMax {
		t.Errorf("when nothing is written, it is looked at in %v", wait)
	}
	c.pass(10 * time.Second)
	set(400, 1) // 30 points in 10 s, 40 left: 13 s
	if wait := g.step(t.Context()); wait < 3*time.Second || wait > 4*time.Second {
		t.Errorf("a quarter of what is left is %v", wait)
	}
	c.pass(3 * time.Second)
	set(400, 60) // metadata by itself
	if wait := g.step(t.Context()); wait != policy.PollMin {
		t.Errorf("with metadata filling it is looked at in %v", wait)
	}
	if n := b.lvm.Calls("Report"); n != reports {
		t.Errorf("the kernel could tell, and LVM was asked %d times", n-reports)
	}
	c.pass(time.Minute)
	set(850, 60)
	g.step(t.Context())
	if b.pool().Size == 50*lvm.GiB || b.lvm.Calls("Report") == reports {
		t.Error("it did not grow")
	}
}

func TestGrowthByOthersIsTold(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail)
	b.growClock()
	b.fill(10, 10)
	b.grower().step(t.Context())
	wantLines(t, b.news())
	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.Size += 10 * lvm.GiB })
	g := b.grower() // the agent starts anew
	g.step(t.Context())
	b.mail.mu.Lock()
	text := b.mail.items[0].Details[0].Text
	b.mail.mu.Unlock()
	if !strings.Contains(text, "dmeventd, whose profile lls-85-20") {
		t.Errorf("the mail says %q", text)
	}
	wantLines(t, b.news(), "pool main: data grew from 50G to 60G while the agent was away")
	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.MetadataSize += 8 * lvm.MiB })
	g.step(t.Context())
	wantLines(t, b.news(), "not by the agent")
	g.step(t.Context())
	wantLines(t, b.news())
}

func TestTheFallbackKeepsToCapAndReserve(t *testing.T) {
	rules := func(change func(r *policy.PoolRules)) policy.PoolRules {
		c, err := policy.Parse("", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := c.PoolRules("main")
		change(&r)
		return r
	}
	group := lvm.Group{Name: "vg", Size: 200 * lvm.GiB, Free: 100 * lvm.GiB, ExtentSize: 4 * lvm.MiB}
	pool := lvm.Pool{VG: "vg", Name: "pool", Size: 90 * lvm.GiB, MetadataSize: lvm.GiB, ChunkSize: 64 * lvm.KiB}
	for _, tt := range []struct {
		name   string
		free   lvm.Size
		change func(r *policy.PoolRules)
		want   lvm.Fallback
	}{
		{"room enough", 100 * lvm.GiB, func(*policy.PoolRules) {}, lvm.Fallback{Threshold: 85, Percent: 20}},
		{"another step", 100 * lvm.GiB, func(r *policy.PoolRules) { r.Data.Step = policy.Step{Bytes: 27 << 30} }, lvm.Fallback{Threshold: 85, Percent: 30}},
		{"a late threshold", 100 * lvm.GiB, func(r *policy.PoolRules) { r.Metadata.Threshold = 98 }, lvm.Fallback{Threshold: 99, Percent: 20}},
		{"an early threshold", 100 * lvm.GiB, func(r *policy.PoolRules) { r.Data.Threshold, r.Metadata.Threshold = 50, 50 }, lvm.Fallback{Threshold: 55, Percent: 20}},
		{"a smaller step only", 100 * lvm.GiB, func(r *policy.PoolRules) { r.Data.Cap = 107 << 30 }, lvm.Fallback{Threshold: 85, Percent: 1}},
		{"the cap", 100 * lvm.GiB, func(r *policy.PoolRules) { r.Data.Cap = 100 << 30 }, lvm.Fallback{}},
		{"the cap of metadata", 100 * lvm.GiB, func(r *policy.PoolRules) { r.Metadata.Cap = 1100 << 20 }, lvm.Fallback{}},
		{"the reserve", 25 * lvm.GiB, func(r *policy.PoolRules) {}, lvm.Fallback{}},
		{"no reserve", 25 * lvm.GiB, func(r *policy.PoolRules) { r.Data.Reserve = policy.Step{} }, lvm.Fallback{Threshold: 85, Percent: 20}},
		{"a full group", 4 * lvm.MiB, func(r *policy.PoolRules) { r.Data.Reserve = policy.Step{} }, lvm.Fallback{}},
		{"data must not grow", 100 * lvm.GiB, func(r *policy.PoolRules) { r.Data.Threshold = 0 }, lvm.Fallback{}},
		{"metadata must not grow", 100 * lvm.GiB, func(r *policy.PoolRules) { r.Metadata.Threshold = 0 }, lvm.Fallback{}},
	} {
		g := group
		g.Free, g.Pools = tt.free, []lvm.Pool{pool}
		if got := fallback(g, pool, rules(tt.change)); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestTheFallbackIsTakenAwayAtTheCap(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail + "[growth.data]\ncap = \"61G\"\n")
	c, g := b.growClock(), b.grower()
	b.fill(10, 10)
	g.step(t.Context())
	if f := b.pool().Fallback(); f.Threshold != 85 {
		t.Errorf("at first it is %+v", f)
	}
	sets := b.lvm.Calls("SetFallback")
	for range 3 {
		c.pass(time.Minute)
		g.step(t.Context())
	}
	if n := b.lvm.Calls("SetFallback"); n != sets {
		t.Errorf("it was set %d times more, and was right", n-sets)
	}
	b.fill(85, 10)
	g.step(t.Context())
	if p := b.pool(); p.Size != 60*lvm.GiB || p.Profile != "" {
		t.Errorf("near the cap the pool is %+v", p)
	}
	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.Profile = "theirs" })
	b.reload(testConfig + quietMail)
	b.news()
	g = b.grower()
	for range 3 {
		c.pass(time.Minute)
		g.step(t.Context())
	}
	wantLines(t, b.news(), "pool main: it would not grow by itself while the agent is away")
	if p := b.pool(); p.Profile != "theirs" {
		t.Errorf("somebody else's profile became %q", p.Profile)
	}
}

func TestAnUntaggedPoolNeverGrows(t *testing.T) {
	b := newBench(t)
	b.growClock()
	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.Tags = nil })
	b.fill(99, 99)
	b.grower().step(t.Context())
	if p := b.pool(); p.Size != 50*lvm.GiB || p.Profile != "" {
		t.Errorf("the pool is %+v", p)
	}
}

func TestTheKernelsStatusOfAPool(t *testing.T) {
	got, err := parseFill("0 524288 thin-pool 1 13/1024 3277/4096 - rw discard_passdown queue_if_no_space - 1024\n")
	if want := (PoolFill{Data: 3277, DataBlocks: 4096, Metadata: 13, MetadataBlocks: 1024}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := parseFill("0 524288 thin-pool 1 13/1024 3277/4096 12 rw"); err != nil || !got.Held {
		t.Errorf("while a snapshot of the metadata is held: %+v, %v", got, err)
	}
	for _, s := range []string{"", "0 524288 thin-pool Fail", "0 1 thin 1 2/3 4/5", "0 1 thin-pool 1 2 3/4", "0 1 thin-pool 1 5/4 3/4", "0 1 thin-pool 1 0/0 3/4", "0 1 thin-pool 1 -1/4 3/4", "0 1 thin-pool 1 1/4 x/4"} {
		if f, err := parseFill(s); err == nil {
			t.Errorf("%q is %+v", s, f)
		}
	}
}

func FuzzTheKernelsStatusOfAPool(f *testing.F) {
	f.Add("0 524288 thin-pool 1 13/1024 3277/4096 - rw")
	f.Add("0 1 thin-pool Fail")
	f.Fuzz(func(t *testing.T, s string) {
		if f, err := parseFill(s); err == nil {
			for _, p := range []float64{f.percent(policy.PartData), f.percent(policy.PartMetadata)} {
				if !(p >= 0 && p <= 100) {
					t.Errorf("%q is %v percent", s, p)
				}
			}
		}
	})
}

// LVM extends a pool's metadata along with its data, to 64 bytes a chunk.
func TestMetadataThatGrowsWithDataIsTheAgentsDoing(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail)
	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.MetadataSize, p.ChunkSize = 4*lvm.MiB, 64*lvm.KiB })
	b.growClock()
	g := b.grower()
	b.fill(10, 10)
	g.step(t.Context())
	wantLines(t, b.news())
	b.fill(81, 10)
	g.step(t.Context())
	if p := b.pool(); p.Size != 60*lvm.GiB || p.MetadataSize != 60*lvm.MiB {
		t.Errorf("the pool is %+v", p)
	}
	wantLines(t, b.news(), "pool main: data grew from 50G to 60G, and its metadata, with it, from 4M to 60M, because it was 81% full")
	if g.parts[policy.PartMetadata].grownAt != (time.Time{}) {
		t.Error("the metadata's cool-down has begun")
	}
	b.grower().step(t.Context()) // another agent
	wantLines(t, b.news())
	b.bus.mu.Lock()
	defer b.bus.mu.Unlock()
	if s := b.bus.signals; len(s) != 2 || s[0].Details["Part"] != "data" || s[1].Details["Part"] != "metadata" || s[1].Details["After"] != "62914560" {
		t.Errorf("on the bus is heard %+v", s)
	}
}

func TestDataGrowsNoFurtherThanTheCapOfItsMetadata(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail + "[growth.metadata]\ncap = \"57M\"\n") // 56M in extents
	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.MetadataSize, p.ChunkSize = 4*lvm.MiB, 64*lvm.KiB })
	c, g := b.growClock(), b.grower()
	b.fill(10, 10)
	g.step(t.Context())
	if f := b.pool().Fallback(); f != (lvm.Fallback{}) { // its steps take more
		t.Errorf("while the agent is away LVM does %+v", f)
	}
	b.fill(81, 10)
	g.step(t.Context())
	if p := b.pool(); p.Size != 56*lvm.GiB || p.MetadataSize != 56*lvm.MiB {
		t.Errorf("the pool is %+v", p)
	}
	wantLines(t, b.news(), "pool main: data grew from 50G to 56G, and its metadata, with it, from 4M to 56M")
	c.pass(time.Minute)
	b.fill(90, 10)
	if wait := g.step(t.Context()); wait != blockedEvery || b.pool().Size != 56*lvm.GiB {
		t.Errorf("at the cap it is looked at in %v, and is %+v", wait, b.pool())
	}
	b.mail.mu.Lock()
	why := b.mail.items[0].Details[0].Text
	b.mail.mu.Unlock()
	if !strings.Contains(why, "growth.metadata.cap allows no more than 57M of that: raise it") {
		t.Errorf("the mail says %q", why)
	}
	wantLines(t, b.news(), "pool main: data cannot grow, and is 90% full")

	// Metadata that is larger than its data needs is in nobody's way, whatever its cap.
	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.MetadataSize = 80 * lvm.MiB })
	b.news()
	g.step(t.Context())
	if p := b.pool(); p.Size <= 56*lvm.GiB || p.MetadataSize != 80*lvm.MiB {
		t.Errorf("the pool is %+v", p)
	}
	if lines := b.news(); len(lines) != 2 || !strings.Contains(lines[1], "data grew from 56G to") || strings.Contains(lines[1], "metadata") {
		t.Errorf("the mail says %q", lines)
	}
}
