package mount

import (
	"os"

	"golang.org/x/sys/unix"

	"lls/agent/mount/inside"
)

// look asks about an open object, without asking its file system's server.
func look(f *os.File) (inside.Seen, error) { return inside.Look(int(f.Fd())) }

// attach gives a detached mount its place, in this mount namespace.
func attach(mount, at *os.File) error { return inside.Move(int(mount.Fd()), int(at.Fd())) }

// clone is one more mount of what f is the root of, attached nowhere.
func clone(f *os.File, attributes uint64) (*os.File, error) {
	fd, err := unix.OpenTree(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: attributes}); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// idmap makes a detached mount show on-disk ids as those of a user namespace.
func idmap(f, userNS *os.File) error {
	return unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userNS.Fd()),
	})
}
