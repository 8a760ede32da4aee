package agent

import (
	"context"
	"errors"
	"sync"

	"lls/agent/api"
)

// errShutdown keeps work from being begun while the host goes down.
var errShutdown = errors.New("the host is going down")

func goingDown(doing string) *api.Error {
	return api.Errorf(api.Busy, "cannot %s now: the host is going down", doing).WithHint("try again when it is back").Because(errShutdown)
}

// gate lets work in, until it is closed. Work that is inside may begin what belongs to it, so that it comes to its end.
type gate struct {
	mu     sync.Mutex
	closed bool
	inside int
	empty  chan struct{} // of the last close; closed when nobody was inside since, or when the gate was opened; nil before the first close
	done   bool          // empty is closed
}

// pass is one work's being inside. It is told by the contexts of what belongs to that work.
type pass struct {
	gate *gate
	left bool // guarded by gate.mu
}

// passKey is the context's key of a pass.
type passKey struct{}

// enter says whether one more may come in, who must then leave, and gives the context for all that belongs to it.
func (g *gate) enter(ctx context.Context) (_ context.Context, leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	outer, _ := ctx.Value(passKey{}).(*pass)
	if g.closed && (outer == nil || outer.gate != g || outer.left) {
		return ctx, func() {}, false
	}
	ctx, leave = g.admit(ctx)
	return ctx, leave, true
}

// insist comes in although the gate is closed.
func (g *gate) insist(ctx context.Context) (_ context.Context, leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.admit(ctx)
}

// admit lets one in. The caller holds g.mu.
func (g *gate) admit(ctx context.Context) (_ context.Context, leave func()) {
	g.inside++
	p := &pass{gate: g}
	return context.WithValue(ctx, passKey{}, p), sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		p.left = true
		g.inside--
		g.look()
	})
}

// close keeps everybody out; the channel is closed when the last has left, or the gate is opened: ifShut tells them apart.
func (g *gate) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.closed, g.empty, g.done = true, make(chan struct{}), false
		g.look()
	}
	return g.empty
}

// look tells of it when the last has left. The caller holds g.mu.
func (g *gate) look() {
	if g.closed && g.inside == 0 && !g.done {
		g.done = true
		close(g.empty)
	}
}

// ifShut does something, unless the gate was opened since the close that gave empty. It cannot be opened meanwhile.
func (g *gate) ifShut(empty <-chan struct{}, do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed && g.empty == empty {
		do()
	}
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.closed
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed && !g.done {
		g.done = true
		close(g.empty)
	}
	g.closed = false
}

// during does work of the agent's own that a shutdown is to wait for, or says that it did not begin it because the host goes down. It is
// tried again when its time comes again.
func (a *Agent) during(ctx context.Context, work func(ctx context.Context)) (done bool) {
	ctx, leave, ok := a.gate.enter(ctx)
	defer leave()
	if ok {
		work(ctx)
	}
	return ok
}
