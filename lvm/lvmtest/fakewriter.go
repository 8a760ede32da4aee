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
	switch {
	case p == nil:
		return lvm.ErrNoPool
	case volume(g, v.Name) != nil || pool(g, v.Name) != nil:
		return lvm.ErrExists
	case p.DataPercent >= 100 || p.MetadataPercent >= 100 || p.CheckNeeded:
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
		more, err := growth(g, v.Size, size, !v.Thin)
		if err == nil {
			v.Size += more
		}
		return err
	})
}

// growth is how much is added, taken from the group's free space if asked to.
func growth(g *lvm.Group, was, size lvm.Size, take bool) (lvm.Size, error) {
	if size <= 0 || size > lvm.MaxSize {
		return 0, lvm.ErrBadSize
	}
	more := size.RoundUp(g.ExtentSize) - was
	switch {
	case more < 0:
		return 0, lvm.ErrShrink
	case take && more > g.Free:
		return 0, lvm.ErrNoSpace
	case take:
		g.Free -= more
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

func (w *fakeWriter) Remove(ctx context.Context, name lvm.Name) error {
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
		if p == nil {
			return lvm.ErrNoPool
		}
		for _, part := range []struct {
			to      lvm.Size
			size    *lvm.Size
			percent *float64
		}{{metadata, &p.MetadataSize, &p.MetadataPercent}, {data, &p.Size, &p.DataPercent}} {
			if part.to == 0 {
				continue
			}
			more, err := growth(g, *part.size, part.to, true)
			if err != nil {
				return err
			}
			*part.percent *= float64(*part.size) / float64(*part.size+more)
			*part.size += more
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
