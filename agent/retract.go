package agent

import (
	"context"
	"errors"
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
	if g.nodes != nil {
		if err := a.setNodes(g, nil); err != nil {
			return err
		}
	}
	g.shown, g.settled = nil, false
	for _, x := range lost {
		if !g.box.Mapped {
			if err := a.containers.SetDevice(ctx, g.Container, false, x.rule()); err != nil {
				return err
			}
		}
		a.log.Info("took back a right to open a device that was lost with the agent before", "container", g.Owner, "volume", x.id)
		if err := a.raw.forget(x); err != nil {
			return err
		}
	}
	return nil
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
			if g := a.guests.get(c.Key()); g != nil {
				a.complain("cannot take back what a container may open", c, a.showNodesTo(ctx, g))
			} else {
				a.retractRules(ctx, c)
			}
		})
	}
	done.Wait()
}

// retractRules takes back the rules of what was lost from a container that cannot be served, as when its /dev/mf does not answer: without
// them its nodes open nothing. What was lost stays so, until its nodes have gone as well.
func (a *Agent) retractRules(ctx context.Context, c container.Container) {
	u, runs := a.guests.whyNot(c.Key())
	if !runs || !errors.Is(u.why, errStuck) {
		return
	}
	box, err := mount.OpenBox(u.pid, nil)
	if err != nil {
		a.complain("cannot take back what a container may open", c, err)
		return
	}
	_ = box.Close()
	if box.Mapped {
		return // it has no rules
	}
	for _, x := range a.raw.lostOf(c.Key()) {
		err = errors.Join(err, a.containers.SetDevice(ctx, c, false, x.rule()))
	}
	a.complain("cannot take back what a container may open", c, err)
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
