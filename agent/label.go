package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"lls/agent/catalog"
	"lls/agent/filesystem"
	"lls/hooks"
	"lls/lvm"
)

// Limits of a look for what file systems are called.
const (
	lookDeadline = 10 * time.Second // what was not looked at by then is looked at the next time
	lookAtOnce   = 32               // volumes that are activated with one command: whoever waits sees that it goes on
	calledAge    = 10 * time.Minute // how long it is believed of a volume that is not active, which only the host's root could change
)

// called remembers what file systems of volumes that are not active are called. It is all the agent keeps of what lies in a volume, and
// what activates one has it forgotten.
type called struct {
	turn chan struct{} // holds a token while somebody looks: one container's look must not take away the devices of another's

	mu  sync.Mutex
	was map[string]calledAt // by VG/LV
}

type calledAt struct {
	filesystem.Identity
	at time.Time
}

func newCalled() *called { return &called{turn: make(chan struct{}, 1), was: map[string]calledAt{}} }

func (k *called) get(v lvm.Volume, now time.Time) (filesystem.Identity, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.was[string(v.VG)+"/"+string(v.Name)]
	age := now.Sub(c.at)
	return c.Identity, ok && age >= 0 && age < calledAge
}

func (k *called) forget(vg lvm.VG, names ...lvm.Name) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range names {
		delete(k.was, string(vg)+"/"+string(n))
	}
}

// put notes what was read, and drops what is too old.
func (k *called) put(vg lvm.VG, name lvm.Name, id filesystem.Identity, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, c := range k.was {
		if age := now.Sub(c.at); age < 0 || age >= calledAge {
			delete(k.was, key)
		}
	}
	k.was[string(vg)+"/"+string(name)] = calledAt{id, now}
}

// look is one search for volumes by what their file systems are called, among those that a container may mount: its own first, then the
// host's. A dataset and its snapshots are called alike, so what several alike are called is none of them; and so nobody's elsewhere count,
// or whoever shows a snapshot to others would be found in the dataset's place, or have it not found.
type look struct {
	*call
	partial bool // not all volumes could be looked at
	holds   bool // the turn
	awake   []woken
}

// woken is a volume that was activated only to be looked at.
type woken struct {
	record *catalog.Record
	id     *filesystem.Identity // nil when it could not be read
}

// find is a hooks.Lookup. What it activates stays so until done.
func (l *look) find(ctx context.Context, wanted []hooks.Tag) map[hooks.Tag]string {
	a := l.agent
	l.partial = true
	ctx, cancel := context.WithTimeout(ctx, lookDeadline)
	defer cancel()
	select {
	case a.called.turn <- struct{}{}:
		l.holds = true
	case <-ctx.Done():
		return nil
	}
	v, err := a.store.current(ctx, workAge)
	if err != nil {
		return nil
	}
	l.partial = len(v.Missing) > 0
	var mine, hosts []*catalog.Record
	for _, r := range v.Catalog.Records {
		switch {
		case r.State != catalog.Live || r.FS == "" || r.May(l.asker, catalog.Mount, "mount", "") != nil:
		case r.Owner == l.asker.Owner:
			mine = append(mine, r)
		case r.Owner.IsHost():
			hosts = append(hosts, r)
		}
	}
	found := map[hooks.Tag]string{}
	for _, records := range [][]*catalog.Record{mine, hosts} {
		if len(wanted) == 0 {
			break
		}
		by := l.identify(ctx, records)
		wanted = slices.DeleteFunc(slices.Clone(wanted), func(t hooks.Tag) bool {
			fits := by[key(t)]
			if len(fits) == 1 {
				found[t] = v.Catalog.Shown(l.asker, fits[0])
			}
			return len(fits) > 0
		})
	}
	return found
}

// key is a tag as it compares: the case of a UUID does not matter.
func key(t hooks.Tag) hooks.Tag {
	if t.Key == "UUID" {
		t.Value = strings.ToLower(t.Value)
	}
	return t
}

// identify reads what the file systems of volumes are called, each once.
func (l *look) identify(ctx context.Context, records []*catalog.Record) map[hooks.Tag][]*catalog.Record {
	a := l.agent
	by := map[hooks.Tag][]*catalog.Record{}
	add := func(r *catalog.Record, id filesystem.Identity) {
		for _, t := range []hooks.Tag{{Key: "UUID", Value: id.UUID}, {Key: "LABEL", Value: id.Label}} {
			if t.Value != "" {
				by[key(t)] = append(by[key(t)], r)
			}
		}
	}
	asleep := map[lvm.VG][]*catalog.Record{}
	for _, r := range records {
		if id, known := a.called.get(r.LV, a.opts.Now()); !r.LV.Active && known {
			add(r, id)
			continue
		}
		if !r.LV.Active {
			asleep[r.LV.VG] = append(asleep[r.LV.VG], r)
			continue
		}
		if id, err := a.devices.Identify(a.store.lvm.Device(r.LV.VG, r.LV.Name)); err == nil { // else it has none that we know
			add(r, id)
		}
	}
	for vg, all := range asleep {
		for some := range slices.Chunk(all, lookAtOnce) {
			if ctx.Err() != nil {
				l.partial = true
				return by
			}
			l.progress("looking for what %d file systems are called", len(some))
			if err := a.activate(ctx, vg, names(some)...); err != nil {
				l.partial = true
				a.log.Warn("cannot activate volumes to see what they are called", "container", l.guest.Owner, "error", err)
			}
			for _, r := range some { // also after an error: it may be one of them
				w := woken{record: r}
				if id, err := a.devices.Identify(a.store.lvm.Device(vg, r.LV.Name)); err == nil {
					add(r, id)
					w.id = &id
				}
				l.awake = append(l.awake, w)
			}
		}
	}
	return by
}

func names(records []*catalog.Record) []lvm.Name {
	var all []lvm.Name
	for _, r := range records {
		all = append(all, r.LV.Name)
	}
	return all
}

// done has the devices go again that were only looked at, but for those that are needed. Nobody waits for it but the next look.
func (l *look) done(ctx context.Context, needed map[catalog.ID]bool) {
	if !l.holds {
		return
	}
	l.holds = false
	unneeded := map[lvm.VG][]woken{}
	for _, w := range l.awake {
		if !needed[w.record.ID] {
			unneeded[w.record.LV.VG] = append(unneeded[w.record.LV.VG], w)
		}
	}
	a := l.agent
	a.work.Go(func() {
		defer func() { <-a.called.turn }()
		for vg, all := range unneeded {
			if err := a.sleep(context.WithoutCancel(ctx), vg, all); err != nil && !errors.Is(err, lvm.ErrOpen) {
				a.log.Warn("cannot deactivate volumes again", "vg", vg, "error", err) // idle does it later
			}
		}
	})
}

// sleep deactivates volumes of one group, with one command. What they are called is known from then on.
func (a *Agent) sleep(ctx context.Context, vg lvm.VG, all []woken) error {
	return a.store.write(ctx, vg, func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		var gone []lvm.Name
		var seen []woken
		off := func(volumes []lvm.Volume) []lvm.Volume { return volumes }
		for _, one := range all {
			now := v.Catalog.ByID(one.record.ID)
			if now == nil || now.LV.Name != one.record.LV.Name || now.LV.Open {
				continue
			}
			gone, seen = append(gone, now.LV.Name), append(seen, one)
			off = both(off, changed(now.LV.Name, func(v *lvm.Volume) { v.Active, v.Major, v.Minor = false, 0, 0 }))
		}
		if err := w.Deactivate(ctx, gone...); err != nil {
			return nil, err // somebody was quicker; the others are inactive all the same
		}
		for _, one := range seen {
			if one.id != nil {
				a.called.put(vg, one.record.LV.Name, *one.id, a.opts.Now())
			}
		}
		return off, nil
	})
}
