package inside

import (
	"os"

	"golang.org/x/sys/unix"
)

// How many mounts are taken away from /lls before the tree goes on top.
const maxStacked = 64

// inject puts the tree at /lls. A mount that is moved straight in has flags that
// the container's root can clear. One that arrives by propagation from a mount
// namespace of another user namespace has them locked (mount_namespaces(7)). So
// with a staging name a first clone is a tunnel only: the second is attached in
// the tree on the host, arrives through the tunnel, and takes its place.
func (c *container) inject(uid, gid int, staging string) (Answer, error) {
	if err := c.clear(uid, gid); err != nil {
		return Answer{}, err
	}
	if err := c.attach(FDTunnel); err != nil {
		return Answer{}, err
	}
	if staging == "" {
		return c.injected(FDTunnel)
	}
	locked, err := c.through(staging)
	if err != nil {
		_ = c.detach(FDTunnel)
		return Answer{}, err
	}
	if err := c.detach(FDTunnel); err != nil {
		return Answer{}, failed("take the tunnel away", err)
	}
	if err := c.attach(locked); err != nil {
		return Answer{}, err
	}
	return c.injected(locked)
}

// through sends the second clone through the tunnel and returns a copy of what
// arrived, attached nowhere.
func (c *container) through(staging string) (int, error) {
	if err := c.out(); err != nil {
		return -1, err
	}
	moved := Move(FDSecond, FDStaging)
	if err := c.in(); err != nil {
		return -1, err
	}
	if moved != nil {
		return -1, failed("stage the tree", moved)
	}
	arrived, _, err := c.staged(FDTunnel, StagingDir+"/"+staging)
	if err != nil {
		return -1, err
	}
	defer unix.Close(arrived)
	fd, err := unix.OpenTree(arrived, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, failed("copy the tree", err)
	}
	return fd, nil
}

func (c *container) injected(fd int) (Answer, error) {
	s, err := Look(fd)
	if err != nil {
		return Answer{}, failed("look at /lls", err)
	}
	return Answer{Kind: OK, ID: s.ID, Path: "/" + TreeDir}, nil
}

// attach puts a clone at /lls.
func (c *container) attach(fd int) error {
	at, err := c.lls()
	if err != nil {
		return fail(NoPlace, "/"+TreeDir, err.Error())
	}
	defer unix.Close(at)
	if err := Move(fd, at); err != nil {
		return failed("mount /lls", err)
	}
	// Attaching below a shared mount has made it shared, and nothing could be
	// moved out of it.
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_SLAVE})
	if err != nil {
		return failed("make /lls a slave", err)
	}
	return nil
}

// lls opens the topmost directory at /lls.
func (c *container) lls() (int, error) {
	return unix.Openat2(c.root, TreeDir, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// clear sees to it that /lls is a directory, and takes away what is mounted
// there: an older tree, or what the container's root has put in its place.
func (c *container) clear(uid, gid int) error {
	fd, err := c.lls()
	if err == unix.ENOENT {
		if err = c.mkdir(uid, gid); err != nil {
			return fail(NoPlace, "/"+TreeDir, "cannot make /lls: "+err.Error())
		}
		fd, err = c.lls()
	}
	for range maxStacked {
		if err != nil {
			break
		}
		s, lookErr := Look(fd)
		if lookErr != nil || !s.MountRoot || c.detach(fd) != nil {
			break // what is locked there is covered instead
		}
		unix.Close(fd)
		fd, err = c.lls()
	}
	if err != nil {
		return fail(NoPlace, "/"+TreeDir, "/lls cannot be used: "+err.Error())
	}
	return unix.Close(fd)
}

// mkdir makes /lls with the ids, and only the rights, of the container's root.
func (c *container) mkdir(uid, gid int) error {
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
	err := unix.Mkdirat(c.root, TreeDir, 0o755)
	_, _ = unix.SetfsuidRetUid(os.Getuid())
	_, _ = unix.SetfsgidRetGid(os.Getgid())
	if err == unix.EEXIST {
		return nil
	}
	return err
}
