package mount

import (
	"crypto/rand"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"lls/agent/mount/inside"
)

// rename takes the place of whatever has the name.
func (h *hosted) rename(dir *os.File, from, to string) error {
	err := unix.Renameat(int(dir.Fd()), from, int(dir.Fd()), to)
	if err == unix.EISDIR || err == unix.ENOTEMPTY || err == unix.EEXIST {
		if err := h.discard(dir, to); err != nil {
			return err
		}
		err = unix.Renameat(int(dir.Fd()), from, int(dir.Fd()), to)
	}
	return err
}

// mkdir sees to it that there is a directory of the host's root, no link.
func (h *hosted) mkdir(dir *os.File, name string, mode uint32) error {
	for range 3 {
		err := unix.Mkdirat(int(dir.Fd()), name, mode)
		if err != unix.EEXIST {
			return err
		}
		f, err := openAt(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err == nil {
			err = own(f, mode)
			_ = f.Close()
			return err
		}
		if name == inside.StagingDir { // each mount needs it, so nothing is opened for it: a directory is ours the next time
			err = unix.Unlinkat(int(dir.Fd()), name, 0)
		} else {
			err = h.discard(dir, name)
		}
		if err != nil && err != unix.ENOENT && err != unix.EISDIR {
			return err
		}
	}
	return errors.New("somebody keeps changing it")
}

// own makes an O_PATH descriptor's file the host's root's.
func own(f *os.File, mode uint32) error {
	if err := unix.Fchownat(int(f.Fd()), "", 0, 0, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), mode)
}

// discard takes a name away, whatever it is. A directory is set aside first:
// somebody may be filling it faster than it can be emptied.
func (h *hosted) discard(dir *os.File, name string) error {
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if name == inside.StagingDir { // cannot be set aside within itself
		return removeAll(dir, name)
	}
	aside, err := h.aside()
	if err != nil { // there is not even room for that
		return removeAll(dir, name)
	}
	defer aside.Close()
	junk := rand.Text()
	if err := unix.Renameat(int(dir.Fd()), name, int(aside.Fd()), junk); err != nil {
		return err
	}
	_ = removeAll(aside, junk) // the rest stays set aside
	return nil
}

// aside opens the staging directory.
func (h *hosted) aside() (*os.File, error) {
	if err := h.mkdir(h.dir, inside.StagingDir, 0o700); err != nil {
		return nil, err
	}
	return h.open(inside.StagingDir, unix.O_PATH|unix.O_DIRECTORY)
}

// removeAll removes what it can. It follows no links.
func removeAll(dir *os.File, name string) error {
	root, err := os.OpenRoot("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())))
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(name)
}

func (h *hosted) open(name string, flags int) (*os.File, error) { return openAt(h.dir, name, flags, 0) }

// openAt opens a name without links, magic or not.
func openAt(dir *os.File, name string, flags int, mode uint64) (*os.File, error) {
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Mode:    mode,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
