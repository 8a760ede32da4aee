package mount

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"lls/agent/mount/inside"
)

// What the container may not do with its view of the tree. In an unprivileged
// container these are locked; even if they were not, all in the tree belongs to
// the host's root, who has no id in there.
const treeAttributes = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// Injected says whether the tree is what the container sees at /lls, and can
// bring mounts there.
func (m *Mounter) Injected(b *Box, t *Tree) (bool, error) {
	points, err := b.points()
	if err != nil {
		return false, err
	}
	return injected(points, t), nil
}

func injected(points []Point, t *Tree) bool {
	p, ok := Top(points, "/"+inside.TreeDir)
	// Its master is the tree, or a copy in a nested mount namespace that has the
	// tree as master; it has none when somebody has made it private.
	return ok && unix.Mkdev(p.Major, p.Minor) == t.dev && p.Root == "/" && p.Master != 0 && p.Has("ro")
}

// Inject puts the tree at /lls in the container. It does nothing when it is
// there, and takes away what else is mounted at /lls.
func (m *Mounter) Inject(ctx context.Context, t *Tree, b *Box) error {
	return m.inject(ctx, t, b, false)
}

// inject may be forced: only a mount that does not arrive shows some of what the
// container's root can have done to /lls.
func (m *Mounter) inject(ctx context.Context, t *Tree, b *Box, force bool) error {
	select {
	case t.inject <- struct{}{}:
		defer func() { <-t.inject }()
	case <-ctx.Done():
		return ctx.Err()
	}
	there, err := m.Injected(b, t)
	if err != nil || there && !force {
		return err
	}
	if err := m.tunnel(ctx, t, b); err != nil {
		return err
	}
	there, err = m.Injected(b, t)
	if err == nil && !there {
		err = fmt.Errorf("%w: it was taken away at once", errNoStaging)
	}
	return err
}

func (m *Mounter) tunnel(ctx context.Context, t *Tree, b *Box) error {
	first, err := clone(t.dir, treeAttributes)
	if err != nil {
		return fmt.Errorf("cannot copy the tree: %w", err)
	}
	defer first.Close()
	// It must get what is mounted in the tree, and give nothing back.
	err = unix.MountSetattr(int(first.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_SLAVE})
	if err != nil {
		return fmt.Errorf("cannot copy the tree: %w", err)
	}
	files, staging := []*os.File{first}, ""
	if b.Mapped {
		second, err := clone(t.dir, treeAttributes)
		if err != nil {
			return fmt.Errorf("cannot copy the tree: %w", err)
		}
		s, at, err := t.place(second)
		if err != nil {
			return fmt.Errorf("cannot stage the tree: %w", err)
		}
		defer s.drop()
		defer at.Close()
		files, staging = append(files, second, at), s.name
	}
	a, err := m.help(ctx, m.options.Deadline, b, files, inside.OpInject, decimal(b.RootUID), decimal(b.RootGID), staging)
	if err != nil {
		return err
	}
	return failure(a)
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
