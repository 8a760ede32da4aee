package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/lvm"
	"lls/policy"
)

func (c *call) serverInfo(context.Context) (api.ServerInfo, error) {
	return api.ServerInfo{Version: c.agent.opts.Version, API: api.Version, You: c.asker.Owner.Name}, nil
}

func (c *call) list(ctx context.Context) ([]api.Volume, error) {
	v, err := c.agent.store.current(ctx, c.agent.listAge())
	if err != nil {
		return nil, err
	}
	all := c.request.URL.Query().Get("all") == "1"
	places := c.agent.places()
	shown := []api.Volume{}
	for _, r := range v.Catalog.Records {
		if r.Known(c.asker) && (r.State == catalog.Live || all) {
			out := c.show(v, r, placesOf(places, r.LV))
			out.CutOff = c.agent.showsCutOff(r)
			shown = append(shown, out)
		}
	}
	rank := func(x api.Volume) int {
		switch {
		case x.State != api.StateLive:
			return 3
		case x.Owner == c.asker.Owner.Name:
			return 0
		case x.Owner == api.HostOwner:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(shown, func(x, y api.Volume) int {
		if d := rank(x) - rank(y); d != 0 {
			return d
		}
		return strings.Compare(x.Name, y.Name)
	})
	return shown, nil
}

// show tells of a volume what the caller may know.
func (c *call) show(v *View, r *catalog.Record, at []place) api.Volume {
	out := api.Volume{
		Name: v.Catalog.Shown(c.asker, r), Owner: r.Owner.Name, Kind: kindOf(r), Pool: v.pool(r.LV).Name, FS: r.FS,
		Size: int64(r.LV.Size), Visibility: api.Hidden, Access: r.Access, State: string(r.State), ReadOnly: r.LV.ReadOnly, Active: r.LV.Active,
		Created: r.LV.Created, ID: string(r.ID),
	}
	if r.Visible {
		out.Visibility = api.Visible
	}
	if r.LV.UsedKnown {
		used := int64(float64(r.LV.Size) / 100 * r.LV.UsedPercent)
		out.Used = &used
	}
	if frees, at, known := c.agent.measured.freesAt(r.ID); known && (c.asker.Admin || r.Owner == c.asker.Owner) {
		out.Frees, out.FreesAt = &frees, &at
	}
	if r.State == catalog.Trash {
		out.Deleted = &r.Deleted
	}
	if c.asker.Admin || r.Owner == c.asker.Owner {
		out.Expires, out.Forever, out.GrowTo = c.agent.expires(v, r), r.Forever, r.GrowTo
		if !r.Lease.IsZero() {
			out.Lease = &r.Lease
		}
	}
	if r.Origin != "" {
		out.Origin = api.HiddenOrigin
		if o := v.Catalog.ByID(r.Origin); o != nil && o.Known(c.asker) {
			out.Origin = v.Catalog.Shown(c.asker, o)
		}
	}
	for _, p := range at {
		out.Mounts = c.tell(out.Mounts, p)
	}
	if c.asker.Admin {
		out.LV = string(r.LV.VG) + "/" + string(r.LV.Name)
		out.Orphan = !r.Owner.IsHost() && !c.exists(r.Owner)
	}
	return out
}

func kindOf(r *catalog.Record) string {
	switch {
	case r.Origin != "":
		return api.KindSnapshot
	case r.Visible:
		return api.KindDataset
	}
	return api.KindVolume
}

// tell adds a mount as the caller may know it: other containers' count once, without a path.
func (c *call) tell(mounts []api.Mount, p place) []api.Mount {
	m := api.Mount{Container: api.HostOwner, Path: p.Path, ReadOnly: p.Has("ro")}
	switch {
	case p.guest != nil && (c.asker.Admin || p.guest == c.guest):
		m.Container = p.guest.Owner.Name
	case !c.asker.Admin:
		m = api.Mount{Container: api.AnotherContainer}
		if slices.Contains(mounts, m) {
			return mounts
		}
	}
	return append(mounts, m)
}

func (c *call) info(ctx context.Context) (api.Volume, error) {
	ref := c.request.URL.Query().Get("name")
	r, err := c.seen(ctx, "show", ref)
	if api.NotFound.Is(err) {
		return api.Volume{}, c.askedFor(ref, err)
	}
	if err != nil {
		return api.Volume{}, err
	}
	v, err := c.agent.store.current(ctx, c.agent.listAge())
	if err != nil {
		return api.Volume{}, err
	}
	if now := v.Catalog.ByID(r.ID); now != nil {
		r = now
	}
	out := c.show(v, r, placesOf(c.agent.places(), r.LV))
	out.CutOff = c.agent.showsCutOff(r)
	out.Holders = c.holders(ctx, r.LV, false)
	if c.guest != nil {
		for _, line := range c.guest.fstab() {
			if line.Volume == ref || c.means(v, line.Volume, r) {
				out.Fstab = append(out.Fstab, line)
			}
		}
	}
	return out, nil
}

// askedFor adds to the error of a volume that is not there which lines of the caller's fstab ask for it.
func (c *call) askedFor(ref string, missing error) *api.Error {
	e := api.AsError(missing)
	if c.guest == nil {
		return e
	}
	bare := func(name string) string { return strings.TrimPrefix(name, c.asker.Owner.Name+"/") }
	for _, line := range c.guest.fstab() {
		if bare(line.Volume) != bare(ref) {
			continue
		}
		text := fmt.Sprintf("line %d of %s asks for it at %s", line.Line, fstabPath, line.Path)
		if line.Problem != "" {
			text += ": " + strings.TrimPrefix(line.Problem, fmt.Sprintf("line %d: ", line.Line))
		}
		e.Problems = append(e.Problems, text)
	}
	return e
}

// means says whether a name, as the caller typed it somewhere, is that of a volume.
func (c *call) means(v *View, name string, r *catalog.Record) bool {
	ref, err := catalog.ParseRef(name)
	if err != nil {
		return false
	}
	found, err := v.Catalog.Find(c.asker, ref, r.State == catalog.Trash)
	return err == nil && found.ID == r.ID
}

func (c *call) usage(ctx context.Context) ([]api.Usage, error) {
	v, err := c.agent.store.current(ctx, c.agent.listAge())
	if err != nil {
		return nil, err
	}
	owners := []catalog.Owner{c.asker.Owner}
	if c.asker.Admin {
		if owners, err = c.usageOwners(v); err != nil {
			return nil, err
		}
	}
	out := []api.Usage{}
	for _, o := range owners {
		for _, p := range c.config.Pools {
			use := c.agent.use(v, o, p)
			u := api.Usage{Container: o.Name, Pool: p.Name, Volumes: use.Volumes, Snapshots: use.Snapshots, Size: use.Size, Trash: use.Trash}
			if !o.IsHost() {
				l := c.config.Rules(p.Name, o.Name, "").Limits
				u.VolumesMax, u.SnapshotsMax, u.SizeMax, u.ExclusiveMax = l.Volumes, l.Snapshots, l.Size, l.Exclusive
			}
			if f := c.agent.measured.of(p); f != nil {
				u.Exclusive, u.ExclusiveAt = &use.Exclusive, &f.at
			}
			out = append(out, u)
		}
	}
	return out, nil
}

// usageOwners are the owners the sysadmin asks for: one, or all that have volumes or run.
func (c *call) usageOwners(v *View) ([]catalog.Owner, error) {
	if name := c.request.URL.Query().Get("container"); name != "" {
		o, err := c.ownerNamed(v, name)
		if err != nil {
			return nil, err
		}
		return []catalog.Owner{o}, nil
	}
	var owners []catalog.Owner
	add := func(o catalog.Owner) {
		if !slices.Contains(owners, o) {
			owners = append(owners, o)
		}
	}
	add(catalog.Host())
	for _, g := range c.agent.guests.list() {
		add(g.Owner)
	}
	for _, r := range v.Catalog.Records {
		add(r.Owner)
	}
	return owners, nil
}

// useOf adds up what an owner has in a pool, trash included. What a refresh replaced counts as one with what replaced it, and the pair as
// much as the larger of the two: else many small ones could each hide a large one. They stay a pair
// when both are in the trash: a delete asks no quota, so it may not make two of one. What each frees is from f, if there is one.
func useOf(v *View, o catalog.Owner, p policy.Pool, f *figures) (use policy.Use) {
	hidden := map[catalog.ID]lvm.Volume{} // in the trash, by what replaced it
	for _, r := range v.Catalog.Records {
		if next := v.Catalog.Replacement(r); next != nil && r.LV.Size >= hidden[next.ID].Size {
			hidden[next.ID] = r.LV
		}
	}
	for _, r := range v.Catalog.Records {
		if r.Owner == o && v.pool(r.LV) == p {
			behind := hidden[r.ID]
			h := policy.Held{Name: string(r.Name), Ref: string(r.LV.Name), Size: int64(max(r.LV.Size, behind.Size)), Snapshot: r.Origin != "", Trash: r.State == catalog.Trash}
			h.Uncounted, h.Behind = v.Catalog.Replacement(r) != nil, string(behind.Name)
			if f != nil {
				h.Frees = f.volumes[r.ID].frees
			}
			use.Add(h)
		}
	}
	return use
}

// use is useOf, with what only the owner's volumes map of the pool, as far as that is known.
func (a *Agent) use(v *View, o catalog.Owner, p policy.Pool) policy.Use {
	f := a.measured.of(p)
	use := useOf(v, o, p, f)
	if f != nil {
		use.Exclusive, use.ExclusiveAge = f.exclusive(v, o), a.opts.Now().Sub(f.at)
	}
	return use
}

// fillOf tells how full a pool is, and what its group has for it.
func fillOf(v *View, p policy.Pool, lv lvm.Pool) policy.Fill {
	f := policy.Fill{
		DataPercent: lv.DataPercent, MetadataPercent: lv.MetadataPercent, Known: lv.Known, Size: int64(lv.Size), MetadataSize: int64(lv.MetadataSize),
		DataFor: func(metadata int64) int64 { return int64(lv.DataFor(lvm.Size(metadata))) },
	}
	for _, g := range v.Groups {
		if string(g.Name) != p.Group {
			continue
		}
		f.GroupSize, f.GroupFree, f.Extent = int64(g.Size), int64(g.Free), int64(g.ExtentSize)
		f.ForMetadata = int64(g.MetadataCost(lv.Name, lv.MetadataFor(lv.Size+g.Free)))
		for _, vol := range g.Volumes {
			if vol.Pool == lv.Name {
				f.Virtual += int64(vol.Size)
			}
		}
	}
	return f
}
