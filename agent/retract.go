package agent

import (
	"context"
	"slices"
	"sync"

	"lls/agent/container"
	"lls/agent/mount"
)

// retract takes back what a guest was granted whose device nobody has held since, which may be another volume's by now: what is at
// /dev/mf goes, and then the rules. What the guest may have is given to it anew. A container that was started again has no such rule, and
// loses nothing by its being taken back.
func (a *Agent) retract(ctx context.Context, g *guest) error {
	lost := a.raw.lostOf(g.Key())
	if len(lost) == 0 {
		return nil
	}
	release, gone := g.hold()
	if gone != nil {
		return nil // it has ended
	}
	defer release()
	var setErr error
	if g.nodes != nil {
		setErr = a.setNodes(g, nil)
	}
	g.shown, g.settled = nil, false
	for _, x := range lost {
		if g.box.Mapped && setErr != nil {
			return setErr // that node is all there is
		}
		if !g.box.Mapped { // whose root keeps the nodes that he wants: his device rules are what counts
			if err := a.containers.SetDevice(ctx, g.Container, false, x.rule()); err != nil {
				return err
			}
		}
		a.log.Info("took back a right to open a device that was lost with the agent before", "container", g.Owner, "volume", x.id)
		if err := a.raw.forget(x); err != nil {
			return err
		}
	}
	return setErr
}

// retractUnserved takes device rules back from a container that runs and is not served, as when its root keeps the agent from that. An
// unprivileged one has none; its nodes nobody can take away then.
func (a *Agent) retractUnserved(ctx context.Context, key string, pick func(grant) bool) {
	all, _ := a.containers.List(paths(a.config()))
	i := slices.IndexFunc(all, func(c container.Container) bool { return c.Key() == key })
	if i < 0 {
		return // what it was granted stays ours until it has ended, or is listed again: letGoUnlisted
	}
	c := all[i]
	ctx, cancel := context.WithTimeout(ctx, showDeadline)
	defer cancel()
	pid, err := a.containers.Init(ctx, c)
	if err != nil {
		return // it has ended, or nobody can tell: what it was granted stays ours
	}
	box, err := mount.OpenBox(pid, nil)
	if err != nil {
		return
	}
	defer box.Close()
	if box.Mapped {
		return
	}
	for _, x := range a.raw.of(func(x grant) bool { return x.key == key && pick(x) }) {
		err := a.containers.SetDevice(ctx, c, false, x.rule())
		if err == nil {
			err = a.raw.forget(x)
		}
		if err != nil {
			a.log.Warn("cannot take back what a container may open that is not served", "container", c.Owner, "volume", x.id, "error", err)
			continue
		}
		a.log.Info("took back a right to open a device of a container that is not served", "container", c.Owner, "volume", x.id)
	}
}

// retractAll does that for all that run, before anybody is served: until then nothing that is made can get the number of such a device.
func (a *Agent) retractAll(ctx context.Context) {
	lost := map[string]bool{}
	for _, x := range a.raw.lostOf("") {
		lost[x.key] = true
	}
	if len(lost) == 0 {
		return
	}
	all, err := a.containers.List(paths(a.config()))
	if err != nil {
		a.log.Warn("cannot list all containers", "error", err)
	}
	var done sync.WaitGroup
	for _, c := range all {
		if !lost[c.Key()] {
			continue
		}
		done.Go(func() {
			a.adoptOne(ctx, c)
			if g := a.guests.get(c.Key()); g == nil {
				a.retractUnserved(ctx, c.Key(), func(grant) bool { return true })
			} else {
				a.complain("cannot take back what a container may open", c, a.showNodesTo(ctx, g))
			}
		})
	}
	done.Wait()
}

// endRaw takes all rights to open devices back, before the agent stops: nobody would be there to keep a device's number from being
// another volume's. What is open stays open, and so keeps its device.
func (a *Agent) endRaw(ctx context.Context) {
	if len(a.raw.of(func(grant) bool { return true })) == 0 {
		return
	}
	a.raw.end()
	a.showAll(ctx)
}
