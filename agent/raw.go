package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/filesystem"
	"lls/agent/mount"
	"lls/lvm"
	"lls/policy"
)

// rawRight is what a guest may do with a volume's device: policy.RawNone, RawRead or RawWrite. What its owner lets nobody mount, or only
// read, nobody else reads, or writes, raw either.
func rawRight(cfg *policy.Config, v *View, r *catalog.Record, g *guest) string {
	p := v.pool(r.LV)
	if lv, ok := findPool(v.Groups, p); !ok || !lv.Zero {
		return policy.RawNone // new blocks would show what others have deleted
	}
	rules := cfg.Rules(p.Name, g.Owner.Name, string(r.Name)).Raw
	right := rules.Privileged
	if g.box.Mapped {
		right = rules.Unprivileged
	}
	asker := g.asker()
	foreign := r.Owner != asker.Owner
	switch {
	case right != policy.RawRead && right != policy.RawWrite, r.State != catalog.Live, !r.Known(asker), foreign && r.Access == api.AccessNone:
		return policy.RawNone
	case r.LV.ReadOnly, foreign && r.Access != api.AccessRW:
		return policy.RawRead
	}
	return right
}

// wanted is what a guest is to have of raw devices.
type wanted struct {
	grants   map[grant]bool
	unmarked []*catalog.Record // to be marked as written to, before they are granted
	cutOff   []*catalog.Record // whose devices are to be made anew, before they are granted
	withheld bool              // there is something that it may have and is not granted now
}

// wantedGrants are the grants that a guest is to have. A device that it may write to and that is mounted is nobody's to open raw, as
// a file system that changes below the kernel can take the host down. One that was cut off only gives errors.
func (a *Agent) wantedGrants(v *View, g *guest) wanted {
	cfg := a.config()
	want := wanted{grants: map[grant]bool{}}
	for _, r := range v.Catalog.Records {
		if !r.LV.Active || r.LV.Major == 0 {
			continue
		}
		right := rawRight(cfg, v, r, g)
		if right == policy.RawNone {
			continue
		}
		cut, err := a.isCutOff(r.LV)
		if err != nil {
			a.log.Warn("cannot tell whether a volume was cut off, so nobody may open it raw", "volume", r.LV.Name, "error", err)
		}
		now := grant{g.Key(), r.ID, device{r.LV.Major, r.LV.Minor}, right == policy.RawWrite}
		switch {
		case err != nil || a.raw.isBlocked(r.ID):
			want.withheld = true
		case cut:
			want.withheld, want.cutOff = true, append(want.cutOff, r)
		case !now.write || a.raw.has(now):
			want.grants[now] = true
		case a.devices.Claimed(a.store.lvm.Device(r.LV.VG, r.LV.Name)):
			want.withheld = true
		case !r.Raw:
			want.unmarked = append(want.unmarked, r)
		default:
			want.grants[now] = true
		}
	}
	return want
}

func (r *rawAccess) has(g grant) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.grants[g] != nil
}

// hold opens the devices of the grants that are new to a guest, and leaves out those that cannot be had.
func (a *Agent) hold(v *View, to *guest, want map[grant]bool) (err error) {
	for g := range maps.Keys(want) {
		if a.raw.has(g) {
			err = errors.Join(err, a.raw.bear(g, to.bearer))
			continue
		}
		r := v.Catalog.ByID(g.id)
		f, openErr := a.devices.Open(r.LV.VG, r.LV.Name, g.device.major, g.device.minor)
		if openErr == nil {
			if openErr = a.raw.add(g, to.bearer, f); openErr != nil {
				openErr = errors.Join(openErr, f.Close())
			} else if cut, err := a.isCutOff(r.LV); err != nil || cut || g.write && a.devices.Claimed(a.store.lvm.Device(r.LV.VG, r.LV.Name)) {
				// It was mounted, or cut off, between wantedGrants and add. Who does so from now on finds the grant, and takes it back.
				openErr = errors.Join(errBlocked, err, a.raw.forget(g))
			}
		}
		if openErr != nil {
			delete(want, g)
			if !errors.Is(openErr, errBlocked) {
				err = errors.Join(err, fmt.Errorf("cannot give raw access to %s: %w", r.LV.Name, openErr))
			}
		}
	}
	return err
}

// rules brings a privileged guest's device rules up to its grants, and lets go of what was taken back. An unprivileged container has none,
// and must not be given one: it would close all its other devices.
func (a *Agent) rules(ctx context.Context, g *guest, want map[grant]bool) (err error) {
	had := g.granted
	g.granted = nil // should it fail, all is said again
	if err = a.takeRules(ctx, g, want); err != nil {
		return err
	}
	for _, x := range a.raw.of(func(x grant) bool { return x.key == g.Key() }) {
		if !want[x] || had[x] || g.box.Mapped {
			continue
		}
		if err := a.containers.SetDevice(ctx, g.Container, true, x.rule()); err != nil {
			return err
		}
	}
	g.granted = want
	return err
}

// takeRules takes back what a guest is not to have any more. Of a privileged one only the device rules count, whatever lies at its /dev/mf.
func (a *Agent) takeRules(ctx context.Context, g *guest, want map[grant]bool) (err error) {
	for _, x := range a.raw.of(func(x grant) bool { return x.key == g.Key() && !want[x] }) {
		if !g.box.Mapped {
			if setErr := a.containers.SetDevice(ctx, g.Container, false, x.rule()); setErr != nil {
				err = errors.Join(err, setErr) // the device stays ours, so that its number is not used again
				continue
			}
		}
		err = errors.Join(err, a.raw.forget(x))
	}
	return err
}

// errGranted means that a right to open a volume raw could not be taken back.
var errGranted = errors.New("a container may still open it raw")

// settle takes back what guests may do raw with a volume, after block or a change of it.
func (a *Agent) settle(ctx context.Context, id catalog.ID) error {
	granted := func() []grant { return a.raw.of(func(x grant) bool { return x.id == id }) }
	for _, x := range granted() {
		if g := a.guests.get(x.key); g != nil {
			a.complain("cannot show all devices at /dev/mf", g.Container, a.showNodesTo(ctx, g))
			continue
		}
		a.retractUnserved(ctx, x.key, func(one grant) bool { return one == x })
	}
	v, err := a.store.current(ctx, workAge)
	if err != nil {
		return err
	}
	cfg, r := a.config(), v.Catalog.ByID(id)
	for _, x := range granted() {
		g := a.guests.get(x.key)
		if g == nil || r == nil || a.raw.isBlocked(id) || rawRight(cfg, v, r, g) == policy.RawNone {
			return errGranted
		}
	}
	return nil
}

// alone runs do while nobody can open the volume's device raw. A device that could be written to is made anew for it, which shows that
// nobody has it open, and its file system is checked before the kernel gets to see it. progress tells whoever waits.
func (a *Agent) alone(ctx context.Context, r *catalog.Record, progress func(string, ...any), do func(r *catalog.Record) error) error {
	unblock := a.raw.block(r.ID)
	defer func() {
		unblock()
		if r.Raw {
			a.work.Go(func() { a.showAll(context.WithoutCancel(ctx)) })
		}
	}()
	v, err := a.store.current(ctx, workAge)
	if err != nil {
		return err
	}
	if now := v.Catalog.ByID(r.ID); now != nil {
		r = now // it may have been marked a moment ago
	}
	if !r.Raw {
		return do(r)
	}
	if err := a.settle(ctx, r.ID); err != nil {
		return errors.Join(lvm.ErrOpen, err)
	}
	path := a.store.lvm.Device(r.LV.VG, r.LV.Name)
	if a.mounted(ctx, r.LV) {
		return do(r) // it was checked when it was mounted first, and nobody could open it since
	}
	if r, err = a.renew(ctx, r); err != nil {
		return err
	}
	progress("checking the file system")
	select { // what a container has written costs the host no more than this at once
	case a.raw.checks <- struct{}{}:
		defer func() { <-a.raw.checks }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := a.devices.Check(ctx, path, filesystem.Type(r.FS), r.LV.ReadOnly); err != nil {
		return err
	}
	// That took its time: it may be in the trash by now, or for nobody.
	if v, err = a.store.current(ctx, workAge); err != nil {
		return err
	}
	now := v.Catalog.ByID(r.ID)
	if now == nil {
		return fmt.Errorf("cannot find %s again: %w", r.LV.Name, lvm.ErrNotFound)
	}
	return do(now)
}

// mounted says whether a volume is mounted, in whatever mount namespace that has a process, by the kernel's own tables: that somebody else
// has the device for himself (O_EXCL) is something that a container's root can do as well. A mount that is not found so keeps renew from
// what it does.
func (a *Agent) mounted(ctx context.Context, v lvm.Volume) bool {
	if !v.Active || v.Major == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, holdersDeadline)
	defer cancel()
	found, err := mount.Mounted(ctx, v.Major, v.Minor)
	if err != nil {
		a.log.Warn("cannot tell whether a volume is mounted", "volume", v.Name, "error", err)
	}
	return found
}

// renew takes a volume's device away and makes it anew: lvm.ErrOpen when somebody has it open.
func (a *Agent) renew(ctx context.Context, r *catalog.Record) (*catalog.Record, error) {
	now := *r
	err := a.store.write(ctx, r.LV.VG, func(ctx context.Context, w lvm.Writer, _ *View) (edit, error) {
		made, err := a.anew(ctx, w, r.LV)
		if err == nil {
			now.LV = made([]lvm.Volume{r.LV})[0]
		}
		return made, err
	})
	return &now, err
}

// mark notes on volumes that they can be written to from now on, and their snapshots too.
func (a *Agent) mark(ctx context.Context, records []*catalog.Record) {
	for _, r := range records {
		_, err := a.retag(ctx, r, false, func(to *catalog.Record, _ *View) error {
			to.Raw = true
			return nil
		})
		if errors.Is(err, errShutdown) {
			return
		}
		if err != nil {
			a.log.Warn("cannot mark a volume as written to raw, so nobody may", "volume", r.LV.Name, "error", err)
		}
	}
}

// wake makes the devices of volumes appear that a running container owns and may open raw: it has no other way to ask for them.
func (a *Agent) wake(ctx context.Context, v *View, failed map[catalog.ID]bool) {
	if !a.gate.isOpen() {
		return
	}
	cfg := a.config()
	due := map[lvm.VG][]lvm.Name{}
	for _, g := range a.guests.list() {
		for _, r := range v.Catalog.Records {
			if r.Owner == g.Owner && !r.LV.Active && !failed[r.ID] && rawRight(cfg, v, r, g) != policy.RawNone && !a.raw.isBlocked(r.ID) {
				due[r.LV.VG] = append(due[r.LV.VG], r.LV.Name)
				failed[r.ID] = true // until it was seen active: what cannot be activated is not tried for ever
			}
		}
	}
	for _, r := range v.Catalog.Records {
		if r.LV.Active {
			delete(failed, r.ID)
		}
	}
	for vg, names := range due {
		if err := a.activate(ctx, vg, names...); err != nil {
			a.log.Warn("cannot activate volumes for raw access", "vg", vg, "error", err)
		}
	}
}

// entitled are the running containers that may open a volume's device raw by the policy and its access.
func (a *Agent) entitled(v *View, r *catalog.Record) []*guest {
	cfg := a.config()
	return slices.DeleteFunc(a.guests.list(), func(g *guest) bool { return rawRight(cfg, v, r, g) == policy.RawNone })
}
