package agent

import (
	"context"
	"slices"
	"time"

	"lls/agent/catalog"
	"lls/policy"
)

// awaitEvery is how often the pools are looked at that are waited for. A report that meets LVM activating them waits for that by itself.
const awaitEvery = 500 * time.Millisecond

// awaitPools waits until all pools are active, or Options.PoolWait is over. At the boot of the host LVM activates them when their disks
// appear, which may take longer than a container's start waits for its volumes; and containers start once the agent is ready. One that is
// not there by then is used as soon as it is.
func (a *Agent) awaitPools(ctx context.Context) {
	if a.opts.PoolWait <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, a.opts.PoolWait)
	defer cancel()
	for {
		v, err := a.store.current(ctx, 0)
		if err == nil && !slices.ContainsFunc(a.config().Pools, func(p policy.Pool) bool { return !v.isActive(p) }) {
			return
		}
		select {
		case <-ctx.Done():
			a.log.Warn("not all pools are active", "waited", a.opts.PoolWait)
			return
		case <-time.After(awaitEvery):
		}
	}
}

// isActive says whether a configured pool is there, tagged and active.
func (v *View) isActive(p policy.Pool) bool {
	lv, ok := findPool(v.Groups, p)
	return ok && lv.Active && lv.HasTag(catalog.PoolTag(p.Name))
}
