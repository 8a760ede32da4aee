package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/event"
	"lls/lvm"
	"lls/policy"
)

// slowWrites is an LVM whose writer, when it has done what it was to do, waits for leave to end.
type slowWrites struct {
	LVM
	began, end chan struct{}
}

func (s slowWrites) Write(ctx context.Context, vg lvm.VG, fn func(w lvm.Writer) error) error {
	return s.LVM.Write(ctx, vg, func(w lvm.Writer) error {
		err := fn(w)
		s.began <- struct{}{}
		<-s.end
		return err
	})
}

func TestAShutdownWaitsForTheAgentsOwnWorkAndLetsNoMoreBegin(t *testing.T) {
	b := newBench(t)
	released := make(chan struct{})
	b.agent.release = func() { close(released) }
	for _, name := range []string{"first", "second"} {
		b.post(b.admin, api.PathCreate, api.CreateRequest{Name: name, Size: "1G"}, "")
		b.post(b.admin, api.PathMount, api.MountRequest{Name: name, Path: "/" + name}, "") // which makes it active, and no mount
	}
	before := b.lvm.Calls("Deactivate")
	slow := slowWrites{b.lvm, make(chan struct{}), make(chan struct{})}
	b.agent.store.lvm = slow
	now := time.Now().Add(time.Hour)
	b.agent.opts.Now = func() time.Time { return now }
	since := map[catalog.ID]time.Time{}
	records := b.agent.store.latest().Catalog.Records
	for _, r := range records {
		since[r.ID] = now.Add(-time.Hour)
	}
	idled := make(chan struct{})
	go func() {
		defer close(idled)
		b.agent.idle(t.Context(), since)
	}()
	<-slow.began
	b.agent.heard(event.Shutdown{Starting: true})
	for b.agent.gate.isOpen() {
		time.Sleep(time.Millisecond)
	}
	err := b.agent.deactivate(t.Context(), records[0])
	if !errors.Is(err, errShutdown) || api.AsError(err).Code != api.Busy {
		t.Errorf("a new write: %v", err)
	}
	select {
	case <-released:
		t.Fatal("the host may go down in the middle of a write")
	case <-time.After(50 * time.Millisecond):
	}
	slow.end <- struct{}{}
	<-released
	<-idled
	if n := b.lvm.Calls("Deactivate") - before; n != 1 {
		t.Errorf("%d volumes were deactivated, want the one that was under way", n)
	}

	grown := make(chan error, 1) // a pool that fills is another matter
	go func() {
		p, _ := b.agent.config().Pool("")
		_, _, err := b.agent.growPart(t.Context(), p, policy.PartData, func(*View, lvm.Pool) policy.GrowthVerdict { return policy.GrowthVerdict{To: 60 << 30} })
		grown <- err
	}()
	<-slow.began
	slow.end <- struct{}{}
	if err := <-grown; err != nil {
		t.Errorf("a pool cannot grow: %v", err)
	}

	b.agent.shutdown(false)
	done := make(chan error, 1)
	go func() { done <- b.agent.deactivate(t.Context(), records[0]) }()
	select {
	case <-slow.began:
		slow.end <- struct{}{}
	case err := <-done:
		t.Fatalf("after all the host stays up: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWhatBelongsToWorkUnderWayIsLetIn(t *testing.T) {
	var g, other gate
	outer, leave, ok := g.enter(t.Context())
	if !ok {
		t.Fatal("an open gate is closed")
	}
	empty := g.close()
	is := func(what string, c <-chan struct{}, want bool) {
		t.Helper()
		select {
		case <-c:
			if !want {
				t.Error(what)
			}
		default:
			if want {
				t.Error("not so: " + what)
			}
		}
	}
	if _, _, ok := g.enter(t.Context()); ok {
		t.Error("new work came in")
	}
	inner, leaveInner, ok := g.enter(context.WithoutCancel(outer))
	if !ok {
		t.Fatal("what belongs to work under way was kept out")
	}
	other.close()
	if _, _, ok := other.enter(outer); ok {
		t.Error("the pass of one gate opens another")
	}
	leave()
	leave() // which says nothing more
	is("empty with one inside", empty, false)
	if _, _, ok := g.enter(outer); ok {
		t.Error("work that is over goes on")
	}
	leaveInner()
	is("empty", empty, true)
	if _, _, ok := g.enter(inner); ok {
		t.Error("work that is over goes on")
	}
	_, leave = g.insist(t.Context())
	is("empty still", g.close(), true)
	leave()
	g.open()
	if _, leave, ok := g.enter(inner); !ok {
		t.Error("an open gate is closed")
	} else {
		leave()
	}
	is("empty, the second time", g.close(), true)
}

// A shutdown that is called off while work goes on lets go of nothing, neither then nor when that work is done, nor when it took too long.
func TestAShutdownThatIsCalledOffLetsNothingGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		released := 0
		a := &Agent{log: slog.New(slog.DiscardHandler), release: func() { released++ }}
		_, leave, _ := a.gate.enter(t.Context())
		a.heard(event.Shutdown{Starting: true})
		if a.gate.isOpen() {
			t.Error("new work is let in")
		}
		a.heard(event.Shutdown{Starting: false})
		began := time.Now()
		a.work.Wait()
		if time.Since(began) > 0 {
			t.Error("who waits for the work does not hear that the shutdown was called off")
		}
		time.Sleep(2 * drainTime)
		if released > 0 || !a.gate.isOpen() {
			t.Errorf("let go %d times", released)
		}
		a.heard(event.Shutdown{Starting: true}) // and so is the next one held up
		synctest.Wait()
		if released > 0 {
			t.Error("the host may go down in the middle of work")
		}
		leave()
		a.work.Wait()
		if released != 1 {
			t.Errorf("let go %d times", released)
		}
	})
}

func TestShutdownsAreHeardInTheirOrder(t *testing.T) {
	for range 1000 {
		released := 0
		a := &Agent{log: slog.New(slog.DiscardHandler), release: func() { released++ }}
		_, leave, _ := a.gate.enter(t.Context())
		a.heard(event.Shutdown{Starting: true})
		a.heard(event.Shutdown{Starting: false})
		leave()
		a.work.Wait()
		if !a.gate.isOpen() || released > 0 {
			t.Fatalf("the gate stays closed, or the next lock was let go (%d times)", released)
		}
	}
}
