package inside

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Nothing is mounted on these, nor below those that end in a slash: the first
// would hide what the container needs to run, the second are the kernel's, the
// init's, or ours.
var reserved = []string{"/", "/tmp", "/run/", "/proc/", "/sys/", "/dev/", "/lls/"}

// Reserved says whether a path without symbolic links must not be mounted on.
func Reserved(path string) bool {
	for _, r := range reserved {
		place := strings.TrimSuffix(r, "/")
		if path == r || path == place || r != "/" && r != place && strings.HasPrefix(path, r) {
			return true
		}
	}
	return false
}

// Shadowed says whether systemd, as the container's init, mounts over a path
// that is not reserved. The text of a line of an fstab is refused for the same
// by package hooks, which knows no links.
func Shadowed(path string) bool { return strings.HasPrefix(path, "/tmp/") }

// File systems of the kernel, by their f_type (linux/magic.h and the sources of
// those that are not there). Below them nothing is mounted, wherever they are.
var kernelTypes = map[uint32]bool{
	unix.PROC_SUPER_MAGIC: true, unix.SYSFS_MAGIC: true, unix.DEVPTS_SUPER_MAGIC: true,
	unix.CGROUP_SUPER_MAGIC: true, unix.CGROUP2_SUPER_MAGIC: true, unix.DEBUGFS_MAGIC: true,
	unix.TRACEFS_MAGIC: true, unix.SECURITYFS_MAGIC: true, unix.BPF_FS_MAGIC: true,
	unix.PSTOREFS_MAGIC: true, unix.EFIVARFS_MAGIC: true, unix.BINFMTFS_MAGIC: true,
	unix.NSFS_MAGIC: true, unix.SELINUX_MAGIC: true, unix.RDTGROUP_SUPER_MAGIC: true,
	unix.HUGETLBFS_MAGIC: true,
	0x62656570:           true, // configfs
	0x65735543:           true, // fusectl
	0x19800202:           true, // mqueue
}

// ValidTarget says whether a path can be given to the kernel at all.
func ValidTarget(path string) bool {
	return strings.HasPrefix(path, "/") && len(path) < unix.PathMax && !strings.Contains(path, "\x00")
}

// directory opens the directory that a path leads to, below the root, and
// returns its path without symbolic links.
func (c *container) directory(path string) (fd int, canonical string, err error) {
	if !ValidTarget(path) {
		return -1, "", fail(Invalid, path, "not an absolute path, or too long")
	}
	fd, err = unix.Openat2(c.root, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch err {
	case nil:
	case unix.ENOENT:
		return -1, "", fail(Missing, path, "no such directory")
	case unix.ENOTDIR:
		return -1, "", fail(NotDir, path, "not a directory")
	case unix.ELOOP:
		return -1, "", fail(Loop, path, "its symbolic links cannot be followed")
	case unix.EAGAIN: // a rename somewhere, while ".." was resolved
		return -1, "", fail(Busy, path, "the path is changing")
	case unix.EACCES: // only a FUSE server that does not serve the host's root
		return -1, "", fail(Forbidden, path, "permission denied")
	case unix.ENAMETOOLONG:
		return -1, "", fail(Invalid, path, "too long")
	default:
		return -1, "", failed("open "+path, err)
	}
	canonical, err = c.path(fd)
	if err != nil {
		unix.Close(fd)
		return -1, "", err
	}
	return fd, canonical, nil
}

// target opens a directory that may be mounted on. When this device is mounted
// there, that is the answer.
func (c *container) target(path string, major, minor uint32) (fd int, answer Answer, err error) {
	fd, canonical, err := c.directory(path)
	if err != nil {
		return -1, Answer{}, err
	}
	answer, err = c.judge(fd, canonical, major, minor)
	if err != nil {
		unix.Close(fd)
	}
	return fd, answer, err
}

func (c *container) judge(fd int, canonical string, major, minor uint32) (Answer, error) {
	if Reserved(canonical) {
		return Answer{}, fail(Forbidden, canonical, "not allowed there")
	}
	s, err := Look(fd)
	if err != nil {
		return Answer{}, failed("look at "+canonical, err)
	}
	if s.MountRoot && s.Is(major, minor) {
		return Answer{Kind: Already, ID: s.ID, Path: canonical}, nil
	}
	if s.MountRoot {
		return Answer{}, fail(Occupied, canonical, "something else is mounted there")
	}
	var fs unix.Statfs_t // the first that a hostile server can keep waiting
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return Answer{}, failed("look at "+canonical, err)
	}
	if kernelTypes[uint32(fs.Type)] || s.Dev == c.devfs {
		return Answer{}, fail(Forbidden, canonical, "not allowed on a file system of the kernel")
	}
	return Answer{Kind: OK, Path: canonical}, nil
}
