package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"lls/agent/catalog"
	"lls/agent/container"
	"lls/agent/mount"
)

// guests are the running containers, by their key.
type guests struct {
	mu  sync.Mutex
	all map[string]*guest
	// starting serialises the start of one container: the hook and the reconciliation may both see it.
	starting map[string]chan struct{}
	// hooks counts the start-host hooks that are being answered, during which liblxc must not be asked.
	hooks    map[string]int
	unserved map[string]unserved // containers that are not among all though they run, or will not be when they start
}

// unknownPID stands for the init of a container that runs and whose monitor does not answer.
const unknownPID = -1

// unserved is why a container is not served.
type unserved struct {
	owner catalog.Owner
	pid   int // of its init; 0 for one that does not run, unknownPID for one that does not tell
	why   error
}

func newGuests() *guests {
	return &guests{all: map[string]*guest{}, starting: map[string]chan struct{}{}, hooks: map[string]int{}, unserved: map[string]unserved{}}
}

// hook notes that a container's hook is being answered, until the result is called.
func (gs *guests) hook(key string) (answered func()) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.hooks[key]++
	return func() {
		gs.mu.Lock()
		defer gs.mu.Unlock()
		if gs.hooks[key]--; gs.hooks[key] == 0 {
			delete(gs.hooks, key)
		}
	}
}

func (gs *guests) inHook(key string) bool {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	return gs.hooks[key] > 0
}

// note keeps why a container is not served; nil forgets it.
func (gs *guests) note(c container.Container, pid int, why error) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if why == nil {
		delete(gs.unserved, c.Key())
		return
	}
	gs.unserved[c.Key()] = unserved{c.Owner, pid, why}
}

// forget forgets that of containers that are gone: neither served nor, as unlisted says, listed. It must not ask gs.
func (gs *guests) forget(unlisted func(key string) bool) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	maps.DeleteFunc(gs.unserved, func(key string, _ unserved) bool { return gs.all[key] == nil && unlisted(key) })
}

// problems are what keeps containers from being served, or from having /lls, each with its container. Who shares the mounts of the host
// has chosen so.
func (gs *guests) problems() []string {
	var all []string
	for _, g := range gs.list() {
		if s := g.status(); s != "ok" {
			all = append(all, fmt.Sprintf("container %s: %s", g.Owner.Name, s))
		}
	}
	gs.mu.Lock()
	defer gs.mu.Unlock()
	for _, u := range gs.unserved {
		if !errors.Is(u.why, mount.ErrHostMounts) {
			all = append(all, fmt.Sprintf("container %s: %v", u.owner.Name, u.why))
		}
	}
	slices.Sort(all)
	return all
}

// whyNot says why a container is not served that runs still.
func (gs *guests) whyNot(key string) (unserved, bool) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	u, ok := gs.unserved[key]
	return u, ok && (u.pid == unknownPID || u.pid > 0 && unix.Kill(u.pid, 0) == nil)
}

// list is every guest, sorted by owner.
func (gs *guests) list() []*guest {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	var all []*guest
	for _, g := range gs.all {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *guest) int { return strings.Compare(a.Owner.String(), b.Owner.String()) })
	return all
}

func (gs *guests) get(key string) *guest {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	return gs.all[key]
}

// named finds a running container by its owner name, or NAME#TOKEN.
func (gs *guests) named(name string) *guest {
	for _, g := range gs.list() {
		if g.Owner.Name == name || g.Owner.String() == name {
			return g
		}
	}
	return nil
}

// enter waits until nobody else starts the container of key; the result ends that.
func (gs *guests) enter(ctx context.Context, key string) (leave func(), err error) {
	for {
		gs.mu.Lock()
		wait, taken := gs.starting[key]
		if !taken {
			mine := make(chan struct{})
			gs.starting[key] = mine
			gs.mu.Unlock()
			return func() {
				gs.mu.Lock()
				delete(gs.starting, key)
				gs.mu.Unlock()
				close(mine)
			}, nil
		}
		gs.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
