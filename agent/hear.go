package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"lls/agent/event"
	"lls/agent/event/bus"
)

// Source is where news of the host comes from. Run hands them to emit until ctx ends, or it cannot go on.
type Source struct {
	Name string
	Run  func(ctx context.Context, emit func(event.Event)) error
	// Volumes says that this source hears of every change of a volume group, so that the last report stays true without it.
	Volumes bool
}

// Bus is where the agent shows what there is to root's programs; *bus.Publisher is the real one.
type Bus interface {
	Run(ctx context.Context)
	Update(t bus.Tree)
	Emit(e bus.Event)
}

// sourceRetry is how long a source that failed rests.
const sourceRetry = 5 * time.Second

// heardAge is how old a report may be that is shown while events tell of every change: only how full volumes are changes without one.
const heardAge = 5 * time.Second

// ears is what the agent hears with.
type ears struct {
	coalescer *event.Coalescer
	missing   atomic.Int32 // sources of volume events that do not work at the moment
	heard     atomic.Int64 // events, and changes of missing
	read      atomic.Int64 // heard, when the last report began
	late      time.Duration
}

// lateEvent is how long after a change that a report shows its event may come.
const lateEvent = 5 * time.Second

// maxMissed is how many changes the journal is told of at once.
const maxMissed = 10

// hear runs every source until ctx ends, and reads the groups again when one says that something changed.
func (a *Agent) hear(ctx context.Context, sources []Source) {
	for _, s := range sources {
		if s.Volumes {
			a.ears.missing.Add(1)
		}
		a.work.Go(func() { a.hearOne(ctx, s) })
	}
	a.work.Go(func() {
		a.ears.coalescer.Run(ctx, func(ctx context.Context, b event.Batch) error {
			if b.Resync != "" {
				a.log.Warn("events were lost, so everything is looked at", "why", b.Resync)
			}
			_, err := a.store.current(ctx, 0)
			return err
		})
	})
}

func (a *Agent) hearOne(ctx context.Context, s Source) {
	told := ""
	for ctx.Err() == nil {
		up := time.AfterFunc(time.Second, func() {
			if s.Volumes {
				a.ears.missing.Add(-1)
				a.ears.heard.Add(1)
				a.ears.coalescer.Add(event.Hint{Source: s.Name}) // what happened before
			}
		})
		err := s.Run(ctx, a.heard)
		if !up.Stop() && s.Volumes {
			a.ears.missing.Add(1)
			a.ears.heard.Add(1)
		}
		if ctx.Err() != nil {
			return
		}
		if why := fmt.Sprint(err); why != told { // once, not every time
			a.log.Warn("cannot hear events; looking from time to time instead", "source", s.Name, "error", err)
			told = why
		}
		select {
		case <-ctx.Done():
		case <-time.After(sourceRetry):
		}
	}
}

func (a *Agent) heard(e event.Event) {
	if down, ok := e.(event.Shutdown); ok {
		a.shutdown(down.Starting) // here, so that what came first is done first
		return
	}
	a.ears.heard.Add(1)
	a.poolEvent(e)
	a.ears.coalescer.Add(e)
}

// hearsAll says whether every change of a volume group should be heard of at the moment.
func (a *Agent) hearsAll() bool { return a.hears && a.ears.missing.Load() == 0 }

// listening is called when a report of the groups begins, and what it gives when that is there: it has the journal told of what others
// changed and no event said. Whatever has the groups read so heals what events missed, if nothing else once a minute.
func (a *Agent) listening() (ended func(was, now *View)) {
	heard := a.ears.heard.Load()
	return func(was, now *View) {
		since := a.ears.read.Swap(heard)
		if was == nil || !a.hearsAll() || a.ears.heard.Load() != since {
			return // what happened since the report before, an event may have told of
		}
		missed := differences(was, now)
		if len(missed) > 0 {
			a.work.Go(func() { a.unheard(missed, since) })
		}
	}
}

// unheard tells the journal of changes that were found without an event, unless one comes late.
func (a *Agent) unheard(missed []change, since int64) {
	select {
	case <-a.stopping:
		return
	case <-time.After(a.ears.late):
	}
	if !a.hearsAll() || a.ears.heard.Load() != since {
		return
	}
	for i, ch := range missed {
		if i == maxMissed {
			a.log.Warn("events missed more", "changes", len(missed)-i)
			return
		}
		r := ch.now
		if r == nil {
			r = ch.was
		}
		a.log.Warn("events missed this; it was found by looking", "volume", r.LV.Name, "what", ch.what)
	}
}

// listAge is how old a report may be that is shown.
func (a *Agent) listAge() time.Duration {
	if a.hearsAll() {
		return heardAge
	}
	return listAge
}

// shutdown keeps new work out while the host goes down, and lets it go when what is under way is done. A shutdown that is called off lets
// go of nothing: the host is to wait for us at the next one too. It does not wait itself.
func (a *Agent) shutdown(starting bool) {
	if !starting {
		a.gate.open()
		a.log.Info("the host does not go down any more")
		return
	}
	a.log.Info("the host goes down: no new work")
	empty := a.gate.close()
	a.work.Go(func() {
		select {
		case <-empty:
		case <-time.After(drainTime):
			a.gate.ifShut(empty, func() { a.log.Warn("work goes on while the host goes down") })
		}
		a.gate.ifShut(empty, a.release)
	})
}
