package agent

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/filesystem"
	"lls/agent/history"
	"lls/lvm"
	"lls/policy"
)

// Trimmer gives what mounted file systems do not use back to their pool; *filesystem.Mounted is the real one.
type Trimmer interface {
	Trim(ctx context.Context, device string, t filesystem.Type, how filesystem.Trim) (lvm.Size, error)
}

// How trimming goes on. A file system that its container's root has frozen, or a device that does not answer, costs trimPatience.
const (
	trimPatience = 2 * time.Minute        // for a slice
	trimPause    = time.Second            // between slices, when nobody waits
	trimAsked    = 100 * time.Millisecond // when somebody does
	trimAgain    = time.Minute            // between two trims of a volume that a container asks for
)

// errTrimming means that a volume is being trimmed.
var errTrimming = errors.New("it is being trimmed already")

// trims are under way, or were. The zero value is ready.
type trims struct {
	mu    sync.Mutex
	busy  map[catalog.ID]bool
	asked map[catalog.ID]time.Time // when a container last asked for it
	turns map[string]chan struct{} // of each pool, which holds one token while one of its volumes is trimmed
	pools map[string]bool          // whose due volumes are being gone through
}

// once says whether the key was not in the set, and puts it there until done.
func once[K comparable](mu *sync.Mutex, set *map[K]bool, key K) (done func(), ok bool) {
	mu.Lock()
	defer mu.Unlock()
	if (*set)[key] {
		return nil, false
	}
	if *set == nil {
		*set = map[K]bool{}
	}
	(*set)[key] = true
	return func() {
		mu.Lock()
		defer mu.Unlock()
		delete(*set, key)
	}, true
}

func (t *trims) turn(pool string) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.turns == nil {
		t.turns = map[string]chan struct{}{}
	}
	if t.turns[pool] == nil {
		t.turns[pool] = make(chan struct{}, 1)
	}
	return t.turns[pool]
}

// ask notes that a container wants a volume trimmed, or says how long it has to wait.
func (t *trims) ask(id catalog.ID, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	over := func(_ catalog.ID, at time.Time) bool { return now.Sub(at) >= trimAgain || now.Before(at) }
	maps.DeleteFunc(t.asked, over)
	if at, ok := t.asked[id]; ok {
		return trimAgain - now.Sub(at)
	}
	if t.asked == nil {
		t.asked = map[catalog.ID]time.Time{}
	}
	t.asked[id] = now
	return 0
}

// trim trims a mounted volume when it is its turn in its pool, and says how many bytes fewer it maps then: what snapshots share with it
// stays in the pool.
func (a *Agent) trim(ctx context.Context, r *catalog.Record, pause time.Duration) (lvm.Size, error) {
	done, ok := once(&a.trims.mu, &a.trims.busy, r.ID)
	if !ok {
		return 0, errTrimming
	}
	defer done()
	turn := a.trims.turn(string(r.LV.VG) + "/" + string(r.LV.Pool))
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	before, known := a.mapped(ctx, r.ID)
	told, err := a.trimmer.Trim(ctx, a.store.lvm.Device(r.LV.VG, r.LV.Name), filesystem.Type(r.FS), filesystem.Trim{Pause: pause, Patience: trimPatience})
	if ctx.Err() == nil && !errors.Is(err, filesystem.ErrNotMounted) { // what failed is not tried again at once either
		a.past.with(func(h *history.History) { h.Trims[string(r.ID)] = history.Trim{Before: true} })
	}
	after, still := a.mapped(ctx, r.ID)
	if known && still {
		told = min(told, max(before-after, 0))
	}
	return told, err
}

// mapped is how many bytes of its pool a volume maps now.
func (a *Agent) mapped(ctx context.Context, id catalog.ID) (lvm.Size, bool) {
	v, err := a.store.current(ctx, 0)
	if err != nil {
		return 0, false
	}
	r := v.Catalog.ByID(id)
	if r == nil || !r.LV.UsedKnown {
		return 0, false
	}
	return lvm.Size(float64(r.LV.Size) / 100 * r.LV.UsedPercent), true
}

// trimDue counts the time since volumes were trimmed, and starts to trim those that are due, pool by pool.
func (a *Agent) trimDue(ctx context.Context, v *View, f facts, step time.Duration) {
	all := map[policy.Pool][]policy.Trimmed{}
	a.past.with(func(h *history.History) {
		for _, r := range v.Catalog.Records {
			mounted := len(placesOf(f.places, r.LV)) > 0
			t, seen := h.Trims[string(r.ID)]
			if !seen && !mounted || r.State == catalog.Making {
				continue
			}
			if seen {
				t.Since += min(max(step, 0), policy.MaxStep)
			}
			h.Trims[string(r.ID)] = t
			p := v.pool(r.LV)
			all[p] = append(all[p], policy.Trimmed{
				ID: string(r.ID), Trim: a.config().Rules(p.Name, r.Owner.Name, string(r.Name)).Trim, Mounted: policy.Known(mounted),
				ReadOnly: r.LV.ReadOnly, Before: t.Before, Since: t.Since,
			})
		}
		if len(v.Missing) == 0 { // what cannot be seen is not gone
			maps.DeleteFunc(h.Trims, func(id string, _ history.Trim) bool { return v.Catalog.ByID(catalog.ID(id)) == nil })
		}
	})
	for p, volumes := range all {
		lv, _ := findPool(v.Groups, p)
		due := policy.TrimDue(volumes, fillOf(v, p, lv))
		if len(due) == 0 {
			continue
		}
		done, ok := once(&a.trims.mu, &a.trims.pools, poolKey(p))
		if !ok {
			continue
		}
		a.work.Go(func() {
			defer done()
			for _, t := range due {
				if a.gate.isOpen() { // one under way may be cut off anywhere, so a shutdown does not wait for it
					a.trimTurn(ctx, t)
				}
			}
		})
	}
}

// trimTurn trims a volume whose turn it is.
func (a *Agent) trimTurn(ctx context.Context, t policy.TrimTurn) {
	v, err := a.store.current(ctx, workAge)
	if err != nil {
		return // the next report tells of it
	}
	r := v.Catalog.ByID(catalog.ID(t.ID))
	if r == nil {
		return
	}
	given, err := a.trim(ctx, r, trimPause)
	switch {
	case ctx.Err() != nil, errors.Is(err, filesystem.ErrNotMounted), errors.Is(err, errTrimming):
	case errors.Is(err, filesystem.ErrReadOnly), errors.Is(err, filesystem.ErrNoDiscard), errors.Is(err, filesystem.ErrType):
		a.log.Info("a volume cannot be trimmed", "volume", r.LV.Name, "why", err)
	case err != nil:
		a.log.Warn("cannot trim a volume", "volume", r.LV.Name, "given_back", int64(given), "error", err)
	default:
		a.log.Info("trimmed a volume", "volume", r.LV.Name, "given_back", int64(given), "why", t.Why)
	}
}

// trimNow trims one volume, or all mounted ones that are the caller's own: the sysadmin's are all.
func (c *call) trimNow(ctx context.Context, in api.TrimRequest) ([]api.Trimmed, error) {
	ctx, cancel := c.agent.untilStop(ctx)
	defer cancel()
	if in.Name != "" {
		r, v, err := c.volume(ctx, "trim", in.Name, catalog.Change, false)
		if err != nil {
			return nil, err
		}
		given, err := c.trimOne(ctx, v.Catalog.Shown(c.asker, r), r)
		if err != nil {
			return nil, err
		}
		return []api.Trimmed{{Name: in.Name, Returned: int64(given)}}, nil
	}
	v, err := c.agent.store.current(ctx, c.agent.listAge())
	if err != nil {
		return nil, err
	}
	places, out := c.agent.places(), []api.Trimmed{}
	for _, r := range v.Catalog.Records {
		name := v.Catalog.Shown(c.asker, r)
		if r.State != catalog.Live || len(placesOf(places, r.LV)) == 0 || r.LV.ReadOnly || r.May(c.asker, catalog.Change, "trim", name) != nil {
			continue
		}
		given, err := c.trimOne(ctx, name, r)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		t := api.Trimmed{Name: name, Returned: int64(given)}
		if err != nil {
			t.Problem = c.explain(err).Message
		}
		out = append(out, t)
	}
	return out, nil
}

// trimOne trims a volume that the caller may change.
func (c *call) trimOne(ctx context.Context, name string, r *catalog.Record) (lvm.Size, error) {
	c.doing = "trim " + name
	if len(placesOf(c.agent.places(), r.LV)) == 0 {
		return 0, notMounted(name)
	}
	if c.guest != nil {
		if wait := c.agent.trims.ask(r.ID, c.agent.opts.Now()); wait > 0 {
			return 0, api.Errorf(api.Busy, "cannot trim %s: that was asked for less than a minute ago", name).
				WithHint("try again in %s", policy.FormatSpan(wait+time.Second)).After(wait)
		}
	}
	c.progress("trimming %s", name)
	given, err := c.agent.trim(ctx, r, trimAsked)
	switch {
	case err == nil || ctx.Err() != nil:
		return given, err
	case errors.Is(err, errTrimming):
		err = api.Errorf(api.Busy, "cannot trim %s: it is being trimmed already", name).Because(err).WithHint("wait until that is done")
	case errors.Is(err, filesystem.ErrNotMounted):
		err = notMounted(name)
	case errors.Is(err, filesystem.ErrReadOnly):
		err = api.Errorf(api.Denied, "cannot trim %s: it is mounted read-only", name).Because(err).WithHint("unmount it, and mount it writable")
	case errors.Is(err, filesystem.ErrSlow):
		err = api.Errorf(api.Busy, "cannot trim %s: its file system does not answer", name).Because(err).WithHint("if it is frozen: fsfreeze -u, then try again")
	case errors.Is(err, filesystem.ErrNoDiscard):
		err = api.Errorf(api.NeedsAdmin, "cannot trim %s: its pool takes nothing back", name).Because(err).WithHint("the sysadmin can change that: lvchange --discards passdown VG/POOL")
	}
	return given, err
}

func notMounted(name string) *api.Error {
	return api.Errorf(api.NotFound, "cannot trim %s: it is not mounted", name).WithHint("mount it first: lls mount %s PATH", name)
}

// untilStop is ctx, which ends with the agent's service as well.
func (a *Agent) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	a.work.Go(func() {
		select {
		case <-a.stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, cancel
}
