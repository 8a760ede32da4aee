package agent

import (
	"errors"
	"strings"
	"sync"

	"lls/agent/api"
	"lls/agent/mount"
	"lls/lvm"
	"lls/policy"
)

// device is the number of a block device.
type device struct{ major, minor uint32 }

// place is one mount of a volume: in a guest, or on the host when guest is nil.
type place struct {
	guest *guest
	mount.Point
}

// holder is a mount as what keeps something else from being done.
func (p place) holder() api.Holder {
	h := api.Holder{Container: api.HostOwner, Path: p.Path}
	if p.guest != nil {
		h.Container = p.guest.Owner.Name
	}
	return h
}

// mountedOn are the mounts of anything that lie on another: at its directories, or on all of it. Where its container has ended there are none.
func (a *Agent) mountedOn(p place) ([]place, error) {
	all, err := a.points(p.guest, nil)
	if errors.Is(err, mount.ErrGone) {
		return nil, nil
	}
	var on []place
	for _, q := range all {
		if q.Parent == p.ID && q.ID != p.ID {
			on = append(on, place{p.guest, q})
		}
	}
	return on, err
}

// whereabouts say where the volumes are mounted, in all containers and on the host. Those who asked at the same moment share them, so
// they are never changed.
type whereabouts struct {
	at      map[device][]place
	unknown []*guest // whose mounts could not be read; nil is the host
}

// placesOf are the places of one volume that are known.
func placesOf(all *whereabouts, v lvm.Volume) []place {
	if !v.Active || v.Major == 0 {
		return nil
	}
	return all.at[device{v.Major, v.Minor}]
}

// mounted says whether a volume is mounted anywhere.
func (w *whereabouts) mounted(v lvm.Volume) policy.Fact {
	if len(w.unknown) > 0 && v.Active && len(placesOf(w, v)) == 0 {
		return policy.Unknown
	}
	return policy.Known(len(placesOf(w, v)) > 0)
}

// tooManyMounts refuses what may be done only to what is not mounted, or where it is known to be.
func tooManyMounts(verb, name string) *api.Error {
	return api.Errorf(api.Denied, "cannot %s %.200s: there are too many mounts to see whether it is mounted", verb, name).
		WithHint("unmount what is not needed: cat /proc/1/mountinfo")
}

// places reads where volumes are mounted. What was mounted before the call is there.
func (a *Agent) places() *whereabouts {
	return a.placing.get(func() *whereabouts {
		w := a.readPlaces()
		a.lastPlaces.Store(w)
		return w
	})
}

func (a *Agent) readPlaces() *whereabouts {
	w, keep := &whereabouts{at: map[device][]place{}}, a.activeDevices()
	for _, g := range append(a.guests.list(), nil) {
		points, err := a.points(g, keep)
		if err != nil && !errors.Is(err, mount.ErrGone) {
			w.unknown = append(w.unknown, g)
		}
		for _, p := range points {
			if p.Major != 0 && !strings.HasPrefix(p.Path, a.opts.Trees+"/") {
				d := device{p.Major, p.Minor}
				w.at[d] = append(w.at[d], place{g, p})
			}
		}
	}
	return w
}

// activeDevices are those of volumes. A container's root can have any number of mounts of others, which nobody is to remember. The view is
// no older than the one that somebody who asks has at hand, since it is taken after the question.
func (a *Agent) activeDevices() mount.Keep {
	v := a.store.latest()
	if v == nil {
		return nil
	}
	active := map[device]bool{}
	for _, r := range v.Catalog.Records {
		if r.LV.Active && r.LV.Major != 0 {
			active[device{r.LV.Major, r.LV.Minor}] = true
		}
	}
	return func(major, minor uint32) bool { return active[device{major, minor}] }
}

// hostPoints are the mounts of some devices in a running container, or, for nil, on the host.
func hostPoints(self int) func(*guest, mount.Keep) ([]mount.Point, error) {
	return func(g *guest, keep mount.Keep) ([]mount.Point, error) {
		if g == nil {
			return mount.HostPoints(self, keep)
		}
		return g.box.Points(keep)
	}
}

// shared lets those who want the same reading have one together: any that began after they asked, so that each sees what was done
// before. The zero value is ready.
type shared[T any] struct {
	turn sync.Mutex // held while it is read
	mu   sync.Mutex
	next *joint[T] // that has not begun; nil when nobody waits for one
}

type joint[T any] struct {
	done   chan struct{}
	result T
}

func (s *shared[T]) get(read func() T) T {
	s.mu.Lock()
	r, mine := s.next, s.next == nil
	if mine {
		r = &joint[T]{done: make(chan struct{})}
		s.next = r
	}
	s.mu.Unlock()
	if mine {
		s.lead(r, read)
	}
	<-r.done
	return r.result
}

// lead reads for all who have joined until it begins.
func (s *shared[T]) lead(r *joint[T], read func() T) {
	defer close(r.done)
	s.turn.Lock()
	defer s.turn.Unlock()
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	r.result = read()
}
