package inside

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A container is the place this thread has entered.
type container struct {
	hostNS int // the mount namespace it came from
	ns     int // the container's
	proc   int // /proc of the host: the container's may be anything
	root   int
	devfs  uint64 // device number of the host's devtmpfs
}

// enter moves the thread into the mount namespace of the process. It goes
// through the pidfd, so a recycled pid cannot lead it elsewhere.
func enter(pidfd int) (*container, error) {
	c := &container{}
	var err error
	if c.proc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, failed("open /proc", err)
	}
	if c.hostNS, err = unix.Openat(c.proc, "thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, failed("open own mount namespace", err)
	}
	var dev unix.Stat_t
	if err = unix.Stat("/dev", &dev); err != nil {
		return nil, failed("look at /dev", err)
	}
	c.devfs = dev.Dev
	// setns refuses a thread that shares its root and working directory.
	if err = unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, failed("leave the shared working directory", err)
	}
	unix.Umask(0o022)
	// Going through a pidfd needs the right to trace the process.
	if err = unix.Setns(pidfd, unix.CLONE_NEWNS); err != nil {
		return nil, failed("enter the container", err)
	}
	if c.ns, err = unix.Openat(c.proc, "thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, failed("open the container's mount namespace", err)
	}
	if err = c.drop(); err != nil {
		return nil, failed("drop capabilities", err)
	}
	if c.root, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, failed("open the container's root", err)
	}
	return c, nil
}

// in goes back to where enter went; out goes where the helper came from.
func (c *container) in() error {
	if err := unix.Setns(c.ns, unix.CLONE_NEWNS); err != nil {
		return failed("enter the container again", err)
	}
	return nil
}

func (c *container) out() error {
	if err := unix.Setns(c.hostNS, unix.CLONE_NEWNS); err != nil {
		return failed("leave the container", err)
	}
	return nil
}

// drop keeps what mounting (SYS_ADMIN), entering (SYS_CHROOT), looking up a path
// (DAC_READ_SEARCH) and taking the ids of the container's root need.
func (c *container) drop() error {
	const keep = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_DAC_READ_SEARCH |
		1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: keep, Permitted: keep}}
	return unix.Capset(&header, &data[0])
}

// path is where the kernel says the object is, below the container's root.
func (c *container) path(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(c.proc, "thread-self/fd/"+strconv.Itoa(fd), buf)
	if err != nil {
		return "", failed("read a path", err)
	}
	p := string(buf[:n])
	if n >= len(buf) || !strings.HasPrefix(p, "/") { // "(unreachable)/…"
		return "", fail(Invalid, "", "the path leaves the container")
	}
	return p, nil
}

// detach takes away exactly the mount that the descriptor is the root of.
func (c *container) detach(fd int) error {
	dir, err := unix.Openat(c.proc, "thread-self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := unix.Fchdir(dir); err != nil {
		return err
	}
	// Following the link on purpose: it is the kernel's own, to the mount.
	return unix.Unmount(strconv.Itoa(fd), unix.MNT_DETACH)
}

// Seen is what statx says without asking the file system's server.
type Seen struct {
	Major, Minor uint32
	Dev          uint64 // both in one
	ID           int    // of the mount, as in mountinfo(5)
	MountRoot    bool
}

// Is says whether it is on that device.
func (s Seen) Is(major, minor uint32) bool { return s.Major == major && s.Minor == minor }

// Look asks about an open object. It cannot hang: with an empty mask the file
// system's server is not asked, but the device and the mount are told (statx(2)).
func Look(fd int) (Seen, error) {
	var x unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, 0, &x)
	return Seen{
		Major: x.Dev_major, Minor: x.Dev_minor, Dev: unix.Mkdev(x.Dev_major, x.Dev_minor),
		ID:        int(x.Mnt_id),
		MountRoot: x.Attributes&x.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0,
	}, err
}

// Move attaches the mount that from is the root of at the directory to.
func Move(from, to int) error {
	return unix.MoveMount(from, "", to, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}
