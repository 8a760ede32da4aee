package filesystem

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lls/agent/filesystem/apart"
)

// growEnough is how long a growth is waited for by those that come after it. One of many TiB takes longer, and so does a frozen file system.
const growEnough = 10 * time.Second

// A growth is under way.
type growth struct {
	began time.Time
	over  chan struct{} // closed in the end
}

// Grow lets the file system fill its device, mounted or not. The same device
// mounted again is the same file system to the kernel, so no path is needed,
// in no mount namespace. For ext4 the kernel asks for CAP_SYS_RESOURCE.
//
// When ctx ends first it is ErrSlow, and the growth goes on for as long as it takes. Each device has one at a time: the next waits for it,
// and is ErrSlow at once when it has been under way for long.
func (m *Mounted) Grow(ctx context.Context, device string, t Type) error {
	err := await(ctx, func() error {
		over, err := m.growing(ctx, device)
		if err != nil {
			return err
		}
		defer over()
		return m.grow(device, t)
	}, func() {})
	if err != nil {
		return fmt.Errorf("cannot grow the file system: %w", err)
	}
	return nil
}

// growing waits until the device has no growth under way, and then notes one, which the result ends.
func (m *Mounted) growing(ctx context.Context, device string) (over func(), err error) {
	for {
		m.mu.Lock()
		before := m.growths[device]
		if before == nil {
			if m.growths == nil {
				m.growths = map[string]*growth{}
			}
			g := &growth{began: time.Now(), over: make(chan struct{})}
			m.growths[device] = g
			m.mu.Unlock()
			return func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				delete(m.growths, device)
				close(g.over)
			}, nil
		}
		left := growEnough - time.Since(before.began)
		m.mu.Unlock()
		timer := time.NewTimer(left)
		select {
		case <-before.over:
			timer.Stop()
		case <-timer.C:
			return nil, ErrSlow
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

func (m *Mounted) grow(device string, t Type) error {
	bytes, err := size(device)
	if err != nil {
		return err
	}
	if _, err := ParseType(string(t)); err != nil {
		return err
	}
	dir, mount, err := root(device, t, false)
	if err != nil {
		return err
	}
	defer mount.Close()
	defer dir.Close()
	if t == XFS {
		return m.growXFS(dir, bytes)
	}
	return m.growExt4(dir, bytes)
}

func size(device string) (uint64, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var n uint64
	return n, apart.Ioctl(int(f.Fd()), unix.BLKGETSIZE64, unsafe.Pointer(&n))
}

func (m *Mounted) growExt4(dir *os.File, bytes uint64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return err
	}
	_, err := m.ask(dir, apart.OpGrowExt4, number(bytes/uint64(st.Bsize)))
	return err
}

// xfsIocFSGeometryV1 is _IOR('X', 100, struct xfs_fsop_geom_v1) of fs/xfs/libxfs/xfs_fs.h.
const xfsIocFSGeometryV1 = 0x80705864

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

// geometry is not kept waiting by whatever is under way.
func geometry(dir *os.File) (g xfsGeometry, err error) {
	err = apart.Ioctl(int(dir.Fd()), xfsIocFSGeometryV1, unsafe.Pointer(&g))
	return g, err
}

func (m *Mounted) growXFS(dir *os.File, bytes uint64) error {
	g, err := geometry(dir)
	if err != nil {
		return err
	}
	blocks := bytes / uint64(g.BlockSize)
	if blocks <= g.DataBlocks {
		return nil
	}
	_, err = m.ask(dir, apart.OpGrowXFS, number(blocks), number(uint64(g.IMaxPct)))
	return err
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
