package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lls/agent/mount/inside"
)

// MountHost mounts on the host, for the sysadmin, who is trusted with the paths
// there.
func (m *Mounter) MountHost(ctx context.Context, r Request) (Placed, error) {
	at, path, err := hostTarget(r.Target)
	if err != nil {
		return Placed{}, err
	}
	defer at.Close()
	there, err := look(at)
	if err != nil {
		return Placed{}, err
	}
	points, err := Points(os.Getpid())
	if err != nil {
		return Placed{}, err
	}
	if there.MountRoot {
		if p, ok := byID(points, there.ID); ok && p.is(r) {
			return p.placed(true), nil
		}
		return Placed{}, &ErrOccupied{Path: path}
	}
	fd, err := r.open(ctx)
	if err != nil {
		return Placed{}, err
	}
	defer fd.Close()
	if err := attach(fd, at); err != nil {
		return Placed{}, fmt.Errorf("cannot mount on %s: %w", path, err)
	}
	return hostReadBack(fd, r, path)
}

func hostReadBack(fd *os.File, r Request, path string) (Placed, error) {
	s, err := look(fd)
	if err != nil {
		return Placed{}, err
	}
	points, err := Points(os.Getpid())
	if err != nil {
		return Placed{}, err
	}
	if p, ok := byID(points, s.ID); ok && p.is(r) && p.Path == path {
		return p.placed(false), nil
	}
	_ = detach(fd)
	return Placed{}, fmt.Errorf("cannot mount on %s: the mount was not there when read back", path)
}

func hostTarget(target string) (*os.File, string, error) {
	if !inside.ValidTarget(target) {
		return nil, "", &ErrTarget{Path: target, Why: "not an absolute path, or too long", Kind: Invalid}
	}
	fd, err := unix.Open(target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, "", &ErrTarget{Path: target, Why: "no such directory", Kind: Missing}
	case errors.Is(err, unix.ENOTDIR):
		return nil, "", &ErrTarget{Path: target, Why: "not a directory", Kind: NotDir}
	case errors.Is(err, unix.ELOOP):
		return nil, "", &ErrTarget{Path: target, Why: "its symbolic links cannot be followed", Kind: Loop}
	case err != nil:
		return nil, "", fmt.Errorf("cannot open %s: %w", target, err)
	}
	f := os.NewFile(uintptr(fd), target)
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err == nil && inside.Reserved(path) {
		err = &ErrTarget{Path: path, Why: "not allowed there", Kind: Forbidden}
	}
	if err != nil {
		_ = f.Close()
		return nil, "", err
	}
	return f, path, nil
}

// UnmountHost takes away the mount of exactly this device at exactly this path
// of the host. What is in use stays, with ErrBusy.
func (m *Mounter) UnmountHost(ctx context.Context, path string, major, minor uint32) error {
	canonical, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, ErrNotMounted)
	}
	points, err := Points(os.Getpid())
	if err != nil {
		return err
	}
	p, ok := Top(points, canonical)
	if !ok || p.Major != major || p.Minor != minor {
		return fmt.Errorf("%s: %w", path, ErrNotMounted)
	}
	done := make(chan error, 1)
	go func() { done <- unix.Unmount(canonical, unix.UMOUNT_NOFOLLOW) }()
	select {
	case err = <-done:
	case <-ctx.Done(): // it writes out what is dirty, which nothing interrupts
		return fmt.Errorf("cannot unmount %s yet: %w", path, ctx.Err())
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%s: %w", path, ErrBusy)
	case err != nil:
		return fmt.Errorf("cannot unmount %s: %w", path, err)
	}
	if points, err = Points(os.Getpid()); err != nil {
		return err
	}
	if _, still := byID(points, p.ID); still {
		return fmt.Errorf("cannot unmount %s: it is still there", path)
	}
	return nil
}
