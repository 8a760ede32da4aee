package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/filesystem"
	"lls/lvm"
	"lls/policy"
)

// How a volume is looked at that seems idle. A writer may begin at any moment, as fast as memory takes it: what is not on the
// disk yet counts as used all the same. Many volumes share so many looks a second, lest that cost too much, but each is looked at as often
// as if it filled by quietRate.
const (
	quietVolumeRate = 2 << 30 // bytes a second
	quietLooks      = 100     // a second
)

// volumeGrowers are the volumes that grow by themselves.
type volumeGrowers struct {
	wake chan struct{} // has an element when they should be looked at

	mu  sync.Mutex
	all map[catalog.ID]*volumeGrowing
}

// volumeGrowing is what is remembered of one. While busy is set, growing is its goroutine's.
type volumeGrowing struct {
	growing
	due  time.Time // zero: at once
	busy bool
	stuck
}

// stuck is why a volume does not grow though it should. The zero value is that nothing stands against it.
type stuck struct {
	kind   string // what is told of once
	why    string // as its owner may know it
	remedy string // what its owner can do
	cause  string // as the sysadmin is told, where that is more
}

func newVolumeGrowers() *volumeGrowers {
	return &volumeGrowers{wake: make(chan struct{}, 1), all: map[catalog.ID]*volumeGrowing{}}
}

// look has a volume looked at at once, if it grows by itself.
func (vs *volumeGrowers) look(id catalog.ID) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if w := vs.all[id]; w != nil {
		w.due = time.Time{}
	}
	poke(vs.wake)
}

// why says why a volume does not grow though it should.
func (vs *volumeGrowers) why(id catalog.ID) stuck {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if w := vs.all[id]; w != nil {
		return w.stuck
	}
	return stuck{}
}

// quietWait is in how long to look again at a volume that has left bytes until it grows and seems idle.
func (vs *volumeGrowers) quietWait(left int64) time.Duration {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	return max(policy.PollAfter(left, quietVolumeRate), time.Duration(len(vs.all))*time.Second/quietLooks)
}

// setWhy says whether that is another reason.
func (vs *volumeGrowers) setWhy(w *volumeGrowing, s stuck) bool {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	changed := w.kind != s.kind
	w.stuck = s
	return changed
}

// growVolumes looks at the volumes whose owners want them to grow. Each look is a goroutine of its own: a file system that does not answer
// keeps no other waiting.
func (a *Agent) growVolumes(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.volumes.wake:
		case <-timer.C:
		}
		timer.Reset(a.lookAtVolumes(ctx))
	}
}

// lookAtVolumes begins the looks that are due, and says when to come again.
func (a *Agent) lookAtVolumes(ctx context.Context) time.Duration {
	v := a.store.latest()
	if v == nil {
		return policy.PollMin // it is being read
	}
	vs, now, next := a.volumes, a.growers.now(), policy.PollMax
	vs.mu.Lock()
	defer vs.mu.Unlock()
	wanted := map[catalog.ID]bool{}
	for _, r := range v.Catalog.Records {
		if r.GrowTo <= 0 || r.State != catalog.Live || !r.LV.Active || r.LV.ReadOnly {
			continue
		}
		wanted[r.ID] = true
		w := vs.all[r.ID]
		if w == nil {
			w = &volumeGrowing{}
			vs.all[r.ID] = w
		}
		switch wait := w.due.Sub(now); {
		case w.busy:
		case wait > 0:
			next = min(next, wait)
		default:
			w.busy, w.due = true, now
			a.work.Go(func() { a.lookAtVolume(ctx, r.ID, w) })
		}
	}
	for id, w := range vs.all {
		if !wanted[id] && !w.busy {
			delete(vs.all, id)
		}
	}
	return next
}

// lookAtVolume looks at one, and notes when to look again: at once if somebody asked for that meanwhile.
func (a *Agent) lookAtVolume(ctx context.Context, id catalog.ID, w *volumeGrowing) {
	wait := a.tendVolume(ctx, id, w)
	a.volumes.mu.Lock()
	defer a.volumes.mu.Unlock()
	if w.busy = false; !w.due.IsZero() {
		w.due = a.growers.now().Add(wait)
	}
	poke(a.volumes.wake)
}

// tendVolume has a volume grow if it is to.
func (a *Agent) tendVolume(ctx context.Context, id catalog.ID, w *volumeGrowing) time.Duration {
	v, err := a.store.current(ctx, workAge)
	if err != nil {
		return blockedEvery
	}
	r := v.Catalog.ByID(id)
	if r == nil || r.GrowTo <= 0 || r.State != catalog.Live {
		return policy.PollMax
	}
	asked, cancel := context.WithTimeout(ctx, fillDeadline)
	defer cancel()
	space, err := a.devices.Usage(asked, a.store.lvm.Device(r.LV.VG, r.LV.Name), filesystem.Type(r.FS))
	switch {
	case errors.Is(err, filesystem.ErrNotMounted) || errors.Is(err, filesystem.ErrReadOnly):
		return policy.PollMax
	case err != nil:
		if ctx.Err() == nil {
			a.log.Warn("cannot see how full a volume is that grows by itself", "volume", r.LV.Name, "error", err)
		}
		return blockedEvery
	}
	now, percent, rule := a.growers.now(), share(int64(space.Size-space.Free), int64(space.Size)), a.volumeGrowth(v, r)
	wait := w.growing.look(now, int64(space.Size), percent, rule, quietRate)
	if left := rule.Left(policy.GrowthState{Size: int64(space.Size), Percent: percent, PercentKnown: true}); int64(r.LV.Size) < rule.Cap {
		wait = min(wait, a.volumes.quietWait(left)) // beyond its cap no look helps
	}
	d := rule.Decide(policy.GrowthState{
		Size: int64(r.LV.Size), Percent: percent, PercentKnown: space.Size > 0, Extent: int64(v.roundUp(r.LV.VG, 1)),
		Grown: !w.grownAt.IsZero(), SinceGrown: now.Sub(w.grownAt),
	})
	switch {
	case (r.Growing || d.To > 0) && w.rests(now, percent, rule):
		return blockedEvery
	case r.Growing: // it has room that its file system does not have yet: no more before that
		if !a.during(ctx, func(ctx context.Context) { err = a.finishGrowth(ctx, r.ID) }) {
			return blockedEvery
		}
		if err != nil {
			return a.swellFailed(ctx, v, r, w, percent, err)
		}
		if !w.failedAt.IsZero() {
			a.newsOf(ctx, plainNews, r.Owner, v.pool(r.LV).Name, v.Catalog.Shown(a.admin(), r)+": its file system has grown to "+r.LV.Size.String()+" after all")
		}
		w.grew(a.growers.now())
		a.canSwell(w)
		return policy.PollMin
	case d.To > 0:
		did := false
		if !a.during(ctx, func(ctx context.Context) { did, err = a.swell(ctx, r, lvm.Size(d.To)) }) {
			return blockedEvery
		}
		switch {
		case err != nil:
			return a.swellFailed(ctx, v, r, w, percent, err)
		case !did: // the next look decides by what is wanted now
			return policy.PollMin
		}
		w.grew(a.growers.now())
		a.canSwell(w)
		a.newsOf(ctx, plainNews, r.Owner, v.pool(r.LV).Name, fmt.Sprintf("%s grew from %s to %s, because it was %s full",
			v.Catalog.Shown(a.admin(), r), r.LV.Size, lvm.Size(d.To), policy.FormatPercent(percent)), d.Why)
		return policy.PollMin
	case d.Blocked == policy.BlockedCool:
		return min(d.Wait, policy.PollMin)
	case d.Blocked == policy.BlockedCap:
		a.cannotSwell(ctx, v, r, w, percent, stuck{kind: "cap", why: "it has the size that it may grow to", remedy: a.beyond(v, r), cause: d.Why})
		return blockedEvery
	}
	a.canSwell(w)
	return wait
}

// beyond is what an owner can type whose volume has the size that it may grow to.
func (a *Agent) beyond(v *View, r *catalog.Record) string {
	byHand := fmt.Sprintf("lls resize %s +1G", r.Name)
	if limit := a.config().Rules(v.pool(r.LV).Name, r.Owner.Name, string(r.Name)).Growth.Cap; limit > 0 && int64(r.LV.Size) >= limit {
		return byHand // growth.volume.cap lets nobody say more
	}
	return fmt.Sprintf("lls set %s --grow-to MAX, or %s", r.Name, byHand)
}

// swellFailed notes and tells that a growth failed, or was refused, and gives when to look again.
func (a *Agent) swellFailed(ctx context.Context, v *View, r *catalog.Record, w *volumeGrowing, percent float64, err error) time.Duration {
	w.failedAt = a.growers.now()
	if ctx.Err() != nil {
		return blockedEvery
	}
	if refused := (*policy.Refusal)(nil); errors.As(err, &refused) {
		a.cannotSwell(ctx, v, r, w, percent, stuck{kind: refused.Limit, why: refused.Why, remedy: refused.Hint})
		return blockedEvery
	}
	asker := a.asOwner(r)
	asker.doing = "grow " + string(r.Name)
	e := asker.explain(err)
	a.cannotSwell(ctx, v, r, w, percent, stuck{kind: "failed", why: strings.TrimPrefix(e.Message, "cannot "+asker.doing+": "), remedy: e.Hint, cause: err.Error()})
	return blockedEvery
}

// volumeGrowth is how a volume grows: as the policy says, and no further than its owner wants.
func (a *Agent) volumeGrowth(v *View, r *catalog.Record) policy.Growth {
	g := a.config().Rules(v.pool(r.LV).Name, r.Owner.Name, string(r.Name)).Growth
	if g.Cap <= 0 || r.GrowTo < g.Cap {
		g.Cap = r.GrowTo
	}
	return g
}

// asOwner is a call as the owner of a volume would make it: with that owner's rights and quota.
func (a *Agent) asOwner(r *catalog.Record) *call {
	asker := catalog.Asker{Owner: r.Owner}
	if r.Owner.IsHost() {
		asker = a.admin()
	}
	return &call{agent: a, asker: asker, config: a.config()}
}

// swell does what the owner would do with resize, if that is still wanted, and says whether it was.
func (a *Agent) swell(ctx context.Context, r *catalog.Record, to lvm.Size) (bool, error) {
	return a.asOwner(r).enlarge(ctx, r, to, false, func(now *catalog.Record) bool {
		return now.State == catalog.Live && now.GrowTo >= int64(to) && now.LV.Size < to
	})
}

// canSwell notes that nothing stands against a volume's growth.
func (a *Agent) canSwell(w *volumeGrowing) {
	if a.volumes.setWhy(w, stuck{}) {
		a.remindAll()
	}
}

// cannotSwell tells the owner and the sysadmin that a volume cannot grow: once for each reason, and again after an hour.
func (a *Agent) cannotSwell(ctx context.Context, v *View, r *catalog.Record, w *volumeGrowing, percent float64, s stuck) {
	full := policy.FormatPercent(percent) + " full"
	why := cmp.Or(s.cause, s.why)
	s.why = full + ", and cannot grow: " + s.why
	if a.volumes.setWhy(w, s) {
		a.remindAll()
	}
	if !w.tellNow(s.kind, a.growers.now()) {
		return
	}
	a.tell(change{what: api.EventFull, was: r, now: r, view: v, why: s.why + "; what helps: " + s.remedy})
	a.newsOf(ctx, warningNews, r.Owner, v.pool(r.LV).Name, fmt.Sprintf("%s cannot grow, and is %s", v.Catalog.Shown(a.admin(), r), full), why)
}

// growTo is what set was asked to have a volume grow to: 0 for no growth of its own, or for nothing said.
func (c *call) growTo(v *View, r *catalog.Record, in api.SetRequest) (int64, error) {
	if in.GrowTo == "" || in.GrowTo == api.NoGrowth {
		return 0, nil
	}
	size, err := lvm.ParseSize(in.GrowTo)
	if err != nil {
		return 0, badSize("set", in.Name, in.GrowTo)
	}
	rule := c.config.Rules(v.pool(r.LV).Name, r.Owner.Name, string(r.Name)).Growth
	switch {
	case r.LV.ReadOnly:
		return 0, api.Errorf(api.Denied, "cannot set %s: it is read-only, and does not grow", in.Name).WithHint("take a writable copy: lls snapshot %s NAME", in.Name)
	case rule.Threshold <= 0:
		return 0, api.Errorf(api.Denied, "cannot set %s: growth.volume lets no volume here grow by itself", in.Name).WithHint("grow it by hand: lls resize %s +1G", in.Name)
	case rule.Cap > 0 && int64(size) > rule.Cap:
		return 0, api.Errorf(api.Denied, "cannot set %s: growth.volume.cap lets it grow by itself to %s, not to %s", in.Name, typed(lvm.Size(rule.Cap)), typed(size)).
			WithHint("try: lls set %s --grow-to %s", in.Name, typed(lvm.Size(rule.Cap)))
	case size < r.LV.Size:
		return 0, api.Errorf(api.Malformed, "cannot set %s: it has %s already, which is more than %s", in.Name, typed(r.LV.Size), typed(size)).
			WithHint("give a larger size, or: lls set %s --grow-to %s", in.Name, api.NoGrowth)
	}
	return int64(size), nil
}
