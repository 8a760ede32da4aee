package lvmtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"lls/lvm"
)

// fakeWriter is the fake's lvm.Writer.
type fakeWriter struct {
	f      *Fake
	vg     lvm.VG
	closed atomic.Bool
}

// do takes one step on the group, or fails as it was told to.
func (w *fakeWriter) do(ctx context.Context, step string, names []lvm.Name, change func(g *lvm.Group) error) error {
	if w.closed.Load() {
		return lvm.ErrClosedWriter
	}
	for _, n := range names {
		if _, err := lvm.ParseName(string(n)); err != nil {
			return err
		}
	}
	return w.f.setup(ctx, step, func() error {
		g := w.f.groups[w.vg]
		if g == nil {
			return lvm.ErrNoGroup
		}
		if err := change(g); err != nil {
			return fmt.Errorf("cannot do %s in volume group %s: %w", step, w.vg, err)
		}
		return nil
	})
}

// find gives a volume that may be changed.
func (w *fakeWriter) find(g *lvm.Group, name lvm.Name, managed bool) (*lvm.Volume, error) {
	v := volume(g, name)
	switch {
	case v == nil:
		return nil, fmt.Errorf("%s: %w", name, lvm.ErrNotFound)
	case w.f.managed == nil || w.f.managed(*v) == managed:
		return v, nil
	case managed:
		return nil, fmt.Errorf("%s: %w", name, lvm.ErrNotManaged)
	}
	return nil, fmt.Errorf("%s: %w", name, lvm.ErrExists)
}

func (w *fakeWriter) Report(ctx context.Context) (lvm.Group, error) {
	if w.closed.Load() {
		return lvm.Group{}, lvm.ErrClosedWriter
	}
	groups, err := w.f.Report(ctx, w.vg)
	if err != nil {
		return lvm.Group{}, err
	}
	return groups[0], nil
}

func (w *fakeWriter) CreateThin(ctx context.Context, c lvm.CreateThin) error {
	return w.do(ctx, "CreateThin", []lvm.Name{c.Pool, c.Name}, func(g *lvm.Group) error {
		if c.Size <= 0 || c.Size > lvm.MaxSize {
			return lvm.ErrBadSize
		}
		return w.create(g, c.Tags, lvm.Volume{Name: c.Name, Pool: c.Pool, Size: c.Size, Active: c.Activate, Role: []string{"public"}})
	})
}

func (w *fakeWriter) Snapshot(ctx context.Context, s lvm.Snapshot) error {
	return w.do(ctx, "Snapshot", []lvm.Name{s.Origin, s.Name}, func(g *lvm.Group) error {
		o := volume(g, s.Origin)
		if o == nil {
			return lvm.ErrNotFound
		}
		if !o.Thin {
			return lvm.ErrNoPool
		}
		return w.create(g, s.Tags, lvm.Volume{
			Name: s.Name, Pool: o.Pool, Size: o.Size, Origin: o.Name, OriginUUID: o.UUID, UsedPercent: o.UsedPercent,
			ReadOnly: s.ReadOnly, Active: s.Activate, Role: []string{"public", "snapshot", "thinsnapshot"},
		})
	})
}

// create adds a thin volume.
func (w *fakeWriter) create(g *lvm.Group, tags []lvm.Tag, v lvm.Volume) error {
	if err := errors.Join(lvm.CheckPair(g.Name, v.Name), checkTags(tags)); err != nil {
		return err
	}
	p := pool(g, v.Pool)
	full := 100.0
	if p != nil && p.Fallback() != (lvm.Fallback{}) {
		full = float64(p.Fallback().Threshold)
	}
	switch {
	case p == nil:
		return lvm.ErrNoPool
	case volume(g, v.Name) != nil || pool(g, v.Name) != nil:
		return lvm.ErrExists
	case p.DataPercent >= full || p.MetadataPercent >= full || p.CheckNeeded:
		return lvm.ErrPoolFull
	}
	v.Thin, v.SkipActivation = true, true
	v.Layout, v.Tags = []string{"thin", "sparse"}, retag(nil, tags, nil)
	w.f.insert(g, v)
	return nil
}

func (w *fakeWriter) Retag(ctx context.Context, name lvm.Name, add, del []lvm.Tag) error {
	return w.retag(ctx, "Retag", name, add, del, true)
}

func (w *fakeWriter) Adopt(ctx context.Context, name lvm.Name, add []lvm.Tag) error {
	return w.retag(ctx, "Adopt", name, add, nil, false)
}

func (w *fakeWriter) retag(ctx context.Context, step string, name lvm.Name, add, del []lvm.Tag, managed bool) error {
	return w.do(ctx, step, []lvm.Name{name}, func(g *lvm.Group) error {
		if err := checkTags(slices.Concat(add, del)); err != nil {
			return err
		}
		for _, t := range add {
			if slices.Contains(del, t) {
				return lvm.ErrBadName
			}
		}
		v, err := w.find(g, name, managed)
		if err == nil {
			v.Tags = retag(v.Tags, add, del)
		}
		return err
	})
}

func (w *fakeWriter) Activate(ctx context.Context, names ...lvm.Name) error {
	return w.activate(ctx, "Activate", true, names)
}

func (w *fakeWriter) Deactivate(ctx context.Context, names ...lvm.Name) error {
	return w.activate(ctx, "Deactivate", false, names)
}

func (w *fakeWriter) activate(ctx context.Context, step string, on bool, names []lvm.Name) error {
	return w.do(ctx, step, names, func(g *lvm.Group) error {
		var all []error
		for _, n := range names { // like lvchange, it does what it can
			v, err := w.find(g, n, true)
			switch {
			case err != nil:
				all = append(all, err)
			case v.Active == on:
			case v.Open:
				all = append(all, fmt.Errorf("%s: %w", n, lvm.ErrOpen))
			default:
				w.f.activate(g, v, on)
			}
		}
		return errors.Join(all...)
	})
}

func (w *fakeWriter) Extend(ctx context.Context, name lvm.Name, size lvm.Size) error {
	return w.do(ctx, "Extend", []lvm.Name{name}, func(g *lvm.Group) error {
		v, err := w.find(g, name, true)
		if err != nil {
			return err
		}
		if size == 0 {
			return lvm.ErrBadSize
		}
		more, err := growth(g, v.Size, size)
		if err != nil {
			return err
		}
		if !v.Thin {
			if more > g.Free {
				return lvm.ErrNoSpace
			}
			g.Free -= more
		}
		v.Size += more
		return nil
	})
}

// growth is how much is added to come to a size, 0 for 0.
func growth(g *lvm.Group, was, size lvm.Size) (lvm.Size, error) {
	if size < 0 || size > lvm.MaxSize {
		return 0, lvm.ErrBadSize
	}
	if size == 0 {
		return 0, nil
	}
	more := size.RoundUp(g.ExtentSize) - was
	if more < 0 {
		return 0, lvm.ErrShrink
	}
	return more, nil
}

func (w *fakeWriter) SetReadOnly(ctx context.Context, name lvm.Name, readOnly bool) error {
	return w.do(ctx, "SetReadOnly", []lvm.Name{name}, func(g *lvm.Group) error {
		v, err := w.find(g, name, true)
		if err == nil {
			v.ReadOnly = readOnly
		}
		return err
	})
}

func (w *fakeWriter) Remove(ctx context.Context, name lvm.Name, still func(lvm.Volume) bool) error {
	return w.do(ctx, "Remove", []lvm.Name{name}, func(g *lvm.Group) error {
		v, err := w.find(g, name, true)
		if err != nil {
			return err
		}
		if dependents := g.Dependents(name); len(dependents) > 0 {
			refusal := &lvm.DependentsError{VG: g.Name, Name: name}
			for _, d := range dependents {
				refusal.Dependents = append(refusal.Dependents, d.Name)
			}
			return refusal
		}
		if v.Open {
			return lvm.ErrOpen
		}
		if still != nil && !still(*v) {
			return lvm.ErrChanged
		}
		if !v.Thin {
			g.Free += v.Size
		}
		is := func(v lvm.Volume) bool { return v.Name == name }
		g.Volumes, g.Others = slices.DeleteFunc(g.Volumes, is), slices.DeleteFunc(g.Others, is)
		for i := range g.Volumes { // its thin snapshots stand on their own
			if s := &g.Volumes[i]; s.Origin == name {
				s.Origin, s.OriginUUID = "", ""
			}
		}
		return nil
	})
}

func (w *fakeWriter) ExtendPool(ctx context.Context, name lvm.Name, data, metadata lvm.Size) error {
	return w.do(ctx, "ExtendPool", []lvm.Name{name}, func(g *lvm.Group) error {
		p := pool(g, name)
		switch {
		case p == nil:
			return lvm.ErrNoPool
		case metadata > lvm.MaxPoolMetadata:
			return lvm.ErrBadSize
		}
		cost := g.ExtendCost(name, data, metadata)
		moreData, err := growth(g, p.Size, data)
		_, metadataErr := growth(g, p.MetadataSize, metadata)
		if err := errors.Join(err, metadataErr); err != nil {
			return err
		}
		moreMetadata := max(metadata, p.MetadataFor(data)).RoundUp(g.ExtentSize) - p.MetadataSize
		if moreData == 0 { // then LVM does without what is missing for the spare
			cost = max(moreMetadata, min(cost, g.Free))
		}
		if g.Free < cost {
			return lvm.ErrNoSpace
		}
		g.Free -= cost
		p.DataPercent *= float64(p.Size) / float64(p.Size+moreData)
		p.MetadataPercent *= float64(p.MetadataSize) / float64(p.MetadataSize+moreMetadata)
		p.Size, p.MetadataSize = p.Size+moreData, p.MetadataSize+moreMetadata
		return nil
	})
}

func (w *fakeWriter) SetFallback(ctx context.Context, name lvm.Name, fallback lvm.Fallback) error {
	return w.do(ctx, "SetFallback", []lvm.Name{name}, func(g *lvm.Group) error {
		off := fallback == lvm.Fallback{}
		if err := fallback.Check(); !off && err != nil {
			return err
		}
		p := pool(g, name)
		if p == nil {
			return lvm.ErrNoPool
		}
		ours := p.Fallback() != lvm.Fallback{}
		switch {
		case p.Profile != "" && !ours && !off:
			return lvm.ErrForeignProfile
		case !off:
			p.Profile = fallback.Profile()
		case ours:
			p.Profile = ""
		}
		return nil
	})
}

func volume(g *lvm.Group, name lvm.Name) *lvm.Volume {
	if g == nil {
		return nil
	}
	for _, list := range [][]lvm.Volume{g.Volumes, g.Others} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func pool(g *lvm.Group, name lvm.Name) *lvm.Pool {
	if g == nil {
		return nil
	}
	for i := range g.Pools {
		if g.Pools[i].Name == name {
			return &g.Pools[i]
		}
	}
	return nil
}

func checkTags(tags []lvm.Tag) error {
	for _, t := range tags {
		if _, err := lvm.ParseTag(string(t)); err != nil {
			return err
		}
	}
	return nil
}

func retag(tags, add, del []lvm.Tag) []lvm.Tag {
	var out []lvm.Tag
	for _, t := range slices.Concat(tags, add) {
		if !slices.Contains(del, t) && !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// clone copies a group so that nobody sees it change.
func clone(g *lvm.Group) lvm.Group {
	c := *g
	c.Pools, c.Volumes, c.Others = slices.Clone(g.Pools), slices.Clone(g.Volumes), slices.Clone(g.Others)
	for i := range c.Pools {
		c.Pools[i].Tags = slices.Clone(c.Pools[i].Tags)
	}
	for _, list := range [][]lvm.Volume{c.Volumes, c.Others} {
		for i := range list {
			list[i].Tags = slices.Clone(list[i].Tags)
		}
	}
	return c
}
