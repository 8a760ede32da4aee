package inside

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// read copies a regular file to FDContent. Links are followed, below the
// container's root, so the path may lead to anything the container's root could
// point at: it is read with the ids of that root, and never what belongs to the
// kernel, where the host's root would see more than the container's.
func (c *container) read(uid, gid, limit int, path string) (answer Answer, err error) {
	if !ValidTarget(path) {
		return Answer{}, fail(Failed, path, "not an absolute path, or too long")
	}
	asErr := c.as(uid, gid, func() error {
		answer, err = c.copy(limit, path)
		return nil
	})
	if asErr != nil {
		return Answer{}, failed("take the ids of the container's root", asErr)
	}
	return answer, err
}

func (c *container) copy(limit int, path string) (Answer, error) {
	fd, err := c.regular(path)
	if err != nil {
		return Answer{}, err
	}
	defer unix.Close(fd)
	// Opened as a path first: to open a device or a FIFO can do something.
	in, err := unix.Openat(c.proc, "thread-self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
	case unix.EACCES, unix.EPERM:
		return Answer{}, fail(Denied, path, "permission denied")
	default:
		return Answer{}, failed("open "+path, err)
	}
	defer unix.Close(in)
	size, buf := 0, make([]byte, 1<<16)
	for {
		n, err := unix.Read(in, buf[:min(len(buf), limit+1-size)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return Answer{}, failed("read "+path, err)
		}
		if n == 0 {
			return Answer{Kind: OK, ID: size, Path: path}, nil
		}
		if size += n; size > limit {
			return Answer{}, fail(TooLarge, path, "more than "+strconv.Itoa(limit)+" bytes")
		}
		if err := write(FDContent, buf[:n]); err != nil {
			return Answer{}, failed("copy "+path, err)
		}
	}
}

func write(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// regular finds a regular file, without opening it.
func (c *container) regular(path string) (int, error) {
	fd, err := unix.Openat2(c.root, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR:
		return -1, fail(NoFile, path, "no such file")
	case unix.ELOOP:
		return -1, fail(NotRegular, path, "its symbolic links cannot be followed")
	case unix.EAGAIN: // a rename somewhere, while ".." was resolved
		return -1, fail(Busy, path, "the path is changing")
	case unix.EACCES:
		return -1, fail(Denied, path, "permission denied")
	default:
		return -1, failed("open "+path, err)
	}
	if err := c.readable(fd, path); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (c *container) readable(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return failed("look at "+path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fail(NotRegular, path, "it is a "+typeOf(st.Mode))
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return failed("look at "+path, err)
	}
	if kernelTypes[uint32(fs.Type)] {
		return fail(NotRegular, path, "it is on a file system of the kernel")
	}
	return nil
}

func typeOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFIFO:
		return "FIFO"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFLNK:
		return "link"
	}
	return "device"
}
