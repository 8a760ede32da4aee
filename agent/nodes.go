package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"lls/agent/catalog"
	"lls/agent/mount"
)

// wantedNodes are the devices that a guest is to see at /dev/mf: one for each active volume that it may know, its own and the host's at
// the top, its own first, others' below their owner. Who has no grant may not open them.
func wantedNodes(v *View, g *guest, granted map[grant]bool) []mount.Node {
	asker := g.asker()
	top := map[string]bool{}
	var nodes []mount.Node
	add := func(r *catalog.Record, path string) {
		n := mount.Node{Path: path, Major: r.LV.Major, Minor: r.LV.Minor, GID: g.box.RootGID}
		raw := grant{g.Key(), r.ID, device{n.Major, n.Minor}, false}
		if granted[raw] {
			n.Mode = 0o440
		}
		if raw.write = true; granted[raw] {
			n.Mode = 0o660
		}
		nodes = append(nodes, n)
	}
	for _, own := range []bool{true, false} {
		for _, r := range v.Catalog.Records {
			if r.State != catalog.Live || !r.LV.Active || r.LV.Major == 0 || !r.Known(asker) || (r.Owner == asker.Owner) != own {
				continue
			}
			switch name := string(r.Name); {
			case !own && !r.Owner.IsHost():
				owner, _, _ := strings.Cut(v.Catalog.Shown(asker, r), "/")
				add(r, owner+"/"+name)
			case !top[name]:
				top[name] = true
				add(r, name)
			}
		}
	}
	return nodes
}

// showAll brings /dev/mf, and what may be opened there, of every guest up to what is.
func (a *Agent) showAll(ctx context.Context) {
	var all sync.WaitGroup // one whose monitor does not answer does not hold up the others for longer than one answer may take
	for _, g := range a.guests.list() {
		all.Go(func() {
			a.complain("cannot show all devices at /dev/mf", g.Container, a.showNodesTo(ctx, g))
		})
	}
	all.Wait()
}

// showDeadline bounds what is done in one container to show its devices.
const showDeadline = 15 * time.Second

// soonDeadline is how long a container's start waits for its devices, when the volume groups have not been read.
const soonDeadline = 2 * time.Second

// showNodesSoon is showNodesTo for the start of a container, which must not wait for an LVM that hangs: with the view at hand, or none at
// all when there is none. What is missing comes with the next view.
func (a *Agent) showNodesSoon(ctx context.Context, g *guest) error {
	v := a.store.latest()
	if v == nil {
		read := make(chan *View, 1)
		a.work.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportDeadline)
			defer cancel()
			v, err := a.store.current(ctx, workAge)
			if err != nil {
				a.log.Warn("cannot read the volume groups", "error", err)
			}
			read <- v
		})
		select {
		case v = <-read:
		case <-time.After(soonDeadline):
		case <-ctx.Done():
		}
	}
	if v != nil {
		return a.showNodes(ctx, g, v)
	}
	g.showing.Lock()
	defer g.showing.Unlock()
	if g.shown != nil {
		return nil // somebody else has read them meanwhile
	}
	release, err := g.hold()
	if err != nil {
		return nil // it has ended
	}
	defer release()
	g.settled = false
	return a.setNodes(g, nil)
}

// setNodes brings the nodes of a guest to what is wanted, which nobody may change any more. When that is late it may still happen.
func (a *Agent) setNodes(g *guest, want []mount.Node) error {
	return a.touch(g, func() error {
		_, err := g.nodes.Set(want)
		return err
	})
}

// showNodesTo brings /dev/mf of one guest, and what it may open raw, up to what is.
func (a *Agent) showNodesTo(ctx context.Context, g *guest) error {
	ctx, cancel := context.WithTimeout(ctx, showDeadline)
	defer cancel()
	if g.nodes == nil {
		g.showing.Lock()
		defer g.showing.Unlock()
		return a.mayRetract(ctx, g)
	}
	v, err := a.store.current(ctx, workAge)
	if err != nil {
		return err
	}
	return a.showNodes(ctx, g, v)
}

// mayRetract retracts what was lost from a guest, as soon as liblxc may be asked about it. The caller holds g.showing.
func (a *Agent) mayRetract(ctx context.Context, g *guest) error {
	if !g.ready.Load() && !g.box.Mapped {
		return nil
	}
	return a.retract(ctx, g)
}

// showNodes is showNodesTo with v, or a later view. Nobody waits for LVM while he has the guest's nodes to himself.
func (a *Agent) showNodes(ctx context.Context, g *guest, v *View) (err error) {
	g.showing.Lock()
	defer g.showing.Unlock()
	if err := a.mayRetract(ctx, g); err != nil {
		return err
	}
	if now := a.store.latest(); now != nil {
		v = now
	}
	wanted := a.wantedGrants(v, g)
	if len(wanted.unmarked) > 0 {
		a.work.Go(func() { a.mark(context.WithoutCancel(ctx), wanted.unmarked) }) // the view changes, and they are granted
	}
	if len(wanted.cutOff) > 0 {
		a.work.Go(func() { a.restore(context.WithoutCancel(ctx), wanted.cutOff) })
	}
	granted, withheld := wanted.grants, wanted.withheld
	err = a.hold(v, g, granted)
	want := wantedNodes(v, g, granted)
	if g.settled && slices.Equal(want, g.shown) && maps.Equal(granted, g.granted) {
		return err
	}
	release, gone := g.hold()
	if gone != nil {
		return nil // it has ended
	}
	defer release()
	setErr := a.setNodes(g, want)
	g.shown = want
	g.laid = g.laid || setErr == nil
	var failed *mount.SetError
	switch {
	case errors.As(setErr, &failed) && failed.Failed == nil: // some cannot be shown; none is there that should not be
		a.log.Warn("cannot show all devices at /dev/mf", "container", g.Owner, "error", setErr)
		fallthrough
	case setErr == nil:
		if g.ready.Load() || g.box.Mapped {
			err = errors.Join(err, a.rules(ctx, g, granted))
		} else {
			withheld = true // liblxc may not be asked yet
		}
	default: // a node that is still there may be open to all
		err = errors.Join(err, setErr)
		if !g.box.Mapped && g.ready.Load() { // but for the device rules, which are no container's to change
			err = errors.Join(err, a.takeRules(ctx, g, granted))
		}
		g.granted = nil
	}
	g.settled = err == nil && !withheld
	return err
}
