// Package apart is what LLS asks of a mounted file system that the kernel may not answer for as long as somebody likes: a frozen file
// system answers when it is thawed, and until then no signal reaches who asked. So the helper lls-mount asks, in a process that can be
// left alone: a thread of the agent that waits so would keep the whole agent from ending. It imports next to nothing, so that the helper
// starts fast.
package apart

import (
	"errors"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FD is the descriptor that the helper is started with: the root of the file system, open for reading.
const FD = 3

// Operations, the first argument; the others are numbers.
const (
	OpGrowExt4 = "grow-ext4" // BLOCKS of the file system
	OpGrowXFS  = "grow-xfs"  // BLOCKS IMAXPCT, both of the file system
	OpTrim     = "trim"      // START LENGTH in bytes; Done is how many of them the device was told to discard
	OpSync     = "sync"
)

// From fs/ext4/ext4.h, fs/xfs/libxfs/xfs_fs.h and include/uapi/linux/fs.h.
const (
	ext4IocResizeFS  = 0x40086610 // _IOW('f', 16, __u64)
	xfsIocFSGrowData = 0x4010586e // _IOW('X', 110, struct xfs_growfs_data)
	fitrim           = 0xc0185879 // _IOWR('X', 121, struct fstrim_range)
)

// xfsGrowData is struct xfs_growfs_data.
type xfsGrowData struct {
	NewBlocks uint64
	IMaxPct   uint32
	_         uint32
}

// trimRange is struct fstrim_range.
type trimRange struct{ Start, Len, MinLen uint64 }

// An Answer is what the kernel has said.
type Answer struct {
	Done  uint64
	Errno unix.Errno // 0 for success
}

// String is the answer in one line.
func (a Answer) String() string {
	return strconv.FormatUint(a.Done, 10) + " " + strconv.FormatUint(uint64(a.Errno), 10) + "\n"
}

var errAnswer = errors.New("malformed answer of lls-mount")

// ParseAnswer reads what String wrote.
func ParseAnswer(s string) (Answer, error) {
	s, nl := strings.CutSuffix(s, "\n")
	first, second, two := strings.Cut(s, " ")
	done, err1 := strconv.ParseUint(first, 10, 64)
	errno, err2 := strconv.ParseUint(second, 10, 16)
	if !nl || !two || err1 != nil || err2 != nil {
		return Answer{}, errAnswer
	}
	return Answer{Done: done, Errno: unix.Errno(errno)}, nil
}

// Run does what the arguments say to the file system at FD. What is no operation of this package, or has other arguments, is not ours, and
// nothing is done.
func Run(args []string) (a Answer, ours bool) {
	if len(args) == 0 {
		return a, false
	}
	var n [2]uint64
	want, known := map[string]int{OpGrowExt4: 1, OpGrowXFS: 2, OpTrim: 2, OpSync: 0}[args[0]]
	if !known || len(args) != 1+want {
		return a, false
	}
	for i, text := range args[1:] {
		var err error
		if n[i], err = strconv.ParseUint(text, 10, 64); err != nil {
			return a, false
		}
	}
	var err error
	switch args[0] {
	case OpGrowExt4:
		err = Ioctl(FD, ext4IocResizeFS, unsafe.Pointer(&n[0]))
	case OpGrowXFS:
		err = Ioctl(FD, xfsIocFSGrowData, unsafe.Pointer(&xfsGrowData{NewBlocks: n[0], IMaxPct: uint32(n[1])}))
	case OpTrim:
		r := trimRange{Start: n[0], Len: n[1]}
		if err = Ioctl(FD, fitrim, unsafe.Pointer(&r)); err == nil {
			a.Done = r.Len
		}
	case OpSync:
		err = unix.Syncfs(FD)
	}
	errors.As(err, &a.Errno)
	return a, true
}

// Ioctl is ioctl(2). Its errors are a unix.Errno.
func Ioctl(fd int, request uint, argument unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(argument))
	if errno != 0 {
		return errno
	}
	return nil
}
