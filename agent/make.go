package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/filesystem"
	"lls/lvm"
	"lls/policy"
)

// plan is a volume that is about to be made, with everything about it checked that can be without the writer.
type plan struct {
	catalog.Record
	pool     policy.Pool
	ask      policy.Ask
	verb     string          // for errors
	replaces *catalog.Record // whose place and name it is to take, or nil
}

// ownerOf is who the new volume will belong to.
func (c *call) ownerOf(ctx context.Context, verb, owner string) (catalog.Owner, error) {
	if owner == "" || owner == c.asker.Owner.Name {
		return c.asker.Owner, nil
	}
	if !c.asker.Admin {
		return catalog.Owner{}, api.Errorf(api.Denied, "cannot %s a volume for somebody else: only the sysadmin may", verb)
	}
	v, err := c.agent.store.current(ctx, workAge)
	if err != nil {
		return catalog.Owner{}, err
	}
	return c.ownerNamed(v, owner)
}

// visibility is what was asked for, else the configured default; the host's are visible.
func (c *call) visibility(owner catalog.Owner, asked *bool) bool {
	if asked != nil {
		return *asked
	}
	return owner.IsHost() || c.config.DefaultVisibility == api.Visible
}

// reserve keeps a name of an owner for the request under way, so that two requests in two volume groups cannot both take it.
func (c *call) reserve(ctx context.Context, verb string, owner catalog.Owner, name catalog.Name) (release func(), err error) {
	a := c.agent
	taken := func() *api.Error {
		return api.Errorf(api.Exists, "cannot %s %s: the name is taken", verb, name)
	}
	v, err := a.store.current(ctx, workAge)
	if err != nil {
		return nil, err
	}
	if v.Catalog.Taken(owner, name) != nil {
		return nil, taken()
	}
	release, ok := a.reserve(owner, name)
	if !ok {
		return nil, taken()
	}
	return release, nil
}

// reserve keeps a name for whoever is the first to ask.
func (a *Agent) reserve(owner catalog.Owner, name catalog.Name) (release func(), ok bool) {
	key := owner.String() + "/" + string(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.reserved[key] {
		return nil, false
	}
	a.reserved[key] = true
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.reserved, key)
	}, true
}

// admit checks the name, the quota and the pool under the writer, where they cannot change any more, and gives the record its id.
func (c *call) admit(ctx context.Context, v *View, verb string, p *plan) *api.Error {
	if p.replaces == nil && v.Catalog.Taken(p.Owner, p.Name) != nil {
		return api.Errorf(api.Exists, "cannot %s %s: the name is taken", verb, p.Name)
	}
	lv, ok := c.pool(ctx, v, p.pool, func(_ *View, lv lvm.Pool) bool { return lv.HasTag(catalog.PoolTag(p.pool.Name)) })
	if !ok || !lv.HasTag(catalog.PoolTag(p.pool.Name)) {
		return api.Errorf(api.NeedsAdmin, "cannot %s %s: pool %s is not there", verb, p.Name, p.pool.Name)
	}
	p.ask.Size = int64(v.roundUp(lvm.VG(p.pool.Group), lvm.Size(p.ask.Size)))
	if refused := c.overQuota(v, verb, string(p.Name), p.Owner, p.pool, p.counted(v)); refused != nil {
		return p.hinted(v, refused)
	}
	if refused := c.overPool(ctx, v, verb, string(p.Name), p.pool, p.ask); refused != nil {
		return refused
	}
	for p.ID == "" || v.Catalog.ByID(p.ID) != nil {
		p.ID = catalog.NewID()
	}
	p.LV = lvm.Volume{VG: lvm.VG(p.pool.Group), Name: p.LVName(), Pool: lvm.Name(p.pool.LV), Thin: true, Created: c.agent.opts.Now()}
	if err := lvm.CheckPair(p.LV.VG, p.LV.Name); err != nil {
		return api.Errorf(api.Malformed, "cannot %s %s: the name is too long for this pool", verb, p.Name).Because(err)
	}
	return nil
}

// pool finds a pool as it will do, in the view at hand or else in a new one: that it is back, or has room again, is known to LVM first, and
// nobody is refused for what was. Of what it finds, willDo was asked last.
func (c *call) pool(ctx context.Context, v *View, p policy.Pool, willDo func(*View, lvm.Pool) bool) (lvm.Pool, bool) {
	lv, ok := findPool(v.Groups, p)
	if ok && willDo(v, lv) {
		return lv, true
	}
	if now, err := c.agent.store.current(ctx, 0); err == nil {
		if lv, ok = findPool(now.Groups, p); ok {
			willDo(now, lv)
		}
	}
	return lv, ok
}

// overQuota asks the policy whether the owner may have more in a pool.
func (c *call) overQuota(v *View, verb, name string, owner catalog.Owner, p policy.Pool, ask policy.Ask) *api.Error {
	if owner.IsHost() || c.asker.Admin {
		return nil
	}
	if r := c.config.Rules(p.Name, owner.Name, "").Limits.Admit(c.agent.use(v, owner, p), ask); r != nil {
		return refused(verb+" "+name, r)
	}
	return nil
}

// overPool asks the policy whether a pool takes more, from whomever.
func (c *call) overPool(ctx context.Context, v *View, verb, name string, p policy.Pool, ask policy.Ask) *api.Error {
	var r *policy.Refusal
	rules := c.config.PoolRules(p.Name)
	c.pool(ctx, v, p, func(v *View, lv lvm.Pool) bool {
		r = rules.Admit(fillOf(v, p, lv), ask)
		return r == nil
	})
	if r != nil {
		return refused(verb+" "+name, r)
	}
	return nil
}

// refused is a refusal of the policy as an error.
func refused(doing string, r *policy.Refusal) *api.Error {
	return api.Errorf(api.Full, "cannot %s: %s", doing, r.Why).WithHint("%s", r.Hint).After(r.Wait).Because(r)
}

func (c *call) create(ctx context.Context, in api.CreateRequest) (api.Volume, error) {
	p, err := c.planCreate(ctx, in)
	if err != nil {
		return api.Volume{}, err
	}
	release, err := c.reserve(ctx, "create", p.Owner, p.Name)
	if err != nil {
		return api.Volume{}, err
	}
	defer release()
	c.progress("making the volume")
	if err := c.addThin(ctx, p); err != nil {
		return api.Volume{}, err
	}
	c.what = p.Owner.String() + "/" + string(p.LV.Name)
	c.progress("making the file system")
	ctx = context.WithoutCancel(ctx) // from here on it is finished or undone, whoever listens
	if err := c.agent.makeFS(ctx, p.LV, filesystem.Type(p.FS)); err != nil {
		c.agent.takeBack(ctx, &p.Record)
		return api.Volume{}, err
	}
	_, err = c.agent.retag(ctx, &p.Record, in.Mount == "", func(to *catalog.Record, _ *View) error {
		to.State = catalog.Live
		return nil
	})
	if err != nil {
		c.agent.takeBack(ctx, &p.Record)
		return api.Volume{}, err
	}
	return c.made(ctx, p.ID, in.Mount, false)
}

func (c *call) planCreate(ctx context.Context, in api.CreateRequest) (*plan, error) {
	name, err := catalog.ParseName(in.Name)
	if err != nil {
		return nil, badName("create", err)
	}
	c.doing = "create " + string(name)
	size, err := lvm.ParseSize(in.Size)
	if err != nil {
		return nil, badSize("create", in.Name, in.Size)
	}
	if in.FS == "" {
		in.FS = c.config.DefaultFS
	}
	fs, err := filesystem.ParseType(in.FS)
	if err != nil {
		return nil, api.Errorf(api.Malformed, "cannot create %s: %.20q is no file system of ours", name, in.FS).WithHint("say --fs ext4 or --fs xfs")
	}
	if size < filesystem.MinSize(fs) {
		return nil, api.Errorf(api.Malformed, "cannot create %s: %s is too small for %s", name, size, fs).
			WithHint("give %s or more: --size %s", filesystem.MinSize(fs), filesystem.MinSize(fs))
	}
	if e := c.checkMountPath("create", string(name), in.Mount); e != nil {
		return nil, e
	}
	owner, err := c.ownerOf(ctx, "create", in.Owner)
	if err != nil {
		return nil, err
	}
	pool, ok := c.config.Pool(in.Pool)
	if !ok {
		return nil, c.noPool("create", string(name), in.Pool)
	}
	return &plan{pool: pool, ask: policy.Ask{Volume: true, Size: int64(size)}, Record: catalog.Record{
		Name: name, Owner: owner, State: catalog.Making, Visible: c.visibility(owner, in.Visible), Access: api.AccessRO, FS: string(fs),
		LV: lvm.Volume{Size: size},
	}}, nil
}

func (c *call) noPool(verb, name, pool string) *api.Error {
	var names []string
	for _, p := range c.config.Pools {
		names = append(names, p.Name)
	}
	if len(names) == 0 {
		return api.Errorf(api.NeedsAdmin, "cannot %s %s: this host has no pool yet", verb, name).WithHint("the host's sysadmin makes one with: lls-agent init")
	}
	return api.Errorf(api.NotFound, "cannot %s %s: there is no pool %.40q", verb, name, pool).WithHint("pools are: %s", strings.Join(names, ", "))
}

func badSize(verb, name, size string) *api.Error {
	return api.Errorf(api.Malformed, "cannot %s %.48s: %.20q is no size", verb, name, size).WithHint("write it like 500M, 10G or 1.5T")
}

// addThin makes the plan's volume, empty and not yet live.
func (c *call) addThin(ctx context.Context, p *plan) error {
	size := p.LV.Size
	return c.agent.store.write(ctx, lvm.VG(p.pool.Group), func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		if e := c.admit(ctx, v, "create", p); e != nil {
			return nil, e
		}
		err := w.CreateThin(ctx, lvm.CreateThin{Pool: p.LV.Pool, Name: p.LV.Name, Size: size, Tags: p.Tags(), Activate: true})
		if err != nil {
			return nil, err
		}
		p.LV.Tags, p.LV.Size, p.LV.Active = p.Tags(), v.roundUp(p.LV.VG, size), true
		p.LV.Major, p.LV.Minor, err = c.agent.devices.Number(p.LV.VG, p.LV.Name)
		return appended(p.LV), err
	})
}

func (c *call) snapshot(ctx context.Context, in api.SnapshotRequest) (api.Volume, error) {
	src, _, err := c.volume(ctx, "snapshot", in.Source, catalog.Snapshot, false)
	if err != nil {
		return api.Volume{}, err
	}
	p, err := c.planSnapshot(ctx, src, in)
	if err != nil {
		return api.Volume{}, err
	}
	release, err := c.reserve(ctx, "make", p.Owner, p.Name)
	if err != nil {
		return api.Volume{}, err
	}
	defer release()
	if err := c.writeOut(ctx, p, src, writeOutPatience); err != nil {
		return api.Volume{}, err
	}
	err = c.agent.store.write(ctx, src.LV.VG, func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		return c.addSnapshot(ctx, w, v, src.ID, p, in.Mount != "")
	})
	if err != nil {
		return api.Volume{}, c.heldBy(ctx, src, err)
	}
	c.what = p.Owner.String() + "/" + string(p.LV.Name)
	return c.made(context.WithoutCancel(ctx), p.ID, in.Mount, in.ReadOnly)
}

func (c *call) planSnapshot(ctx context.Context, src *catalog.Record, in api.SnapshotRequest) (*plan, error) {
	if in.Name == "" {
		stamp := c.agent.opts.Now().Format("-20060102-150405")
		in.Name = string(src.Name[:min(len(src.Name), catalog.MaxName-len(stamp))]) + stamp
	}
	name, err := catalog.ParseName(in.Name)
	if err != nil {
		return nil, badName("make", err)
	}
	if e := c.checkMountPath("snapshot", in.Source, in.Mount); e != nil {
		return nil, e
	}
	owner, err := c.ownerOf(ctx, "make", in.Owner)
	if err != nil {
		return nil, err
	}
	return &plan{verb: "make", Record: catalog.Record{
		Name: name, Owner: owner, State: catalog.Live, Visible: c.visibility(owner, in.Visible), Access: api.AccessRO, Origin: src.ID, FS: src.FS,
		LV: lvm.Volume{ReadOnly: in.ReadOnly},
	}}, nil
}

// addSnapshot takes the snapshot in one LVM command, so that it is whole or not there.
func (c *call) addSnapshot(ctx context.Context, w lvm.Writer, v *View, source catalog.ID, p *plan, activate bool) (edit, error) {
	src := v.Catalog.ByID(source)
	if src == nil || src.State != catalog.Live || !src.Known(c.asker) {
		return nil, api.Errorf(api.NotFound, "cannot %s %s: its origin has just gone", p.verb, p.Name)
	}
	readOnly := p.LV.ReadOnly
	p.Raw = src.Raw // what could be written to it is in the snapshot
	p.pool = v.pool(src.LV)
	p.ask = policy.Ask{Volume: true, Snapshot: true, Size: int64(src.LV.Size)}
	if e := c.admit(ctx, v, p.verb, p); e != nil {
		return nil, e
	}
	if e := c.tooFast(src, p); e != nil {
		return nil, e
	}
	if err := c.writeOut(ctx, p, src, writeOutEnough); err != nil { // what came while others had the writer
		return nil, err
	}
	made, err := c.whole(ctx, w, v, src, fmt.Sprintf("cannot %s %s: its origin", p.verb, p.Name))
	if err != nil {
		return made, err
	}
	err = w.Snapshot(ctx, lvm.Snapshot{Origin: src.LV.Name, Name: p.LV.Name, Tags: p.Tags(), ReadOnly: readOnly, Activate: activate})
	if err != nil {
		c.agent.unmake(ctx, w, p)
		if errors.Is(err, lvm.ErrFrozen) {
			err = api.Errorf(api.Busy, "cannot %s %s: the file system of its origin is frozen", p.verb, p.Name).Because(err).
				WithHint("have it thawed: fsfreeze -u, then try again")
		}
		return made, err
	}
	p.LV.Tags, p.LV.Size, p.LV.Origin, p.LV.OriginUUID = p.Tags(), src.LV.Size, src.LV.Name, src.LV.UUID
	p.LV.ReadOnly, p.LV.Active = readOnly, activate
	if activate {
		p.LV.Major, p.LV.Minor, err = c.agent.devices.Number(p.LV.VG, p.LV.Name)
	}
	return both(made, appended(p.LV)), err
}

// made answers a request that made a volume, mounting it first where that was asked for. A volume that was to be mounted and cannot
// be is taken away again, so that the request leaves nothing.
func (c *call) made(ctx context.Context, id catalog.ID, path string, readOnly bool) (api.Volume, error) {
	v, err := c.agent.store.current(ctx, workAge)
	if err != nil {
		return api.Volume{}, err
	}
	r := v.Catalog.ByID(id)
	if r == nil {
		return api.Volume{}, api.Errorf(api.Failed, "cannot find the new volume again")
	}
	if path == "" {
		return c.show(v, r, nil), nil
	}
	m, err := c.place(ctx, v, r, target{path: path, readOnly: readOnly}, c.guest)
	if err != nil {
		c.agent.takeBack(ctx, r)
		return api.Volume{}, err
	}
	out := c.show(v, r, nil)
	out.Mounts = []api.Mount{m}
	return out, nil
}

// makeFS makes the file system of a volume that is active.
func (a *Agent) makeFS(ctx context.Context, v lvm.Volume, fs filesystem.Type) error {
	ctx, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	return a.devices.Make(ctx, a.store.lvm.Device(v.VG, v.Name), fs)
}

// same is the record as it is in this view. It is lvm.ErrNotFound when it has gone, or was given to somebody else, since it was looked up.
func (v *View) same(r *catalog.Record) (*catalog.Record, error) {
	now := v.Catalog.ByID(r.ID)
	if now == nil || now.Owner != r.Owner {
		return nil, fmt.Errorf("cannot find %s again: %w", r.LV.Name, lvm.ErrNotFound)
	}
	return now, nil
}

// roundUp is the size that LVM makes of one in a group: whole extents.
func (v *View) roundUp(vg lvm.VG, size lvm.Size) lvm.Size {
	for _, g := range v.Groups {
		if g.Name == vg {
			return size.RoundUp(g.ExtentSize)
		}
	}
	return size
}

// retag changes one record of a volume, in one LVM command. change is given a copy as it is under the writer: what was looked up
// before may be stale, and the tags of two changes at once would not fit together. deactivate has the device go as well, if nobody
// uses it.
func (a *Agent) retag(ctx context.Context, r *catalog.Record, deactivate bool, change func(to *catalog.Record, v *View) error) (*catalog.Record, error) {
	var to catalog.Record
	err := a.store.write(ctx, r.LV.VG, func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		now, err := v.same(r)
		if err != nil {
			return nil, err
		}
		to = *now
		if err := change(&to, v); err != nil {
			return nil, err
		}
		if add, del := now.Changes(&to); len(add)+len(del) > 0 {
			if err := w.Retag(ctx, r.LV.Name, add, del); err != nil {
				return nil, err
			}
		}
		done := changed(r.LV.Name, func(v *lvm.Volume) { v.Tags = to.Tags() })
		if !deactivate {
			return done, nil
		}
		err = w.Deactivate(ctx, r.LV.Name)
		if errors.Is(err, lvm.ErrOpen) {
			return done, nil // whoever uses it keeps it
		}
		return both(done, changed(r.LV.Name, func(v *lvm.Volume) { v.Active, v.Major, v.Minor = false, 0, 0 })), err
	})
	return &to, err
}

// discard removes a volume for good. still is asked under the writer whether it is to go after all: of what the view says, and again
// of what LVM reads then, for the view does not know yet what somebody has just changed behind LLS's back.
func (a *Agent) discard(ctx context.Context, r *catalog.Record, still func(now *catalog.Record) bool) error {
	defer a.raw.block(r.ID)()
	if err := a.settle(ctx, r.ID); err != nil {
		return errors.Join(lvm.ErrOpen, err)
	}
	return a.store.write(ctx, r.LV.VG, func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		now, err := v.same(r)
		if err == nil && !still(now) {
			err = fmt.Errorf("cannot remove %s, which has changed: %w", r.LV.Name, lvm.ErrNotFound)
		}
		if err != nil {
			return nil, err
		}
		cut, err := a.isCutOff(now.LV)
		if err == nil && cut { // LVM fails to remove what lies on no pool, but not to deactivate it
			err = w.Deactivate(ctx, r.LV.Name)
		}
		if err != nil {
			return nil, err
		}
		err = w.Remove(ctx, r.LV.Name, func(v lvm.Volume) bool {
			read, err := catalog.FromVolume(v)
			return err == nil && read.ID == now.ID && read.Owner == now.Owner && still(read)
		})
		switch {
		case errors.Is(err, lvm.ErrChanged):
			return nil, fmt.Errorf("%w: %w", err, lvm.ErrNotFound)
		case err != nil && !errors.Is(err, lvm.ErrNotFound):
			return nil, err
		}
		return removed(r.LV.Name), nil
	})
}
