package policy

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lls/test/kit"
)

// writer writes a file while the test goes on.
type writer struct {
	file   string
	blocks int          // MiB to write
	done   atomic.Int64 // MiB written
	result chan error
}

func startWriting(file string, blocks int) *writer {
	w := &writer{file: file, blocks: blocks, result: make(chan error, 1)}
	go func() { w.result <- writeCounting(file, blocks, &w.done) }()
	return w
}

// untilItWaits waits until a write has not come back for some seconds, and gives how the pool is then.
func (w *writer) untilItWaits(t *testing.T) pool {
	t.Helper()
	last, since := w.done.Load(), time.Now()
	for end := time.Now().Add(kit.Patience); time.Since(since) < 4*time.Second || look(t).data < 100; time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-w.result:
			t.Fatalf("after %d MiB of %d: %v; the pool is %+v", w.done.Load(), w.blocks, err, look(t))
		default:
		}
		if now := w.done.Load(); now != last {
			last, since = now, time.Now()
		}
		if time.Now().After(end) {
			t.Fatalf("%d MiB of %d are written, and no write waits; the pool is %+v", last, w.blocks, look(t))
		}
	}
	return look(t)
}

// end waits until all is written.
func (w *writer) end(t *testing.T) {
	t.Helper()
	select {
	case err := <-w.result:
		if err != nil {
			t.Fatalf("after %d MiB of %d: %v; the pool is %+v", w.done.Load(), w.blocks, err, look(t))
		}
	case <-time.After(kit.Patience):
		t.Fatalf("a write still waits, after %d MiB of %d; the pool is %+v", w.done.Load(), w.blocks, look(t))
	}
}

// scatter is a volume whose writes need metadata of their own, once a snapshot shares all blocks.
type scatter struct{ file *os.File }

const scatterSize = 160 // MiB

func newScatter(t *testing.T, name string) scatter {
	t.Helper()
	file := filepath.Join(volume(t, name, "512M"), "data")
	if err := write(file, scatterSize); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|syscall.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() }) // each write was synced
	return scatter{f}
}

// write writes here and there.
func (s scatter) write(t *testing.T) {
	t.Helper()
	for n := 0; n < scatterSize; n += 4 {
		if _, err := s.file.WriteAt([]byte("x"), int64(n)*mib+rand.Int64N(mib)); err != nil {
			t.Fatalf("a write failed: %v; the pool is %+v", err, look(t))
		}
	}
}

// killForGood kills the agent, and has systemd not start it again before the test ends or starts it.
func killForGood(t *testing.T) {
	t.Helper()
	dropIn := filepath.Join("/run/systemd/system", kit.Unit+".d")
	if err := os.MkdirAll(dropIn, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dropIn); err != nil {
			t.Error(err)
		}
		kit.Must(t, "systemctl", "daemon-reload")
		kit.StartAgent(t)
	})
	if err := os.WriteFile(filepath.Join(dropIn, "dead.conf"), []byte("[Service]\nRestart=no\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	kit.Must(t, "systemctl", "daemon-reload")
	kit.Must(t, "systemctl", "kill", "--kill-whom=main", "-s", "KILL", kit.Unit) // and none of LVM's commands that it runs
	kit.Eventually(t, "the agent is dead", func() bool { return kit.AgentPID(t) == 0 })
	time.Sleep(2 * time.Second) // longer than systemd would wait
	if kit.AgentPID(t) != 0 {
		t.Fatal("systemd started it again")
	}
}
