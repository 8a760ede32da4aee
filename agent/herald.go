package agent

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"lls/agent/api"
	"lls/agent/container"
	"lls/agent/event/bus"
)

// heraldRest is the time between two looks at what root's programs are shown, at least: containers can mount and unmount often.
const heraldRest = 100 * time.Millisecond

// herald has what is shown to root's programs brought up to date, and tells them what happened when they can see it.
type herald struct {
	wake chan struct{} // has an element when something may be shown otherwise since the last look

	mu     sync.Mutex
	before []bus.Event // to be told while what they are about can still be seen
	after  []bus.Event
	told   *View // whose changes were all said; what went since then is shown until that is said too
}

func newHerald() *herald { return &herald{wake: make(chan struct{}, 1)} }

// say tells of what happened. It never waits.
func (h *herald) say(e bus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := slices.ContainsFunc(h.after, func(x bus.Event) bool { return x.Object == e.Object })
	if e.Signal == bus.VolumePurged && !known {
		h.before = append(h.before, e)
	} else {
		h.after = append(h.after, e)
	}
	poke(h.wake)
}

// said notes that all changes up to a view were said.
func (h *herald) said(v *View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = v
	poke(h.wake)
}

func (h *herald) take() (before, after []bus.Event, told *View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, after = h.before, h.after
	h.before, h.after = nil, nil
	return before, after, h.told
}

// heralding is the goroutine that shows and tells, until ctx ends.
func (a *Agent) heralding(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.herald.wake:
		}
		before, after, told := a.herald.take()
		for _, e := range before {
			a.bus.Emit(e)
		}
		if v := a.store.latest(); v != nil { // else one is read, and comes here
			a.publish(v, told)
		}
		for _, e := range after {
			a.bus.Emit(e)
		}
		select {
		case <-ctx.Done():
		case <-time.After(heraldRest):
		}
	}
}

// sayContainer tells that a container started or stopped.
func (a *Agent) sayContainer(s bus.Signal, c container.Container) {
	a.herald.say(bus.Event{Signal: s, Object: bus.ContainerPath(c.Owner.Name, c.Owner.Token), Name: c.Owner.Name})
}

// publish shows the view to root's programs, with what went since the view that was told.
func (a *Agent) publish(v, told *View) {
	c := &call{agent: a, asker: a.admin(), config: a.config()}
	at := a.places()
	var t bus.Tree
	for _, r := range v.Catalog.Records {
		t.Volumes = append(t.Volumes, c.show(v, r, placesOf(at, r.LV)))
	}
	if told != nil {
		for _, r := range told.Catalog.Records {
			if v.Catalog.ByID(r.ID) == nil {
				t.Volumes = append(t.Volumes, c.show(told, r, placesOf(at, r.LV)))
			}
		}
	}
	for _, p := range c.config.Pools {
		t.Pools = append(t.Pools, poolStatus(v, p))
	}
	containers, err := c.containersIn(v, at)
	if err != nil {
		a.log.Warn("cannot list all containers", "error", err)
	}
	t.Containers = containers
	a.bus.Update(t)
}

// signals are the changes that root's programs hear of.
func signals() map[string]bus.Signal {
	return map[string]bus.Signal{
		api.EventCreated: bus.VolumeCreated, api.EventChanged: bus.VolumeChanged, api.EventDeleted: bus.VolumeDeleted,
		api.EventUndeleted: bus.VolumeUndeleted, api.EventPurged: bus.VolumePurged, api.EventExpiring: bus.VolumeExpiring, api.EventFull: bus.VolumeFull,
		api.EventMounted: bus.Mounted, api.EventUnmounted: bus.Unmounted,
	}
}

// signal tells root's programs of a change.
func (a *Agent) signal(ch change) {
	r := ch.now
	if r == nil {
		r = ch.was
	}
	s := signals()[ch.what]
	details := map[string]string{}
	if ch.what == api.EventChanged && ch.was != nil && ch.was.LV.Size != r.LV.Size {
		s = bus.VolumeResized
		details["Size"] = strconv.FormatInt(int64(r.LV.Size), 10)
	}
	if ch.what == api.EventChanged && ch.was != nil && s != bus.VolumeResized && ch.was.LV.Active != r.LV.Active {
		details["Active"] = strconv.FormatBool(r.LV.Active)
	}
	if ch.why != "" {
		details["Why"] = ch.why
	}
	if ch.path != "" {
		details["Path"], details["Container"] = ch.path, api.HostOwner
		if ch.guest != nil {
			details["Container"] = ch.guest.Owner.Name
		}
	}
	a.herald.say(bus.Event{Signal: s, Object: bus.VolumePath(string(r.ID)), Name: ch.view.Catalog.Shown(a.admin(), r), Details: details})
}
