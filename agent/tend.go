package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/history"
	"lls/hooks"
	"lls/lvm"
	"lls/policy"
)

// Volumes are looked at for their age every tendEvery, or more often where the policy has shorter times than people have.
const (
	tendEvery = time.Minute
	tendLeast = time.Second
)

func (a *Agent) tendPeriod() time.Duration {
	return max(tendLeast, min(tendEvery, a.config().ShortestAge()/4))
}

// past is what was observed over time.
type past struct {
	path string

	saving sync.Mutex // held while the file is written

	mu       sync.Mutex
	history  *history.History
	facts    *facts        // of the last look, which are never changed; nil before the first
	factsAt  time.Time     // when that was
	run      string        // this run of the agent, for samples
	observed time.Duration // running time in it
	mappedAt time.Duration // of that, when history.Mapped was taken; 0: not yet
}

// lastLook is what was seen when the volumes were looked at last, and when that was; nil before the first time.
func (p *past) lastLook() (*facts, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts, p.factsAt
}

// looked says whether a look has been taken.
func (p *past) looked() bool {
	f, _ := p.lastLook()
	return f != nil
}

// with lets do read and change the history.
func (p *past) with(do func(h *history.History)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do(p.history)
}

// save writes what was observed to disk.
func (p *past) save() error {
	p.saving.Lock()
	defer p.saving.Unlock()
	p.mu.Lock()
	text, err := p.history.Text()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return history.Save(p.path, text)
}

func (p *past) age(id catalog.ID) (age policy.Age) {
	p.with(func(h *history.History) { age = h.Ages[string(id)] })
	return age
}

// facts are what is known of the host at one moment, besides the volumes themselves.
type facts struct {
	places  *whereabouts
	exist   *defined // nil when the containers could not be listed
	running map[catalog.Owner]fstabOf
	// depended are volumes that others read through to, VG/LV: classic snapshots, thin volumes on an external origin.
	depended map[string]bool
}

// fstabOf is what the fstab of a running container names. Unknown says why that is not known of all its lines; empty when it is.
type fstabOf struct {
	names   map[string]bool
	unknown string
}

// namesVolume says whether a volume of the container itself is named, in any of the ways that it may be.
func (f fstabOf) namesVolume(r *catalog.Record) bool {
	name := string(r.Name)
	return f.names[name] || f.names[r.Owner.Name+"/"+name] || f.names[r.Owner.String()+"/"+name]
}

// gather reads the facts.
func (a *Agent) gather(ctx context.Context, v *View) facts {
	return a.gatherOf(ctx, v, a.guests.list())
}

// gatherOf reads the facts, with the fstabs of these guests only.
func (a *Agent) gatherOf(ctx context.Context, v *View, guests []*guest) facts {
	f := facts{places: a.places(), running: map[catalog.Owner]fstabOf{}, depended: map[string]bool{}}
	for _, g := range v.Groups {
		f.addDepended(g)
	}
	all, err := a.containers.List(paths(a.config()))
	if err != nil {
		a.log.Warn("cannot list all containers, so nothing of theirs ages", "error", err)
	} else {
		f.exist = definedBy(all)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for _, g := range guests {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			names := a.fstabNames(ctx, g)
			mu.Lock()
			defer mu.Unlock()
			f.running[g.Owner] = names
		})
	}
	wg.Wait()
	return f
}

// addDepended notes what of a group lvm.Group.Dependents would say something of, in one pass.
func (f facts) addDepended(g lvm.Group) {
	pools := map[lvm.Name]lvm.Name{}
	for _, v := range g.Volumes {
		pools[v.Name] = v.Pool
	}
	for _, v := range slices.Concat(g.Others, g.Volumes) {
		if pool, thin := pools[v.Origin]; v.Origin != "" && !(thin && v.Thin && v.Pool == pool) {
			f.depended[string(g.Name)+"/"+string(v.Origin)] = true
		}
	}
}

// fstabNames is what a container's fstab names now. It is its root's to write, so what cannot be read is not known.
func (a *Agent) fstabNames(ctx context.Context, g *guest) fstabOf {
	text, err := a.readFstab(ctx, g)
	if errors.Is(err, os.ErrNotExist) {
		return fstabOf{}
	}
	if err != nil {
		return fstabOf{unknown: "it cannot be read"}
	}
	names, tagged := hooks.Parse(text).Names()
	f := fstabOf{names: map[string]bool{}}
	if len(tagged) > 0 {
		f.unknown = fmt.Sprintf("line %d names a file system by LABEL or UUID", tagged[0])
	}
	for _, n := range names {
		f.names[n] = true
	}
	return f
}

// subject is a volume as the policy sees it.
func (a *Agent) subject(v *View, f facts, r *catalog.Record) policy.Subject {
	at := placesOf(f.places, r.LV)
	s := policy.Subject{
		ID: string(r.ID), Name: string(r.Name), Owner: r.Owner.String(), Pool: v.pool(r.LV).Name, State: policy.State(r.State),
		Snapshot: r.Origin != "", Visible: r.Visible, Mounted: f.places.mounted(r.LV), Places: len(at), Open: policy.Known(r.LV.Active && r.LV.Open),
		Lease: r.Lease, Forever: r.Forever, Deleted: r.Deleted, Depended: policy.Known(f.depended[string(r.LV.VG)+"/"+string(r.LV.Name)]),
	}
	if size, ok := a.frees(r.ID); ok {
		s.Exclusive, s.ExclusiveKnown = size, true
	}
	fstab, running := f.running[r.Owner]
	switch {
	case r.Owner.IsHost():
		s.OwnerHost = true
		s.OwnerGone, s.OwnerStopped, s.InFstab = policy.No, policy.No, policy.No
	case running:
		s.OwnerGone, s.OwnerStopped, s.InFstab = policy.No, policy.No, policy.Known(fstab.namesVolume(r))
		if fstab.unknown != "" && s.InFstab != policy.Yes {
			s.InFstab, s.FstabUnknown = policy.Unknown, fstab.unknown
		}
	default: // a stopped one's fstab does not matter: it does not age
		s.OwnerStopped = f.exist.has(r.Owner)
		if s.OwnerStopped != policy.Unknown {
			s.OwnerGone = policy.Known(s.OwnerStopped == policy.No)
		}
	}
	return s
}

func (a *Agent) expiry(v *View, r *catalog.Record) policy.Expiry {
	return a.config().Rules(v.pool(r.LV).Name, r.Owner.Name, string(r.Name)).Expiry
}

// used notes that a volume was used a moment ago, which the next look may not see any more.
func (a *Agent) used(v *View, r *catalog.Record) {
	s := policy.Subject{ID: string(r.ID), Owner: r.Owner.String(), State: policy.StateLive, Snapshot: true, Mounted: policy.Yes, Lease: r.Lease, Forever: r.Forever}
	var was policy.Age
	a.past.with(func(h *history.History) {
		was = h.Ages[string(r.ID)]
		h.Ages[string(r.ID)] = a.expiry(v, r).Observe(was, s, 0, a.opts.Now())
	})
	if was.Unused > 0 || was.Idle > 0 { // an agent that is killed now would let it go on from there
		a.savePast()
	}
}

func (a *Agent) savePast() {
	if err := a.past.save(); err != nil {
		a.log.Warn("cannot keep what was observed", "error", err)
	}
}

// look notes what a volume is now, without any time that passed: what is foretold from here on is what happens.
func (a *Agent) look(v *View, f facts, r *catalog.Record) (e policy.Expiry, s policy.Subject, age policy.Age) {
	e, s = a.expiry(v, r), a.subject(v, f, r)
	a.past.with(func(h *history.History) {
		age = e.Observe(h.Ages[string(r.ID)], s, 0, a.opts.Now())
		h.Ages[string(r.ID)] = age
	})
	return e, s, age
}

// firstLook sees what there is once the containers that run are known, so that nobody has to wait for the first time that volumes age to
// hear what expires.
func (a *Agent) firstLook(ctx context.Context) {
	v, err := a.store.current(ctx, workAge)
	if err != nil {
		return // the next report tells of it
	}
	f, now := a.gather(ctx, v), a.opts.Now()
	a.past.with(func(*history.History) {
		if a.past.facts == nil {
			a.past.facts, a.past.factsAt = &f, now
		}
	})
}

// tend lets every volume age by step of running time, and does what the policy says comes of it.
func (a *Agent) tend(ctx context.Context, step time.Duration) {
	v, err := a.store.current(ctx, 0)
	if err != nil {
		return // the next report tells of it; time that was not observed does not count
	}
	a.tellDone(ctx, v)
	a.sample(v, step)
	f := a.gather(ctx, v)
	now := a.opts.Now()
	verdicts := map[catalog.ID]policy.Verdict{}
	var due []*catalog.Record
	a.past.with(func(h *history.History) {
		for _, r := range v.Catalog.Records {
			s, e := a.subject(v, f, r), a.expiry(v, r)
			age := e.Observe(h.Ages[string(r.ID)], s, step, now)
			h.Ages[string(r.ID)] = age
			verdicts[r.ID] = e.Judge(s, age, now)
			if verdicts[r.ID].Action != policy.Keep {
				due = append(due, r)
			}
		}
		if len(v.Missing) == 0 { // what cannot be seen is not gone
			maps.DeleteFunc(h.Ages, func(id string, _ policy.Age) bool { return v.Catalog.ByID(catalog.ID(id)) == nil })
		}
		a.past.facts, a.past.factsAt = &f, now
	})
	a.intend(due, func(r *catalog.Record) (history.Deed, bool) { return a.deed(v, r, verdicts[r.ID]) })
	for _, r := range due {
		if !a.during(ctx, func(ctx context.Context) { a.carryOut(ctx, v, f, r, verdicts[r.ID]) }) {
			break // the host goes down
		}
	}
	a.toldOf(due)
	for _, p := range a.config().Pools {
		a.relieve(ctx, p)
	}
	a.trimDue(ctx, v, f, step)
	a.remindAll()
	a.savePast()
}

// carryOut does what a verdict says. What changed meanwhile is left alone: it is looked at again a minute later.
func (a *Agent) carryOut(ctx context.Context, v *View, f facts, r *catalog.Record, d policy.Verdict) {
	var err error
	switch d.Action {
	case policy.Announce:
		still := false
		a.past.with(func(h *history.History) {
			age := h.Ages[string(r.ID)]
			if still = a.expiry(v, r).Judge(a.subject(v, f, r), age, a.opts.Now()).Action == policy.Announce; !still {
				return // somebody used it since
			}
			h.Ages[string(r.ID)] = age.Announce()
		})
		if !still {
			return
		}
		a.tell(change{what: api.EventExpiring, was: r, now: r, view: v, expires: a.expires(v, r)})
		when := "in " + policy.FormatSpan(d.Wait)
		if d.Wait <= 0 { // without a notice
			when = "at once"
		}
		a.newsOf(ctx, plainNews, r.Owner, v.pool(r.LV).Name, v.Catalog.Shown(a.admin(), r)+" is unused, and goes to the trash "+when, d.Reasons...)
		return
	case policy.Trash:
		err = a.expire(ctx, v, r)
	case policy.Purge:
		err = a.discard(ctx, r, stillTrash(r))
	}
	if err != nil {
		a.log.Warn("cannot do what the policy says", "volume", r.LV.Name, "action", d.Action, "error", err)
		return
	}
	if done, ok := a.deed(v, r, d); ok {
		a.tellDeed(ctx, done)
	}
	a.log.Info("did what the policy says", "volume", r.LV.Name, "action", d.Action, "reasons", d.Reasons)
}

// stillTrash is for discard: nothing was done to r since the policy looked at it.
func stillTrash(r *catalog.Record) func(*catalog.Record) bool {
	return func(now *catalog.Record) bool {
		return now.State == catalog.Trash && now.Deleted.Equal(r.Deleted) && now.Lease.Equal(r.Lease) && now.Forever == r.Forever
	}
}

// expire moves a volume to the trash that nobody uses. Others may have been done before it, which takes its time: so it is judged once
// more. First its device goes, which LVM refuses while anybody has it open: what no list of mounts shows is found so as well.
func (a *Agent) expire(ctx context.Context, v *View, r *catalog.Record) error {
	defer a.raw.block(r.ID)()
	if err := a.settle(ctx, r.ID); err != nil {
		return err
	}
	own := slices.DeleteFunc(a.guests.list(), func(g *guest) bool { return g.Owner != r.Owner })
	f := a.gatherOf(ctx, v, own) // asks a container's file system, which nobody is to wait for who wants to write
	return a.store.write(ctx, r.LV.VG, func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		now, err := v.same(r)
		if err != nil {
			return nil, err
		}
		f.places = a.places()
		d := a.expiry(v, now).Judge(a.subject(v, f, now), a.past.age(r.ID), a.opts.Now())
		if d.Action != policy.Trash || !now.Lease.Equal(r.Lease) || a.raw.others(r.ID) {
			return nil, api.Errorf(api.Busy, "it is used or wanted again")
		}
		if err := w.Deactivate(ctx, r.LV.Name); err != nil {
			return nil, err
		}
		to := *now
		to.State, to.Deleted = catalog.Trash, v.Catalog.DeletedAt(now, a.opts.Now())
		add, del := now.Changes(&to)
		if err := w.Retag(ctx, r.LV.Name, add, del); err != nil {
			return nil, err
		}
		return changed(r.LV.Name, func(v *lvm.Volume) { v.Tags, v.Active, v.Major, v.Minor = to.Tags(), false, 0, 0 }), nil
	})
}

// relieve purges the oldest of a pool's trash before its time when the pool is too full and cannot grow. What each gives back was measured
// a while ago: it looks at the pool again after each, and purges none when there is room by then.
func (a *Agent) relieve(ctx context.Context, p policy.Pool) {
	v, err := a.store.current(ctx, 0)
	if err != nil {
		return
	}
	short := a.shortage(ctx, v, p)
	if !short.Any() {
		return
	}
	for _, t := range policy.Pressure(a.trash(v, a.gather(ctx, v), p), short, a.opts.Now()) {
		r := v.Catalog.ByID(catalog.ID(t.Subject.ID))
		now, err := a.store.current(ctx, 0)
		if err != nil || !a.shortage(ctx, now, p).Any() {
			return
		}
		if !a.during(ctx, func(ctx context.Context) { err = a.purgeEarly(ctx, v, r, p, short) }) {
			return
		}
		if err != nil {
			a.log.Warn("cannot make room in a pool", "pool", p.Name, "volume", r.LV.Name, "error", err)
		}
	}
}

// purgeEarly removes what is in the trash of a pool that is short of something, and tells of it.
func (a *Agent) purgeEarly(ctx context.Context, v *View, r *catalog.Record, p policy.Pool, short policy.Shortage) error {
	line := v.Catalog.Shown(a.admin(), r) + " was purged before its time, because pool " + p.Name + " is too full"
	early := history.Deed{Purge: true, Owner: r.Owner.Name, Pool: p.Name, Line: line, Why: short.Why, Warning: true}
	one := []*catalog.Record{r}
	a.intend(one, func(*catalog.Record) (history.Deed, bool) { return early, true })
	defer a.toldOf(one)
	if err := a.discard(ctx, r, stillTrash(r)); err != nil {
		return err
	}
	a.tellDeed(ctx, early)
	return nil
}

// trash is what a pool has in the trash, as the policy sees it.
func (a *Agent) trash(v *View, f facts, p policy.Pool) []policy.Trashed {
	var all []policy.Trashed
	for _, r := range v.Catalog.Records {
		if r.State == catalog.Trash && v.pool(r.LV).Name == p.Name {
			all = append(all, policy.Trashed{Expiry: a.expiry(v, r), Subject: a.subject(v, f, r), Age: a.past.age(r.ID)})
		}
	}
	return all
}

// shortage is what a pool has to be given back, because it is too full and cannot grow. Where that is not known, it is nothing.
func (a *Agent) shortage(ctx context.Context, v *View, p policy.Pool) policy.Shortage {
	lv, ok := findPool(v.Groups, p)
	if !ok {
		return policy.Shortage{}
	}
	rules, fill := a.config().PoolRules(p.Name), fillOf(v, p, lv)
	short := rules.Shortage(fill)
	if !short.Any() {
		return short
	}
	ctx, cancel := context.WithTimeout(ctx, fillDeadline)
	defer cancel()
	now, err := a.devices.Fill(ctx, lvm.VG(p.Group), lvm.Name(p.LV))
	if err != nil {
		a.log.Warn("cannot see whether purging would make room", "pool", p.Name, "error", err)
		return policy.Shortage{Why: append(short.Why, "it cannot be seen whether purging would make room")}
	}
	fill.Held = now.Held
	return rules.Shortage(fill)
}

// ageing is the goroutine that tends the volumes. Time is measured by a clock that nobody can set.
func (a *Agent) ageing(ctx context.Context) {
	tick := time.NewTicker(tendLeast)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.growers.pressed:
			for _, p := range a.config().Pools {
				a.relieve(ctx, p)
			}
		case now := <-tick.C: // monotonic
			if step := now.Sub(last); step >= a.tendPeriod() {
				a.tend(ctx, step)
				last = now
			}
		}
	}
}
