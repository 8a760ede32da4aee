package agent

import (
	"context"
	"errors"
	"slices"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/mount"
	"lls/lvm"
)

// rawHolders are who has a volume's device open raw, after its rights were changed: what they opened before, they keep.
func (c *call) rawHolders(ctx context.Context, r *catalog.Record) []api.Holder {
	if err := c.agent.settle(ctx, r.ID); err != nil {
		c.agent.log.Warn("cannot take back raw access", "volume", r.LV.Name, "error", err)
	}
	if !r.Raw {
		return nil
	}
	return c.holdersOf(ctx, r.LV, func(h mount.Holder, _ *guest) bool { return h.Kind == mount.HeldDevice })
}

// revoke tells who has a volume's device open without a right to it any more, and cuts them off when forced to.
func (c *call) revoke(ctx context.Context, in api.RevokeRequest) (api.Volume, error) {
	r, v, err := c.volume(ctx, "revoke", in.Name, catalog.Change, false)
	if api.NotFound.Is(err) {
		r, v, err = c.volume(ctx, "revoke", in.Name, catalog.Change, true)
	}
	if err != nil {
		return api.Volume{}, err
	}
	entitled := c.agent.entitled(v, r)
	if in.Force {
		defer c.reserveRaw(ctx, r.ID)() // nobody opens it meanwhile, nor mounts it
	}
	if err := c.agent.settle(ctx, r.ID); errors.Is(err, errGranted) {
		return api.Volume{}, api.Errorf(api.Busy, "cannot revoke %s: a container's device rules could not be changed", in.Name).Because(err).
			WithHint("stop the container: lls-agent containers")
	} else if err != nil {
		return api.Volume{}, err
	}
	out := c.show(v, r, placesOf(c.agent.places(), r.LV))
	var may []*guest
	out.Holders = c.holdersOf(ctx, r.LV, func(h mount.Holder, g *guest) bool {
		if h.Kind == mount.HeldDevice && slices.Contains(entitled, g) {
			may = append(may, g)
			return false
		}
		return h.Kind == mount.HeldDevice
	})
	if !in.Force || len(out.Holders) == 0 {
		return out, nil
	}
	if len(may) > 0 {
		return api.Volume{}, entitledHolds(in.Name, r, may[0])
	}
	if len(c.holdersOf(ctx, r.LV, func(h mount.Holder, _ *guest) bool { return h.Kind == mount.HeldMount })) > 0 {
		return api.Volume{}, c.busy(ctx, "revoke", in.Name, r.LV, true)
	}
	err = c.agent.cutOff(context.WithoutCancel(ctx), r)
	if errors.Is(err, lvm.ErrOpen) {
		err = c.busy(ctx, "revoke", in.Name, r.LV, true).Because(err)
	}
	return out, err
}

// entitledHolds is the refusal to cut off those who may not have a device open together with one who may: errors are for all of them.
func entitledHolds(name string, r *catalog.Record, g *guest) *api.Error {
	kind := "privileged"
	if g.box.Mapped {
		kind = "unprivileged"
	}
	e := api.Errorf(api.Denied, "cannot revoke %s by force: container %s has it open too, and may", name, g.Owner.Name)
	if g.Owner == r.Owner { // access is for others
		return e.WithHint("end that there, or give %s raw.%s = \"none\" by a rule in lls.toml", g.Owner.Name, kind)
	}
	return e.WithHint("end that there, or take its right away: lls-agent set %s --access none", name)
}
