package filesystem

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lls/internal/run"
)

// waiting are the threads of this process that no signal reaches.
func waiting(t *testing.T) (threads []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/self/task/*/stat")
	if err != nil || len(stats) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if text := string(raw); strings.HasPrefix(text[strings.LastIndex(text, ")")+1:], " D") {
			threads = append(threads, text)
		}
	}
	return threads
}

// eventually waits for what is certain to come.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after a minute: %s", what)
		}
	}
}

// A thread that waits in the kernel for a frozen file system keeps its process from ending, by whatever signal.
func TestAFrozenFileSystemIsWaitedForByAnotherProcess(t *testing.T) {
	for _, kind := range []Type{Ext4, XFS} {
		t.Run(string(kind), func(t *testing.T) {
			if kind == Ext4 {
				needResourceRight(t)
			}
			file, device := loop(t, 512<<20)
			if err := Make(t.Context(), run.New(), device, kind, MakeOptions{}); err != nil {
				t.Fatal(err)
			}
			dir := place(t, device, kind, false)
			before := blocks(t, dir)
			if err := os.Truncate(file, 1<<30); err != nil {
				t.Fatal(err)
			}
			command(t, "losetup", "-c", device)
			command(t, "fsfreeze", "-f", dir)
			frozen := true
			thaw := func() {
				if frozen {
					command(t, "fsfreeze", "-u", dir)
					frozen = false
				}
			}
			defer thaw()
			m := newMounted()
			if err := m.Grow(within(t, time.Second), device, kind); !errors.Is(err, ErrSlow) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("frozen: %v", err)
			}
			eventually(t, "no thread of ours waits for it", func() bool { return len(waiting(t)) == 0 })

			// What is under way for long is not waited for.
			var g *growth
			eventually(t, "its growth is under way", func() bool {
				m.mu.Lock()
				defer m.mu.Unlock()
				g = m.growths[device]
				return g != nil
			})
			m.mu.Lock()
			g.began = time.Now().Add(-growEnough)
			m.mu.Unlock()
			if err := m.Grow(within(t, time.Minute), device, kind); !errors.Is(err, ErrSlow) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the next: %v", err)
			}
			if _, err := m.Usage(t.Context(), device, kind); err != nil {
				t.Errorf("how full it is: %v", err)
			}

			thaw()
			select {
			case <-g.over:
			case <-time.After(time.Minute):
				t.Fatal("it is thawed, and its growth is not over")
			}
			if after := blocks(t, dir); after < before+400<<20 {
				t.Errorf("what was begun grew it from %d to %d", before, after)
			}
			if err := m.Grow(within(t, time.Minute), device, kind); err != nil {
				t.Errorf("thawed: %v", err)
			}
			unmount(t, dir)
			unused(t, device)
		})
	}
}

// The second may have been asked for a size that the first did not see yet.
func TestAGrowthWaitsForTheOneBeforeIt(t *testing.T) {
	m := newMounted()
	over, err := m.growing(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if other, err := m.growing(t.Context(), "b"); err != nil {
		t.Errorf("another device: %v", err)
	} else {
		other()
	}
	m.mu.Lock()
	m.growths["a"].began = time.Now().Add(time.Hour) // it is not long under way
	m.mu.Unlock()
	next := make(chan error, 1)
	go func() {
		over, err := m.growing(t.Context(), "a")
		if err == nil {
			over()
		}
		next <- err
	}()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.growing(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("one that is not wanted any more: %v", err)
	}
	select {
	case err := <-next:
		t.Errorf("it did not wait: %v", err)
	default:
	}
	over()
	if err := <-next; err != nil {
		t.Error(err)
	}
	if len(m.growths) != 0 {
		t.Errorf("left: %v", m.growths)
	}
}

func TestAHelperThatFailsIsNoGrowth(t *testing.T) {
	_, device := loop(t, 512<<20)
	if err := Make(t.Context(), run.New(), device, XFS, MakeOptions{}); err != nil {
		t.Fatal(err)
	}
	place(t, device, XFS, false)
	for helper, want := range map[string]error{"/nonexistent": run.ErrNotInstalled, "/bin/true": nil, "/bin/echo": nil} {
		m := &Mounted{Run: run.New(), Helper: helper}
		if err := m.Sync(t.Context(), device, XFS); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", helper, err)
		}
	}
	if err := newMounted().Grow(t.Context(), device, "vfat"); !errors.Is(err, ErrType) {
		t.Error(err)
	}
}
