package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"lls/internal/run"
)

// Fallback is how a pool grows by itself while nobody else sees to it: LVM's
// dmeventd extends data and metadata when one of them is filled above the
// threshold. The zero value means not at all.
//
// It is an LVM metadata profile attached to the pool: the pool carries the
// profile's name, and a file of that name says what it means. What LVM does with
// it (seen with 2.03.16 and 2.03.31):
//
//   - Above the threshold LVM makes no new volumes in the pool (ErrThreshold).
//   - It knows no cap but the group's free space, and goes on for as long as
//     there is any. Who wants one takes the fallback away before it is reached.
//   - dmeventd looks every 10 seconds, and at once when the kernel says that the
//     pool passed its low-water mark. That mark is the threshold, and it is set
//     when the pool's table is loaded: by SetFallback, and by each later growth.
//   - It acts when the usage has risen to another twentieth (50, 55, 60 … percent)
//     that it has not yet seen. A pool that is above the threshold when it gets its
//     fallback grows when it fills further, so look at it then.
//   - Without the file LVM says "stat failed" with each change of the pool, which
//     succeeds all the same, and the pool no longer grows by itself. So the files stay
//     for as long as a pool may name them.
type Fallback struct {
	Threshold int // percent full, 50 to 99
	Percent   int // how much larger it gets at a time, 1 to 100
}

// ErrBadFallback is wrapped by every refusal of a Fallback.
var ErrBadFallback = errors.New("not a valid fallback")

// Bounds of LVM's settings: below 50 it takes the threshold for 50, and 100
// switches it off (thin_pool_autoextend_threshold in lvm.conf(5)).
const (
	minThreshold = 50
	maxThreshold = 99
)

// Check says whether the fallback is one that LVM can do.
func (f Fallback) Check() error {
	if f.Threshold < minThreshold || f.Threshold > maxThreshold || f.Percent < 1 || f.Percent > 100 {
		return fmt.Errorf("growing by %d percent from %d percent on: %w", f.Percent, f.Threshold, ErrBadFallback)
	}
	return nil
}

// LargestStep is how much data or metadata of this size may get larger at once:
// by Percent, or, when that does not bring it under the threshold, by what does
// (_adjust_amount in lvm2 lib/metadata/lv_manip.c).
func (f Fallback) LargestStep(size, extent Size) Size {
	if f.Check() != nil {
		return 0
	}
	enough := (100*100+f.Threshold-1)/f.Threshold - 100
	percent := Size(max(f.Percent, enough))
	return (size/100*percent + size%100*percent/100).RoundUp(extent)
}

// DefaultProfileDir is where LVM looks for profiles (config/profile_dir in
// lvm.conf(5)).
const DefaultProfileDir = "/etc/lvm/profile"

// Profiles are named after what they say, so that their content never changes,
// several pools may share one, and none has to be removed at the right moment.
const profilePrefix = "lls-"

// Profile is the name of the metadata profile that says so.
func (f Fallback) Profile() string {
	return fmt.Sprintf("%s%d-%d", profilePrefix, f.Threshold, f.Percent)
}

func (f Fallback) text() []byte {
	return fmt.Appendf(nil, "# Written by LLS: how a thin pool grows while the LLS agent does not run.\n"+
		"activation {\n\tthin_pool_autoextend_threshold=%d\n\tthin_pool_autoextend_percent=%d\n}\n", f.Threshold, f.Percent)
}

// Fallback is what is attached to the pool, the zero value when nothing of ours
// is.
func (p Pool) Fallback() Fallback {
	var f Fallback
	if _, err := fmt.Sscanf(p.Profile, profilePrefix+"%d-%d", &f.Threshold, &f.Percent); err != nil || f.Profile() != p.Profile || f.Check() != nil {
		return Fallback{}
	}
	return f
}

func (w *writer) SetFallback(ctx context.Context, pool Name, f Fallback) error {
	if err := w.setFallback(ctx, pool, f); err != nil {
		return fmt.Errorf("cannot set the fallback of pool %s/%s: %w", w.vg, pool, err)
	}
	return nil
}

func (w *writer) setFallback(ctx context.Context, pool Name, f Fallback) error {
	if err := w.check(pool); err != nil {
		return err
	}
	off := f == Fallback{}
	if err := f.Check(); !off && err != nil {
		return err
	}
	g, err := w.Report(ctx)
	if err != nil {
		return err
	}
	p, ok := g.Pool(pool)
	if !ok {
		return ErrNoPool
	}
	ours := p.Fallback() != Fallback{}
	switch {
	case off && !ours:
		return nil
	case off:
		return w.profile(ctx, pool, "", "--detachprofile")
	case p.Profile != "" && !ours:
		return fmt.Errorf("profile %s: %w", p.Profile, ErrForeignProfile)
	}
	if err := w.host.writeProfile(f); err != nil {
		return err
	}
	if p.Fallback() != f {
		if err := w.profile(ctx, pool, f.Profile(), "--metadataprofile", f.Profile()); err != nil {
			return err
		}
		if p.Active { // for the low-water mark
			if err := w.host.change(ctx, "lvchange", "--refresh", "--", operand(w.vg, pool)); err != nil {
				return err
			}
		}
	}
	if !p.Active {
		return nil // LVM monitors what it activates
	}
	return w.monitor(ctx, pool)
}

// profile attaches or detaches one.
func (w *writer) profile(ctx context.Context, pool Name, want string, options ...string) error {
	return w.change(ctx, func(g Group, _ *run.Error) error {
		switch p, ok := g.Pool(pool); {
		case !ok:
			return ErrNoPool
		case p.Profile == want:
			return nil
		}
		return errFailed
	}, "lvchange", append(options, "--", operand(w.vg, pool))...)
}

// monitor has dmeventd watch a pool, and makes sure that it does.
func (w *writer) monitor(ctx context.Context, pool Name) error {
	if err := w.host.change(ctx, "lvchange", "--monitor", "y", "--", operand(w.vg, pool)); err != nil {
		return fmt.Errorf("%w: %w", ErrNotMonitored, err)
	}
	out, err := w.host.read(ctx, "lvs", "--noheadings", "-o", "seg_monitor", "--", operand(w.vg, pool))
	if err != nil {
		return err
	}
	if state := strings.TrimSpace(string(out.Stdout)); state != "monitored" {
		return fmt.Errorf("%w: it is %q", ErrNotMonitored, state)
	}
	return nil
}

// writeProfile puts the profile's file where LVM finds it, whole or not at all.
func (h *Host) writeProfile(f Fallback) error {
	dir := h.opts.ProfileDir
	if dir == "" {
		dir = DefaultProfileDir
	}
	path := filepath.Join(dir, f.Profile()+".profile")
	if found, err := os.ReadFile(path); err == nil && bytes.Equal(found, f.text()) {
		return nil
	}
	// LVM reads only what ends in ".profile".
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(fresh, f.text(), 0o644); err != nil {
		return err
	}
	if err := syncPath(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncPath(dir)
}
