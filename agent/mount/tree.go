package mount

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"lls/agent/mount/inside"
)

var treeView = view{
	at: inside.TreeDir, dir: "lls",
	size:       "48m", // the client twice while it is replaced, and more
	inodes:     "512",
	attributes: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV,
	locked:     unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV,
	// Its master is the tree, or a copy in a nested mount namespace that has the
	// tree as master; it has none when somebody has made it private.
	shows: func(p Point) bool { return p.Master != 0 && p.Has("ro") },
}

// Tree is the file system of the host that one container sees at /lls: files,
// sockets, and the way that mounts take into the container.
type Tree struct{ *hosted }

// OpenTree makes the tree at base/key/lls or adopts the one that is there: a
// container that sees it keeps seeing it when the agent restarts.
func OpenTree(base, key string) (*Tree, error) {
	h, err := openHosted(base, key, treeView)
	if err != nil {
		return nil, fmt.Errorf("cannot make the tree of %s: %w", key, err)
	}
	return &Tree{h}, nil
}

// stage attaches a detached mount, which is the staged's from then on.
func (t *Tree) stage(fd *os.File) (*staged, error) {
	s, at, err := t.place(fd)
	if err != nil {
		return nil, fmt.Errorf("cannot stage a mount: %w", err)
	}
	defer at.Close()
	if err := attach(fd, at); err != nil {
		s.drop()
		return nil, fmt.Errorf("cannot stage a mount: %w", err)
	}
	return s, nil
}
