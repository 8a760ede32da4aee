package event

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// A message of udev to its listeners begins with this header (struct monitor_netlink_header in systemd's
// src/libsystemd/sd-device/device-monitor.c): 8 bytes of prefix, the magic number in network order, and then, in the machine's order,
// the size of the header, and where the properties begin and how long they are. Filters follow that are of no use here.
const (
	udevPrefix      = "libudev\x00"
	udevMagic       = 0xfeedcafe
	udevHeaderSize  = 8 + 4 + 3*4
	maxProperties   = 1024 // of one event; a device has some 50
	dmActionSuspend = "1"
)

// properties are what udev says of one device.
type properties map[string]string

// parseMessage reads one message of udev's.
func parseMessage(msg []byte) (properties, error) {
	if len(msg) < udevHeaderSize || string(msg[:8]) != udevPrefix {
		return nil, fmt.Errorf("cannot read event: not from udev")
	}
	if magic := binary.BigEndian.Uint32(msg[8:]); magic != udevMagic {
		return nil, fmt.Errorf("cannot read event: unknown format %#x", magic)
	}
	header := uint64(binary.NativeEndian.Uint32(msg[12:]))
	start, length := uint64(binary.NativeEndian.Uint32(msg[16:])), uint64(binary.NativeEndian.Uint32(msg[20:]))
	if header < udevHeaderSize || start < header || start+length > uint64(len(msg)) {
		return nil, fmt.Errorf("cannot read event: properties at %d+%d of %d bytes", start, length, len(msg))
	}
	p := properties{}
	for field := range bytes.SplitSeq(msg[start:start+length], []byte{0}) {
		key, value, ok := strings.Cut(string(field), "=")
		if !ok || key == "" {
			continue
		}
		if len(p) == maxProperties {
			return nil, fmt.Errorf("cannot read event: more than %d properties", maxProperties)
		}
		p[key] = value
	}
	return p, nil
}

func (p properties) number(key string) (uint64, bool) {
	n, err := strconv.ParseUint(p[key], 10, 64)
	return n, err == nil
}

func (p properties) device() (Device, bool) {
	major, err := strconv.ParseUint(p["MAJOR"], 10, 32)
	if err != nil {
		return Device{}, false
	}
	minor, err := strconv.ParseUint(p["MINOR"], 10, 32)
	return Device{Major: uint32(major), Minor: uint32(minor)}, err == nil
}

// lvmUUID takes a device-mapper UUID of LVM's apart: "LVM-", 32 characters of the group's UUID, 32 of the volume's, and a suffix for
// the devices that LVM keeps to itself (lib/activate/dev_manager.c, build_dm_uuid).
func lvmUUID(dm string) (lv, suffix string, ok bool) {
	const idLen = 32
	rest, ok := strings.CutPrefix(dm, "LVM-")
	if !ok || len(rest) < 2*idLen {
		return "", "", false
	}
	lv, suffix = rest[idLen:2*idLen], rest[2*idLen:]
	if suffix != "" && suffix[0] != '-' {
		return "", "", false
	}
	return hyphenate(lv), suffix, true
}

// hyphenate writes 32 characters as LVM shows a UUID, in groups of 6-4-4-4-4-4-6.
func hyphenate(id string) string {
	return strings.Join([]string{id[:6], id[6:10], id[10:14], id[14:18], id[18:22], id[22:26], id[26:]}, "-")
}

// memory is what was last heard of each volume's device: when one is removed, udev may know no more than its number.
type memory map[Device]VolumeChanged

// read makes an event of a device's properties, nil when they are none of our business.
func (m memory) read(p properties) Event {
	action := Action(p["ACTION"])
	dev, ok := p.device()
	if p["SUBSYSTEM"] != "block" || !ok || (action != Add && action != Change && action != Remove) {
		return nil
	}
	uuid, suffix, isLVM := lvmUUID(p["DM_UUID"])
	switch {
	case isLVM && suffix == "-tpool":
		return PoolChanged{Name: p["DM_NAME"], Device: dev}
	case isLVM && suffix != "":
		return nil
	case isLVM:
		return m.volume(p, dev, action, uuid)
	case p["ID_FS_TYPE"] == "LVM2_member":
		return PhysicalChanged{Name: p["DEVNAME"], Device: dev, Action: action}
	case action == Remove && p["DM_UUID"] == "" && strings.HasPrefix(p["DEVPATH"], "/devices/virtual/block/dm-"):
		return m.gone(p, dev)
	}
	return nil
}

// volume is the event of a volume's device.
func (m memory) volume(p properties, dev Device, action Action, uuid string) Event {
	seq, _ := p.number("DISKSEQ")
	e := VolumeChanged{
		VG: p["DM_VG_NAME"], LV: p["DM_LV_NAME"], UUID: uuid, Device: dev, Action: action,
		Suspended: p["DM_SUSPENDED"] == dmActionSuspend, DiskSeq: seq,
	}
	if e.VG == "" || e.LV == "" {
		e.VG, e.LV = splitName(p["DM_NAME"])
	}
	if action == Remove {
		if known, ok := m[dev]; ok && e.VG == "" && known.UUID == uuid {
			e.VG, e.LV = known.VG, known.LV
		}
		delete(m, dev)
		return e
	}
	if p["DM_UDEV_DISABLE_OTHER_RULES_FLAG"] == "1" {
		return nil // not ready: no table yet, or LVM asks everybody to look away
	}
	m[dev] = e
	return e
}

// gone is the event of a removed device of which udev says nothing but the number.
func (m memory) gone(p properties, dev Device) Event {
	seq, told := p.number("DISKSEQ")
	known, ok := m[dev]
	delete(m, dev)
	if !ok || (told && known.DiskSeq != 0 && known.DiskSeq != seq) {
		return VolumeChanged{Device: dev, Action: Remove, DiskSeq: seq}
	}
	known.Action, known.Suspended = Remove, false
	return known
}

// splitName takes the name that LVM gives a volume's device apart: VG-LV, where a hyphen inside a name is doubled.
func splitName(dm string) (vg, lv string) {
	for i := 0; i < len(dm); i++ {
		if dm[i] != '-' {
			continue
		}
		if i+1 < len(dm) && dm[i+1] == '-' {
			i++
			continue
		}
		single := func(s string) string { return strings.ReplaceAll(s, "--", "-") }
		return single(dm[:i]), single(dm[i+1:])
	}
	return "", ""
}
