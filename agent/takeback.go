package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"lls/agent/catalog"
	"lls/lvm"
)

// How long, and how often, it is tried to take back what is open: udev has a device open for a moment after each use.
const (
	takeBackFor   = 10 * time.Second
	takeBackEvery = 200 * time.Millisecond
)

// takeBack removes a volume whose request failed, so that it leaves nothing. What somebody keeps in use stays.
func (a *Agent) takeBack(ctx context.Context, r *catalog.Record) {
	taken := func() error {
		return a.discard(ctx, r, func(now *catalog.Record) bool { return now.State != catalog.Trash })
	}
	err := taken()
	for end := time.Now().Add(takeBackFor); errors.Is(err, lvm.ErrOpen) && time.Now().Before(end) && !a.ends(takeBackEvery); {
		err = taken()
	}
	if err != nil {
		a.log.Error("cannot take back a volume whose request failed", "volume", r.LV.Name, "error", err)
	}
}

// ends waits for a time, and says whether the agent stops meanwhile.
func (a *Agent) ends(d time.Duration) bool {
	select {
	case <-a.stopping:
		return true
	case <-time.After(d):
		return false
	}
}

// unmake takes away what LVM made before it failed. It is born live, and nobody was told of it. That it is ours is seen by all of its
// tags, its new id among them.
func (a *Agent) unmake(ctx context.Context, w lvm.Writer, p *plan) {
	g, err := w.Report(ctx)
	if err != nil {
		a.log.Error("cannot tell what a failed snapshot has left", "volume", p.LV.Name, "error", err)
		return
	}
	v, there := g.Volume(p.LV.Name)
	if !there || slices.ContainsFunc(p.Tags(), func(t lvm.Tag) bool { return !v.HasTag(t) }) {
		return
	}
	if v.Active { // LVM waits until nobody has it open any more
		if err := w.Deactivate(ctx, v.Name); err != nil {
			a.log.Warn("cannot deactivate a snapshot that LVM made and failed", "volume", p.LV.Name, "error", err)
		}
	}
	if err := w.Remove(ctx, p.LV.Name, func(now lvm.Volume) bool { return now.UUID == v.UUID }); err != nil {
		a.log.Error("cannot take back a snapshot that LVM made and failed", "volume", p.LV.Name, "error", err)
	}
}
