package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/lvm"
)

func TestTwoChangesAtOnceLeaveAVolumeThatCanBeRead(t *testing.T) {
	b := newBench(t)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	for range 20 {
		var both sync.WaitGroup
		for _, access := range []string{api.AccessRW, api.AccessNone, api.AccessRO} {
			both.Go(func() { b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", Access: access}, "") })
		}
		both.Wait()
		if c := catalog.New([]lvm.Group{{Volumes: b.volumes()}}); len(c.Odd) != 0 {
			t.Fatalf("LVM holds what nobody can read: %v", c.Odd)
		}
	}
	b.agent.store.mu.Lock()
	view := b.agent.store.view
	b.agent.store.mu.Unlock()
	real := catalog.New([]lvm.Group{{Volumes: b.volumes()}}).Records[0]
	if seen := view.Catalog.ByID(real.ID); seen.Access != real.Access {
		t.Errorf("the agent believes %s, LVM says %s", seen.Access, real.Access)
	}
}

func TestAFinishedVolumeIsNotTakenAwayOnAStaleView(t *testing.T) {
	b := newBench(t)
	v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	now, err := b.agent.store.current(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	stale := *now.Catalog.ByID(catalog.ID(v.ID)) // what undoMaking saw a moment ago
	stale.State = catalog.Making
	err = b.agent.discard(t.Context(), &stale, func(r *catalog.Record) bool { return r.State == catalog.Making })
	if err == nil || len(b.volumes()) != 1 {
		t.Errorf("%v, %d volumes are left", err, len(b.volumes()))
	}
}

// busyLVM changes something of its group during every report.
type busyLVM struct {
	LVM
	during func()
}

func (l *busyLVM) Report(ctx context.Context, vgs ...lvm.VG) ([]lvm.Group, error) {
	g, err := l.LVM.Report(ctx, vgs...)
	if l.during != nil {
		l.during()
	}
	return g, err
}

func TestAReportAnswersAlthoughOthersGoOnChanging(t *testing.T) {
	b := newBench(t)
	for n := range 3 {
		b.post(b.c1, api.PathCreate, api.CreateRequest{Name: fmt.Sprintf("v%d", n), Size: "1G"}, "")
	}
	busy := &busyLVM{LVM: b.agent.store.lvm}
	b.agent.store.lvm = busy
	v, err := b.agent.store.current(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	r := v.Catalog.Records[0]
	busy.during = func() {
		_, err := b.agent.retag(t.Context(), r, false, func(to *catalog.Record, _ *View) error {
			to.Visible = !to.Visible
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	now, err := b.agent.store.current(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := now.Catalog.ByID(r.ID); got.Visible == r.Visible || len(now.Catalog.Records) != 3 {
		t.Errorf("the view misses what was changed during the report: %+v", got)
	}
}

func TestOneContainerStandsInTheWritersQueueOnce(t *testing.T) {
	turn := make(chan struct{}, 1)
	leave, err := takeTurn(withTurn(t.Context(), turn))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := takeTurn(withTurn(ctx, turn)); err == nil {
		t.Error("a second request of the container did not wait")
	}
	if _, err := takeTurn(ctx); err != nil {
		t.Errorf("the agent's own work waited: %v", err)
	}
	leave()
	if _, err := takeTurn(withTurn(t.Context(), turn)); err != nil {
		t.Error(err)
	}
}

// failingLVM makes snapshots and says that it failed.
type failingLVM struct{ LVM }

func (l failingLVM) Write(ctx context.Context, vg lvm.VG, fn func(w lvm.Writer) error) error {
	return l.LVM.Write(ctx, vg, func(w lvm.Writer) error { return fn(failingWriter{w}) })
}

type failingWriter struct{ lvm.Writer }

func (w failingWriter) Snapshot(ctx context.Context, s lvm.Snapshot) error {
	return errors.Join(w.Writer.Snapshot(ctx, s), lvm.ErrExists)
}

func TestASnapshotThatLVMMadeAndFailedIsTakenBack(t *testing.T) {
	b := newBench(t)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	b.agent.store.lvm = failingLVM{b.agent.store.lvm}
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "a", Name: "b"}, api.Failed)
	if left := b.volumes(); len(left) != 1 {
		t.Errorf("left: %+v", left)
	}
}
