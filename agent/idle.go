package agent

import (
	"context"
	"errors"
	"maps"
	"time"

	"lls/agent/catalog"
	"lls/lvm"
)

// idling deactivates, until ctx ends, the volumes that have been active and unused for as long as lls.toml says, so that a host does not
// carry thousands of devices.
func (a *Agent) idling(ctx context.Context) {
	since := map[catalog.ID]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.reread: // it may say something else now
		case <-time.After(idlePace(a.config().DeactivateAfter)):
			a.idle(ctx, since)
		}
	}
}

// idlePace is how often to look for unused volumes: one goes at most a fifth later than it should.
func idlePace(after time.Duration) time.Duration {
	if after == 0 {
		return time.Minute
	}
	return min(max(after/5, time.Second), time.Minute)
}

// idle deactivates the volumes that have been unused long enough, and those in the trash at once. since remembers when each was first seen
// unused.
func (a *Agent) idle(ctx context.Context, since map[catalog.ID]time.Time) {
	after := a.config().DeactivateAfter
	v, err := a.store.current(ctx, 0)
	if err != nil {
		return // the next report tells of it
	}
	at, now := a.places(), a.opts.Now()
	unused := map[catalog.ID]bool{}
	for _, r := range v.Catalog.Records {
		// Where mounts are not known, LVM does: it deactivates nothing that is open.
		if !r.LV.Active || r.LV.Open || r.State == catalog.Making || len(placesOf(at, r.LV)) > 0 {
			continue
		}
		if after == 0 && r.State != catalog.Trash { // what lives stays active
			continue
		}
		unused[r.ID] = true
		if _, known := since[r.ID]; !known {
			since[r.ID] = now
		}
		if r.State != catalog.Trash && now.Sub(since[r.ID]) < after {
			continue
		}
		if !a.during(ctx, func(ctx context.Context) { err = a.deactivate(ctx, r) }) {
			return
		}
		if err != nil && !errors.Is(err, lvm.ErrNotFound) {
			a.log.Warn("cannot deactivate an unused volume", "volume", r.LV.Name, "error", err)
		}
		delete(since, r.ID)
	}
	maps.DeleteFunc(since, func(id catalog.ID, _ time.Time) bool { return !unused[id] })
}

// deactivate has an unused volume's device go.
func (a *Agent) deactivate(ctx context.Context, r *catalog.Record) error {
	a.log.Info("deactivating an unused volume", "volume", r.LV.Name)
	return a.store.write(ctx, r.LV.VG, func(ctx context.Context, w lvm.Writer, _ *View) (edit, error) {
		err := w.Deactivate(ctx, r.LV.Name)
		if errors.Is(err, lvm.ErrOpen) {
			return changed(r.LV.Name, func(v *lvm.Volume) { v.Open = true }), nil // somebody was quicker
		}
		return changed(r.LV.Name, func(v *lvm.Volume) { v.Active, v.Major, v.Minor = false, 0, 0 }), err
	})
}
