package lvm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lls/internal/run"
)

func (w *writer) Retag(ctx context.Context, name Name, add, del []Tag) error {
	return w.retag(ctx, name, add, del, true)
}

func (w *writer) Adopt(ctx context.Context, name Name, add []Tag) error {
	return w.retag(ctx, name, add, nil, false)
}

func (w *writer) retag(ctx context.Context, name Name, add, del []Tag, managed bool) error {
	if err := errors.Join(w.check(name), w.guard(name, w.last, managed)); err != nil {
		return err
	}
	for _, t := range add {
		if slices.Contains(del, t) {
			return fmt.Errorf("cannot tag volume %s/%s: tag %s is both added and taken away: %w", w.vg, name, t, ErrBadName)
		}
	}
	if len(add)+len(del) == 0 {
		return nil
	}
	args, err := tagArgs("--addtag", add)
	if err != nil {
		return err
	}
	deletions, err := tagArgs("--deltag", del)
	if err != nil {
		return err
	}
	args = append(append(args, deletions...), "--", operand(w.vg, name))
	err = w.change(ctx, func(g Group, _ *run.Error) error {
		v, ok := g.Volume(name)
		switch {
		case !ok:
			return ErrNotFound
		case hasAll(v, add) && !slices.ContainsFunc(del, v.HasTag):
			return nil
		}
		return errFailed
	}, "lvchange", args...)
	if err != nil {
		return fmt.Errorf("cannot tag volume %s/%s: %w", w.vg, name, err)
	}
	return nil
}

func (w *writer) Activate(ctx context.Context, names ...Name) error {
	return w.activate(ctx, "activate", true, names)
}

func (w *writer) Deactivate(ctx context.Context, names ...Name) error {
	return w.activate(ctx, "deactivate", false, names)
}

func (w *writer) activate(ctx context.Context, verb string, on bool, names []Name) error {
	if err := w.check(names...); err != nil {
		return err
	}
	if len(names) == 0 {
		return nil
	}
	args := []string{"-an", "--"}
	if on {
		args = []string{"-ay", "--ignoreactivationskip", "--"}
	}
	for _, n := range names {
		if err := w.guard(n, w.last, true); err != nil {
			return err
		}
		args = append(args, operand(w.vg, n))
	}
	err := w.change(ctx, func(g Group, _ *run.Error) error {
		var all []error
		for _, n := range names {
			v, ok := g.Volume(n)
			switch {
			case !ok:
				all = append(all, fmt.Errorf("%s: %w", n, ErrNotFound))
			case v.Active == on:
			case v.Open:
				all = append(all, fmt.Errorf("%s: %w", n, ErrOpen))
			default:
				all = append(all, fmt.Errorf("%s: %w", n, errFailed))
			}
		}
		return errors.Join(all...)
	}, "lvchange", args...)
	if err != nil {
		return fmt.Errorf("cannot %s in volume group %s: %w", verb, w.vg, err)
	}
	return nil
}

func (w *writer) Extend(ctx context.Context, name Name, size Size) error {
	if err := w.check(name); err != nil {
		return err
	}
	g, v, err := w.fetch(ctx, "extend", name)
	if err != nil {
		return err
	}
	grow, err := growth(v.Size, size, g.ExtentSize)
	if err == nil && grow {
		err = w.change(ctx, func(g Group, _ *run.Error) error {
			switch v, ok := g.Volume(name); {
			case !ok:
				return ErrNotFound
			case v.Size >= size:
				return nil
			case !v.Thin && g.Free < size-v.Size:
				return ErrNoSpace
			case v.Thin:
				if p, ok := g.Pool(v.Pool); ok && w.host.full(ctx, p) {
					return ErrPoolFull
				}
			}
			return errFailed
		}, "lvextend", "-L", bytesArg(size), "--", operand(w.vg, name))
	}
	if err != nil {
		return fmt.Errorf("cannot extend volume %s/%s: %w", w.vg, name, err)
	}
	return nil
}

// growth says whether a size is larger than it was, and refuses a smaller one.
func growth(was, size, extent Size) (bool, error) {
	if size <= 0 || size > MaxSize {
		return false, fmt.Errorf("%d bytes: %w", int64(size), ErrBadSize)
	}
	switch rounded := size.RoundUp(extent); {
	case rounded < was:
		return false, fmt.Errorf("%s is smaller than %s: %w", size, was, ErrShrink)
	case rounded == was:
		return false, nil
	}
	return true, nil
}

func (w *writer) SetReadOnly(ctx context.Context, name Name, readOnly bool) error {
	if err := w.check(name); err != nil {
		return err
	}
	_, v, err := w.fetch(ctx, "change permission of", name)
	if err != nil {
		return err
	}
	if v.ReadOnly == readOnly {
		return nil
	}
	permission := "rw"
	if readOnly {
		permission = "r"
	}
	err = w.change(ctx, func(g Group, _ *run.Error) error {
		switch v, ok := g.Volume(name); {
		case !ok:
			return ErrNotFound
		case v.ReadOnly == readOnly:
			return nil
		}
		return errFailed
	}, "lvchange", "-p", permission, "--", operand(w.vg, name))
	if err != nil {
		return fmt.Errorf("cannot change permission of volume %s/%s: %w", w.vg, name, err)
	}
	return nil
}

func (w *writer) Remove(ctx context.Context, name Name, still func(Volume) bool) error {
	if err := w.check(name); err != nil {
		return err
	}
	g, v, err := w.fetch(ctx, "remove", name)
	if err != nil {
		return err
	}
	if err := removable(g, v); err != nil {
		return err
	}
	if still != nil && !still(v) {
		return fmt.Errorf("cannot remove volume %s/%s: %w", w.vg, name, ErrChanged)
	}
	after := func(g Group, _ *run.Error) error {
		now, ok := g.Volume(name)
		if !ok {
			return nil
		}
		if err := removable(g, now); err != nil {
			return err
		}
		if !sameTags(v, now) {
			return ErrChanged
		}
		return errFailed
	}
	err = w.change(ctx, after, "lvremove", "-y", "--select", RemoveSelection(v), "--", operand(w.vg, name))
	if err == nil { // also when nothing was selected
		g, err = w.Report(ctx)
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrUnknown, err)
		} else {
			err = after(g, nil)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot remove volume %s/%s: %w", w.vg, name, err)
	}
	return nil
}

// What LVM calls the origin of classic snapshots and an external origin
// (lib/metadata/lv.c): the roles of a volume that takes others along.
var originRoles = []string{"thickorigin", "multithickorigin", "extthinorigin", "multiextthinorigin"}

// RemoveSelection is what Remove gives lvremove to choose by. LVM looks at it
// under the same lock as it removes: a volume that meanwhile got dependents or
// other tags, or another one of this name, stays.
func RemoveSelection(v Volume) string {
	tags := make([]string, len(v.Tags))
	for i, t := range v.Tags {
		tags[i] = `"` + string(t) + `"` // no tag has a quote in it
	}
	// In brackets, a list of just these (lvmreport(7), "selection").
	selection := "lv_uuid=" + v.UUID + " && lv_tags=[" + strings.Join(tags, ",") + "]"
	for _, role := range originRoles {
		selection += " && !(lv_role={" + role + "})"
	}
	return selection
}

func sameTags(a, b Volume) bool { return len(a.Tags) == len(b.Tags) && hasAll(a, b.Tags) }

func removable(g Group, v Volume) error {
	refusal := &DependentsError{VG: v.VG, Name: v.Name}
	for _, d := range g.Dependents(v.Name) {
		refusal.Dependents = append(refusal.Dependents, d.Name)
	}
	if len(refusal.Dependents) > 0 || slices.ContainsFunc(originRoles, func(r string) bool { return slices.Contains(v.Role, r) }) {
		return refusal
	}
	if v.Open {
		return fmt.Errorf("cannot remove volume %s/%s: %w", v.VG, v.Name, ErrOpen)
	}
	return nil
}

func (w *writer) ExtendPool(ctx context.Context, pool Name, data, metadata Size) error {
	if err := w.check(pool); err != nil {
		return err
	}
	if metadata > MaxPoolMetadata {
		return fmt.Errorf("cannot extend pool %s/%s: %s of metadata: %w", w.vg, pool, metadata, ErrBadSize)
	}
	g, err := w.Report(ctx)
	if err != nil {
		return fmt.Errorf("cannot extend pool %s/%s: %w", w.vg, pool, err)
	}
	p, ok := g.Pool(pool)
	if !ok {
		return fmt.Errorf("cannot extend pool %s/%s: %w", w.vg, pool, ErrNoPool)
	}
	// When LVM finds no room for the data, it has extended the metadata already.
	// Metadata alone is better extended without its spare than not at all.
	need := g.ExtendCost(pool, data, metadata)
	if data <= p.Size {
		need = metadata - p.MetadataSize
	}
	if g.Free < need {
		return fmt.Errorf("cannot extend pool %s/%s: %s needed, %s free: %w", w.vg, pool, need, g.Free, ErrNoSpace)
	}
	// Metadata first: data cannot be mapped without it.
	for _, part := range []struct {
		option    string
		was, size Size
		now       func(Pool) Size
	}{
		{"--poolmetadatasize", p.MetadataSize, metadata, func(p Pool) Size { return p.MetadataSize }},
		{"-L", p.Size, data, func(p Pool) Size { return p.Size }},
	} {
		if part.size == 0 {
			continue
		}
		grow, err := growth(part.was, part.size, g.ExtentSize)
		if err == nil && grow {
			err = w.change(ctx, func(g Group, _ *run.Error) error {
				switch p, ok := g.Pool(pool); {
				case !ok:
					return ErrNoPool
				case part.now(p) >= part.size:
					return nil
				case g.Free < part.size-part.now(p):
					return ErrNoSpace
				}
				return errFailed
			}, "lvextend", part.option, bytesArg(part.size), "--", operand(w.vg, pool))
		}
		if err != nil {
			return fmt.Errorf("cannot extend pool %s/%s: %w", w.vg, pool, err)
		}
	}
	return nil
}
