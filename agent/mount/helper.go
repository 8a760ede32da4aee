package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"lls/agent/mount/inside"
	"lls/internal/run"
)

// How many helpers may be in one container at a time, those included that hang.
const maxHelpers = 3

// How long a helper that got SIGTERM may go on before it is killed.
const helperGrace = 50 * time.Millisecond

// A gate counts the helpers of each container.
type gate struct {
	mu    sync.Mutex
	boxes map[uint64]*slots // by mount namespace
}

type slots struct {
	users  int           // waiting or in
	places chan struct{} // one token for each helper
	late   int           // of those, how many should have ended
}

// A place is what a helper has until it has really ended.
type place struct {
	gate       *gate
	ns         uint64
	slots      *slots
	late, left bool
}

// enter waits for a place. When late helpers have all of them it does not wait.
func (g *gate) enter(ctx context.Context, ns uint64) (*place, error) {
	g.mu.Lock()
	s := g.boxes[ns]
	if s == nil {
		s = &slots{places: make(chan struct{}, maxHelpers)}
		g.boxes[ns] = s
	}
	if s.late >= maxHelpers {
		g.mu.Unlock()
		return nil, ErrStuck
	}
	s.users++
	g.mu.Unlock()
	select {
	case s.places <- struct{}{}:
		return &place{gate: g, ns: ns, slots: s}, nil
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		g.forget(ns, s)
		return nil, errors.Join(ErrStuck, ctx.Err())
	}
}

func (g *gate) forget(ns uint64, s *slots) {
	if s.users--; s.users == 0 {
		delete(g.boxes, ns)
	}
}

// isLate says that the helper should have ended.
func (p *place) isLate() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if !p.late && !p.left {
		p.late = true
		p.slots.late++
	}
}

func (p *place) leave() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if p.left = true; p.late {
		p.slots.late--
	}
	<-p.slots.places // there is a token: this never waits
	p.gate.forget(p.ns, p.slots)
}

// help runs the helper in the container. It returns at the deadline, whatever
// became of the helper, which keeps its place until it has really ended.
func (m *Mounter) help(ctx context.Context, within time.Duration, b *Box, files []*os.File, args ...string) (inside.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	p, err := m.gate.enter(ctx, b.ns)
	if err != nil {
		return inside.Answer{}, err
	}
	// Its writing end is in the helper alone: it closes when the helper has ended.
	alive, inHelper, err := os.Pipe()
	if err != nil {
		p.leave()
		return inside.Answer{}, err
	}
	type outcome struct {
		run.Result
		error
	}
	done := make(chan outcome, 1)
	go func() { // owns the helper
		defer p.leave()
		defer alive.Close()
		result, err := m.runner.Run(ctx, run.Cmd{
			Name: m.options.Helper, Args: args, Grace: helperGrace, Limit: 1 << 16,
			ExtraFiles: append([]*os.File{inHelper, b.PIDFD}, files...),
		})
		_ = inHelper.Close()
		done <- outcome{result, err}
		_, _ = alive.Read(make([]byte, 1))
	}()
	select {
	case o := <-done:
		return m.answer(ctx, b, o.Stdout, o.error)
	case <-ctx.Done():
	}
	// It may have answered in the very last moment, or end now.
	select {
	case o := <-done:
		return m.answer(ctx, b, o.Stdout, o.error)
	case <-time.After(2 * helperGrace):
		p.isLate()
		return inside.Answer{}, m.late(ctx, b)
	}
}

func (m *Mounter) answer(ctx context.Context, b *Box, stdout []byte, err error) (inside.Answer, error) {
	if err != nil && ctx.Err() != nil {
		return inside.Answer{}, m.late(ctx, b)
	}
	if err != nil {
		return inside.Answer{}, fmt.Errorf("cannot work in the container: %w", err)
	}
	return inside.ParseAnswer(string(stdout))
}

func (m *Mounter) late(ctx context.Context, b *Box) error {
	if !b.Alive() {
		return ErrGone
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return ErrStuck
}

// failure is the error for an answer, or nil.
func failure(a inside.Answer) error {
	switch a.Kind {
	case inside.OK, inside.Already:
		return nil
	case inside.Missing, inside.NotDir, inside.Forbidden, inside.Loop, inside.Invalid:
		return &ErrTarget{Path: a.Path, Why: a.Text, Kind: TargetKind(a.Kind)}
	case inside.Occupied:
		return &ErrOccupied{Path: a.Path}
	case inside.Busy:
		return fmt.Errorf("%s: %w", a.Path, ErrBusy)
	case inside.Gone:
		return ErrGone
	case inside.NoPlace:
		return noPlace(a.Path, a.Text)
	case inside.NoStaging:
		return fmt.Errorf("%w: %s", errNoStaging, a.Text)
	case inside.TooLarge:
		return fmt.Errorf("%s: %w", a.Path, ErrTooLarge)
	case inside.NotRegular:
		return fmt.Errorf("%s: %w: %s", a.Path, ErrNotRegular, a.Text)
	case inside.NoFile:
		return fmt.Errorf("%s: %w", a.Path, os.ErrNotExist)
	case inside.Denied:
		return fmt.Errorf("%s: %w", a.Path, os.ErrPermission)
	case inside.NotMounted:
		return fmt.Errorf("%s: %w", a.Path, ErrNotMounted)
	}
	return errors.New(a.Text)
}

func noPlace(path, why string) error { return fmt.Errorf("%s: %w: %s", path, ErrNoPlace, why) }

// errNoStaging means that what is staged in the tree did not reach the container.
var errNoStaging = errors.New("the tree is not in the container")
