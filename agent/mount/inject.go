package mount

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"lls/agent/mount/inside"
)

// Injected says whether the tree is what the container sees at /lls, and can
// bring mounts there.
func (m *Mounter) Injected(b *Box, t *Tree) (bool, error) { return b.sees(t.hosted) }

// Inject puts the tree at /lls in the container. It does nothing when it is
// there, and takes away what else is mounted at /lls.
func (m *Mounter) Inject(ctx context.Context, t *Tree, b *Box) error {
	return m.inject(ctx, t.hosted, b, false)
}

// NodesInjected says whether the nodes are what the container sees at /dev/mf.
func (m *Mounter) NodesInjected(b *Box, n *Nodes) (bool, error) { return b.sees(n.hosted) }

// InjectNodes puts the nodes at /dev/mf in the container. It does nothing when
// they are there, and takes away what else is mounted at /dev/mf. It is ErrNoPlace
// when there can be no such directory, or /dev is that of the host. What it needed
// there stays, for Tidy.
func (m *Mounter) InjectNodes(ctx context.Context, n *Nodes, b *Box) error {
	points, err := b.points()
	if err != nil {
		return err
	}
	// The helper looks once more, without knowing every devtmpfs by its type.
	if dev, ok := Top(points, "/dev"); ok && dev.Type == "devtmpfs" {
		return noPlace("/dev/mf", "/dev is that of the host")
	}
	return m.inject(ctx, n.hosted, b, false)
}

func (b *Box) sees(h *hosted) (bool, error) {
	points, err := b.points()
	if err != nil {
		return false, err
	}
	return injected(points, h), nil
}

func injected(points []Point, h *hosted) bool {
	p, ok := Top(points, "/"+h.view.at)
	return ok && unix.Mkdev(p.Major, p.Minor) == h.dev && p.Root == "/" && h.view.shows(p)
}

// inject may be forced: only a mount that does not arrive shows some of what the
// container's root can have done to /lls.
func (m *Mounter) inject(ctx context.Context, h *hosted, b *Box, force bool) error {
	select {
	case h.inject <- struct{}{}:
		defer func() { <-h.inject }()
	case <-ctx.Done():
		return ctx.Err()
	}
	there, err := b.sees(h)
	if err != nil || there && !force {
		return err
	}
	if err := m.tunnel(ctx, h, b); err != nil {
		return err
	}
	there, err = b.sees(h)
	if err == nil && !there {
		err = fmt.Errorf("%w: it was taken away at once", errNoStaging)
	}
	return err
}

func (m *Mounter) tunnel(ctx context.Context, h *hosted, b *Box) error {
	first, err := clone(h.dir, h.view.locked)
	if err != nil {
		return fmt.Errorf("cannot copy %s: %w", h.path, err)
	}
	defer first.Close()
	// It must get what is mounted in the original, and give nothing back.
	err = unix.MountSetattr(int(first.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_SLAVE})
	if err != nil {
		return fmt.Errorf("cannot copy %s: %w", h.path, err)
	}
	files, staging := []*os.File{first}, ""
	if b.Mapped {
		second, err := clone(h.dir, h.view.locked)
		if err != nil {
			return fmt.Errorf("cannot copy %s: %w", h.path, err)
		}
		s, at, err := h.place(second)
		if err != nil {
			return fmt.Errorf("cannot stage %s: %w", h.path, err)
		}
		defer s.drop()
		defer at.Close()
		files, staging = append(files, second, at), s.name
	}
	a, err := m.help(ctx, m.options.Deadline, b, files, inside.OpInject, decimal(b.RootUID), decimal(b.RootGID), staging, h.view.at)
	if err != nil {
		return err
	}
	return failure(a)
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
