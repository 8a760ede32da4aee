package agent

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
)

// change is what happened to one volume between two views, or a mount of it. Either record may be nil.
type change struct {
	what     string
	was, now *catalog.Record
	view     *View // that names it
	guest    *guest
	path     string
	why      string     // of api.EventFull
	expires  *time.Time // of api.EventExpiring
}

// differences are the changes from one catalog to another.
func differences(was, now *View) []change {
	var out []change
	for _, r := range now.Catalog.Records {
		if what := differs(was.Catalog.ByID(r.ID), r); what != "" {
			out = append(out, change{what: what, was: was.Catalog.ByID(r.ID), now: r, view: now})
		}
	}
	for _, r := range was.Catalog.Records {
		if now.Catalog.ByID(r.ID) == nil && r.State != catalog.Making {
			out = append(out, change{what: api.EventPurged, was: r, view: was})
		}
	}
	// Of two of one name, the one that went comes first.
	slices.SortStableFunc(out, func(x, y change) int { return came(x) - came(y) })
	return out
}

// came is 0 for what went, and 1 for all else.
func came(ch change) int {
	if ch.what == api.EventDeleted || ch.what == api.EventPurged {
		return 0
	}
	return 1
}

func differs(was, now *catalog.Record) string {
	switch {
	case now.State == catalog.Making:
		return ""
	case was == nil || was.State == catalog.Making:
		return api.EventCreated
	case was.State != now.State && now.State == catalog.Trash:
		return api.EventDeleted
	case was.State != now.State:
		return api.EventUndeleted
	case was.Name != now.Name || was.Owner != now.Owner || was.Visible != now.Visible || was.Access != now.Access || was.LV.Size != now.LV.Size ||
		was.LV.Active != now.LV.Active || !was.Lease.Equal(now.Lease) || was.Forever != now.Forever || was.GrowTo != now.GrowTo:
		return api.EventChanged
	}
	return ""
}

// feed hands changes to those who watch. A watcher who does not keep up is let go, and told so by the end of the stream.
type feed struct {
	mu       sync.Mutex
	watchers map[chan change]struct{}
}

// maxBehind is how many changes a watcher may be behind.
const maxBehind = 1024

func newFeed() *feed { return &feed{watchers: map[chan change]struct{}{}} }

func (f *feed) join() chan change {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := make(chan change, maxBehind)
	f.watchers[w] = struct{}{}
	return w
}

func (f *feed) leave(w chan change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.watchers[w]; ok {
		delete(f.watchers, w)
		close(w)
	}
}

func (f *feed) send(changes ...change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watchers {
		for _, c := range changes {
			select {
			case w <- c:
				continue
			default:
			}
			delete(f.watchers, w)
			close(w)
			break
		}
	}
}

// event is a change as one asker may know it; false when it is not the asker's to know.
func (c *call) event(ch change) (api.Event, bool) {
	e := api.Event{Time: c.agent.opts.Now(), What: ch.what, Path: ch.path}
	r := ch.now
	knew, knows := ch.was != nil && ch.was.Known(c.asker), ch.now != nil && ch.now.Known(c.asker)
	switch {
	case ch.now != nil && knows && ch.was != nil && !knew:
		e.What = api.EventCreated // it was made visible
	case ch.was != nil && knew && !knows:
		e.What, r = api.EventPurged, ch.was // it is gone, for this asker
	case !knows && !knew:
		return e, false
	}
	if ch.what == api.EventFull { // its owner's, and the sysadmin's, to know
		if !c.asker.Admin && r.Owner != c.asker.Owner {
			return e, false
		}
		e.Why = ch.why
	}
	if c.asker.Admin || r.Owner == c.asker.Owner {
		e.Expires = ch.expires
	}
	e.Name, e.Owner = ch.view.Catalog.Shown(c.asker, r), r.Owner.Name
	if ch.what == api.EventMounted || ch.what == api.EventUnmounted {
		e.Container = api.HostOwner
		switch {
		case ch.guest != nil && (c.asker.Admin || ch.guest == c.guest):
			e.Container = ch.guest.Owner.Name
		case !c.asker.Admin:
			e.Container, e.Path = api.AnotherContainer, ""
		}
	}
	return e, true
}

// watch streams events until the caller goes, falls too far behind, or the agent stops.
func (c *call) watch(ctx context.Context) (streamed, error) {
	w := c.agent.feed.join()
	defer c.agent.feed.leave(w)
	c.answer.begin(http.StatusOK)
	for {
		select {
		case <-ctx.Done():
			return streamed{}, nil
		case <-c.agent.stopping:
			return streamed{}, nil
		case ch, ok := <-w:
			if !ok {
				return streamed{}, nil
			}
			e, ok := c.event(ch)
			if ok && c.answer.send(e) != nil {
				return streamed{}, nil // the caller went away
			}
		}
	}
}

// follow tells of every change of the volume groups, whoever made it.
func (a *Agent) follow(ctx context.Context) {
	a.work.Go(func() { a.heralding(ctx) })
	var last *View
	asleep := map[catalog.ID]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.store.changed:
		}
		v, err := a.store.current(ctx, workAge)
		if err != nil {
			a.log.Warn("cannot read the volume groups", "error", err)
			continue
		}
		poke(a.volumes.wake)
		a.showAll(ctx)
		a.wake(ctx, v, asleep)
		if last != nil && last != v {
			a.tell(differences(last, v)...)
		}
		last = v
		a.herald.said(v)
	}
}

// told tells of a mount or its end.
func (a *Agent) told(what string, v *View, r *catalog.Record, g *guest, path string) {
	a.tell(change{what: what, was: r, now: r, view: v, guest: g, path: path})
}

// tell tells of changes: those who watch, and the message bus.
func (a *Agent) tell(changes ...change) {
	a.feed.send(changes...)
	for _, ch := range changes {
		a.signal(ch)
	}
}
