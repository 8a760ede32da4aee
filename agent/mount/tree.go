package mount

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent/mount/inside"
)

// What a container's root could use up of the host's memory, if privileged.
const (
	treeSize   = "48m" // the client twice while it is replaced, and more
	treeInodes = "512"
)

// Tree is the file system of the host that one container sees at /lls. The root
// of a privileged container can change everything in it, at any moment. So it is
// only ever used through its descriptor, and nothing is believed that is read
// from it.
type Tree struct {
	path   string // of its mount point on the host, below directories only root can enter
	dir    *os.File
	dev    uint64
	group  int           // its peer group
	inject chan struct{} // holds one token: one injection at a time
}

// OpenTree makes the tree at base/key/lls or adopts the one that is there: a
// container that sees it keeps seeing it when the agent restarts.
func OpenTree(base, key string) (*Tree, error) {
	if key == "" || key == "." || key == ".." || strings.ContainsAny(key, "/\x00") {
		return nil, fmt.Errorf("cannot make a tree: key %q is no file name", key)
	}
	t, err := openTree(base, filepath.Join(base, key, inside.TreeDir))
	if err != nil {
		return nil, fmt.Errorf("cannot make the tree of %s: %w", key, err)
	}
	return t, nil
}

func openTree(base, path string) (*Tree, error) {
	if err := os.MkdirAll(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	// Only this keeps users of the host away from the sockets.
	if err := os.Chmod(base, 0o700); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	t := &Tree{path: path, dir: os.NewFile(uintptr(fd), path), inject: make(chan struct{}, 1)}
	if err := t.ready(); err != nil {
		_ = t.dir.Close()
		return nil, err
	}
	return t, nil
}

func (t *Tree) ready() error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(t.dir.Fd()), &fs); err != nil {
		return err
	}
	at, err := look(t.dir)
	if err != nil {
		return err
	}
	if !at.MountRoot || fs.Type != unix.TMPFS_MAGIC {
		if err := t.create(); err != nil {
			return err
		}
		if at, err = look(t.dir); err != nil {
			return err
		}
	}
	t.dev = at.Dev
	err = unix.MountSetattr(int(t.dir.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_SHARED})
	if err != nil {
		return fmt.Errorf("cannot share the mount: %w", err)
	}
	points, err := Points(os.Getpid())
	if err != nil {
		return err
	}
	p, ok := byID(points, at.ID)
	if !ok || p.PeerGroup == 0 {
		return errors.New("cannot find its mount again")
	}
	t.group = p.PeerGroup
	return nil
}

// create mounts a new tmpfs and makes dir its root.
func (t *Tree) create() error {
	fd, err := newTmpfs()
	if err != nil {
		return err
	}
	if err := attach(fd, t.dir); err != nil {
		_ = fd.Close()
		return err
	}
	_ = t.dir.Close()
	t.dir = fd
	return nil
}

// Close releases the tree, which stays.
func (t *Tree) Close() error { return t.dir.Close() }

// Remove takes the tree away for good, and with it Close.
func (t *Tree) Remove() error {
	_ = t.Sweep() // what is below goes with it in any case
	err := detach(t.dir)
	_ = t.dir.Close()
	if err != nil {
		return fmt.Errorf("cannot remove the tree: %w", err)
	}
	if err := os.Remove(t.path); err != nil {
		return err
	}
	return os.Remove(filepath.Dir(t.path))
}

// Sweep detaches what an agent that was killed left between host and container,
// wherever in the tree it was moved to, and removes what was set aside. Nothing
// may be under way.
func (t *Tree) Sweep() error {
	points, err := Points(os.Getpid())
	if err != nil {
		return fmt.Errorf("cannot sweep the tree: %w", err)
	}
	for _, p := range points {
		name, ok := strings.CutPrefix(p.Path, t.path+"/")
		if !ok {
			continue
		}
		fd, openErr := t.open(name, unix.O_PATH)
		if openErr != nil {
			err = errors.Join(err, openErr)
			continue
		}
		if s, lookErr := look(fd); lookErr == nil && s.ID == p.ID {
			err = errors.Join(err, detach(fd))
		}
		_ = fd.Close()
	}
	removeAll(t.dir, inside.StagingDir)
	return err
}

// A staged mount is on its way through the tree, from where it propagates into
// the container. Only the host's root may look there, so the root of an
// unprivileged container cannot reach it.
type staged struct {
	dir  *os.File // the staging directory
	name string
	fd   *os.File // the mount
	done bool
}

// place makes a random directory for a mount, which is the staged's from then
// on, also when place fails.
func (t *Tree) place(fd *os.File) (*staged, *os.File, error) {
	err := t.mkdir(t.dir, inside.StagingDir, 0o700)
	var dir *os.File
	if err == nil {
		dir, err = t.open(inside.StagingDir, unix.O_PATH|unix.O_DIRECTORY)
	}
	if err != nil {
		_ = fd.Close()
		return nil, nil, err
	}
	s := &staged{dir: dir, name: rand.Text(), fd: fd}
	if err := unix.Mkdirat(int(dir.Fd()), s.name, 0o700); err != nil {
		_, _ = fd.Close(), dir.Close()
		return nil, nil, fmt.Errorf("cannot make a staging directory: %w", err)
	}
	at, err := openAt(dir, s.name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		s.drop()
		return nil, nil, err
	}
	return s, at, nil
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

// How long drop waits for the kernel. It is the file system's last mount when it
// never reached the container, and then something may have to be written.
const dropTime = 2 * time.Second

// drop detaches the host's copy, closes it, and with it takes the container's
// copy away if that was not moved.
func (s *staged) drop() {
	if s.done {
		return
	}
	s.done = true
	dropped := make(chan struct{})
	go func() {
		defer close(dropped)
		_ = detach(s.fd) // fails when it was never attached
		_ = s.fd.Close()
		// This takes off whatever is mounted on it, in all mount namespaces: one that
		// was made meanwhile, for another user namespace, has a copy that is locked
		// and stays when ours goes.
		_ = unix.Unlinkat(int(s.dir.Fd()), s.name, unix.AT_REMOVEDIR)
		_ = s.dir.Close()
	}()
	select {
	case <-dropped:
	case <-time.After(dropTime):
	}
}

// detach takes away exactly the mount that the descriptor is the root of.
func detach(f *os.File) error {
	return unix.Unmount("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.MNT_DETACH)
}
