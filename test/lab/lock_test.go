package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestLockIsExclusiveUntilClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := tryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryLock(path); !errors.Is(err, errLocked) {
		t.Fatalf("second lock: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	told := false
	if _, err := waitLock(ctx, path, func() { told = true; cancel() }); !errors.Is(err, context.Canceled) || !told {
		t.Fatalf("waiting: %v, told %v", err, told)
	}
	first.Close()
	again, err := tryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestNewRunClearsDeadRunsAndLeavesLivingOnes(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	c, err := openCache()
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(c.runs(), "run-dead")
	if err := os.MkdirAll(filepath.Join(dead, "share"), 0o755); err != nil {
		t.Fatal(err)
	}
	living, err := c.newRun(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dead run is still there: %v", err)
	}
	other, err := c.newRun(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(living.path); err != nil {
		t.Errorf("a living run is gone: %v", err)
	}
	for _, run := range []*runDir{living, other} {
		if err := run.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(run.path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a closed run is still there: %v", err)
		}
	}
}

func TestConsoleKeepsItsEnd(t *testing.T) {
	var file writeCounter
	con := &console{file: &file}
	for range 3000 {
		if _, err := con.Write([]byte("a line of the console\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := con.Write([]byte("panic\r\nend\n")); err != nil {
		t.Fatal(err)
	}
	if got := con.last(2); got != "panic\nend" {
		t.Errorf("got %q", got)
	}
	if len(con.tail) > 3*consoleTail {
		t.Errorf("keeps %d bytes", len(con.tail))
	}
	if int(file) != 3000*23+11 {
		t.Errorf("wrote %d bytes to the file", file)
	}
}

// writeCounter counts what is written to it.
type writeCounter int

func (w *writeCounter) Write(p []byte) (int, error) {
	*w += writeCounter(len(p))
	return len(p), nil
}
