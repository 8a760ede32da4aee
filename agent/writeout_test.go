package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lls/agent/api"
	"lls/agent/filesystem"
	"lls/lvm"
)

func TestWritingOutIsDoneAgainUntilItIsQuick(t *testing.T) {
	synctest.Test(t, writingOut)
}

func writingOut(t *testing.T) {
	const enough = 50 * time.Millisecond
	took := []time.Duration{4 * enough, 2 * enough, 0, 0}
	n := 0
	err := untilQuick(t.Context(), time.Minute, enough, func(context.Context) error {
		time.Sleep(took[n])
		n++
		return nil
	})
	if err != nil || n != 3 {
		t.Errorf("done %d times, %v", n, err)
	}
	n = 0
	err = untilQuick(t.Context(), 5*enough, enough, func(context.Context) error {
		time.Sleep(2 * enough)
		n++
		return nil
	})
	if !errors.Is(err, filesystem.ErrSlow) || n > 4 {
		t.Errorf("never quick: done %d times, %v", n, err)
	}
	err = untilQuick(t.Context(), time.Minute, enough, func(context.Context) error { return filesystem.ErrNotMounted })
	if !errors.Is(err, filesystem.ErrNotMounted) {
		t.Error(err)
	}
}

func TestNothingIsSnapshotBeforeItIsWrittenOut(t *testing.T) {
	b, _, mine := refreshScene(t)
	b.post(b.admin, api.PathSet, api.SetRequest{Name: "d", Access: "rw"}, "")
	origin := ""
	slow := func(_ context.Context, path string) error {
		if !strings.HasPrefix(path, origin) {
			t.Errorf("%s is written out, not %s", path, origin)
		}
		return errors.Join(filesystem.ErrSlow, context.DeadlineExceeded)
	}
	had := len(b.volumes())
	refused := func() {
		t.Helper()
		origin = b.lvm.Device(testVG, "d.")
		b.refused(b.c1, "mine", api.Busy)
		b.refused(b.admin, "c1/mine", api.Busy)
		for _, c := range []*api.Client{b.c1, b.admin} {
			b.post(c, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "next"}, api.Busy)
		}
		origin = b.lvm.Device(testVG, "mine.")
		b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "mine", Name: "next"}, api.Busy)
		if now := len(b.volumes()); now != had {
			t.Errorf("%d volumes, %d before", now, had)
		}
	}
	b.dev.sync = slow
	refused()
	// What is written while others have the writer is written out there, and not for long.
	var n atomic.Int64
	b.dev.sync = func(ctx context.Context, path string) error {
		if n.Add(1)%2 == 1 {
			return nil
		}
		if end, ok := ctx.Deadline(); !ok || time.Until(end) > writeOutEnough {
			t.Errorf("under the writer it may take until %v, %v", end, ok)
		}
		return slow(ctx, path)
	}
	refused()
	if v := b.record(mine.ID); v == nil || v.State != api.StateLive {
		t.Errorf("it is %+v", v)
	}
	// Linux may not let LVM suspend what somebody has frozen.
	b.dev.sync = nil
	b.lvm.Fail("Snapshot", fmt.Errorf("cannot snapshot it: %w", lvm.ErrFrozen))
	b.post(b.admin, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "next"}, api.Busy)
	// What cannot be written out is not kept from being saved.
	for _, err := range []error{nil, filesystem.ErrNotMounted, errors.New("input/output error")} {
		b.dev.sync = func(context.Context, string) error { return err }
		b.post(b.admin, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "next"}, "")
		b.post(b.admin, api.PathDelete, api.NameRequest{Name: "next"}, "")
		b.post(b.admin, api.PathPurge, api.NameRequest{Name: "next"}, "")
	}
}

// Whoever fills his own volume makes nobody wait for the group's writer.
func TestOthersWorkWhileAnOriginIsWrittenOut(t *testing.T) {
	b, _, _ := refreshScene(t)
	began, goOn := make(chan struct{}, 9), make(chan struct{})
	b.dev.sync = func(ctx context.Context, path string) error {
		if !strings.Contains(path, "mine.") {
			return nil
		}
		began <- struct{}{}
		select {
		case <-goOn:
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}
	done := make(chan error, 1)
	var steps atomic.Int64
	c1 := *b.c1
	c1.Progress = func(string) { steps.Add(1) }
	go func() {
		done <- c1.Post(t.Context(), api.PathSnapshot, api.SnapshotRequest{Source: "mine", Name: "next"}, nil)
	}()
	<-began
	start := time.Now()
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "other", Size: "1G"}, "")
	b.post(b.admin, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "copy"}, "")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "own", Size: "1G"}, "")
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("others waited %v", took)
	}
	for end := time.Now().Add(10 * time.Second); steps.Load() == 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if steps.Load() != 1 {
		t.Errorf("who waits was told %d times", steps.Load())
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// An agent that is to stop does not wait for it.
func TestWritingOutEndsWithTheAgent(t *testing.T) {
	b, _, _ := refreshScene(t)
	began := make(chan struct{})
	b.dev.sync = func(ctx context.Context, _ string) error {
		close(began)
		<-ctx.Done()
		return errors.Join(filesystem.ErrSlow, ctx.Err())
	}
	go func() {
		<-began
		close(b.agent.stopping)
	}()
	start := time.Now()
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "mine", Name: "next"}, api.Busy)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
