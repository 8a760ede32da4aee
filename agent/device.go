package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent/filesystem"
	"lls/internal/run"
	"lls/lvm"
)

// HostDevices are the real devices of the host. Both fields are needed.
type HostDevices struct {
	Run     filesystem.Runner
	Mounted *filesystem.Mounted
}

// Number reads the device's number and has the kernel confirm that it is this volume's, since numbers are used again.
func (HostDevices) Number(vg lvm.VG, name lvm.Name) (major, minor uint32, err error) {
	path := lvm.Device(vg, name)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("cannot use %s: it is no block device", path)
	}
	major, minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	got, err := readSmall(fmt.Sprintf("/sys/dev/block/%d:%d/dm/name", major, minor))
	if err != nil {
		return 0, 0, fmt.Errorf("cannot tell what %s is: %w", path, err)
	}
	if got = strings.TrimSpace(got); got != lvm.DMName(vg, name) {
		return 0, 0, fmt.Errorf("cannot use %s: it is %s", path, got)
	}
	return major, minor, nil
}

// Make makes a file system.
func (d HostDevices) Make(ctx context.Context, path string, fs filesystem.Type) error {
	return filesystem.Make(ctx, d.Run, path, fs, filesystem.MakeOptions{})
}

// Grow lets a file system fill its device.
func (d HostDevices) Grow(ctx context.Context, path string, fs filesystem.Type) error {
	return d.Mounted.Grow(ctx, path, fs)
}

// Identify reads what a file system says it is called.
func (HostDevices) Identify(path string) (filesystem.Identity, error) {
	return filesystem.Identify(path)
}

// Open opens a volume's device for reading and has the kernel confirm that it is this volume's.
func (d HostDevices) Open(vg lvm.VG, name lvm.Name, major, minor uint32) (*os.File, error) {
	f, err := os.Open(lvm.Device(vg, name))
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != unix.Mkdev(major, minor)) {
		err = fmt.Errorf("cannot use %s: it is not %d:%d any more", f.Name(), major, minor)
	}
	if err == nil { // open, its number cannot change hands
		_, _, err = d.Number(vg, name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Claimed tries to have the device for itself: O_EXCL of a block device fails while a file system on it is mounted, in whatever
// namespace (open(2)).
func (HostDevices) Claimed(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return errors.Is(err, unix.EBUSY)
}

// Check looks for mistakes in a file system.
func (d HostDevices) Check(ctx context.Context, path string, fs filesystem.Type, readOnly bool) error {
	return filesystem.Check(ctx, d.Run, path, fs, readOnly)
}

// cutOffDeadline bounds the wait for what is being written.
const cutOffDeadline = time.Minute

// CutOff puts a table in place of the device's that fails all that is read or written (dmsetup(8), wipe_table), and forgets what was read
// from it before (BLKFLSBUF of linux/fs.h): else that could still be read.
func (d HostDevices) CutOff(ctx context.Context, vg lvm.VG, name lvm.Name) error {
	ctx, cancel := context.WithTimeout(ctx, cutOffDeadline)
	defer cancel()
	f, err := os.Open(lvm.Device(vg, name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := d.Run.Run(ctx, run.Cmd{Name: "dmsetup", Args: []string{"wipe_table", "--", lvm.DMName(vg, name)}}); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return &os.PathError{Op: "flush", Path: f.Name(), Err: err}
	}
	if cut, err := d.IsCutOff(vg, name); err != nil || !cut {
		return errors.Join(err, fmt.Errorf("cannot cut off %s: it has its table again", f.Name()))
	}
	return nil
}

// IsCutOff looks at what the device lies on: a thin volume's on that of its pool, one that was cut off on none
// (Documentation/ABI/testing/sysfs-block of the kernel: slaves). A device that is not there was not.
func (d HostDevices) IsCutOff(vg lvm.VG, name lvm.Name) (bool, error) {
	major, minor, err := d.Number(vg, name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	below, err := os.ReadDir(fmt.Sprintf("/sys/dev/block/%d:%d/slaves", major, minor))
	return err == nil && len(below) == 0, err
}

// Usage asks the mounted file system itself.
func (d HostDevices) Usage(ctx context.Context, path string, fs filesystem.Type) (filesystem.Space, error) {
	return d.Mounted.Usage(ctx, path, fs)
}

// Sync asks the mounted file system itself.
func (d HostDevices) Sync(ctx context.Context, path string, fs filesystem.Type) error {
	return d.Mounted.Sync(ctx, path, fs)
}

// Fill reads the kernel's status of the pool, without having it commit (dmsetup(8), --noflush).
func (d HostDevices) Fill(ctx context.Context, vg lvm.VG, pool lvm.Name) (PoolFill, error) {
	out, err := d.Run.Run(ctx, run.Cmd{Name: "dmsetup", Args: []string{"status", "--noflush", "--", lvm.DMName(vg, pool) + poolDeviceEnd}})
	if err != nil {
		return PoolFill{}, fmt.Errorf("cannot see how full pool %s/%s is: %w", vg, pool, err)
	}
	f, err := parseFill(string(out.Stdout))
	if err != nil {
		return PoolFill{}, fmt.Errorf("cannot see how full pool %s/%s is: %w", vg, pool, err)
	}
	return f, nil
}

// parseFill reads "START LENGTH thin-pool TRANSACTION USED/TOTAL USED/TOTAL HELD ...", metadata first, of the kernel's
// Documentation/admin-guide/device-mapper/thin-provisioning.rst. A pool that failed says "Fail" instead.
func parseFill(status string) (f PoolFill, err error) {
	words := strings.Fields(status)
	if len(words) < 7 || words[2] != "thin-pool" {
		return f, fmt.Errorf("%.60q is no status of a working thin pool", status)
	}
	for i, to := range []struct{ used, total *int64 }{{&f.Metadata, &f.MetadataBlocks}, {&f.Data, &f.DataBlocks}} {
		used, total, ok := strings.Cut(words[4+i], "/")
		var errs [2]error
		*to.used, errs[0] = strconv.ParseInt(used, 10, 64)
		*to.total, errs[1] = strconv.ParseInt(total, 10, 64)
		if err := errors.Join(errs[0], errs[1]); !ok || err != nil || *to.used < 0 || *to.total <= 0 || *to.used > *to.total {
			return PoolFill{}, fmt.Errorf("%.60q is no status of a working thin pool", status)
		}
	}
	f.Held = words[6] != "-"
	return f, nil
}
