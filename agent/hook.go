package agent

import (
	"context"

	"lls/agent/api"
)

// hookStart serves a container that is being started, before its init runs. Nothing here may ask liblxc about the container: its
// monitor waits for the hook and does not answer.
func (c *call) hookStart(ctx context.Context, in api.HookStart) (api.Empty, error) {
	k, err := c.agent.containers.Find(paths(c.config), in.LXCPath, in.Name)
	if err != nil {
		return api.Empty{}, api.Errorf(api.NotFound, "cannot serve container %.64q: %v", in.Name, err)
	}
	// The hook and the container's init are both children of the container's monitor. That the caller is root was checked before.
	monitor := statusNumber(int(c.peer.Pid), "PPid:")
	if monitor < 2 || statusNumber(in.PID, "PPid:") != monitor {
		return api.Empty{}, api.Errorf(api.Denied, "cannot serve container %.64q: process %d is not a child of the hook's parent", in.Name, in.PID)
	}
	c.what = k.Owner.String()
	c.progress("serving the container")
	return api.Empty{}, c.agent.serve(context.WithoutCancel(ctx), k, in.PID)
}
