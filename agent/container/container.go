// Package container knows which LXC containers a host has: their directories, the token that makes each one itself, and, through
// liblxc, the init process of those that run.
package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lxc/go-lxc"
	"golang.org/x/sys/unix"

	"lls/agent/catalog"
)

// Errors a caller decides on.
var (
	ErrNone       = errors.New("there is no such container")
	ErrNotRunning = errors.New("the container is not running")
	ErrSilent     = errors.New("liblxc does not answer about the container")
)

// Path is a directory of containers, with the label that stands before their names.
type Path struct{ Dir, Label string }

// Container is one container's place on the host.
type Container struct {
	Dir   string // the lxcpath
	Base  string // its directory's name there
	Owner catalog.Owner
	Err   error // why it cannot be told apart from others that had its name, from List only: Owner has no token then
}

// Key names the container for as long as the host runs: it is its lxcpath and name, in few characters that a path may hold.
func (c Container) Key() string { return key(c.Dir, c.Base) }

// Host finds containers.
type Host struct{ questions }

// NewHost makes a Host.
func NewHost() *Host { return &Host{questions{late: map[string]int{}}} }

// List finds the containers below paths that a configuration defines, running or not. A directory that is being made is left out; one
// that cannot be read, or has no token that can be trusted, is among them with Err. The errors say which of the paths themselves could
// not be read.
func (h *Host) List(paths []Path) ([]Container, error) {
	var all []Container
	var errs []error
	for _, p := range paths {
		entries, err := os.ReadDir(p.Dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("cannot list containers: %w", err))
		}
		for _, e := range entries {
			c, err := find(p, e.Name())
			if errors.Is(err, ErrNone) {
				continue
			}
			c.Err = err
			all = append(all, c)
		}
	}
	return all, errors.Join(errs...)
}

// Find looks one container up and gives it a token when it has none. ErrNone means that there is none; with any other error the answer
// has all but the token.
func (h *Host) Find(paths []Path, dir, base string) (Container, error) {
	i := slices.IndexFunc(paths, func(p Path) bool { return p.Dir == dir })
	if i < 0 {
		return Container{}, fmt.Errorf("cannot serve container %s: %s is no lxcpath of lls.toml: %w", base, dir, ErrNone)
	}
	c, err := find(paths[i], base)
	if err != nil {
		err = fmt.Errorf("cannot serve container %q: %w", base, err)
	}
	return c, err
}

func find(p Path, base string) (Container, error) {
	if base == "" || base[0] == '.' || strings.ContainsRune(base, '/') {
		return Container{}, ErrNone
	}
	c := Container{Dir: p.Dir, Base: base, Owner: catalog.Owner{Name: base}}
	if p.Label != "" {
		c.Owner.Name = p.Label + ":" + base
	}
	dir := filepath.Join(p.Dir, base)
	switch fi, err := os.Stat(filepath.Join(dir, "config")); {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || err == nil && !fi.Mode().IsRegular():
		return Container{}, ErrNone
	case err != nil:
		return c, fmt.Errorf("cannot look for its configuration: %w", err)
	}
	// liblxc takes a directory with this file for one that is being created, and may destroy it when asked about it.
	if _, err := os.Lstat(filepath.Join(dir, "partial")); err == nil {
		return Container{}, fmt.Errorf("it is being created: %w", ErrNone)
	}
	token, err := tokenOf(dir)
	if errors.Is(err, os.ErrNotExist) {
		return Container{}, fmt.Errorf("it is being destroyed: %w", ErrNone)
	}
	c.Owner.Token = token
	return c, err
}

// Init asks liblxc for the init process of a running container. Errors are ErrNotRunning, ErrSilent, or ctx's. It must not be called
// while the container's start-host hook runs: its monitor does not answer then.
func (h *Host) Init(ctx context.Context, c Container) (pid int, err error) {
	found := make(chan int, 1)
	err = h.ask(ctx, c, func(lc *lxc.Container) error {
		found <- lc.InitPid()
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("cannot ask for the init of container %s: %w", c.Base, err)
	}
	if pid = <-found; pid < 1 {
		return 0, ErrNotRunning
	}
	return pid, nil
}

// SetDevice gives a running privileged container a rule of the device cgroup, such as "b 253:7 rw", or takes the very same back. What
// holds for Init holds here. An unprivileged container must not be given any: it has no rules, and the first closes all other devices.
func (h *Host) SetDevice(ctx context.Context, c Container, allow bool, rule string) error {
	key := "devices.deny"
	if allow {
		key = "devices.allow"
	}
	ctx, cancel := context.WithTimeout(ctx, ruleDeadline)
	defer cancel()
	if err := h.ask(ctx, c, func(lc *lxc.Container) error { return lc.SetCgroupItem(key, rule) }); err != nil {
		return fmt.Errorf("cannot set %s of container %s: %w", key, c.Base, err)
	}
	return nil
}

// ruleDeadline is how long a monitor may take to change a rule.
const ruleDeadline = 10 * time.Second

// ask calls into liblxc, which may never return: then it is ErrSilent.
func (h *Host) ask(ctx context.Context, c Container, do func(*lxc.Container) error) error {
	return h.wait(ctx, c.Key(), func() error {
		lc, err := lxc.NewContainer(c.Base, c.Dir)
		if err != nil {
			return err
		}
		defer func() { _ = lc.Release() }()
		return do(lc)
	})
}
