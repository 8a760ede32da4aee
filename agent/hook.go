package agent

import (
	"context"
	"errors"
	"fmt"

	"lls/agent/api"
	"lls/agent/container"
	"lls/agent/mount"
)

// hookStart serves a container that is being started, before its init runs. Nothing here may ask liblxc about the container: its
// monitor waits for the hook and does not answer.
func (c *call) hookStart(ctx context.Context, in api.HookStart) (api.HookAnswer, error) {
	k, err := c.agent.containers.Find(paths(c.config), in.LXCPath, in.Name)
	if errors.Is(err, container.ErrNone) {
		return api.HookAnswer{}, api.Errorf(api.NotFound, "%v", err)
	}
	if err != nil { // it is one of ours, which must not be taken for one that is not
		c.agent.guests.note(k, in.PID, err)
		return api.HookAnswer{}, api.Errorf(api.NeedsAdmin, "%v", err).WithHint("see: lls-agent containers")
	}
	if !startedBy(int(c.peer.Pid), in.PID) { // that the caller is root was checked before
		return api.HookAnswer{}, api.Errorf(api.Denied, "cannot serve container %.64q: process %d is not a child of the hook's parent", in.Name, in.PID)
	}
	c.what = k.Owner.String()
	c.progress("serving the container")
	ctx = context.WithoutCancel(ctx) // a hook that has waited long enough goes, and the work goes on
	defer c.agent.guests.hook(k.Key())()
	err = c.agent.serve(ctx, k, in.PID)
	if errors.Is(err, mount.ErrHostMounts) {
		return api.HookAnswer{}, api.Errorf(api.NotFound, "cannot serve container %.64q: %v", in.Name, err)
	}
	if err != nil {
		return api.HookAnswer{}, err
	}
	g := c.agent.guests.get(k.Key())
	if g == nil {
		return api.HookAnswer{}, mount.ErrGone
	}
	defer func() {
		g.ready.Store(true)
		c.agent.work.Go(func() { _ = c.agent.showNodesTo(ctx, g) }) // liblxc answers once the hook has ended
	}()
	done := c.replayFirst(ctx, g)
	answer := api.HookAnswer{Unread: done.Unread}
	for _, line := range done.Lines {
		if line.Required && !line.Mounted {
			answer.Missing = append(answer.Missing, fmt.Sprintf("line %d of %s is required: %s", line.Line, fstabPath, line.Problem))
		}
	}
	return answer, nil
}

// startedBy says whether hook is the start-host hook of the container that init belongs to: both are children of its monitor, the
// hook perhaps with the shell of LXC's configuration between.
func startedBy(hook, init int) bool {
	monitor, parent := statusNumber(init, "PPid:"), statusNumber(hook, "PPid:")
	return monitor > 1 && (parent == monitor || statusNumber(parent, "PPid:") == monitor)
}
