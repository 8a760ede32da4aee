package agent

import (
	"sync"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/policy"
)

// rates are how often containers have done what is limited. They are kept by owner, so that a container that starts anew does not
// begin anew. The zero value is ready.
type rates struct {
	mu    sync.Mutex
	all   map[string]*policy.Rate
	swept time.Time
}

// admit counts one more of what key stands for, or gives the reason against it. The clock is read in here: to a Rate, what was admitted
// after the time it is given is of a clock that was set back, and forgotten.
func (r *rates) admit(key, limit string, most int, clock func() time.Time) *policy.Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := clock()
	if d := now.Sub(r.swept); d < 0 || d > time.Minute {
		for k, one := range r.all {
			if one.Idle(now) {
				delete(r.all, k)
			}
		}
		r.swept = now
	}
	one := r.all[key]
	if one == nil {
		if r.all == nil {
			r.all = map[string]*policy.Rate{}
		}
		one = &policy.Rate{}
		r.all[key] = one
	}
	return one.Admit(limit, most, now)
}

// tooBusy says whether a container changes too much too fast, and counts the request at hand if not. The sysadmin may.
func (c *call) tooBusy() *api.Error {
	if c.guest == nil {
		return nil
	}
	limits := c.config.Rules("", c.asker.Owner.Name, "").Limits
	r := c.agent.rates.admit("changes of "+c.asker.Owner.String(), "limits.operations_per_minute", limits.OperationsPerMinute, c.agent.opts.Now)
	if r == nil {
		return nil
	}
	return refused(c.doing+" now", r)
}

// tooFast says whether the owner of a snapshot has taken too many of its origin in the last minute, and counts it if not. Each owner is
// counted apart: one container must not be able to keep all others from a dataset. It is asked under the writer, last of all.
func (c *call) tooFast(src *catalog.Record, p *plan) *api.Error {
	if c.asker.Admin || p.Owner.IsHost() {
		return nil
	}
	limits := c.config.Rules(p.pool.Name, p.Owner.Name, "").Limits
	r := c.agent.rates.admit("snapshots of "+string(src.ID)+" by "+p.Owner.String(), "limits.snapshots_per_minute", limits.SnapshotsPerMinute, c.agent.opts.Now)
	if r == nil {
		return nil
	}
	return refused(p.verb+" "+string(p.Name), r)
}
