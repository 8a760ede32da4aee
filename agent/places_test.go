package agent

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/mount"
	"lls/policy"
)

// Who asks while a reading is under way gets the next, together with all others who ask meanwhile.
func TestReadingsAreSharedByThoseWhoAskBeforeTheyBegin(t *testing.T) {
	var s shared[int]
	var state, reads atomic.Int64
	began, goOn := make(chan struct{}, 8), make(chan struct{})
	read := func() int {
		reads.Add(1)
		seen := int(state.Load())
		began <- struct{}{}
		<-goOn
		return seen
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := s.get(read); got != 0 {
			t.Errorf("the first read %d", got)
		}
	})
	<-began
	state.Store(1) // after the first reading began
	var asked atomic.Int64
	for range 20 {
		wg.Go(func() {
			asked.Add(1)
			if got := s.get(read); got != 1 {
				t.Errorf("what was done before the question is not seen: %d", got)
			}
		})
	}
	within(t, "all are about to ask", func() bool { return asked.Load() == 20 })
	time.Sleep(50 * time.Millisecond)
	close(goOn)
	wg.Wait()
	if n := reads.Load(); n < 2 || n > 6 {
		t.Errorf("%d readings for 21 questions", n)
	}
	if s.next != nil {
		t.Error("a reading that nobody began is left")
	}
}

func TestReadingsSeeWhatWasDoneBefore(t *testing.T) {
	var s shared[int64]
	var count atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				mine := count.Add(1)
				if got := s.get(count.Load); got < mine {
					t.Errorf("read %d after %d was done", got, mine)
				}
			}
		})
	}
	wg.Wait()
}

func TestOnlyMountsOfActiveVolumesAreKept(t *testing.T) {
	b := newBench(t)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "on", Size: "1G", Mount: "/mnt"}, "")
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "off", Size: "1G"}, "")
	b.agent.points = func(_ *guest, keep mount.Keep) ([]mount.Point, error) {
		for _, v := range b.agent.store.latest().Groups[0].Volumes {
			if v.Name != testPool && keep(v.Major, v.Minor) != v.Active {
				t.Errorf("%s: kept %v", v.Name, !v.Active)
			}
		}
		if keep(0, 5) || keep(8, 1) {
			t.Error("mounts of other devices are kept")
		}
		return nil, nil
	}
	_ = b.agent.places()
	b.agent.store.forget() // then nobody knows which
	called := false
	b.agent.points = func(_ *guest, keep mount.Keep) ([]mount.Point, error) {
		called = true
		if keep != nil {
			t.Error("not all mounts are kept when it is not known which volumes there are")
		}
		return nil, nil
	}
	if _ = b.agent.places(); !called {
		t.Error("nothing was read")
	}
}

// A container whose mounts are too many to read may have any active volume mounted: nothing that depends on that is done, for it or of its own.
func TestMountsThatAreNotKnown(t *testing.T) {
	b, k, mine := refreshScene(t)
	tables := b.agent.points
	fail := func(err error) {
		b.agent.points = func(g *guest, keep mount.Keep) ([]mount.Point, error) {
			if g != nil {
				return nil, err
			}
			return tables(g, keep)
		}
	}
	subject := func() policy.Subject {
		t.Helper()
		v, err := b.agent.store.current(t.Context(), time.Hour) // with the number that the fake device has
		if err != nil {
			t.Fatal(err)
		}
		return b.agent.subject(v, b.agent.gather(t.Context(), v), v.Catalog.ByID(catalog.ID(mine.ID)))
	}
	if got := subject(); got.Mounted != policy.Yes {
		t.Errorf("mounted: %v", got.Mounted)
	}
	fail(fmt.Errorf("cannot read them: %w", mount.ErrMounts))
	if got := subject(); got.Mounted != policy.Unknown {
		t.Errorf("not known, and %v", got.Mounted)
	}
	b.refused(b.c1, "mine", api.Denied)
	for c, name := range map[*api.Client]string{b.c1: "mine", b.admin: "c1/mine"} {
		b.post(c, api.PathDelete, api.NameRequest{Name: name}, api.Denied)
	}
	b.post(b.c1, api.PathUmount, api.UmountRequest{Target: "mine"}, api.Denied)
	k.fail["/more"] = fmt.Errorf("cannot read them: %w", mount.ErrMounts)
	b.post(b.c1, api.PathMount, api.MountRequest{Name: "mine", Path: "/more"}, api.Denied)
	b.lvm.SetOpen(testVG, b.record(mine.ID).LV.Name, false)
	if err := b.agent.expire(t.Context(), b.agent.store.latest(), b.record(mine.ID)); !api.Busy.Is(err) {
		t.Errorf("expired: %v", err)
	}
	if got := k.mounted(b.guest1, mine.ID); got == "" {
		t.Error("its mount is gone")
	}
	// What is not active is not mounted; and of others nothing is refused.
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "idle", Size: "1G", Owner: "c1"}, "")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "idle"}, "")
	b.post(b.admin, api.PathDelete, api.NameRequest{Name: "d"}, "")
	// One that has ended has nothing mounted.
	fail(mount.ErrGone)
	if got := subject(); got.Mounted != policy.No {
		t.Errorf("of a container that has ended: %v", got.Mounted)
	}
}

// A look at one container's mounts, which its root can make long, does not keep the other containers from theirs.
func TestEachContainerIsLookedAtByItself(t *testing.T) {
	b := newBench(t)
	g2, _ := b.second()
	for _, g := range []*guest{b.guest1, g2} {
		fd, err := unix.PidfdOpen(os.Getpid(), 0)
		if err != nil {
			t.Fatal(err)
		}
		g.box.PIDFD = os.NewFile(uintptr(fd), "pidfd")
		t.Cleanup(func() { _ = g.box.Close() })
		b.agent.guests.all[g.Key()] = g
	}
	slow := &slowLook{fakeMounts: b.mounts, both: make(chan struct{})}
	b.agent.mounts = slow
	b.agent.adopt(t.Context())
	if slow.alone.Load() {
		t.Error("one waited for the other")
	}
}

// slowLook has each look wait for another.
type slowLook struct {
	*fakeMounts
	looks atomic.Int64
	both  chan struct{}
	alone atomic.Bool
}

func (s *slowLook) Injected(*mount.Box, *mount.Tree) (bool, error) {
	if s.looks.Add(1) == 2 {
		close(s.both)
	}
	select {
	case <-s.both:
	case <-time.After(10 * time.Second):
		s.alone.Store(true)
	}
	return true, nil
}

func TestWhatIsInTheWayOfARefreshMustBeKnown(t *testing.T) {
	b, _, mine := refreshScene(t)
	c := &call{agent: b.agent, asker: b.agent.admin(), config: b.agent.config()}
	p := place{guest: b.guest1, Point: mount.Point{ID: 1, Root: "/", Path: "/data"}}
	for err, want := range map[error]int{mount.ErrMounts: 1, errors.New("odd"): 1, mount.ErrGone: 0} {
		b.agent.points = func(*guest, mount.Keep) ([]mount.Point, error) { return nil, err }
		if way := c.inTheWay(p); len(way) != want {
			t.Errorf("%v: %+v is in the way of %s", err, way, mine.Name)
		}
	}
}
