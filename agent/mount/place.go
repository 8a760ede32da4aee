package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent/filesystem"
	"lls/agent/mount/inside"
)

// Mount places a file system into a container, through the tree, which it injects
// first if it is not there. A mount of the same device at the same place is left
// as it is. On-disk ids are the container's own, whatever its id map.
func (m *Mounter) Mount(ctx context.Context, t *Tree, b *Box, r Request) (Placed, error) {
	if !inside.ValidTarget(r.Target) {
		return Placed{}, &ErrTarget{Path: r.Target, Why: "not an absolute path, or too long", Kind: Invalid}
	}
	points, err := b.points()
	if err != nil {
		return Placed{}, err
	}
	// The common case of a repeated request; with ".." or links the helper decides.
	if p, ok := Top(points, r.Target); ok && p.is(r) {
		return p.placed(true), nil
	}
	if !injected(points, t.hosted) {
		if err := m.Inject(ctx, t, b); err != nil {
			return Placed{}, err
		}
	}
	placed, err := m.place(ctx, t, b, r)
	if errors.Is(err, errNoStaging) {
		if err := m.inject(ctx, t.hosted, b, true); err != nil {
			return Placed{}, err
		}
		placed, err = m.place(ctx, t, b, r)
	}
	return placed, err
}

func (m *Mounter) place(ctx context.Context, t *Tree, b *Box, r Request) (Placed, error) {
	fd, err := r.open(ctx)
	if err != nil {
		return Placed{}, err
	}
	if b.Mapped {
		if err := b.idmap(fd); err != nil {
			_ = fd.Close()
			return Placed{}, err
		}
	}
	s, err := t.stage(fd)
	if err != nil {
		return Placed{}, err
	}
	op := inside.OpPlace
	if r.Replay {
		op = inside.OpReplay
	}
	a, err := m.help(ctx, m.options.Deadline, b, nil, op, s.name, decimal(r.Major), decimal(r.Minor), r.Target)
	s.drop() // before anything else: until then we hold the device
	if err != nil {
		return Placed{}, err
	}
	if err := failure(a); err != nil {
		return Placed{}, err
	}
	return m.readBack(ctx, b, r, a)
}

// open makes the mount, attached nowhere.
func (r Request) open(ctx context.Context) (*os.File, error) {
	attributes := 0
	if r.ReadOnly || r.ReadOnlyDevice {
		attributes |= unix.MOUNT_ATTR_RDONLY
	}
	if r.NoAtime {
		attributes |= unix.MOUNT_ATTR_NOATIME
	}
	var more []filesystem.Option
	if r.Discard {
		more = append(more, filesystem.Option{Name: "discard"})
	}
	fd, err := filesystem.Mount(ctx, r.Device, r.Type, r.ReadOnlyDevice, more, attributes)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%w: it is mounted elsewhere with another mode", ErrBusy)
	}
	if err != nil {
		return nil, err
	}
	if s, err := look(fd); err != nil || !s.Is(r.Major, r.Minor) {
		_ = fd.Close()
		return nil, errors.New("the device is not the one that was asked for")
	}
	return fd, nil
}

func (b *Box) idmap(fd *os.File) error {
	ns, err := b.userNS()
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := idmap(fd, ns); err != nil {
		return fmt.Errorf("cannot map the ids of the container: %w", err)
	}
	return nil
}

// readBack believes the kernel only. A mount that is not what was asked for is
// taken away again.
func (m *Mounter) readBack(ctx context.Context, b *Box, r Request, a inside.Answer) (Placed, error) {
	take := func(path string) {
		_, _ = m.help(ctx, m.options.Deadline, b, nil, inside.OpUnmount, decimal(r.Major), decimal(r.Minor), strconv.Itoa(a.ID), path)
	}
	points, err := b.points()
	if errors.Is(err, ErrMounts) && a.Kind != inside.Already {
		take(a.Path)
	}
	if err != nil {
		return Placed{}, err
	}
	p, ok := byID(points, a.ID)
	if ok && p.is(r) && p.Path == a.Path && !inside.Reserved(p.Path) &&
		(a.Kind == inside.Already || p.safe() && p.Has("ro") == (r.ReadOnly || r.ReadOnlyDevice)) {
		return p.placed(a.Kind == inside.Already), nil
	}
	if a.Kind == inside.Already {
		return Placed{}, &ErrOccupied{Path: a.Path}
	}
	if ok {
		take(p.Path)
	}
	if !ok || p.Path != a.Path { // the container's root was quicker
		return Placed{}, &ErrTarget{Path: a.Path, Why: "it was changed in that moment", Kind: Invalid}
	}
	return Placed{}, fmt.Errorf("cannot mount on %s: what was read back is not what was asked for", a.Path)
}

// is says whether this is the whole of the request's file system.
func (p Point) is(r Request) bool { return p.Major == r.Major && p.Minor == r.Minor && p.Root == "/" }

func (p Point) safe() bool { return p.Has("nodev") && p.Has("nosuid") }

func (p Point) placed(already bool) Placed {
	return Placed{Path: p.Path, MountID: p.ID, ReadOnly: p.Has("ro"), Already: already}
}

// The last unmount writes out all that is dirty, and cannot be interrupted.
const flushTime = time.Minute

// Unmount takes away the mount of exactly this device at exactly this path of
// the container. It never does so lazily: what is in use stays, with ErrBusy.
func (m *Mounter) Unmount(ctx context.Context, b *Box, major, minor uint32, path string) error {
	a, err := m.help(ctx, m.options.Deadline+flushTime, b, nil, inside.OpUnmount, decimal(major), decimal(minor), "0", path)
	if err != nil {
		return err
	}
	if err := failure(a); err != nil {
		return err
	}
	points, err := b.points()
	if err != nil {
		return err
	}
	if _, ok := byID(points, a.ID); ok {
		return fmt.Errorf("cannot unmount %s: it is still there", path)
	}
	return nil
}
