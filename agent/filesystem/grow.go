package filesystem

import (
	"context"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Grow lets the file system fill its device, mounted or not. The same device
// mounted again is the same file system to the kernel, so no path is needed,
// in no mount namespace. For ext4 the kernel asks for CAP_SYS_RESOURCE.
func Grow(ctx context.Context, device string, t Type) error {
	err := await(ctx, func() error { return grow(device, t) }, func() {})
	if err != nil {
		return fmt.Errorf("cannot grow the file system: %w", err)
	}
	return nil
}

func grow(device string, t Type) error {
	bytes, err := size(device)
	if err != nil {
		return err
	}
	if _, err := ParseType(string(t)); err != nil {
		return err
	}
	m, err := NewMount(string(t), append([]Option{{"source", device}}, Options(t, false)...),
		unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	defer m.Close()
	// The mount is no open file yet, and ioctls need one.
	fd, err := unix.Openat(int(m.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if t == XFS {
		return growXFS(fd, bytes)
	}
	return growExt4(fd, bytes)
}

func size(device string) (uint64, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var n uint64
	return n, ioctl(int(f.Fd()), unix.BLKGETSIZE64, unsafe.Pointer(&n))
}

// From fs/ext4/ext4.h and fs/xfs/libxfs/xfs_fs.h.
const (
	ext4IocResizeFS    = 0x40086610 // _IOW('f', 16, __u64)
	xfsIocFSGeometryV1 = 0x80705864 // _IOR('X', 100, struct xfs_fsop_geom_v1)
	xfsIocFSGrowData   = 0x4010586e // _IOW('X', 110, struct xfs_growfs_data)
)

func growExt4(fd int, bytes uint64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return err
	}
	blocks := bytes / uint64(st.Bsize)
	return ioctl(fd, ext4IocResizeFS, unsafe.Pointer(&blocks))
}

// xfsGeometry is struct xfs_fsop_geom_v1.
type xfsGeometry struct {
	BlockSize, RTExtSize, AGBlocks, AGCount, LogBlocks, SectSize, InodeSize, IMaxPct uint32
	DataBlocks, RTBlocks, RTExtents, LogStart                                        uint64
	UUID                                                                             [16]byte
	SUnit, SWidth                                                                    uint32
	Version                                                                          int32
	Flags, LogSectSize, RTSectSize, DirBlockSize                                     uint32
	_                                                                                uint32
}

// xfsGrowData is struct xfs_growfs_data.
type xfsGrowData struct {
	NewBlocks uint64
	IMaxPct   uint32
	_         uint32
}

func growXFS(fd int, bytes uint64) error {
	var g xfsGeometry
	if err := ioctl(fd, xfsIocFSGeometryV1, unsafe.Pointer(&g)); err != nil {
		return err
	}
	want := xfsGrowData{NewBlocks: bytes / uint64(g.BlockSize), IMaxPct: g.IMaxPct}
	if want.NewBlocks <= g.DataBlocks {
		return nil
	}
	return ioctl(fd, xfsIocFSGrowData, unsafe.Pointer(&want))
}

func ioctl(fd int, request uint, argument unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(argument))
	if errno != 0 {
		return errno
	}
	return nil
}
