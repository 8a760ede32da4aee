package lvm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lls/internal/run"
)

// newVolume gives what every new volume has: the flag that keeps it inactive at
// boot, so that LLS activates what is used, and its state now. The flag is
// needed because lvcreate refuses --setautoactivation for thin volumes.
func newVolume(active bool) []string {
	if active {
		return []string{"--setactivationskip", "y", "-ay", "--ignoreactivationskip"}
	}
	return []string{"--setactivationskip", "y", "-an"}
}

func (w *writer) CreateThin(ctx context.Context, c CreateThin) error {
	if err := w.checkNew(c.Pool, c.Name); err != nil {
		return err
	}
	if c.Size <= 0 || c.Size > MaxSize {
		return fmt.Errorf("cannot create volume %s/%s: %d bytes: %w", w.vg, c.Name, int64(c.Size), ErrBadSize)
	}
	args, err := tagArgs("--addtag", c.Tags)
	if err != nil {
		return err
	}
	args = append(args, newVolume(c.Activate)...)
	// A new thin volume is all holes: there is nothing to look for or to wipe.
	args = append(args, "--type", "thin", "-n", string(c.Name), "-V", bytesArg(c.Size), "--wipesignatures", "n",
		"--thinpool", string(c.Pool), "--", string(w.vg))
	err = w.change(ctx, func(g Group, failure *run.Error) error {
		if _, ok := g.Pool(c.Pool); !ok {
			return ErrNoPool
		}
		return w.afterCreate(ctx, g, failure, c.Name, c.Pool, c.Tags, c.Activate)
	}, "lvcreate", args...)
	if err != nil {
		return fmt.Errorf("cannot create volume %s/%s: %w", w.vg, c.Name, err)
	}
	return nil
}

func (w *writer) Snapshot(ctx context.Context, s Snapshot) error {
	if err := w.checkNew(s.Origin, s.Name); err != nil {
		return err
	}
	if w.last != nil {
		if v, ok := w.last.Volume(s.Origin); ok && !v.Thin {
			return fmt.Errorf("cannot snapshot volume %s/%s: not a thin volume: %w", w.vg, s.Origin, ErrNoPool)
		}
	}
	args, err := tagArgs("--addtag", s.Tags)
	if err != nil {
		return err
	}
	permission := "rw"
	if s.ReadOnly {
		permission = "r"
	}
	args = append(args, newVolume(s.Activate)...)
	// Without a size this can only become a thin snapshot.
	args = append(args, "-s", "-n", string(s.Name), "-p", permission, "--", operand(w.vg, s.Origin))
	err = w.change(ctx, func(g Group, failure *run.Error) error {
		origin, ok := g.Volume(s.Origin)
		if !ok {
			return ErrNotFound
		}
		if !origin.Thin {
			return ErrNoPool
		}
		err := w.afterCreate(ctx, g, failure, s.Name, origin.Pool, s.Tags, s.Activate)
		if errors.Is(err, errFailed) && frozen(failure.Stderr) {
			return ErrFrozen
		}
		return err
	}, "lvcreate", args...)
	if err != nil {
		return fmt.Errorf("cannot snapshot volume %s/%s: %w", w.vg, s.Origin, err)
	}
	return nil
}

func (w *writer) checkNew(from, name Name) error {
	if err := w.check(from); err != nil {
		return err
	}
	return CheckPair(w.vg, name)
}

// afterCreate says why a volume could not be made. One that is there although
// LVM was told to end is the one it made.
func (w *writer) afterCreate(ctx context.Context, g Group, failure *run.Error, name, pool Name, tags []Tag, active bool) error {
	if v, ok := g.Volume(name); ok {
		if failure.Err != nil && v.Pool == pool && hasAll(v, tags) && (v.Active || !active) {
			return nil
		}
		return ErrExists
	}
	if _, ok := g.Pool(name); ok {
		return ErrExists
	}
	if strings.Contains(failure.Stderr, reachedThreshold) { // it may have grown since
		return ErrThreshold
	}
	if p, ok := g.Pool(pool); ok && w.host.full(ctx, p) {
		return ErrPoolFull
	}
	return errFailed
}

// reachedThreshold is how LVM says that it makes no new volumes in a pool that it would grow (lib/metadata/thin_manip.c of lvm2).
const reachedThreshold = "reached threshold"

// full says whether a pool takes no new volumes: LVM refuses them above the
// threshold at which it would grow the pool (pool_below_threshold in lvm2
// lib/metadata/thin_manip.c).
func (h *Host) full(ctx context.Context, p Pool) bool {
	if !p.Known {
		return false
	}
	if p.DataPercent >= 100 || p.MetadataPercent >= 100 || p.CheckNeeded {
		return true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterFailure)
	defer cancel()
	args := []string{"--typeconfig", "full"}
	if p.Profile != "" {
		args = append(args, "--metadataprofile", p.Profile)
	}
	out, err := h.read(ctx, "lvmconfig", append(args, "activation/thin_pool_autoextend_threshold")...)
	if err != nil {
		return false
	}
	_, value, _ := strings.Cut(strings.TrimSpace(string(out.Stdout)), "=")
	f := &fields{row: row{"threshold": value}}
	threshold, ok := f.percent("threshold")
	return ok && (p.DataPercent >= threshold || p.MetadataPercent >= threshold)
}

// frozen says whether LVM failed because the kernel lets nobody freeze a file system twice (EBUSY of the ioctl, libdm/ioctl/libdm-iface.c of
// lvm2). Nothing else tells of that.
func frozen(stderr string) bool {
	for line := range strings.Lines(stderr) {
		if strings.Contains(line, "suspend ioctl on") && strings.Contains(line, "Device or resource busy") {
			return true
		}
	}
	return false
}
