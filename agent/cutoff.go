package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/mount"
	"lls/lvm"
)

// A volume that was cut off keeps a device that gives errors, until that is made anew, which LVM refuses while anybody has it open. That it is
// so, the kernel knows: its table stays through a crash of the agent and ends with the device. Every LVM command that suspends the volume
// loads the table that it should have, and who was cut off would be back: such a command is refused.

// errCutOff means that a volume was cut off by force, and that somebody has it open still.
var errCutOff = errors.New("cut off by force, and open still")

// restoreEvery is how soon it is tried again to make a device anew that somebody had open.
const restoreEvery = 5 * time.Second

// anew takes a volume's device away and makes it anew, under the writer: lvm.ErrOpen when somebody has it open.
func (a *Agent) anew(ctx context.Context, w lvm.Writer, v lvm.Volume) (edit, error) {
	if err := w.Deactivate(ctx, v.Name); err != nil {
		return nil, err
	}
	if err := w.Activate(ctx, v.Name); err != nil {
		return nil, err
	}
	major, minor, err := a.devices.Number(v.VG, v.Name)
	return changed(v.Name, func(v *lvm.Volume) { v.Active, v.Open, v.Major, v.Minor = true, false, major, minor }), err
}

// anewAtOnce is anew, but does not wait until who has it open may be done, as LVM does, for 5 s: it holds the writer, and a container's root
// may have it done as often as he likes.
func (a *Agent) anewAtOnce(ctx context.Context, w lvm.Writer, v lvm.Volume) (edit, error) {
	g, err := w.Report(ctx)
	if err != nil {
		return nil, err
	}
	if now, ok := g.Volume(v.Name); ok && now.Open {
		return nil, fmt.Errorf("cannot make %s anew: %w", v.Name, lvm.ErrOpen)
	}
	return a.anew(ctx, w, v)
}

// isCutOff asks the kernel whether a volume was cut off.
func (a *Agent) isCutOff(v lvm.Volume) (bool, error) {
	if !v.Active {
		return false, nil
	}
	return a.devices.IsCutOff(v.VG, v.Name)
}

// showsCutOff is isCutOff for people. Only what is marked as raw can be, and only that is asked for, so that a list stays cheap.
func (a *Agent) showsCutOff(r *catalog.Record) bool {
	if !r.Raw {
		return false
	}
	cut, err := a.isCutOff(r.LV)
	if err != nil {
		a.log.Warn("cannot see whether a volume was cut off", "volume", r.LV.Name, "error", err)
	}
	return cut
}

// whole is called under the writer before any command that suspends a volume. Where it was cut off, its device is made anew; while somebody has
// that open, the command is refused, with "REFUSED was cut off".
func (c *call) whole(ctx context.Context, w lvm.Writer, v *View, r *catalog.Record, refused string) (edit, error) {
	cut, err := c.agent.isCutOff(r.LV)
	if err != nil || !cut {
		return nil, err
	}
	made, err := c.agent.anewAtOnce(ctx, w, r.LV)
	if errors.Is(err, lvm.ErrOpen) {
		return nil, api.Errorf(api.Busy, "%s was cut off by force, and is open still", refused).Because(errors.Join(errCutOff, err)).
			WithHint("end what has it open, or stop that container, then try again; who it is: lls info %s", v.Catalog.Shown(c.asker, r))
	}
	return made, err
}

// heldBy adds to a refusal of whole who has the volume open. Any other error stays as it is.
func (c *call) heldBy(ctx context.Context, r *catalog.Record, err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok && errors.Is(err, errCutOff) {
		e.Holders = c.holdersOf(ctx, r.LV, func(h mount.Holder, _ *guest) bool { return h.Kind == mount.HeldDevice })
	}
	return err
}

// cutOff has all that have a device open get errors, unless it is mounted: lvm.ErrOpen. The caller has blocked it.
func (a *Agent) cutOff(ctx context.Context, r *catalog.Record) error {
	return a.store.write(ctx, r.LV.VG, func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		now, err := v.same(r)
		if err != nil {
			return nil, err
		}
		if a.raw.others(r.ID) { // somebody is about to mount it
			return nil, fmt.Errorf("cannot cut off %s: %w", r.LV.Name, lvm.ErrOpen)
		}
		to := *now
		to.Raw = true // so that its device is made anew before it is mounted
		if add, del := now.Changes(&to); len(add) > 0 {
			if err := w.Retag(ctx, r.LV.Name, add, del); err != nil {
				return nil, err
			}
		}
		// LVM reads when its own commands have ended. One that outlived an earlier agent would undo what comes now.
		if _, err := w.Report(ctx); err != nil {
			return nil, err
		}
		return changed(r.LV.Name, func(v *lvm.Volume) { v.Tags = to.Tags() }), a.devices.CutOff(ctx, r.LV.VG, r.LV.Name)
	})
}

// try says whether to make a device anew now: nobody else is about to, and it was not tried a moment ago.
func (r *rawAccess) try(id catalog.ID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, tried := r.tried[id]
	if r.ending || r.blocked[id] > 0 || tried && now.Sub(last) < restoreEvery {
		return false
	}
	r.tried[id] = now
	return true
}

// restored forgets that it was tried.
func (r *rawAccess) restored(id catalog.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tried, id)
}

// restore makes the devices of volumes anew that were cut off and that somebody may open again, once nobody has them open any more.
func (a *Agent) restore(ctx context.Context, records []*catalog.Record) {
	some := false
	for _, r := range records {
		if r.LV.Open || !a.raw.try(r.ID, a.growers.now()) {
			continue
		}
		done, err := a.restoreOne(ctx, r)
		if err != nil && !errors.Is(err, errShutdown) {
			a.log.Warn("cannot make the device of a volume anew that was cut off", "volume", r.LV.Name, "error", err)
		}
		if some = some || done; done {
			a.raw.restored(r.ID)
		}
	}
	if some {
		a.showAll(ctx)
	}
}

func (a *Agent) restoreOne(ctx context.Context, r *catalog.Record) (done bool, err error) {
	defer a.raw.block(r.ID)()
	err = a.store.write(ctx, r.LV.VG, func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		now, err := v.same(r)
		if err != nil {
			return nil, err
		}
		cut, err := a.isCutOff(now.LV)
		if err != nil || !cut {
			return nil, err
		}
		made, err := a.anewAtOnce(ctx, w, now.LV)
		if errors.Is(err, lvm.ErrOpen) {
			return changed(r.LV.Name, func(v *lvm.Volume) { v.Open = true }), nil // the next look shows when it is not
		}
		done = err == nil
		return made, err
	})
	return done, err
}
