package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/policy"
)

// policyExplain says why a volume is kept, until when, and what would change that.
func (c *call) policyExplain(ctx context.Context) (api.Explanation, error) {
	ref := c.request.URL.Query().Get("name")
	r, _, err := c.volume(ctx, "explain", ref, catalog.See, false)
	if api.NotFound.Is(err) {
		r, _, err = c.volume(ctx, "explain", ref, catalog.See, true)
	}
	if err != nil {
		return api.Explanation{}, err
	}
	v, err := c.agent.store.current(ctx, 0)
	if err != nil {
		return api.Explanation{}, err
	}
	if r, err = v.same(r); err != nil {
		return api.Explanation{}, err
	}
	now := c.agent.opts.Now()
	e, s, age := c.agent.look(v, c.agent.gather(ctx, v), r)
	s.Name = v.Catalog.Shown(c.asker, r) // for what it says to type
	d := e.Judge(s, age, now)
	return api.Explanation{Name: v.Catalog.Shown(c.asker, r), State: string(r.State), Action: d.Action.String(), Reasons: d.Reasons, Next: d.Outlook(), Change: d.Change}, nil
}

// Horizons of a dry-run.
const (
	dryRunAhead = 7 * 24 * time.Hour
	dryRunFull  = 90 // percent
)

// dryRun tells what the policy would do now, in a week if nothing but time changed, and at 90 % full.
func (c *call) dryRun(ctx context.Context) ([]api.Prospect, error) {
	a := c.agent
	v, err := a.store.current(ctx, 0)
	if err != nil {
		return nil, err
	}
	f, now := a.gather(ctx, v), a.opts.Now()
	out := []api.Prospect{}
	for _, r := range v.Catalog.Records {
		if r.State == catalog.Making {
			continue
		}
		e, s, age := a.look(v, f, r)
		for _, h := range e.Project(s, age, now, dryRunAhead, a.tendPeriod()) {
			p := api.Prospect{After: int64(h.After.Seconds()), When: "in " + policy.FormatSpan(h.After), Name: v.Catalog.Shown(c.asker, r), ID: string(r.ID), Action: h.Action.String()}
			p.Why = e.Judge(s, age, now).Reasons
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(x, y api.Prospect) int { return cmp.Compare(x.After, y.After) })
	for _, p := range c.config.Pools {
		out = append(out, a.atFull(v, f, p, now, c.asker)...)
	}
	return out, nil
}

// atFull tells what would happen if a pool's data were 90 % full.
func (a *Agent) atFull(v *View, f facts, p policy.Pool, now time.Time, asker catalog.Asker) []api.Prospect {
	lv, ok := findPool(v.Groups, p)
	if !ok {
		return nil
	}
	rules := a.config().PoolRules(p.Name)
	when := fmt.Sprintf("at %d%% of pool %s", dryRunFull, p.Name)
	grows := rules.Data.Decide(growthState(v, p, lv.Size, dryRunFull, true))
	if grows.To > 0 {
		return []api.Prospect{{When: when, Name: p.Name, Action: "grow", Why: []string{grows.Why}}}
	}
	out := []api.Prospect{{When: when, Name: p.Name, Action: "stay", Why: []string{grows.Why}}}
	if rules.DataPercent <= 0 || dryRunFull < rules.DataPercent {
		return out
	}
	need := int64(float64(lv.Size)/100*(dryRunFull-rules.DataPercent)) + 1
	for _, t := range policy.Pressure(a.trash(v, f, p), need, now) {
		_, why := t.Pressed(now)
		out = append(out, api.Prospect{When: when, Name: v.Catalog.Shown(asker, v.Catalog.ByID(catalog.ID(t.Subject.ID))), ID: t.Subject.ID, Action: policy.Purge.String(), Why: why})
	}
	return out
}
