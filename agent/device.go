package agent

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"lls/agent/filesystem"
	"lls/lvm"
)

// HostDevices are the real devices of the host.
type HostDevices struct{ Run filesystem.Runner }

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
func (HostDevices) Grow(ctx context.Context, path string, fs filesystem.Type) error {
	return filesystem.Grow(ctx, path, fs)
}

// Identify reads what a file system says it is called.
func (HostDevices) Identify(path string) (filesystem.Identity, error) {
	return filesystem.Identify(path)
}
