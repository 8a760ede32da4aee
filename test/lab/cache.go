package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// cache is the lab's folder outside the tree: images by the hash of their
// recipe, and one folder for each run.
type cache struct{ dir string }

func openCache() (cache, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return cache{}, fmt.Errorf("cannot find the cache folder: %w", err)
	}
	c := cache{filepath.Join(base, "lls-lab")}
	for _, dir := range []string{c.images(), c.runs()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return cache{}, fmt.Errorf("cannot make the lab's cache: %w", err)
		}
	}
	return c, nil
}

func (c cache) images() string          { return filepath.Join(c.dir, "images") }
func (c cache) runs() string            { return filepath.Join(c.dir, "runs") }
func (c cache) file(name string) string { return filepath.Join(c.dir, name) }

// runDir is a run's own folder; its lock is held as long as the run lives.
type runDir struct {
	path string
	lock *fileLock
}

// newRun makes a run's folder and clears away those of runs that were killed.
// The runs lock makes sure that nobody sees a folder before it is locked.
func (c cache) newRun(ctx context.Context) (*runDir, error) {
	all, err := waitLock(ctx, c.file("runs.lock"), nil)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	entries, err := os.ReadDir(c.runs())
	if err != nil {
		return nil, fmt.Errorf("cannot list runs: %w", err)
	}
	for _, entry := range entries {
		if err := clearRun(filepath.Join(c.runs(), entry.Name())); err != nil {
			return nil, err
		}
	}
	path, err := os.MkdirTemp(c.runs(), "run-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a run's folder: %w", err)
	}
	lock, err := tryLock(filepath.Join(path, "lock"))
	if err != nil {
		return nil, err
	}
	return &runDir{path, lock}, nil
}

// clearRun removes the folder of a run unless the run lives.
func clearRun(path string) error {
	lock, err := tryLock(filepath.Join(path, "lock"))
	if errors.Is(err, errLocked) || errors.Is(err, os.ErrNotExist) { // it lives, or has just ended
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("cannot clear a dead run: %w", err)
	}
	return nil
}

func (r *runDir) file(name string) string { return filepath.Join(r.path, name) }

func (r *runDir) Close() error {
	err := os.RemoveAll(r.path)
	return errors.Join(err, r.lock.Close())
}
