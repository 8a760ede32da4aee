package agent

import (
	"context"
	"maps"

	"lls/agent/catalog"
	"lls/agent/history"
	"lls/policy"
)

// deed is what a verdict has done to a volume, if it is to the trash or out of it.
func (a *Agent) deed(v *View, r *catalog.Record, d policy.Verdict) (history.Deed, bool) {
	done := history.Deed{Purge: d.Action == policy.Purge, Owner: r.Owner.Name, Pool: v.pool(r.LV).Name, Line: v.Catalog.Shown(a.admin(), r), Why: d.Reasons}
	switch d.Action {
	case policy.Trash:
		done.Line += " went to the trash: it was not used"
	case policy.Purge:
		done.Line += " was purged: it has been in the trash long enough"
	default:
		return history.Deed{}, false
	}
	return done, true
}

// intend writes down what is about to be done, before it is: should the agent be killed between a deed and its mail, the next one tells of
// it. The caller does it, tells of each with tellDeed, and then says toldOf.
func (a *Agent) intend(all []*catalog.Record, deed func(*catalog.Record) (history.Deed, bool)) {
	some := false
	a.past.with(func(h *history.History) {
		for _, r := range all {
			if d, ok := deed(r); ok {
				h.Deeds[string(r.ID)], some = d, true
			}
		}
	})
	if !some {
		return
	}
	if err := a.past.save(); err != nil {
		a.log.Warn("cannot note what is about to be done", "error", err)
	}
}

// toldOf notes that all of these were told of, or not done.
func (a *Agent) toldOf(all []*catalog.Record) {
	a.past.with(func(h *history.History) {
		for _, r := range all {
			delete(h.Deeds, string(r.ID))
		}
	})
}

func (a *Agent) tellDeed(ctx context.Context, d history.Deed) {
	kind := plainNews
	if d.Warning {
		kind = warningNews
	}
	a.newsOf(ctx, kind, catalog.Owner{Name: d.Owner}, d.Pool, d.Line, d.Why...)
}

// tellDone tells of what an agent did that ended before it could tell, or that it had told when it ended.
func (a *Agent) tellDone(ctx context.Context, v *View) {
	var left map[string]history.Deed
	a.past.with(func(h *history.History) { left = maps.Clone(h.Deeds) })
	for id, d := range left {
		r := v.Catalog.ByID(catalog.ID(id))
		if r == nil && len(v.Missing) > 0 {
			continue // what cannot be seen is not gone
		}
		if r == nil && d.Purge || r != nil && !d.Purge && r.State == catalog.Trash {
			d.Why = append(d.Why, "the agent ended when it had done this")
			a.tellDeed(ctx, d)
		}
		a.past.with(func(h *history.History) { delete(h.Deeds, id) })
	}
}
