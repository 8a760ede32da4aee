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

	"lls/agent/filesystem"
	"lls/agent/mount/inside"
)

// A view says how a container sees a file system of the host.
type view struct {
	at         string // its place below the container's root
	dir        string // its mount point on the host, below base/key
	size       string // what a container's root could use up of the host's memory, if privileged
	inodes     string
	attributes int // of the host's mount
	// What the container may not do with its own mount. In an unprivileged container
	// these are locked; even if they were not, all that is there belongs to the
	// host's root, who has no id in there.
	locked uint64
	shows  func(Point) bool // whether the container's mount is as injected
}

// A hosted is a tmpfs of the host that one container sees. The root of a
// privileged container can change everything in it, at any moment. So it is only
// ever used through its descriptor, and nothing is believed that is read from it.
//
// He can also have each opening of a file in it wait, for as long as he likes
// (FAN_OPEN_PERM), but not one with O_PATH. Those that open more have no end that
// is certain, and who calls them must be able to go on without it: OpenNodes,
// Sweep, Remove, Set, Tidy, Put, Copy and Listen.
type hosted struct {
	view   view
	path   string // of its mount point on the host, below directories only root can enter
	dir    *os.File
	dev    uint64
	group  int           // its peer group
	inject chan struct{} // holds one token: one injection at a time
}

// openHosted makes the file system at base/key or adopts the one that is there:
// a container that sees it keeps seeing it when the agent restarts.
func openHosted(base, key string, v view) (*hosted, error) {
	if key == "" || key == "." || key == ".." || strings.ContainsAny(key, "/\x00") {
		return nil, fmt.Errorf("key %q is no file name", key)
	}
	path := filepath.Join(base, key, v.dir)
	if err := os.MkdirAll(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	// Only this keeps users of the host away from the sockets and devices.
	if err := os.Chmod(base, 0o700); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	h := &hosted{view: v, path: path, dir: os.NewFile(uintptr(fd), path), inject: make(chan struct{}, 1)}
	if err := h.ready(); err != nil {
		_ = h.dir.Close()
		return nil, err
	}
	return h, nil
}

func (h *hosted) ready() error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(h.dir.Fd()), &fs); err != nil {
		return err
	}
	at, err := look(h.dir)
	if err != nil {
		return err
	}
	if !at.MountRoot || fs.Type != unix.TMPFS_MAGIC {
		if err := h.create(); err != nil {
			return err
		}
		if at, err = look(h.dir); err != nil {
			return err
		}
	}
	h.dev = at.Dev
	if err := h.writable(); err != nil {
		return err
	}
	err = unix.MountSetattr(int(h.dir.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_SHARED})
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
	h.group = p.PeerGroup
	return nil
}

// writable undoes what the root of a privileged container can do to the file system itself, by a remount: have it read-only for all, for the
// host too. He can do it again at any moment.
func (h *hosted) writable() error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(h.dir.Fd()), &fs); err != nil || fs.Flags&unix.ST_RDONLY == 0 {
		return err
	}
	return filesystem.Reconfigure(h.dir, []filesystem.Option{{Name: "rw"}})
}

// create mounts a new tmpfs and makes dir its root.
func (h *hosted) create() error {
	fd, err := newTmpfs(h.view)
	if err != nil {
		return err
	}
	if err := attach(fd, h.dir); err != nil {
		_ = fd.Close()
		return err
	}
	_ = h.dir.Close()
	h.dir = fd
	return nil
}

func newTmpfs(v view) (*os.File, error) {
	return filesystem.NewMount("tmpfs", []filesystem.Option{
		{Name: "source", Value: "lls"}, {Name: "mode", Value: "0755"},
		{Name: "uid", Value: "0"}, {Name: "gid", Value: "0"},
		{Name: "size", Value: v.size}, {Name: "nr_inodes", Value: v.inodes},
	}, v.attributes)
}

// Close releases the file system, which stays.
func (h *hosted) Close() error { return h.dir.Close() }

// Remove takes the file system away for good, and with it Close.
func (h *hosted) Remove() error {
	_ = h.Sweep() // what is below goes with it in any case
	err := detach(h.dir)
	_ = h.dir.Close()
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", h.path, err)
	}
	if err := os.Remove(h.path); err != nil {
		return err
	}
	err = os.Remove(filepath.Dir(h.path))
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil // the container's other file system is still there
	}
	return err
}

// Sweep detaches what an agent that was killed left between host and container,
// wherever it was moved to, and removes what was set aside. Nothing may be under
// way.
func (h *hosted) Sweep() error {
	points, err := Points(os.Getpid())
	if err != nil {
		return fmt.Errorf("cannot sweep %s: %w", h.path, err)
	}
	for _, p := range points {
		name, ok := strings.CutPrefix(p.Path, h.path+"/")
		if !ok {
			continue
		}
		fd, openErr := h.open(name, unix.O_PATH)
		if openErr != nil {
			err = errors.Join(err, openErr)
			continue
		}
		if s, lookErr := look(fd); lookErr == nil && s.ID == p.ID {
			err = errors.Join(err, detach(fd))
		}
		_ = fd.Close()
	}
	_ = removeAll(h.dir, inside.StagingDir)
	return err
}

// A staged mount is on its way through the file system, from where it propagates
// into the container. Only the host's root may look there, so the root of an
// unprivileged container cannot reach it.
type staged struct {
	dir  *os.File // the staging directory
	name string
	fd   *os.File // the mount
	done bool
}

// place makes a random directory for a mount, which is the staged's from then
// on, also when place fails.
func (h *hosted) place(fd *os.File) (*staged, *os.File, error) {
	dir, err := h.aside()
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
