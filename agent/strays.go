package agent

import (
	"context"
	"time"

	"lls/lvm"
)

// strayDeadline is how long the reading of all volume groups may take.
const strayDeadline = time.Minute

// detachStrays takes LLS's profiles away from pools that lls.toml does not name any more: LVM would have them grow as long as there is
// room, and nobody would mind their caps.
func (a *Agent) detachStrays(ctx context.Context) {
	wanted := map[lvm.VG]map[lvm.Name]bool{}
	for _, p := range a.config().Pools {
		if wanted[lvm.VG(p.Group)] == nil {
			wanted[lvm.VG(p.Group)] = map[lvm.Name]bool{}
		}
		wanted[lvm.VG(p.Group)][lvm.Name(p.LV)] = true
	}
	asked, cancel := context.WithTimeout(ctx, strayDeadline)
	defer cancel()
	groups, err := a.store.lvm.Report(asked)
	if err != nil {
		if ctx.Err() == nil {
			a.log.Warn("cannot look for pools that lls.toml does not name any more", "error", err)
		}
		return
	}
	for _, g := range groups {
		for _, lv := range g.Pools {
			if lv.Fallback() != (lvm.Fallback{}) && !wanted[g.Name][lv.Name] {
				a.detachStray(ctx, g.Name, lv)
			}
		}
	}
}

func (a *Agent) detachStray(ctx context.Context, vg lvm.VG, lv lvm.Pool) {
	inside, leave := a.gate.insist(ctx)
	defer leave()
	err := a.store.write(inside, vg, func(ctx context.Context, w lvm.Writer, _ *View) (edit, error) {
		defer a.store.forget()
		return nil, w.SetFallback(ctx, lv.Name, lvm.Fallback{})
	})
	switch {
	case err == nil:
		a.log.Info("a pool that lls.toml does not name any more does not grow by itself any more", "group", vg, "pool", lv.Name)
	case ctx.Err() == nil:
		a.log.Error("cannot take LLS's profile away from a pool that lls.toml does not name any more", "group", vg, "pool", lv.Name, "error", err)
	}
}
