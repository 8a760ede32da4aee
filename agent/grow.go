package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"lls/agent/catalog"
	"lls/agent/event"
	"lls/agent/event/bus"
	"lls/agent/history"
	"lls/lvm"
	"lls/policy"
)

// PoolFill is how much of a pool is in use, in its own blocks, as the kernel says.
type PoolFill struct {
	Data, DataBlocks, Metadata, MetadataBlocks int64
	Held                                       bool // a snapshot of the metadata is held, so nothing that is deleted becomes free
}

func (f PoolFill) percent(part policy.Part) float64 {
	if part == policy.PartMetadata {
		return share(f.Metadata, f.MetadataBlocks)
	}
	return share(f.Data, f.DataBlocks)
}

func share(used, of int64) float64 {
	if of <= 0 {
		return 0
	}
	return float64(used) / float64(of) * 100
}

// Times of growing.
const (
	blockedEvery  = 10 * time.Second // how often something is looked at that is too full and cannot grow
	untoldEvery   = time.Hour        // how often it is told that something cannot grow, while the reason stays
	fillDeadline  = 5 * time.Second
	rateOver      = 500 * time.Millisecond // two looks closer together give no rate
	retryAtLeast  = 10 * time.Second       // after a growth that failed
	poolDeviceEnd = "-tpool"               // of the name of a pool's device
)

// How fast, in bytes a second, something is expected to fill that does not: of a volume nothing tells when somebody begins to write, and
// of a pool only when it is nearly full. So where little is left, it is looked at more often. A chunk of 64K takes 16 bytes of metadata,
// and up to a block of 4K where a snapshot shares what is around it.
const (
	quietRate         = 64 << 20
	quietMetadataRate = 256 << 10
)

func quiet(part policy.Part) float64 {
	if part == policy.PartMetadata {
		return quietMetadataRate
	}
	return quietRate
}

// growers keep a goroutine for each pool, which has it grow.
type growers struct {
	now     func() time.Time // for the time that passes, not the wall clock's
	pressed chan struct{}    // has an element when a pool is short of room and cannot grow

	mu   sync.Mutex
	ctx  context.Context // nil until growing begins
	all  map[string]*grower
	whys map[string]string // why a part of a pool does not grow that should, by partKey
}

func newGrowers() *growers {
	return &growers{now: time.Now, pressed: make(chan struct{}, 1), all: map[string]*grower{}, whys: map[string]string{}}
}

// grower has one pool grow. What is in it belongs to its goroutine, but for poke.
type grower struct {
	agent  *Agent
	pool   string
	poke   chan struct{} // has an element when somebody says that the pool should be looked at
	stop   context.CancelFunc
	done   chan struct{} // closed when its goroutine has ended
	parts  map[policy.Part]*growing
	fresh  bool // nothing was looked at yet in this run of the agent
	refall bool // the fallback is to be set whatever it is
	blocks [2]int64
	fell   string // the last trouble with the fallback
}

// growing is what is remembered of one part.
type growing struct {
	lookedAt time.Time
	used     float64 // bytes, then
	rate     float64 // bytes a second
	grownAt  time.Time
	failedAt time.Time
	told     map[string]time.Time // why it does not grow, and when that was told last
}

// grew notes that it grew: should it not grow any more after this, that is news.
func (w *growing) grew(now time.Time) { w.grownAt, w.failedAt, w.told = now, time.Time{}, nil }

// tellNow says whether it is to be told now that it does not grow, for this reason: the first time, and again after an hour. That there was room
// meanwhile makes it no news: a container's root fills and empties what is his as often as he likes.
func (w *growing) tellNow(reason string, now time.Time) bool {
	if at, told := w.told[reason]; told && now.Sub(at) < untoldEvery {
		return false
	}
	if w.told == nil {
		w.told = map[string]time.Time{}
	}
	w.told[reason] = now
	return true
}

// syncGrowers has a goroutine for each pool of the configuration, and none for others, and all of them look at once.
func (a *Agent) syncGrowers(pools []policy.Pool) {
	gs := a.growers
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if gs.ctx == nil || gs.ctx.Err() != nil {
		return
	}
	starting, old := len(gs.all) == 0, gs.all
	gs.all = map[string]*grower{}
	for _, p := range pools {
		ctx, stop := context.WithCancel(gs.ctx)
		g, before := newGrower(a, p.Name), old[p.Name]
		g.stop = stop
		gs.all[p.Name] = g
		delete(old, p.Name)
		if before != nil {
			before.stop() // a new one starts with what lls.toml says now
		}
		a.work.Go(func() {
			defer close(g.done)
			g.follow(before)
			g.run(ctx)
		})
	}
	for _, g := range old {
		g.stop()
	}
	if ctx := gs.ctx; starting || len(old) > 0 {
		a.work.Go(func() {
			for _, g := range old {
				<-g.done
			}
			a.detachStrays(ctx)
		})
	}
}

// follow has g remember what an earlier grower of the pool did and told, once that has ended. What failed may be tried anew.
func (g *grower) follow(before *grower) {
	if before == nil {
		return
	}
	<-before.done
	g.parts = before.parts
	for _, w := range g.parts {
		w.failedAt = time.Time{}
	}
}

func newGrower(a *Agent, pool string) *grower {
	return &grower{agent: a, pool: pool, poke: make(chan struct{}, 1), stop: func() {}, done: make(chan struct{}), fresh: true, refall: true,
		parts: map[policy.Part]*growing{policy.PartData: {}, policy.PartMetadata: {}}}
}

// startGrowing begins; what it starts ends with ctx.
func (a *Agent) startGrowing(ctx context.Context) {
	a.growers.mu.Lock()
	a.growers.ctx = ctx
	a.growers.mu.Unlock()
	a.syncGrowers(a.config().Pools)
	a.work.Go(func() { a.growVolumes(ctx) })
}

// poolEvent has the pools looked at that an event is about.
func (a *Agent) poolEvent(e event.Event) {
	name := ""
	switch e := e.(type) {
	case event.PoolChanged:
		name = e.Name
	case event.Resync:
	default:
		return
	}
	a.growers.mu.Lock()
	defer a.growers.mu.Unlock()
	for _, p := range a.config().Pools {
		if g := a.growers.all[p.Name]; g != nil && (name == "" || name == lvm.DMName(lvm.VG(p.Group), lvm.Name(p.LV))+poolDeviceEnd) {
			poke(g.poke)
		}
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will look anyway
	}
}

// run looks at the pool when it is poked, and as often as it fills.
func (g *grower) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.poke:
		case <-timer.C:
		}
		timer.Reset(g.step(ctx))
	}
}

// step looks at the pool, does what is to be done, and says when to look again.
func (g *grower) step(ctx context.Context) time.Duration {
	a := g.agent
	p, ok := a.config().Pool(g.pool)
	if !ok || g.pool == "" {
		return policy.PollMax
	}
	rules := a.config().PoolRules(p.Name)
	if wait, enough := g.glance(ctx, p, rules); enough {
		return wait
	}
	for range 3 { // a growth is followed by a look at what it made
		v, err := a.store.current(ctx, 0)
		if err != nil {
			if ctx.Err() == nil {
				a.log.Warn("cannot see how full a pool is", "pool", p.Name, "error", err)
			}
			return blockedEvery
		}
		lv, ok := findPool(v.Groups, p)
		if !ok || !lv.HasTag(catalog.PoolTag(p.Name)) || !lv.Known {
			return policy.PollMax
		}
		g.notice(ctx, p, lv)
		wait, grew := g.tend(ctx, v, p, lv, rules)
		if !grew {
			g.setFallback(ctx, v, p, lv, rules)
			return wait
		}
	}
	return policy.PollMin
}

// glance asks the kernel how full the pool is, which costs the same however many volumes there are. enough is false when more has to be
// known.
func (g *grower) glance(ctx context.Context, p policy.Pool, rules policy.PoolRules) (wait time.Duration, enough bool) {
	if g.fresh || g.refall {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, fillDeadline)
	defer cancel()
	f, err := g.agent.devices.Fill(ctx, lvm.VG(p.Group), lvm.Name(p.LV))
	if err != nil {
		return 0, false
	}
	if blocks := [2]int64{f.DataBlocks, f.MetadataBlocks}; blocks != g.blocks { // somebody had it grow
		g.blocks = blocks
		return 0, false
	}
	wait = policy.PollMax
	for part, rule := range map[policy.Part]policy.Growth{policy.PartData: rules.Data, policy.PartMetadata: rules.Metadata} {
		percent := f.percent(part)
		if rule.Threshold > 0 && percent >= rule.Threshold {
			return 0, false
		}
		size := g.agent.past.size(p.Name, part)
		wait = min(wait, g.parts[part].look(g.agent.growers.now(), size, percent, rule, quiet(part)))
	}
	for _, part := range []policy.Part{policy.PartMetadata, policy.PartData} {
		if g.agent.passes(p, part, f.percent(part)) { // which is told with how the pool is
			return 0, false
		}
	}
	for _, part := range []policy.Part{policy.PartMetadata, policy.PartData} {
		g.agent.level(ctx, p, part, f.percent(part)) // it may have fallen below one
		g.clear(p, part)
	}
	return wait, true
}

// look notes how full something is, and says when to look again if it fills by leastRate bytes a second, or as fast as it did.
func (w *growing) look(now time.Time, size int64, percent float64, rule policy.Growth, leastRate float64) time.Duration {
	used := float64(size) / 100 * percent
	if d := now.Sub(w.lookedAt); w.lookedAt.IsZero() || d >= rateOver {
		if !w.lookedAt.IsZero() {
			w.rate = (used - w.used) / d.Seconds()
		}
		w.lookedAt, w.used = now, used
	}
	return policy.PollAfter(rule.Left(policy.GrowthState{Size: size, Percent: percent, PercentKnown: true}), max(w.rate, leastRate))
}

// size is how large a part of a pool was when it was last seen.
func (p *past) size(pool string, part policy.Part) (n int64) {
	p.with(func(h *history.History) { n = h.Sizes[partKey(pool, part)] })
	return n
}

// seen notes how large a part is.
func (p *past) seen(pool string, part policy.Part, size int64) {
	p.with(func(h *history.History) { h.Sizes[partKey(pool, part)] = size })
}

// notice tells of growth that was not the agent's: LVM's own, while the agent was away or was slower, or somebody's by hand.
func (g *grower) notice(ctx context.Context, p policy.Pool, lv lvm.Pool) {
	a, when := g.agent, "not by the agent"
	if g.fresh {
		when = "while the agent was away"
	}
	g.fresh = false
	who := "somebody did it by hand"
	if f := lv.Fallback(); f != (lvm.Fallback{}) {
		who = fmt.Sprintf("it was LVM's dmeventd, whose profile %s has the pool grow at %d%%, or somebody by hand", f.Profile(), f.Threshold)
	}
	changed := false
	for part, size := range map[policy.Part]lvm.Size{policy.PartData: lv.Size, policy.PartMetadata: lv.MetadataSize} {
		was := a.past.size(p.Name, part)
		changed = changed || was != int64(size)
		if was > 0 && was < int64(size) {
			g.parts[part].grew(a.growers.now()) // whoever did it: a cool-down is between two growths
			a.news(ctx, plainNews, p.Name, fmt.Sprintf("pool %s: %s grew from %s to %s %s", p.Name, part, lvm.Size(was), size, when), who)
		}
		a.past.seen(p.Name, part, int64(size)) // after that: told twice is better than never
	}
	if changed {
		g.keep()
	}
}

// keep writes down what sizes were seen, so that the next agent tells only of what it did not see.
func (g *grower) keep() { g.agent.savePast() }

// tend has each part grow that is to. They are decided and done apart, metadata first: data cannot be mapped without it.
func (g *grower) tend(ctx context.Context, v *View, p policy.Pool, lv lvm.Pool, rules policy.PoolRules) (wait time.Duration, grew bool) {
	a, wait := g.agent, policy.PollMax
	for _, one := range []struct {
		part    policy.Part
		rule    policy.Growth
		size    lvm.Size
		percent float64
	}{
		{policy.PartMetadata, rules.Metadata, lv.MetadataSize, lv.MetadataPercent},
		{policy.PartData, rules.Data, lv.Size, lv.DataPercent},
	} {
		a.level(ctx, p, one.part, one.percent)
		next, did := g.tendPart(ctx, v, p, lv, one.part, rules, one.rule, one.size, one.percent)
		if did { // what is left for the other one is seen anew
			return 0, true
		}
		wait = min(wait, next)
	}
	return wait, false
}

// tendPart has one part grow if it is to.
func (g *grower) tendPart(ctx context.Context, v *View, p policy.Pool, lv lvm.Pool, part policy.Part, rules policy.PoolRules, rule policy.Growth, size lvm.Size, percent float64) (wait time.Duration, grew bool) {
	a, w, now := g.agent, g.parts[part], g.agent.growers.now()
	decide := func(v *View, lv lvm.Pool) policy.GrowthVerdict {
		s := rules.State(part, fillOf(v, p, lv))
		s.Grown, s.SinceGrown = !w.grownAt.IsZero(), now.Sub(w.grownAt)
		return rule.Decide(s)
	}
	d := decide(v, lv)
	wait = w.look(now, int64(size), percent, rule, quiet(part))
	switch {
	case d.To > 0 && w.rests(now, percent, rule):
		return policy.PollMin, false
	case d.To > 0:
		g.detachFirst(ctx, v, p, lv, part, lvm.Size(d.To), rules)
		grew := false
		var err error
		d, grew, err = a.growPart(ctx, p, part, decide)
		if err == nil && d.To <= 0 { // others took what was left: the next look tells
			return policy.PollMin, false
		}
		if err != nil {
			if ctx.Err() != nil {
				return policy.PollMin, false
			}
			w.failedAt = a.growers.now()
			g.cannot(ctx, p, part, percent, "failed", err.Error())
			return policy.PollMin, false
		}
		w.grew(a.growers.now())
		g.clear(p, part)
		if grew {
			g.tellGrown(ctx, p, partGrown{part, size, lvm.Size(d.To)}, percent, d.Why)
		}
		return 0, true
	case d.Blocked == policy.BlockedCool:
		return min(d.Wait, policy.PollMin), false
	case d.Blocked.Lasting() && d.Blocked != policy.BlockedOff:
		g.cannot(ctx, p, part, percent, string(d.Blocked), d.Why)
		if rules.Shortage(fillOf(v, p, lv)).Any() { // writers do not wait for the next minute
			poke(a.growers.pressed)
		}
		return blockedEvery, false
	}
	g.clear(p, part)
	return wait, false
}

// rests says whether it is too soon to try again what failed: within the cool-down, unless it is nearly full.
func (w *growing) rests(now time.Time, percent float64, rule policy.Growth) bool {
	rest := retryAtLeast
	if percent < policy.NearlyFull {
		rest = max(rule.CoolDown, rest)
	}
	return !w.failedAt.IsZero() && now.Sub(w.failedAt) < rest
}

// cannot tells that a part cannot grow: once for each reason, and again after an hour if it is so then.
func (g *grower) cannot(ctx context.Context, p policy.Pool, part policy.Part, percent float64, reason, why string) {
	a, w, now := g.agent, g.parts[part], g.agent.growers.now()
	a.growers.blocked(partKey(p.Name, part), fmt.Sprintf("pool %s: %s cannot grow: %s", p.Name, part, why))
	if !w.tellNow(reason, now) {
		return
	}
	kind := warningNews
	if percent >= policy.NearlyFull {
		kind = urgentNews
	}
	a.bus.Emit(bus.Event{Signal: bus.PoolWarned, Object: bus.PoolPath(p.Name), Name: p.Name, Details: map[string]string{"Part": string(part), "Why": why}})
	a.news(ctx, kind, p.Name, fmt.Sprintf("pool %s: %s cannot grow, and is %s full", p.Name, part, policy.FormatPercent(percent)), why)
}

// clear notes that nothing stands against a part's growth.
func (g *grower) clear(p policy.Pool, part policy.Part) {
	g.agent.growers.blocked(partKey(p.Name, part), "")
}

// blocked notes why a part does not grow, for the status; nothing when it may.
func (gs *growers) blocked(key, why string) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	delete(gs.whys, key)
	if why != "" {
		gs.whys[key] = why
	}
}

// problems are why parts of pools do not grow that should.
func (gs *growers) problems() (all []string) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(gs.whys)) {
		all = append(all, gs.whys[key])
	}
	return all
}

// growPart has one part of a pool grow, by one command, as far as is decided of what is so when its turn comes: another pool of the group may
// have taken what was left. It did not grow when somebody else was quicker, or when nothing is decided any more.
func (a *Agent) growPart(ctx context.Context, p policy.Pool, part policy.Part, decide func(*View, lvm.Pool) policy.GrowthVerdict) (d policy.GrowthVerdict, grew bool, err error) {
	ctx, leave := a.gate.insist(ctx) // writers that are being ended lose what a full pool does not take
	defer leave()
	err = a.store.write(ctx, lvm.VG(p.Group), func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		lv, ok := findPool(v.Groups, p)
		if !ok || !lv.HasTag(catalog.PoolTag(p.Name)) || !lv.Known {
			return nil, nil
		}
		if d = decide(v, lv); d.To <= 0 {
			return nil, nil
		}
		data, metadata := lvm.Size(d.To), lvm.Size(0)
		if part == policy.PartMetadata {
			data, metadata = 0, data
		}
		defer a.store.forget()
		grew = true
		return nil, w.ExtendPool(ctx, lvm.Name(p.LV), data, metadata)
	})
	if errors.Is(err, lvm.ErrShrink) {
		return d, false, nil
	}
	return d, grew && err == nil, err
}
