package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/notify"
	"lls/lvm"
)

func (b *bench) free() lvm.Size {
	b.t.Helper()
	groups, err := b.lvm.Report(b.t.Context(), testVG)
	if err != nil {
		b.t.Fatal(err)
	}
	return groups[0].Free
}

// What is left in the group is seen anew before each growth: of the other part, and of another pool.
func TestWhatIsGrownTogetherLeavesTheReserve(t *testing.T) {
	const rest = quietMail + "[growth.data]\nreserve = \"10G\"\nstep = \"39G\"\n[growth.metadata]\nreserve = \"10G\"\nstep = \"1000%\"\n"
	b := newBench(t)
	b.reload(testConfig + rest)
	b.growClock()
	b.fill(85, 85)
	b.grower().step(t.Context())
	if p := b.pool(); b.free() < 10*lvm.GiB || p.Size <= 50*lvm.GiB || p.MetadataSize <= 512*lvm.MiB {
		t.Errorf("%s are left beside %+v", b.free(), p)
	}

	b = newBench(t)
	const more = "other"
	if err := b.lvm.CreatePool(t.Context(), lvm.CreatePool{VG: testVG, Name: more, Size: 10 << 30, Tags: []lvm.Tag{catalog.PoolTag(more)}}); err != nil {
		t.Fatal(err)
	}
	b.reload(testConfig + "[pools.other]\nvg = \"vg\"\nlv = \"other\"\n" + quietMail + "[growth.data]\nreserve = \"10G\"\nstep = \"20G\"\n")
	b.growClock()
	b.fill(85, 10)
	b.lvm.SetFill(testVG, more, 85, 10)
	var both sync.WaitGroup // both look before either grows
	release := make(chan struct{})
	held := make(chan struct{})
	both.Go(func() {
		if err := b.lvm.Write(t.Context(), testVG, func(lvm.Writer) error { close(held); <-release; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-held
	for _, name := range []string{"main", more} {
		g := newGrower(b.agent, name)
		g.refall = false
		both.Go(func() { g.step(t.Context()) })
	}
	time.Sleep(50 * time.Millisecond) // if one has not looked by then, it has less to see
	close(release)
	both.Wait()
	if b.free() < 10*lvm.GiB || b.pool().Size == 50*lvm.GiB {
		t.Errorf("%s are left", b.free())
	}
}

func TestWhatFailedIsTriedAgainBeforeItIsFull(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail + "[growth.data]\ncooldown = \"1h\"\n")
	c, g := b.growClock(), b.grower()
	b.fill(81, 10)
	b.lvm.Fail("ExtendPool", errors.New("LVM is away"))
	g.step(t.Context())
	c.pass(time.Minute)
	b.fill(90, 10)
	if g.step(t.Context()); b.pool().Size != 50*lvm.GiB {
		t.Error("it was tried again within its cool-down")
	}
	b.fill(99.5, 10)
	if g.step(t.Context()); b.pool().Size == 50*lvm.GiB {
		t.Error("it was not tried again although it is nearly full")
	}
}

func TestAReloadForgetsNothingOfGrowth(t *testing.T) {
	b := newBench(t)
	const rules = testConfig + quietMail + "[growth.data]\ncap = \"50G\"\n"
	b.reload(rules)
	b.fill(85, 10)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	b.agent.startGrowing(ctx)
	told := 0
	within(t, "it is told that it cannot grow", func() bool { told += len(b.news()); return told > 0 })
	for range 3 {
		looked := b.lvm.Calls("SetFallback") // which a grower does once, after its first look
		b.reload(rules)
		within(t, "it is looked at", func() bool { return b.lvm.Calls("SetFallback") > looked })
	}
	if more := b.news(); told != 1 || len(more) != 0 {
		t.Errorf("it was told %d times, and again: %q", told, more)
	}
}

// Nobody minds the cap of a pool that lls.toml does not name, so LVM is not to have it grow.
func TestAPoolThatIsNotOursAnyMoreHasNoProfile(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail)
	b.fill(10, 10)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	b.agent.startGrowing(ctx)
	attached := func() bool { return b.pool().Fallback() != lvm.Fallback{} }
	within(t, "the fallback is attached", attached)
	b.reload("")
	within(t, "it is detached after a reload", func() bool { return !attached() })

	b.reload(testConfig + quietMail)
	within(t, "it is attached again", attached)
	g := b.agent.growers.all["main"]
	stop()
	<-g.done
	b.write("")
	if err := b.agent.Reload(t.Context()); err != nil { // before a start
		t.Fatal(err)
	}
	b.agent.growers.all = map[string]*grower{}
	again, stop := context.WithCancel(t.Context())
	defer stop()
	b.agent.startGrowing(again)
	within(t, "it is detached at a start", func() bool { return !attached() })

	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.Profile = "theirs" })
	b.agent.detachStrays(again)
	if p := b.pool(); p.Profile != "theirs" {
		t.Errorf("somebody else's profile became %q", p.Profile)
	}
}

// The latest of a name is the one that was deleted last, whatever the clock said.
func TestTheLatestOfANameIsWhatWasDeletedLast(t *testing.T) {
	for name, step := range map[string]time.Duration{"in one second": 0, "with the clock set back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			pass := b.clock()
			for range 10 {
				var last string
				for range 3 {
					last = b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "").ID
					b.post(b.c1, api.PathDelete, api.NameRequest{Name: "mine"}, "")
					pass(step)
				}
				b.post(b.c1, api.PathPurge, api.NameRequest{Name: "mine"}, "")
				for _, v := range b.list(b.c1, true) {
					if v.ID == last {
						t.Fatal("an older one was purged")
					}
				}
				for len(b.list(b.c1, true)) > 0 {
					b.post(b.c1, api.PathPurge, api.NameRequest{Name: "mine"}, "")
				}
			}
		})
	}
}

// What the mail tells of the pool is what the level is about, whatever was read before.
func TestAMailOfALevelTellsHowThePoolIsNow(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + "[mail]\nlevels = [95]\n[growth.data]\nthreshold = 0\n[growth.metadata]\nthreshold = 0\n")
	b.growClock()
	g := b.grower()
	set := func(data int64) {
		b.dev.fill = &PoolFill{Data: data, DataBlocks: 100, Metadata: 1, MetadataBlocks: 100}
		b.fill(float64(data), 1)
	}
	set(50)
	g.step(t.Context())
	g.step(t.Context())
	set(96)
	g.step(t.Context())
	b.mail.mu.Lock()
	items := b.mail.items
	b.mail.mu.Unlock()
	if len(items) != 1 || !strings.Contains(items[0].Line, "passed 95%: it is 96% full") || !slices.ContainsFunc(items[0].Details, func(d notify.Detail) bool { return strings.Contains(d.Text, "data 96% of 50G") }) {
		t.Errorf("the mail says %+v", items)
	}
}
