package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/history"
	"lls/agent/mount"
	"lls/lvm"
	"lls/policy"
)

// refresh puts a new snapshot of a volume's origin in its place, under its name and at its mount points. What it was goes to the trash.
// Until the two are exchanged, any failure leaves all as it was. That exchange is two tag changes of one writer, and a crash between
// them is finished by the next start.
func (c *call) refresh(ctx context.Context, in api.NameRequest) (api.Refreshed, error) {
	old, v, err := c.volume(ctx, "refresh", in.Name, catalog.Change, false)
	if err != nil {
		return api.Refreshed{}, err
	}
	src, err := c.originOf(v, old, in.Name)
	if err != nil {
		return api.Refreshed{}, err
	}
	release, ok := c.agent.reserve(old.Owner, old.Name)
	if !ok {
		return api.Refreshed{}, api.Errorf(api.Busy, "cannot refresh %s: it is being changed by another request", in.Name).WithHint("try again")
	}
	defer release()
	at, err := c.movable(in.Name, old)
	if err != nil {
		return api.Refreshed{}, err
	}
	defer c.reserveRaw(ctx, old.ID)()
	if err := c.agent.settle(ctx, old.ID); errors.Is(err, errGranted) {
		return api.Refreshed{}, c.inUse(ctx, in.Name, old).Because(err)
	} else if err != nil {
		return api.Refreshed{}, err
	}
	next, err := c.successor(ctx, old, src, len(at) > 0)
	if err != nil {
		return api.Refreshed{}, err
	}
	defer c.reserveRaw(ctx, next.ID)()
	ctx = context.WithoutCancel(ctx) // from here on it is finished or undone, whoever listens
	used := c.show(v, old, nil).Used // of a device that will be gone
	if err := c.exchange(ctx, in.Name, old, next, at); err != nil {
		return api.Refreshed{}, err
	}
	mounts, failed, why := c.placeAgain(ctx, next.ID, at)
	if why != nil {
		why.Message += fmt.Sprintf(" (%s is refreshed, and not mounted at %s any more)", in.Name, strings.Join(failed, ", "))
		return api.Refreshed{}, why
	}
	out, err := c.refreshed(ctx, old.ID, next.ID)
	out.Volume.Mounts, out.Old.Used = mounts, used
	return out, err
}

// refreshed is the answer.
func (c *call) refreshed(ctx context.Context, old, next catalog.ID) (api.Refreshed, error) {
	v, err := c.agent.store.current(ctx, workAge)
	if err != nil {
		return api.Refreshed{}, err
	}
	was, now := v.Catalog.ByID(old), v.Catalog.ByID(next)
	if was == nil || now == nil {
		return api.Refreshed{}, fmt.Errorf("cannot find a refreshed volume again: %w", lvm.ErrNotFound)
	}
	out := api.Refreshed{Volume: c.show(v, now, nil), Old: c.show(v, was, nil)}
	if keep := c.agent.expiry(v, was).Trash; keep > 0 && was.State == catalog.Trash {
		until := was.Deleted.Add(keep)
		out.Old.Expires = &until
	}
	if edits, at, known := c.agent.measured.freesAt(old); known {
		out.Edits, out.EditsAt = &edits, &at
	}
	return out, nil
}

// originOf is what a volume is a snapshot of, if the caller may snapshot that again.
func (c *call) originOf(v *View, r *catalog.Record, name string) (*catalog.Record, error) {
	if r.Origin == "" {
		return nil, api.Errorf(api.Malformed, "cannot refresh %s: it is a snapshot of nothing", name).WithHint("take a snapshot: lls snapshot SOURCE NAME")
	}
	o := v.Catalog.ByID(r.Origin)
	if o == nil || !o.Known(c.asker) || o.State == catalog.Making || o.LV.VG != r.LV.VG {
		return nil, api.Errorf(api.NotFound, "cannot refresh %s: what it is a snapshot of is gone, or hidden", name).WithHint("see what there is: lls list")
	}
	shown := v.Catalog.Shown(c.asker, o)
	if o.State == catalog.Trash {
		return nil, api.Errorf(api.NotFound, "cannot refresh %s: %s is in the trash", name, shown).WithHint("have it back first: lls undelete %s", shown)
	}
	if refused := o.May(c.asker, catalog.Snapshot, "refresh", shown); refused != nil {
		return nil, refused
	}
	return o, nil
}

// movable are the mounts of a volume, if all of them can be had again on another one. For a container they have to be its own.
func (c *call) movable(name string, r *catalog.Record) ([]place, error) {
	places := c.agent.places()
	if r.LV.Active && slices.Contains(places.unknown, c.guest) {
		return nil, tooManyMounts("refresh", name)
	}
	at := placesOf(places, r.LV)
	var way []api.Holder
	for _, p := range at {
		if !c.asker.Admin && p.guest != c.guest {
			way = []api.Holder{{Container: api.AnotherContainer}}
			break
		}
		way = append(way, c.inTheWay(p)...)
	}
	if len(way) == 0 {
		return at, nil
	}
	e := api.Errorf(api.Busy, "cannot refresh %s: it is in use", name).WithHint("see who uses it: lls info %s", name)
	if way[0].Path != "" {
		e = api.Errorf(api.Busy, "cannot refresh %s: a mount of a part of it, or one below it, could not be had again", name).
			WithHint("umount %.200s", way[0].Path)
	}
	e.Holders = way
	return nil, e
}

// inTheWay are the mounts that keep another from being moved: itself, when it shows but a part of its volume, and those below it.
func (c *call) inTheWay(p place) (found []api.Holder) {
	if p.Root != "/" {
		return []api.Holder{p.holder()}
	}
	below, err := c.agent.mountedOn(p)
	if err != nil { // what is mounted below it is not known
		return []api.Holder{p.holder()}
	}
	for _, q := range below {
		if q.Major != p.Major || q.Minor != p.Minor {
			found = append(found, q.holder())
		}
	}
	return found
}

// reserveRaw lets nobody open a volume raw until the result is called, which also shows the devices that there are then.
func (c *call) reserveRaw(ctx context.Context, id catalog.ID) (release func()) {
	unblock := c.agent.raw.block(id)
	return func() {
		unblock()
		c.agent.work.Go(func() { c.agent.showAll(context.WithoutCancel(ctx)) })
	}
}

// successor makes the new snapshot. It is not live yet; its name is that of the old one, which is reserved.
func (c *call) successor(ctx context.Context, old, src *catalog.Record, activate bool) (*catalog.Record, error) {
	p := &plan{verb: "refresh", replaces: old, Record: catalog.Record{
		Name: old.Name, Owner: old.Owner, State: catalog.Making, Origin: src.ID, FS: src.FS, LV: lvm.Volume{ReadOnly: old.LV.ReadOnly},
	}}
	inherit(&p.Record, old)
	if err := c.writeOut(ctx, p, src, writeOutPatience); err != nil {
		return nil, err
	}
	err := c.agent.store.write(ctx, src.LV.VG, func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		return c.addSnapshot(ctx, w, v, src.ID, p, activate)
	})
	return &p.Record, c.heldBy(ctx, src, err)
}

// inherit gives a volume what its owner said of the one it replaces.
func inherit(to, from *catalog.Record) {
	to.Visible, to.Access, to.GrowTo, to.Lease, to.Forever = from.Visible, from.Access, from.GrowTo, from.Lease, from.Forever
}

// retired is a volume after its refresh. Its lease is its successor's, so that it does not stay in the trash for ever.
func retired(r *catalog.Record, next catalog.ID, at time.Time) catalog.Record {
	gone := *r
	gone.State, gone.Deleted, gone.NextID = catalog.Trash, at, next
	gone.Lease, gone.Forever = catalog.Record{}.Lease, false
	return gone
}

// exchange takes the old volume's mounts away and puts the new one in its place, or leaves all as it was.
func (c *call) exchange(ctx context.Context, name string, old, next *catalog.Record, at []place) error {
	c.progress("taking the mounts away")
	taken, err := c.takeAway(ctx, name, old, at)
	if err == nil {
		err = c.agent.swap(ctx, old, next)
	}
	if err == nil {
		return nil
	}
	switch done, unknown := c.agent.settled(ctx, next); {
	case unknown != nil: // the next look at what is unfinished ends it, one way or the other
		return errors.Join(err, unknown)
	case done:
		return nil
	}
	_, failed, again := c.placeAgain(ctx, old.ID, taken)
	if errors.Is(err, lvm.ErrOpen) || errors.Is(err, mount.ErrBusy) {
		err = c.inUse(ctx, name, old).Because(err)
	}
	if e := c.agent.discard(ctx, next, c.agent.unfinished); e != nil {
		c.agent.log.Error("cannot take back a snapshot whose refresh failed", "volume", next.LV.Name, "error", e)
	}
	if again != nil {
		e := c.explain(err)
		return api.Errorf(e.Code, "%s; and it is not mounted at %s any more", e.Message, strings.Join(failed, ", ")).
			WithHint("%s", again.Hint).Because(errors.Join(err, again))
	}
	return err
}

// inUse is the refusal of what somebody has open. Where its own mounts are is no news; where others have it is.
func (c *call) inUse(ctx context.Context, name string, r *catalog.Record) *api.Error {
	e := api.Errorf(api.Busy, "cannot refresh %s: it is in use", name).WithHint("end what uses it, then: lls refresh %s", name)
	e.Holders = c.holdersOf(ctx, r.LV, func(h mount.Holder, g *guest) bool {
		return !c.agent.isPlain(h, g) || !c.asker.Admin && g != c.guest
	})
	return e
}

// takeAway unmounts, the latest mount first, and says what it has taken away, in the order in which it can be mounted again.
func (c *call) takeAway(ctx context.Context, name string, r *catalog.Record, at []place) (taken []place, err error) {
	ctx, cancel := context.WithTimeout(ctx, placeDeadline)
	defer cancel()
	for _, p := range slices.Backward(at) {
		err := c.unplace(ctx, p.guest, p.Point)
		switch {
		case err == nil:
			taken = slices.Insert(taken, 0, p)
			if v := c.agent.store.latest(); v != nil {
				c.agent.told(api.EventUnmounted, v, r, p.guest, p.Path)
			}
		case errors.Is(err, mount.ErrNotMounted), errors.Is(err, mount.ErrGone): // somebody was quicker, and does not want it again
		case errors.Is(err, mount.ErrStuck):
			return taken, api.Errorf(api.Busy, "cannot refresh %s: the container's file system does not answer", name).Because(err)
		default:
			return taken, err
		}
	}
	return taken, nil
}

// placeAgain mounts a volume where another was, as that was mounted. All are tried; the error is that of the first that failed.
func (c *call) placeAgain(ctx context.Context, id catalog.ID, at []place) (done []api.Mount, failed []string, why *api.Error) {
	v, err := c.agent.store.current(ctx, workAge)
	if err != nil {
		return nil, nil, c.explain(err)
	}
	r := v.Catalog.ByID(id)
	if r == nil || r.State != catalog.Live {
		return nil, nil, nil // it was deleted meanwhile
	}
	for _, p := range at {
		to := target{path: p.Path, readOnly: p.Has("ro"), noAtime: p.Has("noatime"), discard: slices.Contains(p.SuperOptions, "discard")}
		m, err := c.place(ctx, v, r, to, p.guest)
		switch {
		case err == nil:
			done = append(done, m)
		case errors.Is(err, mount.ErrGone): // with its container
		default:
			failed = append(failed, p.Path)
			if why == nil {
				why = c.explain(err)
				why = api.Errorf(why.Code, "%s", why.Message).WithHint("mend that, then: %s", c.typed(v.Catalog.Shown(c.asker, r), p, to)).Because(err)
			}
		}
	}
	return done, failed, why
}

// typed is the command that mounts a volume there.
func (c *call) typed(name string, p place, to target) string {
	line := "lls mount " + name + " " + p.Path
	if to.readOnly {
		line += " --ro"
	}
	if c.asker.Admin && p.guest != nil {
		line += " --container " + p.guest.Owner.Name
	}
	return line
}

// swap has the old volume go to the trash and the new one live, under one writer. Nobody may have the old one open, whether we know of
// it or not: then it is lvm.ErrOpen, and nothing is changed.
func (a *Agent) swap(ctx context.Context, old, next *catalog.Record) error {
	return a.store.write(ctx, old.LV.VG, func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		was, err := v.same(old)
		if err != nil {
			return nil, err
		}
		made, err := v.same(next)
		if err != nil {
			return nil, err
		}
		if was.State != catalog.Live || made.State != catalog.Making {
			return nil, api.Errorf(api.NotFound, "cannot refresh %s: it was deleted just now", was.Name)
		}
		if err := w.Deactivate(ctx, was.LV.Name); err != nil {
			return nil, err
		}
		lease := a.past.age(was.ID).Heir()
		gone, live := retired(was, made.ID, v.Catalog.DeletedAt(was, a.opts.Now())), *made
		inherit(&live, was) // it may have changed since
		live.State = catalog.Live
		for _, x := range []struct{ from, to *catalog.Record }{{was, &gone}, {made, &live}} {
			add, del := x.from.Changes(x.to)
			if err := w.Retag(ctx, x.from.LV.Name, add, del); err != nil {
				return nil, err
			}
		}
		a.past.with(func(h *history.History) { h.Ages[string(made.ID)] = lease })
		return both(
			changed(was.LV.Name, func(v *lvm.Volume) { v.Tags, v.Active, v.Major, v.Minor = gone.Tags(), false, 0, 0 }),
			changed(made.LV.Name, func(v *lvm.Volume) { v.Tags = live.Tags() }),
		), nil
	})
}

// settled finds out what a swap that failed has done, and finishes it where it got beyond its middle.
func (a *Agent) settled(ctx context.Context, next *catalog.Record) (done bool, err error) {
	v, err := a.store.current(ctx, 0)
	if err != nil {
		return false, err
	}
	if v.Catalog.Replaced(next.ID) == nil {
		return false, nil
	}
	return true, a.finishRefresh(ctx, next)
}

// finishRefresh has a volume live whose predecessor is in the trash already.
func (a *Agent) finishRefresh(ctx context.Context, r *catalog.Record) error {
	a.log.Info("finishing a refresh", "volume", r.LV.Name)
	_, err := a.retag(ctx, r, false, func(to *catalog.Record, v *View) error {
		old := v.Catalog.Replaced(to.ID)
		if to.State != catalog.Making || old == nil {
			return nil // it is done
		}
		to.State, to.Visible, to.Access, to.GrowTo = catalog.Live, old.Visible, old.Access, old.GrowTo
		return nil
	})
	return err
}

// unfinished says under the writer whether a volume never became live, and is not to become so.
func (a *Agent) unfinished(now *catalog.Record) bool {
	v := a.store.latest()
	return now.State == catalog.Making && v != nil && v.Catalog.Replaced(now.ID) == nil
}

// counted is what a plan adds to its owner's quota.
func (p *plan) counted(v *View) policy.Ask {
	if p.replaces == nil {
		return p.ask
	}
	live, gone := p.Record, *p.replaces
	live.ID, live.State = catalog.NewID(), catalog.Live
	gone.State, gone.NextID = catalog.Trash, live.ID
	live.LV = lvm.Volume{VG: gone.LV.VG, Name: live.LVName(), Pool: lvm.Name(p.pool.LV), Thin: true, Size: lvm.Size(p.ask.Size), Tags: live.Tags()}
	return v.more(p.Owner, p.pool, both(changed(gone.LV.Name, func(v *lvm.Volume) { v.Tags = gone.Tags() }), appended(live.LV)))
}

// more is what a change of a pool's group adds to what its owner uses of the pool.
func (v *View) more(o catalog.Owner, p policy.Pool, change edit) policy.Ask {
	was, now := useOf(v, o, p, nil), useOf(v.edited(lvm.VG(p.Group), change), o, p, nil)
	return policy.Ask{Volume: now.Volumes > was.Volumes, Snapshot: now.Snapshots > was.Snapshots, Size: max(0, now.Size-was.Size)}
}

// hinted gives a refusal the hint that helps when it is for what an earlier refresh put into the trash, which would count from now on.
func (p *plan) hinted(v *View, refused *api.Error) *api.Error {
	if p.replaces == nil || v.Catalog.Replaced(p.replaces.ID) == nil {
		return refused
	}
	return refused.WithHint("what the last refresh put into the trash would count from now on; to destroy it: lls purge %s --yes", v.Catalog.Replaced(p.replaces.ID).LV.Name)
}
