package event

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What is spoken on /dev/mapper/control, from Linux' include/uapi/linux/dm-ioctl.h.
const (
	dmNameLen = 128 // DM_NAME_LEN
	dmUUIDLen = 129 // DM_UUID_LEN

	dmIoctl        = 0xfd // DM_IOCTL
	dmListDevices  = 2    // DM_LIST_DEVICES_CMD
	dmArmPoll      = 16   // DM_DEV_ARM_POLL_CMD, since 4.37 (Linux 4.14)
	dmBufferFull   = 1 << 8
	dmWantUUID     = 1 << 14 // DM_UUID_FLAG: list UUIDs as well
	dmNameHasUUID  = 1       // DM_NAME_LIST_FLAG_HAS_UUID, since Linux 5.13
	dmListRecord   = 12      // bytes before the name in struct dm_name_list
	dmFirstListing = 256 << 10
	dmLastListing  = 64 << 20
)

// dmVersion is the version of the interface that is asked for: the oldest with all that is used here.
var dmVersion = [3]uint32{4, 37, 0}

// dmHeader is struct dm_ioctl.
type dmHeader struct {
	version     [3]uint32
	dataSize    uint32
	dataStart   uint32
	targetCount uint32
	openCount   int32
	flags       uint32
	eventNr     uint32
	padding     uint32
	dev         uint64
	name        [dmNameLen]byte
	uuid        [dmUUIDLen]byte
	data        [7]byte
}

const dmHeaderSize = uint32(unsafe.Sizeof(dmHeader{})) // 312

// dmCall does one ioctl. buf begins with a dmHeader and is where the answer goes.
func dmCall(fd int, command uintptr, buf []byte) error {
	// _IOWR of asm-generic/ioctl.h: both ways, the size, the type, the number
	request := 3<<30 | uintptr(dmHeaderSize)<<16 | dmIoctl<<8 | command
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&buf[0])))
	if errno != 0 {
		return errno
	}
	return nil
}

// dmBuffer makes the argument of a call, with room for size bytes in all. It is made of 8-byte words, as the kernel's structures are, and zeroed:
// older kernels leave out fields.
func dmBuffer(size uint32) []byte {
	words := make([]uint64, (size+7)/8)
	buf := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)
	*(*dmHeader)(unsafe.Pointer(&buf[0])) = dmHeader{version: dmVersion, dataSize: size, dataStart: dmHeaderSize}
	return buf
}

// armPoll has poll on fd succeed when anything happened after this.
func armPoll(fd int) error {
	if err := dmCall(fd, dmArmPoll, dmBuffer(dmHeaderSize)); err != nil {
		return fmt.Errorf("cannot ask device-mapper for events: %w", err)
	}
	return nil
}

// dmDevice is one device as device-mapper lists it.
type dmDevice struct {
	name    string
	uuid    string // empty where the kernel does not tell
	device  Device
	eventNr uint32
}

// pool says whether it is the device of a thin pool of LVM's that the volumes in it use.
func (d dmDevice) pool() bool {
	if d.uuid == "" {
		return strings.HasSuffix(d.name, "-tpool")
	}
	_, suffix, ok := lvmUUID(d.uuid)
	return ok && suffix == "-tpool"
}

// listDevices lists the devices there are.
func listDevices(fd int) ([]dmDevice, error) {
	for size := uint32(dmFirstListing); size <= dmLastListing; size *= 4 {
		buf := dmBuffer(size)
		(*dmHeader)(unsafe.Pointer(&buf[0])).flags = dmWantUUID
		if err := dmCall(fd, dmListDevices, buf); err != nil {
			return nil, fmt.Errorf("cannot list devices of device-mapper: %w", err)
		}
		header := *(*dmHeader)(unsafe.Pointer(&buf[0]))
		if header.flags&dmBufferFull != 0 {
			continue
		}
		if header.dataStart > header.dataSize || int64(header.dataSize) > int64(len(buf)) {
			return nil, fmt.Errorf("cannot list devices of device-mapper: %d+%d of %d bytes", header.dataStart, header.dataSize, len(buf))
		}
		return parseDevices(buf[header.dataStart:header.dataSize])
	}
	return nil, errors.New("cannot list devices of device-mapper: too many")
}

// parseDevices reads records of struct dm_name_list: the device's number (8 bytes), the distance of the next record (4), the name with
// a zero byte, and, on the next 8 bytes' boundary, the event number (4), flags (4), and a UUID with a zero byte where the flags say so.
func parseDevices(data []byte) ([]dmDevice, error) {
	broken := errors.New("cannot list devices of device-mapper: the list is broken")
	var all []dmDevice
	if len(data) == 0 {
		return nil, nil
	}
	for {
		if len(data) < dmListRecord {
			return nil, broken
		}
		dev, next := binary.NativeEndian.Uint64(data), binary.NativeEndian.Uint32(data[8:])
		if dev == 0 && next == 0 {
			return all, nil // the kernel's mark for no device
		}
		end := bytes.IndexByte(data[dmListRecord:], 0)
		if end < 0 {
			return nil, broken
		}
		d := dmDevice{
			name:   string(data[dmListRecord : dmListRecord+end]),
			device: Device{Major: unix.Major(dev), Minor: unix.Minor(dev)},
		}
		rest := (dmListRecord + end + 1 + 7) &^ 7
		if len(data) < rest+8 {
			return nil, broken
		}
		d.eventNr = binary.NativeEndian.Uint32(data[rest:])
		if flags := binary.NativeEndian.Uint32(data[rest+4:]); flags&dmNameHasUUID != 0 {
			uuid, _, ok := bytes.Cut(data[rest+8:], []byte{0})
			if !ok {
				return nil, broken
			}
			d.uuid = string(uuid)
		}
		all = append(all, d)
		if next == 0 {
			return all, nil
		}
		if next < dmListRecord || int64(next) > int64(len(data)) {
			return nil, broken
		}
		data = data[next:]
	}
}
