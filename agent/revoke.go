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
	if in.Force && len(entitled) > 0 {
		return api.Volume{}, api.Errorf(api.Denied, "cannot revoke %s by force: containers may have it open", in.Name).
			WithHint("take their right away first: lls-agent set %s --access none, or raw in lls.toml", in.Name)
	}
	if in.Force {
		defer c.agent.raw.block(r.ID)() // nor is it mounted meanwhile
	}
	if err := c.agent.settle(ctx, r.ID); errors.Is(err, errGranted) {
		return api.Volume{}, api.Errorf(api.Busy, "cannot revoke %s: a container's device rules could not be changed", in.Name).Because(err).
			WithHint("stop the container: lls-agent containers")
	} else if err != nil {
		return api.Volume{}, err
	}
	out := c.show(v, r, placesOf(c.agent.places(), r.LV))
	out.Holders = c.holdersOf(ctx, r.LV, func(h mount.Holder, g *guest) bool {
		return h.Kind == mount.HeldDevice && (g == nil || !slices.Contains(entitled, g))
	})
	if !in.Force || len(out.Holders) == 0 {
		return out, nil
	}
	return out, c.cutOff(ctx, in.Name, r)
}

// cutOff has all that have a device open get errors, unless it is mounted. The caller has blocked it.
func (c *call) cutOff(ctx context.Context, name string, r *catalog.Record) error {
	mounted := c.holdersOf(ctx, r.LV, func(h mount.Holder, _ *guest) bool { return h.Kind == mount.HeldMount })
	if len(mounted) > 0 || c.agent.raw.others(r.ID) {
		return c.busy(ctx, "revoke", name, r.LV, true)
	}
	ctx = context.WithoutCancel(ctx)
	c.agent.mark(ctx, []*catalog.Record{r}) // so that its device is made anew before it is mounted
	return c.agent.store.write(ctx, r.LV.VG, func(ctx context.Context, _ lvm.Writer, now *View) (edit, error) {
		if _, err := now.same(r); err != nil {
			return nil, err
		}
		return nil, c.agent.devices.CutOff(ctx, r.LV.VG, r.LV.Name)
	})
}
