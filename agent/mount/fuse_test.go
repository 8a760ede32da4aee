package mount

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// silentFUSE mounts a FUSE file system that answers nothing but the kernel's
// greeting, so that every lookup in it hangs. It is started as the container's
// root in the container's user namespace, and enters the mount namespace itself,
// with the device that a container may not have. Numbers are from linux/fuse.h.
func silentFUSE(device, pid, dir string) error {
	fd, err := unix.Open(device, unix.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the FUSE device: %w", err)
	}
	ns, err := unix.Open("/proc/"+pid+"/ns/mnt", unix.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open the mount namespace: %w", err)
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the mount namespace: %w", err)
	}
	options := "fd=" + strconv.Itoa(fd) + ",rootmode=40000,user_id=0,group_id=0,allow_other"
	if err := unix.Mount("silent", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount fuse: %w", err)
	}
	request := make([]byte, 1<<17)
	for {
		n, err := unix.Read(fd, request)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n < 40 {
			return err
		}
		const init = 26
		if binary.LittleEndian.Uint32(request[4:]) != init {
			continue // never answered
		}
		answer := make([]byte, 16+64) // fuse_out_header, fuse_init_out
		binary.LittleEndian.PutUint32(answer, uint32(len(answer)))
		copy(answer[8:16], request[8:16])                 // unique
		binary.LittleEndian.PutUint32(answer[16:], 7)     // major
		binary.LittleEndian.PutUint32(answer[20:], 31)    // minor
		binary.LittleEndian.PutUint32(answer[24:], 4096)  // max_readahead
		binary.LittleEndian.PutUint16(answer[32:], 12)    // max_background
		binary.LittleEndian.PutUint16(answer[34:], 9)     // congestion_threshold
		binary.LittleEndian.PutUint32(answer[36:], 1<<16) // max_write
		binary.LittleEndian.PutUint32(answer[40:], 1)     // time_gran
		if _, err := unix.Write(fd, answer); err != nil {
			return err
		}
		fmt.Println("silent")
		_ = os.Stdout.Sync()
	}
}
