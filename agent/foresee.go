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
	r, err := c.seen(ctx, "explain", c.request.URL.Query().Get("name"))
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
	now, f := c.agent.opts.Now(), c.agent.gather(ctx, v)
	e, s, age := c.agent.look(v, f, r)
	s.Name = v.Catalog.Exact(c.asker, r) // for what it says to type
	d := e.Judge(s, age, now)
	out := api.Explanation{Name: s.Name, State: string(r.State), Action: d.Action.String(), Reasons: d.Reasons, Next: d.Outlook(), Change: d.Change}
	if r.State == catalog.Trash && d.Action == policy.Keep {
		c.agent.explainShortage(ctx, &out, v, f, r, now)
	}
	return out, nil
}

// explainShortage adds to what is said of a volume in the trash what comes of it when its pool is too full and cannot grow.
func (a *Agent) explainShortage(ctx context.Context, out *api.Explanation, v *View, f facts, r *catalog.Record, now time.Time) {
	p := v.pool(r.LV)
	short := a.shortage(ctx, v, p)
	out.Reasons = append(out.Reasons, short.Why...)
	if !short.Any() {
		return
	}
	trash := a.trash(v, f, p)
	is := func(t policy.Trashed) bool { return t.Subject.ID == string(r.ID) }
	if slices.ContainsFunc(policy.Pressure(trash, short, now), is) {
		out.Action, out.Next = policy.Purge.String(), "it is purged before its time, in a moment"
		return
	}
	if ok, kept := trash[slices.IndexFunc(trash, is)].Pressed(now); !ok {
		out.Reasons = append(out.Reasons, kept...)
		return
	}
	out.Reasons = append(out.Reasons, "what was longer in the trash goes first")
	out.Next += ", or before its time if that is not enough"
}

// Horizons of a dry-run.
const (
	dryRunAhead = 7 * 24 * time.Hour
	dryRunFull  = 90 // percent
)

// dryRun tells what the policy would do now to make room in a pool, in a week if nothing but time changed, and at 90 % full.
func (c *call) dryRun(ctx context.Context) ([]api.Prospect, error) {
	a := c.agent
	v, err := a.store.current(ctx, 0)
	if err != nil {
		return nil, err
	}
	f, now := a.gather(ctx, v), a.opts.Now()
	timed := []api.Prospect{}
	for _, r := range v.Catalog.Records {
		if r.State == catalog.Making {
			continue
		}
		e, s, age := a.look(v, f, r)
		for _, h := range e.Project(s, age, now, dryRunAhead, a.tendPeriod()) {
			p := api.Prospect{After: int64(h.After.Seconds()), When: "in " + policy.FormatSpan(h.After), Name: v.Catalog.Exact(c.asker, r), ID: string(r.ID), Action: h.Action.String()}
			p.Why = e.Judge(s, age, now).Reasons
			timed = append(timed, p)
		}
	}
	slices.SortStableFunc(timed, func(x, y api.Prospect) int { return cmp.Compare(x.After, y.After) })
	out, full := []api.Prospect{}, []api.Prospect{}
	for _, p := range c.config.Pools {
		short := a.shortage(ctx, v, p)
		early := a.early("now", v, f, p, short, now, c.asker)
		if len(short.Why) > 0 {
			early = append([]api.Prospect{{When: "now", Name: p.Name, Action: "stay", Why: short.Why}}, early...)
		}
		out, full = append(out, early...), append(full, a.atFull(v, f, p, now, c.asker)...)
	}
	timed = slices.DeleteFunc(timed, func(p api.Prospect) bool {
		return slices.ContainsFunc(out, func(q api.Prospect) bool { return q.ID == p.ID }) // it does not last so long
	})
	return slices.Concat(out, timed, full), nil
}

// early are the volumes that a pool which is so short would have purged before their time.
func (a *Agent) early(when string, v *View, f facts, p policy.Pool, short policy.Shortage, now time.Time, asker catalog.Asker) (out []api.Prospect) {
	for _, t := range policy.Pressure(a.trash(v, f, p), short, now) {
		out = append(out, api.Prospect{When: when, Name: v.Catalog.Exact(asker, v.Catalog.ByID(catalog.ID(t.Subject.ID))), ID: t.Subject.ID,
			Action: policy.Purge.String(), Why: []string{"the oldest in the trash of a pool that is too full and cannot grow"}})
	}
	return out
}

// atFull tells what would happen if a pool's data were 90 % full.
func (a *Agent) atFull(v *View, f facts, p policy.Pool, now time.Time, asker catalog.Asker) []api.Prospect {
	lv, ok := findPool(v.Groups, p)
	if !ok {
		return nil
	}
	rules, fill := a.config().PoolRules(p.Name), fillOf(v, p, lv)
	fill.Known, fill.DataPercent, fill.MetadataPercent = true, dryRunFull, 0
	when := fmt.Sprintf("at %d%% of pool %s", dryRunFull, p.Name)
	grows := rules.Data.Decide(rules.State(policy.PartData, fill))
	if grows.To > 0 {
		return []api.Prospect{{When: when, Name: p.Name, Action: "grow", Why: []string{grows.Why}}}
	}
	stay := api.Prospect{When: when, Name: p.Name, Action: "stay", Why: []string{grows.Why}}
	return append([]api.Prospect{stay}, a.early(when, v, f, p, rules.Shortage(fill), now, asker)...)
}
