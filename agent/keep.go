package agent

import (
	"context"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/history"
	"lls/policy"
)

// keepNever and keepNone are the leases without an end, and none.
const (
	keepNever = "never"
	keepNone  = "0"
)

// keep gives a volume a lease: until then it is kept whatever the policy says.
func (c *call) keep(ctx context.Context, in api.KeepRequest) (api.Volume, error) {
	r, v, err := c.volume(ctx, "keep", in.Name, catalog.Change, false)
	if err != nil {
		return api.Volume{}, err
	}
	now := c.agent.opts.Now()
	until, forever, err := c.lease(in, c.agent.expiry(v, r).LeaseMax, now)
	if err != nil {
		return api.Volume{}, err
	}
	to, err := c.agent.retag(context.WithoutCancel(ctx), r, false, func(to *catalog.Record, _ *View) error {
		to.Lease, to.Forever = until, forever
		return nil
	})
	if err != nil {
		return api.Volume{}, err
	}
	c.agent.past.with(func(h *history.History) { h.Ages[string(r.ID)] = h.Ages[string(r.ID)].Keep(until, now) })
	c.agent.savePast() // so that no clock that jumps before the next look makes it shorter
	return c.show(v, to, placesOf(c.agent.places(), r.LV)), nil
}

func (c *call) lease(in api.KeepRequest, most time.Duration, now time.Time) (until time.Time, forever bool, err error) {
	capped := !c.asker.Admin && most > 0
	tooLong := func() *api.Error {
		return api.Errorf(api.Denied, "cannot keep %s for so long: %s is the most here", in.Name, policy.FormatDuration(most)).
			WithHint("lls keep %s --for %s, and again before it ends", in.Name, policy.FormatDuration(most))
	}
	switch in.For {
	case keepNone:
		return time.Time{}, false, nil
	case keepNever:
		if capped {
			return time.Time{}, false, tooLong()
		}
		return time.Time{}, true, nil
	}
	d, err := policy.ParseDuration(in.For)
	if err != nil || d <= 0 || d > 100*365*24*time.Hour {
		return time.Time{}, false, api.Errorf(api.Malformed, "cannot keep %s: %.20q is no time that it could be kept for", in.Name, in.For).
			WithHint("write it like 12h or 7d; %s for always, %s to end a lease", keepNever, keepNone)
	}
	if capped && d > most {
		return time.Time{}, false, tooLong()
	}
	return now.Add(d).Truncate(time.Second), false, nil
}
