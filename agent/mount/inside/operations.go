package inside

import (
	"path"

	"golang.org/x/sys/unix"
)

// place moves the mount that the agent staged in the tree to the target. The
// target comes first, so that a lookup that hangs holds no device. What is made
// again at each start is refused where it would vanish.
func (c *container) place(staging string, major, minor uint32, target string, again bool) (Answer, error) {
	to, answer, err := c.target(target, major, minor)
	if err == nil && again && Shadowed(answer.Path) {
		return Answer{}, fail(Forbidden, answer.Path, "it leads below /tmp, which is mounted over by systemd at boot")
	}
	if err != nil || answer.Kind == Already {
		return answer, err
	}
	canonical := answer.Path
	from, s, err := c.staged(c.root, TreeDir+"/"+StagingDir+"/"+staging)
	if err != nil {
		return Answer{}, err
	}
	if !s.Is(major, minor) {
		return Answer{}, fail(NoStaging, "", "another mount was put in its place")
	}
	if err := Move(from, to); err != nil {
		if err == unix.ENOENT { // the target was removed meanwhile
			return Answer{}, fail(Missing, canonical, "no such directory")
		}
		if err == unix.EINVAL { // /lls was made shared: nothing can be moved out of it
			return Answer{}, fail(NoStaging, "", "the mount cannot be moved out of the tree")
		}
		return Answer{}, failed("mount on "+canonical, err)
	}
	canonical, err = c.path(from)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Kind: OK, ID: s.ID, Path: canonical}, nil
}

// staged opens a mount in the tree.
func (c *container) staged(dir int, path string) (int, Seen, error) {
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, Seen{}, fail(NoStaging, "", "the tree is not at /lls: "+err.Error())
	}
	s, err := Look(fd)
	if err != nil || !s.MountRoot {
		unix.Close(fd)
		return -1, Seen{}, fail(NoStaging, "", "the mount did not reach the container")
	}
	return fd, s, nil
}

// unmount takes away the mount of this device at this path. With an id it must
// be that mount, and it goes even when in use.
func (c *container) unmount(major, minor uint32, id int, where string) (Answer, error) {
	if !ValidTarget(where) || path.Clean(where) == "/" {
		return Answer{}, fail(Invalid, where, "no path of a mount")
	}
	dir, base := path.Split(path.Clean(where))
	parent, _, err := c.directory(dir)
	if err != nil {
		if f, ok := err.(*failure); ok && (f.Kind == Missing || f.Kind == NotDir) {
			return Answer{}, fail(NotMounted, where, "not mounted there")
		}
		return Answer{}, err
	}
	fd, err := unix.Openat2(parent, base, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return Answer{}, fail(NotMounted, where, "not mounted there")
	}
	s, err := Look(fd)
	if err != nil || !s.MountRoot || !s.Is(major, minor) || id != 0 && s.ID != id {
		return Answer{}, fail(NotMounted, where, "not mounted there")
	}
	if id != 0 {
		if err := c.detach(fd); err != nil {
			return Answer{}, failed("unmount "+where, err)
		}
		return Answer{Kind: OK, ID: s.ID, Path: where}, nil
	}
	unix.Close(fd) // it would itself keep the mount busy
	if err := unix.Fchdir(parent); err != nil {
		return Answer{}, failed("enter "+dir, err)
	}
	switch err := unix.Unmount(base, unix.UMOUNT_NOFOLLOW); err {
	case nil:
		return Answer{Kind: OK, ID: s.ID, Path: where}, nil
	case unix.EBUSY:
		return Answer{}, fail(Busy, where, "in use")
	default:
		return Answer{}, failed("unmount "+where, err)
	}
}
