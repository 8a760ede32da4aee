package inside

import (
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// How many mounts are taken away from a place before ours goes on top.
const maxStacked = 64

// A place is where a file system of the host is put, and is made if missing.
type place struct {
	*container
	parent, name string // the parent is empty, or one component below the root
	uid, gid     int    // of the container's root, who is to own it
}

func (c *container) at(path string, uid, gid int) (*place, error) {
	switch path {
	case TreeDir:
		return &place{container: c, name: TreeDir, uid: uid, gid: gid}, nil
	case NodesDir:
		parent, name, _ := strings.Cut(NodesDir, "/")
		return &place{container: c, parent: parent, name: name, uid: uid, gid: gid}, nil
	}
	return nil, fail(Invalid, path, "not a place of ours")
}

func (p *place) path() string { return "/" + path.Join(p.parent, p.name) }

// inject puts a clone in its place. A mount that is moved straight in has flags
// that the container's root can clear. One that arrives by propagation from a
// mount namespace of another user namespace has them locked (mount_namespaces(7)).
// So with a staging name a first clone is a tunnel only: the second is attached in
// the original on the host, arrives through the tunnel, and takes its place.
func (p *place) inject(staging string) (Answer, error) {
	if err := p.clear(); err != nil {
		return Answer{}, err
	}
	if err := p.attach(FDTunnel); err != nil {
		return Answer{}, err
	}
	if staging == "" {
		return p.injected(FDTunnel)
	}
	locked, err := p.through(staging)
	if err != nil {
		_ = p.detach(FDTunnel)
		return Answer{}, err
	}
	if err := p.detach(FDTunnel); err != nil {
		return Answer{}, failed("take the tunnel away", err)
	}
	if err := p.attach(locked); err != nil {
		return Answer{}, err
	}
	return p.injected(locked)
}

// through sends the second clone through the tunnel and returns a copy of what
// arrived, attached nowhere.
func (p *place) through(staging string) (int, error) {
	if err := p.out(); err != nil {
		return -1, err
	}
	moved := Move(FDSecond, FDStaging)
	if err := p.in(); err != nil {
		return -1, err
	}
	if moved != nil {
		return -1, failed("stage "+p.path(), moved)
	}
	arrived, _, err := p.staged(FDTunnel, StagingDir+"/"+staging)
	if err != nil {
		return -1, err
	}
	defer unix.Close(arrived)
	fd, err := unix.OpenTree(arrived, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, failed("copy "+p.path(), err)
	}
	return fd, nil
}

func (p *place) injected(fd int) (Answer, error) {
	s, err := Look(fd)
	if err != nil {
		return Answer{}, failed("look at "+p.path(), err)
	}
	return Answer{Kind: OK, ID: s.ID, Path: p.path()}, nil
}

// attach puts a clone in its place.
func (p *place) attach(fd int) error {
	at, err := p.open()
	if err != nil {
		return p.unusable(err)
	}
	defer unix.Close(at)
	if err := Move(fd, at); err != nil {
		return failed("mount "+p.path(), err)
	}
	// Attaching below a shared mount has made it shared, and nothing could be
	// moved out of it.
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_SLAVE})
	if err != nil {
		return failed("make "+p.path()+" a slave", err)
	}
	return nil
}

func (p *place) unusable(err error) error {
	why := err.Error()
	switch err {
	case unix.ENOTDIR, unix.ELOOP:
		why = "it is no plain directory"
	case unix.EROFS, unix.EACCES, unix.EPERM, unix.EOVERFLOW, unix.ENOENT:
		why = "it cannot be made there"
	}
	return fail(NoPlace, p.path(), why)
}

// open opens the topmost directory there.
func (p *place) open() (int, error) { return plainDirectory(p.root, path.Join(p.parent, p.name)) }

func plainDirectory(dir int, name string) (int, error) {
	return unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// clear sees to it that there is a directory, and takes away what is mounted on
// it: an older injection, or what the container's root has put in its place.
func (p *place) clear() error {
	fd, err := p.open()
	if err == unix.ENOENT {
		if err = p.mkdir(); err != nil {
			return p.unusable(err)
		}
		fd, err = p.open()
	}
	for range maxStacked {
		if err != nil {
			break
		}
		s, lookErr := Look(fd)
		if lookErr != nil || !s.MountRoot || p.detach(fd) != nil {
			break // what is locked there is covered instead
		}
		unix.Close(fd)
		fd, err = p.open()
	}
	if err != nil {
		return p.unusable(err)
	}
	return unix.Close(fd)
}

// mkdir makes the directory with the ids, and only the rights, of the container's
// root: those of the host would even be refused in a tmpfs of the container's.
func (p *place) mkdir() error {
	parent := p.root
	if p.parent != "" {
		var err error
		if parent, err = plainDirectory(p.root, p.parent); err != nil {
			return err
		}
		defer unix.Close(parent)
		s, err := Look(parent)
		if err != nil {
			return err
		}
		if s.Dev == p.devfs { // the host's own /dev, of which there is only one
			return unix.EPERM
		}
	}
	err := p.as(p.uid, p.gid, func() error { return unix.Mkdirat(parent, p.name, 0o755) })
	if err == unix.EEXIST {
		return nil
	}
	return err
}

// as does something with the ids, and only the rights, of the container's root.
func (c *container) as(uid, gid int, do func() error) error {
	defer func() {
		_, _ = unix.SetfsuidRetUid(os.Getuid())
		_, _ = unix.SetfsgidRetGid(os.Getgid())
	}()
	// Each call returns the former id, not an error: the second asks.
	for _, id := range []struct {
		set  func(int) (int, error)
		want int
	}{{unix.SetfsgidRetGid, gid}, {unix.SetfsuidRetUid, uid}} {
		_, _ = id.set(id.want)
		if now, _ := id.set(-1); now != id.want {
			return os.ErrPermission
		}
	}
	return do()
}
