package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent/filesystem/apart"
	"lls/internal/run"
	"lls/lvm"
)

// Errors of what is done with mounted file systems.
var (
	// ErrNotMounted means that nobody has the file system mounted: to look at it would be to mount it, which writes.
	ErrNotMounted = errors.New("not mounted")

	// ErrReadOnly means that the file system is mounted read-only.
	ErrReadOnly = errors.New("mounted read-only")

	// ErrNoDiscard means that the device takes no discards.
	ErrNoDiscard = errors.New("the device discards nothing")
)

// Mounted looks at file systems that somebody has mounted, wherever that is: the same device mounted once more is the same file
// system to the kernel. But for Grow it never is the first to mount one, as far as that can be seen before. It is safe for concurrent use.
//
// While it is at work it holds the device, like a mount does: for an instant, and for a slice of Trim. A device that does not answer is
// held until it does; until then each call for it gives ErrSlow at once.
type Mounted struct {
	Run    Runner
	Helper string // path of lls-mount, which makes the calls that may hang

	mu      sync.Mutex
	stuck   map[string]bool
	growths map[string]*growth // by device
}

// Space is how full a file system is, in bytes. Free is what is left for users: ext4 may keep some for root, ours does not.
type Space struct {
	Size, Free lvm.Size
}

// Usage says how full a mounted file system is. It needs no room and no disk, and so is answered while the file system is frozen.
func (m *Mounted) Usage(ctx context.Context, device string, t Type) (Space, error) {
	var s Space
	err := m.with(ctx, device, t, true, func(dir *os.File) error {
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
			return err
		}
		s = Space{Size: lvm.Size(st.Blocks) * lvm.Size(st.Bsize), Free: lvm.Size(st.Bavail) * lvm.Size(st.Bsize)}
		return nil
	})
	if err != nil {
		return Space{}, fmt.Errorf("cannot see how full the file system is: %w", err)
	}
	return s, nil
}

// Sync has all that was written to a mounted file system before on its disk. When ctx ends first, the kernel goes on with it.
func (m *Mounted) Sync(ctx context.Context, device string, t Type) error {
	err := m.with(ctx, device, t, true, func(dir *os.File) error {
		_, err := m.ask(dir, apart.OpSync)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot write the file system to its disk: %w", err)
	}
	return nil
}

// Trim is how a file system is trimmed: a slice at a time, so that others get their turn at the device.
type Trim struct {
	Slice lvm.Size      // bytes of the file system, 0 for DefaultSlice; xfs is cut at its allocation groups, of which one is the least
	Pause time.Duration // after each slice but the last
	// Patience is how long a slice may take before the device is given up: 0 is as long as the context lasts.
	Patience time.Duration
}

// DefaultSlice is what one slice of Trim covers.
const DefaultSlice = 4 * lvm.GiB

// Trim gives what a mounted file system does not use back to the pool. It returns how much it told the device to discard, also when it
// ended early; the pool gets back at most that: whole chunks that no snapshot shares and that it had at all. When ctx ends, the slice under
// way goes on in the kernel. ext4 leaves out, until it is mounted anew, groups in which nothing was deleted since the last time.
func (m *Mounted) Trim(ctx context.Context, device string, t Type, how Trim) (lvm.Size, error) {
	done, err := m.trim(ctx, device, t, how)
	if err != nil {
		return done, fmt.Errorf("cannot trim the file system: %w", err)
	}
	return done, nil
}

func (m *Mounted) trim(ctx context.Context, device string, t Type, how Trim) (lvm.Size, error) {
	if how.Slice <= 0 {
		how.Slice = DefaultSlice
	}
	bytes, err := size(device)
	if err != nil {
		return 0, err
	}
	var all uint64
	for start, step := uint64(0), uint64(0); ; start += step {
		var did uint64
		last := false
		err := m.within(ctx, how.Patience, device, t, func(dir *os.File) (err error) {
			if step == 0 {
				if step, err = slice(dir, t, uint64(how.Slice)); err != nil {
					return err
				}
			}
			did, last, err = m.trimSlice(dir, start, step)
			return err
		})
		if err != nil { // a call that is stuck may still write to did
			return lvm.Size(all), err
		}
		all += did
		if t == XFS {
			drain(ctx, device)
		}
		if last || start+step >= bytes {
			return lvm.Size(all), nil
		}
		timer := time.NewTimer(how.Pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return lvm.Size(all), context.Cause(ctx)
		}
	}
}

// How long drain waits: for a device to be quiet, and in all, since its other users may never let it be.
const (
	quiet         = 100 * time.Millisecond
	drainPatience = 5 * time.Second
)

// drain waits until a device finishes no more discards. xfs since Linux 6.7 does not wait for them in FITRIM (xfs_discard_extents): the
// pool has not got its blocks back then, and the next slice would come on top of them. Those that wait in the pool's queue
// are not counted as under way, so this goes by those that are done.
func drain(ctx context.Context, device string) {
	dir, err := sysfs(device)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for last := ""; ; {
		now := discards(dir)
		if now == last {
			return
		}
		last = now
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// discards is how many a device has finished: field 12 of Documentation/block/stat.rst. It is empty when that cannot be read.
func discards(sysfs string) string {
	raw, _ := os.ReadFile(filepath.Join(sysfs, "stat")) // then it is empty
	words := strings.Fields(string(raw))
	if len(words) < 12 {
		return ""
	}
	return words[11]
}

// within is with, for no longer than patience.
func (m *Mounted) within(ctx context.Context, patience time.Duration, device string, t Type, do func(dir *os.File) error) error {
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	return m.with(ctx, device, t, false, do)
}

// slice is how much is trimmed at a time. Until Linux 6.10 or so xfs trims each free extent that touches the slice, all of it; no
// extent is larger than an allocation group.
func slice(dir *os.File, t Type, want uint64) (uint64, error) {
	if t != XFS {
		return want, nil
	}
	g, err := geometry(dir)
	if err != nil {
		return 0, err
	}
	group := uint64(g.AGBlocks) * uint64(g.BlockSize)
	if group == 0 {
		return 0, errors.New("the file system has no allocation groups")
	}
	return max(1, want/group) * group, nil
}

// trimSlice says how much was trimmed, and whether the file system ends before the slice begins.
func (m *Mounted) trimSlice(dir *os.File, start, length uint64) (did uint64, past bool, err error) {
	switch did, err := m.ask(dir, apart.OpTrim, number(start), number(length)); {
	case err == nil:
		return did, false, nil
	case errors.Is(err, unix.EINVAL) && start > 0: // a volume may be larger than what is on it
		return 0, true, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return 0, false, ErrNoDiscard
	case errors.Is(err, unix.EROFS):
		return 0, false, ErrReadOnly
	default:
		return 0, false, err
	}
}

// askLimit bounds what the helper may write.
const askLimit = 1 << 10

// ask has the helper ask the kernel, and waits for as long as that takes: a call that hangs cannot be ended by anybody, and one that is
// only slow is not to be. Errors of the kernel's are a unix.Errno.
func (m *Mounted) ask(dir *os.File, args ...string) (done uint64, err error) {
	out, err := m.Run.Run(context.Background(), run.Cmd{Name: m.Helper, Args: args, ExtraFiles: []*os.File{dir}, Limit: askLimit})
	if err != nil {
		return 0, err
	}
	a, err := apart.ParseAnswer(string(out.Stdout))
	if err == nil && a.Errno != 0 {
		err = a.Errno
	}
	return a.Done, err
}

// with opens the root of a mounted file system for as long as a function runs, in another goroutine.
func (m *Mounted) with(ctx context.Context, device string, t Type, readOnlyToo bool, do func(dir *os.File) error) error {
	if _, err := ParseType(string(t)); err != nil {
		return err
	}
	m.mu.Lock()
	if m.stuck[device] {
		m.mu.Unlock()
		return ErrSlow
	}
	m.mu.Unlock()
	finished := make(chan struct{})
	err := await(ctx, func() error {
		defer close(finished)
		if err := mounted(device, t); err != nil {
			return err
		}
		dir, mount, err := root(device, t, readOnlyToo)
		if err != nil {
			return err
		}
		defer mount.Close()
		defer dir.Close()
		return do(dir)
	}, func() {})
	if errors.Is(err, ErrSlow) {
		m.wait(device, finished)
	}
	return err
}

// wait keeps others from a device until a call is finished.
func (m *Mounted) wait(device string, finished <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stuck == nil {
		m.stuck = map[string]bool{}
	}
	m.stuck[device] = true
	go func() { // owns the call until it ends
		<-finished
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.stuck, device)
	}()
}

// root opens a file system, which it mounts for that. Both files are the caller's to close.
func root(device string, t Type, readOnlyToo bool) (dir, mount *os.File, err error) {
	open := func(readOnly bool) (*os.File, error) {
		return NewMount(string(t), append([]Option{{"source", device}}, Options(t, readOnly)...),
			unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	}
	mount, err = open(false)
	if errors.Is(err, unix.EBUSY) && readOnlyToo {
		mount, err = open(true)
	}
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	if err != nil {
		return nil, nil, err
	}
	// The mount is no open file yet, and ioctls need one.
	fd, err := unix.Openat(int(mount.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, errors.Join(err, mount.Close())
	}
	return os.NewFile(uintptr(fd), device), mount, nil
}

// mounted says whether the kernel has a superblock of the device: then its type has a folder for it in sysfs.
func mounted(device string, t Type) error {
	dir, err := sysfs(device)
	if err != nil {
		return err
	}
	link, err := os.Readlink(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join("/sys/fs", string(t), filepath.Base(link))); errors.Is(err, os.ErrNotExist) {
		return ErrNotMounted
	} else if err != nil {
		return err
	}
	return nil
}

// sysfs is the link to a block device's folder there.
func sysfs(device string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: device, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", errors.New("not a block device")
	}
	return fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}
