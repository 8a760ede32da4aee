package event

import (
	"context"
	"sync"
	"time"
)

// Timing says how a [Coalescer] turns events into reads. All are needed.
type Timing struct {
	Settle  time.Duration // from the first event to the read: what comes meanwhile is read along
	Rest    time.Duration // from the end of a read to the start of the next, at least
	MaxRest time.Duration // a read that took long is rested from for four times as long, up to this
	Retry   time.Duration // the rest after a read that failed
}

// DefaultTiming shows a change within a second, and in a storm reads at most four times a second, for a fifth of the time.
func DefaultTiming() Timing {
	return Timing{Settle: 60 * time.Millisecond, Rest: 250 * time.Millisecond, MaxRest: 700 * time.Millisecond, Retry: 2 * time.Second}
}

// Batch is what led to a read.
type Batch struct {
	Events int
	First  time.Time // when the first of them came
	Resync string    // why everything has to be looked at; empty when nothing was lost
}

// Coalescer makes few reads of many events. After each event a read begins; events that come before it begins share it.
type Coalescer struct {
	wake chan struct{}

	mu   sync.Mutex
	plan plan
}

// NewCoalescer makes a coalescer that has heard of nothing yet.
func NewCoalescer(t Timing) *Coalescer {
	return &Coalescer{wake: make(chan struct{}, 1), plan: plan{timing: t}}
}

// Add tells of an event. It never waits, and may be called from any goroutine.
func (c *Coalescer) Add(e Event) {
	c.mu.Lock()
	first := c.plan.add(e, time.Now())
	c.mu.Unlock()
	if first {
		select {
		case c.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// Run calls read for the events, one call at a time, until ctx ends. When read fails, its events are read again later.
func (c *Coalescer) Run(ctx context.Context, read func(context.Context, Batch) error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		c.mu.Lock()
		batch, due := c.plan.take(time.Now())
		if due {
			c.mu.Unlock()
			began := time.Now()
			err := read(ctx, batch)
			c.mu.Lock()
			c.plan.done(batch, err == nil, began, time.Now())
		}
		wait := c.plan.wait(time.Now())
		c.mu.Unlock()
		timer.Stop()
		if wait >= 0 {
			timer.Reset(wait)
		}
	}
}

// plan decides when to read. It has no clock of its own.
type plan struct {
	timing  Timing
	waiting Batch     // its events are not in any read yet
	notYet  time.Time // no read begins before
}

// add takes an event in, and says whether it is the first of its batch.
func (p *plan) add(e Event, now time.Time) bool {
	p.waiting.Events++
	if r, ok := e.(Resync); ok && p.waiting.Resync == "" {
		p.waiting.Resync = r.Why
	}
	if p.waiting.Events > 1 {
		return false
	}
	p.waiting.First = now
	return true
}

// wait is how long it is until the next read; less than 0 when there is nothing to read for.
func (p *plan) wait(now time.Time) time.Duration {
	if p.waiting.Events == 0 {
		return -1
	}
	at := p.waiting.First.Add(p.timing.Settle)
	if at.Before(p.notYet) {
		at = p.notYet
	}
	return max(at.Sub(now), 0)
}

// take gives the batch to read for now, if one is due. What is added after it is in the next.
func (p *plan) take(now time.Time) (b Batch, due bool) {
	if p.wait(now) != 0 {
		return Batch{}, false
	}
	b, p.waiting = p.waiting, Batch{}
	return b, true
}

// done tells that the read of a batch ended. One that failed goes back.
func (p *plan) done(b Batch, ok bool, began, now time.Time) {
	if ok {
		p.notYet = now.Add(max(p.timing.Rest, min(4*now.Sub(began), p.timing.MaxRest)))
		return
	}
	p.notYet = now.Add(p.timing.Retry)
	p.waiting.Events += b.Events
	p.waiting.First = b.First
	if b.Resync != "" {
		p.waiting.Resync = b.Resync
	}
}
