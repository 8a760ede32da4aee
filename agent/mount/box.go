package mount

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Box is a running container as the kernel sees it.
type Box struct {
	PID              int      // its init, in the pid namespace of the host
	PIDFD            *os.File // of PID
	RootUID, RootGID uint32   // its uid 0 and gid 0, as ids of the host
	Mapped           bool     // it has its own user namespace

	ns uint64 // inode number of its mount namespace
}

// OpenBox looks at a container's init. It takes a pidfd when none is given; the
// Box owns the pidfd from then on, also when OpenBox fails.
func OpenBox(pid int, pidfd *os.File) (*Box, error) {
	if pidfd == nil {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return nil, gone(fmt.Errorf("cannot open process %d: %w", pid, err))
		}
		pidfd = os.NewFile(uintptr(fd), "pidfd")
	}
	b := &Box{PID: pid, PIDFD: pidfd}
	err := b.read()
	// What was read belongs to this process only if it has not ended since.
	if !b.Alive() {
		err = ErrGone
	}
	if err != nil {
		_ = pidfd.Close()
		return nil, gone(err)
	}
	return b, nil
}

func (b *Box) read() error {
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(b.PIDFD.Fd())))
	if err != nil {
		return fmt.Errorf("cannot use the pidfd: %w", err)
	}
	if !strings.Contains(string(info), "\nPid:\t"+strconv.Itoa(b.PID)+"\n") {
		return gone(fmt.Errorf("the pidfd is not of process %d: %w", b.PID, unix.ESRCH))
	}
	own, err := namespace("self", "mnt")
	if err != nil {
		return err
	}
	if b.ns, err = namespace(strconv.Itoa(b.PID), "mnt"); err != nil {
		return err
	}
	if own == b.ns {
		return ErrHostMounts
	}
	ownUser, err := namespace("self", "user")
	if err != nil {
		return err
	}
	user, err := namespace(strconv.Itoa(b.PID), "user")
	if err != nil {
		return err
	}
	b.Mapped = user != ownUser
	if b.RootUID, err = b.root("uid_map"); err != nil {
		return err
	}
	b.RootGID, err = b.root("gid_map")
	return err
}

// Alive says whether the container's init still runs. It does not, as far as
// anybody can tell, once the Box is closed.
func (b *Box) Alive() bool {
	conn, err := b.PIDFD.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	// Within Control the descriptor cannot be closed and used for something else.
	err = conn.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		for err == unix.EINTR {
			n, err = unix.Poll(p, 0)
		}
		alive = err == nil && n == 0
	})
	return err == nil && alive
}

// Close releases the pidfd.
func (b *Box) Close() error { return b.PIDFD.Close() }

// Points are the container's mounts of some devices, certainly its own: of a
// container that has ended they are ErrGone, and of one with too many ErrMounts.
func (b *Box) Points(keep Keep) ([]Point, error) {
	points, err := readPoints(b.PID, maxBoxTable, keep)
	if !b.Alive() {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the container's mounts: %w", err)
	}
	return points, nil
}

func (b *Box) points() ([]Point, error) { return b.Points(nil) }

// userNS opens the user namespace, for the id map of a mount.
func (b *Box) userNS() (*os.File, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(b.PID) + "/ns/user")
	if err != nil {
		return nil, gone(err)
	}
	if !b.Alive() {
		_ = f.Close()
		return nil, ErrGone
	}
	return f, nil
}

func (b *Box) root(file string) (uint32, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(b.PID) + "/" + file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<16))
	if err != nil {
		return 0, err
	}
	return rootOf(string(text))
}

var errNoRoot = errors.New("the container's id map has no root")

// rootOf finds id 0 in a map of user_namespaces(7): lines "inside outside count".
func rootOf(text string) (uint32, error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "0" {
			continue
		}
		out, err := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err == nil && err2 == nil && count > 0 {
			return uint32(out), nil
		}
	}
	return 0, errNoRoot
}

// namespace is the inode number of a process's namespace.
func namespace(pid, kind string) (uint64, error) {
	link, err := os.Readlink("/proc/" + pid + "/ns/" + kind)
	if err != nil {
		return 0, err
	}
	number, ok := strings.CutPrefix(link, kind+":[")
	n, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("malformed namespace %q", link)
	}
	return n, nil
}

// gone gives the errors of a vanished process their name.
func gone(err error) error {
	if errors.Is(err, syscall.ESRCH) || errors.Is(err, os.ErrNotExist) {
		return ErrGone
	}
	return err
}
