package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"lls/hooks"
)

// kernelTypes are file systems whose files are the kernel's: to read one can do something, such as take away the host's log, and shows the
// host's root more than the container's. The agent's helper refuses the same (package inside), and a test holds the two together. The
// numbers without a name are in the kernel's sources.
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

// readFstab reads the container's fstab below its root. No process of the container runs yet, so nothing moves meanwhile; a link in it may
// not lead out, and only a regular file is read.
func readFstab(dir string) ([]byte, error) { return readFile(dir, "etc/fstab") }

func readFile(dir, path string) ([]byte, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the container's root: %w", err)
	}
	defer func() { _ = unix.Close(root) }()
	fd, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open the container's fstab: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	// Only what is known to be a regular file is opened for reading: a device or FIFO could do something, or wait.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.Join(errors.New("the container's fstab is no regular file"), err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || kernelTypes[uint32(fs.Type)] {
		return nil, errors.Join(errors.New("the container's fstab is on a file system of the kernel"), err)
	}
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the container's fstab: %w", err)
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, hooks.MaxFile+1))
}
