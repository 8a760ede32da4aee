package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"lls/agent/catalog"
	"lls/agent/thin"
	"lls/lvm"
	"lls/policy"
)

// Meter reads who uses the blocks of a pool; *thin.Reader is the real one.
type Meter interface {
	Measure(ctx context.Context, vg lvm.VG, pool lvm.Name, owner func(thinID int) string) (thin.Usage, error)
	ReleaseLeftovers(ctx context.Context) error
}

// When pools are read. A reading costs what there is in the pool, so it takes at most one part in measureShare of the time.
const (
	measureTick     = 15 * time.Second // how often it is seen whether one is due
	measureEvery    = 5 * time.Minute  // and that is at most so often
	measureShare    = 20
	measureDeadline = 10 * time.Minute
)

// measured is what was read of pools. It is lost with the agent, and read anew by the next.
type measured struct {
	mu      sync.Mutex
	pools   map[string]*figures    // by VG/LV
	earlier map[string][2]*figures // what they were two times and one time when hour was called last
}

// figures are one reading of a pool.
type figures struct {
	at      time.Time
	time    uint32 // thin.Usage.Time
	volumes map[catalog.ID]figure
	owners  map[catalog.Owner]int64 // bytes that nobody else's volumes map
}

// figure is what purging one volume gives back, in bytes, and whose it was.
type figure struct {
	frees int64
	owner catalog.Owner
	own   int64  // thin.Volume.Own
	since uint32 // thin.Volume.Since
}

func (m *measured) put(p policy.Pool, f *figures) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pools == nil {
		m.pools, m.earlier = map[string]*figures{}, map[string][2]*figures{}
	}
	m.pools[poolKey(p)] = f
	if m.earlier[poolKey(p)][0] == nil {
		m.earlier[poolKey(p)] = [2]*figures{f, f}
	}
}

// hour notes that another hour begins; what was written counts from the beginning of the one before.
func (m *measured) hour() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, f := range m.pools {
		m.earlier[key] = [2]*figures{m.earlier[key][1], f}
	}
}

// written is how many bytes of new blocks volumes of a pool have got between two readings, the earlier of which was an hour or two ago at
// least: also in place of blocks that they shared. What a volume got before a snapshot was taken of it in between is not known.
func (m *measured) written(p policy.Pool) map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	all, was, is := map[string]int64{}, m.earlier[poolKey(p)][0], m.pools[poolKey(p)]
	if was == nil {
		return all
	}
	for id, now := range is.volumes {
		before, known := was.volumes[id]
		switch {
		case now.since > was.time: // all of it is newer
			all[string(id)] = now.own
		case known:
			all[string(id)] = now.own - before.own
		}
	}
	return all
}

func poolKey(p policy.Pool) string { return p.Group + "/" + p.LV }

// of is the last reading of a pool, which is never changed; nil when there is none.
func (m *measured) of(p policy.Pool) *figures {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pools[poolKey(p)]
}

// freesAt is how many bytes purging a volume gives back to its pool, and when that was so.
func (m *measured) freesAt(id catalog.ID) (frees int64, at time.Time, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.pools {
		if one, ok := f.volumes[id]; ok && (!known || f.at.After(at)) {
			frees, at, known = one.frees, f.at, true
		}
	}
	return frees, at, known
}

// frees is how many bytes purging a volume gives back to its pool, as far as is known.
func (a *Agent) frees(id catalog.ID) (int64, bool) {
	frees, _, known := a.measured.freesAt(id)
	return frees, known
}

// exclusive is how many bytes of a pool no other owner's volumes map, and when that was so. What was purged or given away since is
// taken off at once: nobody is to be refused for what is gone.
func (f *figures) exclusive(v *View, o catalog.Owner) int64 {
	sum := f.owners[o]
	for id, one := range f.volumes {
		r := v.Catalog.ByID(id)
		switch was, is := one.owner == o, r != nil && r.Owner == o; {
		case was && !is:
			sum -= one.frees
		case is && !was:
			sum += one.frees
		}
	}
	return max(sum, 0)
}

// reading is what the goroutine that reads pools remembers of one.
type reading struct {
	pool    state
	next    time.Time
	problem string // that was told of
	full    map[catalog.Owner]bool
}

// state is what makes a new reading worth while when it has changed.
type state struct {
	percent float64
	size    lvm.Size
	volumes uint64 // a sum over them and their owners
}

var volumeSeed = maphash.MakeSeed()

// stateOf is the state of an active pool that has volumes.
func stateOf(v *View, p policy.Pool) (s state, ok bool) {
	lv, ok := findPool(v.Groups, p)
	if !ok || !lv.Known {
		return s, false
	}
	s = state{percent: lv.DataPercent, size: lv.Size}
	some := false
	for _, g := range v.Groups {
		if string(g.Name) != p.Group {
			continue
		}
		for _, vol := range g.Volumes {
			if vol.Pool == lv.Name {
				some = true
				s.volumes += maphash.String(volumeSeed, string(vol.Name))
			}
		}
	}
	for _, r := range v.Catalog.Records {
		if v.pool(r.LV) == p {
			s.volumes += maphash.String(volumeSeed, string(r.ID)+r.Owner.String())
		}
	}
	return s, some
}

// measuring is the goroutine that reads pools, one after the other.
func (a *Agent) measuring(ctx context.Context) {
	tick := time.NewTicker(measureTick)
	defer tick.Stop()
	readings := map[string]*reading{}
	for released := false; ; {
		if !released {
			err := a.meter.ReleaseLeftovers(ctx)
			if released = err == nil; !released {
				a.log.Warn("cannot release what an agent that was killed held of a pool", "error", err)
			}
		}
		for _, p := range a.config().Pools {
			r := readings[poolKey(p)]
			if r == nil {
				r = &reading{full: map[catalog.Owner]bool{}}
				readings[poolKey(p)] = r
			}
			a.measureDue(ctx, p, r)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// measureDue reads a pool if that is due.
func (a *Agent) measureDue(ctx context.Context, p policy.Pool, r *reading) {
	began := a.opts.Now()
	if began.Before(r.next) {
		return
	}
	v, err := a.store.current(ctx, tendEvery)
	if err != nil {
		return // the next report tells of it
	}
	now, ok := stateOf(v, p)
	if !ok || now == r.pool {
		return
	}
	f, err := a.measure(ctx, p)
	ended := a.opts.Now()
	r.next = ended.Add(max(measureEvery, measureShare*ended.Sub(began)))
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, thin.ErrNoDevice), errors.Is(err, errReused):
		r.next = ended.Add(time.Minute)
		return
	case err != nil:
		if r.problem != err.Error() {
			a.log.Warn("cannot tell who uses a pool's blocks", "pool", p.Name, "error", err)
		}
		r.problem = err.Error()
		return
	}
	r.pool, r.problem = now, ""
	a.measured.put(p, f)
	a.log.Debug("read who uses a pool's blocks", "pool", p.Name, "volumes", len(f.volumes), "took", ended.Sub(began))
	a.tellFull(ctx, v, p, f, r.full)
	a.remindAll()
}

// errReused means that an id of a volume stood for two during a reading.
var errReused = errors.New("volumes came and went during the reading")

// measure reads a pool.
func (a *Agent) measure(ctx context.Context, p policy.Pool) (*figures, error) {
	v, err := a.store.current(ctx, 0)
	if err != nil {
		return nil, err
	}
	f := &figures{volumes: map[catalog.ID]figure{}, owners: map[catalog.Owner]int64{}}
	owners, names := map[string]catalog.Owner{}, map[int]string{}
	for _, r := range v.Catalog.Records {
		if v.pool(r.LV) == p && r.LV.ThinID > 0 { // one made since the report has none yet
			names[r.LV.ThinID] = r.Owner.String()
			owners[r.Owner.String()] = r.Owner
		}
	}
	limited, cancel := context.WithTimeout(ctx, measureDeadline)
	defer cancel()
	u, err := a.meter.Measure(limited, lvm.VG(p.Group), lvm.Name(p.LV), func(id int) string { return names[id] })
	if err != nil {
		return nil, err
	}
	f.at, f.time = a.opts.Now(), u.Time
	after, err := a.store.current(ctx, 0)
	if err != nil {
		return nil, err
	}
	if reused(v, after, p) {
		return nil, fmt.Errorf("cannot read pool %s: %w", p.Name, errReused)
	}
	for _, r := range v.Catalog.Records {
		if used, ok := u.Volumes[r.LV.ThinID]; ok && v.pool(r.LV) == p {
			f.volumes[r.ID] = figure{frees: int64(used.Exclusive), owner: r.Owner, own: int64(used.Own), since: used.Since}
		}
	}
	for name, bytes := range u.Owners {
		if o, ok := owners[name]; ok {
			f.owners[o] = int64(bytes)
		}
	}
	return f, nil
}

// reused says whether an id of a volume of the pool is another's in the second view.
func reused(was, is *View, p policy.Pool) bool {
	names := func(v *View) map[int]lvm.Name {
		all := map[int]lvm.Name{}
		for _, g := range v.Groups {
			for _, vol := range g.Volumes {
				if string(g.Name) == p.Group && string(vol.Pool) == p.LV && vol.ThinID > 0 {
					all[vol.ThinID] = vol.Name
				}
			}
		}
		return all
	}
	before := names(was)
	for id, name := range names(is) {
		if old, ok := before[id]; ok && old != name {
			return true
		}
	}
	return false
}

// fullAgain is below which share of its limit an owner has to come before it is told of once more.
const fullAgain = 0.95

// tellFull tells the sysadmin of each container that has reached its limit, once.
func (a *Agent) tellFull(ctx context.Context, v *View, p policy.Pool, f *figures, told map[catalog.Owner]bool) {
	for o := range f.owners {
		limit, has := a.exclusiveLimit(p, o), f.exclusive(v, o)
		switch {
		case limit == 0 || float64(has) < fullAgain*float64(limit):
			delete(told, o)
		case has >= limit && !told[o]:
			told[o] = true
			a.newsOf(ctx, warningNews, o, p.Name, fmt.Sprintf("container %s has %s in pool %s that is in no other's volume: limits.exclusive allows %s, so it gets nothing new",
				o.Name, policy.FormatSize(has), p.Name, policy.FormatSize(limit)))
		}
	}
}

// exclusiveLimit is how many bytes of a pool may be an owner's alone; 0 is no limit.
func (a *Agent) exclusiveLimit(p policy.Pool, o catalog.Owner) int64 {
	if o.IsHost() {
		return 0
	}
	return a.config().Rules(p.Name, o.Name, "").Limits.Exclusive
}

// fullNotice are the lines that a container finds in its notice about limits that it has reached.
func (a *Agent) fullNotice(v *View, o catalog.Owner) (lines string) {
	for _, p := range a.config().Pools {
		f, limit := a.measured.of(p), a.exclusiveLimit(p, o)
		if f == nil || limit == 0 {
			continue
		}
		if has := f.exclusive(v, o); has >= limit {
			lines += fmt.Sprintf("%s of data in pool %s is in your volumes alone, and %s is allowed: nothing new is made until it is less. To make room: lls delete NAME, then lls purge NAME --yes\n",
				policy.FormatSize(has), p.Name, policy.FormatSize(limit))
		}
	}
	return lines
}
