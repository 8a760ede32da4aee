package mount

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Put writes a file, making the directories above it. Who reads it sees the old
// or the new content, never a part.
func (t *Tree) Put(path string, content []byte, mode os.FileMode) error {
	return t.put(path, bytes.NewReader(content), mode)
}

// Copy is Put of all that src holds.
func (t *Tree) Copy(path string, src *os.File, mode os.FileMode) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	return t.put(path, io.NewSectionReader(src, 0, info.Size()), mode)
}

func (t *Tree) put(path string, src io.Reader, mode os.FileMode) error {
	_ = t.writable() // if not, what follows tells
	dir, base, err := t.parent(path)
	if err != nil {
		return fmt.Errorf("cannot write %s in the tree: %w", path, err)
	}
	defer dir.Close()
	tmp := ".new-" + rand.Text()
	err = write(dir, tmp, src, mode)
	if err == nil {
		err = t.rename(dir, tmp, base)
	}
	if err != nil {
		_ = unix.Unlinkat(int(dir.Fd()), tmp, 0)
		return fmt.Errorf("cannot write %s in the tree: %w", path, err)
	}
	return nil
}

func write(dir *os.File, name string, src io.Reader, mode os.FileMode) error {
	f, err := openAt(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, src)
	if err == nil {
		err = f.Chmod(mode.Perm())
	}
	return errors.Join(err, f.Close())
}

// Listen makes a socket, in place of whatever has its name. It stays when the
// listener is closed.
func (t *Tree) Listen(name string, mode os.FileMode) (*net.UnixListener, error) {
	l, err := t.listen(name, mode)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s in the tree: %w", name, err)
	}
	return l, nil
}

func (t *Tree) listen(name string, mode os.FileMode) (*net.UnixListener, error) {
	dir, base, err := t.parent(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := t.discard(dir, base); err != nil {
		return nil, err
	}
	path := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + base
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the path will mean something else by then
	if err := chmodSocket(dir, base, mode); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// chmodSocket must not follow a link that has taken the socket's place.
func chmodSocket(dir *os.File, name string, mode os.FileMode) error {
	f, err := openAt(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("something else took its place")
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), uint32(mode.Perm()))
}

// parent opens the directory of a path in the tree and makes those that are
// missing. What stands in the way and is no directory is taken away.
func (t *Tree) parent(path string) (dir *os.File, base string, err error) {
	if !filepath.IsLocal(path) || filepath.Clean(path) != path || path == "." {
		return nil, "", fmt.Errorf("%q is no path in the tree", path)
	}
	steps := strings.Split(path, "/")
	if dir, err = t.open(".", unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return nil, "", err
	}
	for _, step := range steps[:len(steps)-1] {
		err := t.mkdir(dir, step, 0o755)
		var next *os.File
		if err == nil {
			next, err = openAt(dir, step, unix.O_PATH|unix.O_DIRECTORY, 0)
		}
		_ = dir.Close()
		if err != nil {
			return nil, "", err
		}
		dir = next
	}
	return dir, steps[len(steps)-1], nil
}
