package lvm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"lls/internal/run"
)

func (h *Host) write(ctx context.Context, vg VG, fn func(w Writer) error) error {
	if _, err := ParseVG(string(vg)); err != nil {
		return err
	}
	turn := h.turn(vg)
	select {
	case turn <- struct{}{}: // senders on a channel are served in order
	case <-ctx.Done():
		return fmt.Errorf("cannot write to volume group %s: %w", vg, context.Cause(ctx))
	}
	w := &writer{host: h, vg: vg}
	defer func() {
		w.closed.Store(true)
		<-turn
	}()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cannot write to volume group %s: %w", vg, context.Cause(ctx))
	}
	return fn(w)
}

func (h *Host) turn(vg VG) chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writers[vg] == nil {
		h.writers[vg] = make(chan struct{}, 1)
	}
	return h.writers[vg]
}

type writer struct {
	host   *Host
	vg     VG
	closed atomic.Bool
	last   *Group // the group as of the last report, nil once something changed
}

func (w *writer) Report(ctx context.Context) (Group, error) {
	if w.closed.Load() {
		return Group{}, ErrClosedWriter
	}
	groups, err := w.host.report(ctx, []VG{w.vg})
	if err != nil {
		return Group{}, err
	}
	for _, g := range groups {
		if g.Name == w.vg {
			w.last = &g
			return g, nil
		}
	}
	return Group{}, fmt.Errorf("cannot read volume group %s: %w", w.vg, ErrNoGroup)
}

// change runs one LVM command. When it fails, done reads the group as it is now
// and says what the failure means: nil when what was asked for is the case.
func (w *writer) change(ctx context.Context, done func(Group, *run.Error) error, command string, args ...string) error {
	w.last = nil
	err := w.host.change(ctx, command, args...)
	if err == nil {
		return nil
	}
	var failure *run.Error
	if !errors.As(err, &failure) {
		return err
	}
	if errors.Is(err, run.ErrStuck) {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	// The context may have ended, and the answer is needed all the same.
	again, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterFailure)
	defer cancel()
	g, readErr := w.Report(again)
	if errors.Is(readErr, ErrNoGroup) {
		return fmt.Errorf("%w: %w", ErrNoGroup, err)
	}
	if readErr != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, errors.Join(err, readErr))
	}
	why := done(g, failure)
	if why == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", why, err)
}

// How long a report after a failure may take.
const afterFailure = 30 * time.Second

// errFailed stands for a failure that the group's state does not explain.
var errFailed = errors.New("LVM refused")

// guard refuses what is not ours, as far as the last report knows it.
func (w *writer) guard(name Name, g *Group, want bool) error {
	managed := w.host.opts.Managed
	if managed == nil || g == nil {
		return nil
	}
	v, ok := g.Volume(name)
	if ok && managed(v) != want {
		if want {
			return fmt.Errorf("cannot change volume %s/%s: %w", w.vg, name, ErrNotManaged)
		}
		return fmt.Errorf("cannot adopt volume %s/%s: it is managed already: %w", w.vg, name, ErrExists)
	}
	return nil
}

// check looks at the operands of every change.
func (w *writer) check(names ...Name) error {
	if w.closed.Load() {
		return ErrClosedWriter
	}
	for _, n := range names {
		if _, err := ParseName(string(n)); err != nil {
			return err
		}
	}
	return nil
}

// fetch reads the group and finds a volume that may be changed.
func (w *writer) fetch(ctx context.Context, verb string, name Name) (Group, Volume, error) {
	g, err := w.Report(ctx)
	if err != nil {
		return Group{}, Volume{}, fmt.Errorf("cannot %s volume %s/%s: %w", verb, w.vg, name, err)
	}
	v, ok := g.Volume(name)
	if !ok {
		return g, v, fmt.Errorf("cannot %s volume %s/%s: %w", verb, w.vg, name, ErrNotFound)
	}
	return g, v, w.guard(name, &g, true)
}

func tagArgs(option string, tags []Tag) ([]string, error) {
	var args []string
	for _, t := range tags {
		if _, err := ParseTag(string(t)); err != nil {
			return nil, err
		}
		args = append(args, option+"="+string(t)) // "=": a tag may start with a hyphen
	}
	return args, nil
}

func hasAll(v Volume, tags []Tag) bool {
	return !slices.ContainsFunc(tags, func(t Tag) bool { return !v.HasTag(t) })
}
