package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// fileLock is an exclusive lock on a file, released by Close or by the end of
// the process, however it ends.
type fileLock struct{ f *os.File }

var errLocked = errors.New("locked by another process")

// tryLock takes the lock or returns errLocked.
func tryLock(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return &fileLock{f}, nil
}

// waitLock takes the lock, waiting for whoever holds it; waiting is told once.
func waitLock(ctx context.Context, path string, waiting func()) (*fileLock, error) {
	for first := true; ; first = false {
		lock, err := tryLock(path)
		if !errors.Is(err, errLocked) {
			return lock, err
		}
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot lock %s: %w", path, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (l *fileLock) Close() error { return l.f.Close() }

// claimCPU picks a CPU of those this process may use that no other lab runs on.
// With more runs than CPUs it returns a nil lock: the guest then shares a CPU.
func claimCPU(dir string, pid int) (int, *fileLock, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, nil, fmt.Errorf("cannot read the CPUs of this process: %w", err)
	}
	var cpus []int
	// The last CPU first: the first one is where machines put their interrupts.
	for cpu := len(set)*64 - 1; cpu >= 0; cpu-- {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	for _, cpu := range cpus {
		lock, err := tryLock(filepath.Join(dir, fmt.Sprintf("cpu-%d.lock", cpu)))
		if err == nil {
			return cpu, lock, nil
		}
		if !errors.Is(err, errLocked) {
			return 0, nil, err
		}
	}
	return cpus[pid%len(cpus)], nil, nil
}
