package event

import (
	"encoding/binary"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// listing writes devices as the kernel lists them.
func listing(devices ...dmDevice) []byte {
	align := func(b []byte) []byte {
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
		return b
	}
	var all []byte
	for i, d := range devices {
		r := binary.NativeEndian.AppendUint64(nil, unix.Mkdev(d.device.Major, d.device.Minor))
		r = binary.NativeEndian.AppendUint32(r, 0)
		r = align(append(append(r, d.name...), 0))
		r = binary.NativeEndian.AppendUint32(r, d.eventNr)
		if d.uuid == "" {
			r = binary.NativeEndian.AppendUint32(r, 2) // DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID
		} else {
			r = binary.NativeEndian.AppendUint32(r, dmNameHasUUID)
			r = align(append(append(r, d.uuid...), 0))
		}
		if i < len(devices)-1 {
			binary.NativeEndian.PutUint32(r[8:], uint32(len(r)))
		}
		all = append(all, r...)
	}
	return all
}

func poolDevice(name string, nr uint32) dmDevice {
	return dmDevice{name: "vg-" + name + "-tpool", uuid: "LVM-" + vgID + strings.Repeat(name[:1], 32) + "-tpool", device: Device{253, 300}, eventNr: nr}
}

func TestTheKernelsListIsRead(t *testing.T) {
	tests := map[string][]dmDevice{
		"none": nil,
		"some": {poolDevice("a", 7), {name: "crypt", device: Device{253, 1}}, {name: "vg-lv", uuid: dmUUID, device: Device{253, 1<<20 - 1}, eventNr: 1 << 31}},
	}
	for name, want := range tests {
		if got, err := parseDevices(listing(want...)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
	}
	if got, err := parseDevices(make([]byte, 16)); err != nil || got != nil {
		t.Errorf("the mark for none was read as %+v, %v", got, err)
	}
}

func TestABrokenListIsRefused(t *testing.T) {
	good := listing(poolDevice("a", 7), poolDevice("b", 7))
	next := func(n uint32) []byte {
		b := append([]byte(nil), good...)
		binary.NativeEndian.PutUint32(b[8:], n)
		return b
	}
	for name, data := range map[string][]byte{
		"cut": good[:len(good)-30], "a name without end": good[:14], "next past the end": next(1 << 30), "next to itself": next(8),
	} {
		if got, err := parseDevices(data); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}

func TestOnlyPoolsWhoseNumberMovedAreEvents(t *testing.T) {
	changed := func(name string) Event { return PoolChanged{Name: "vg-" + name + "-tpool", Device: Device{253, 300}} }
	volume := dmDevice{name: "vg-lv", uuid: dmUUID, eventNr: 9}
	old := dmDevice{name: "vg-old-tpool", device: Device{253, 9}, eventNr: 1} // a kernel that lists no UUID
	_, first := compare(nil, []dmDevice{poolDevice("a", 7), old, volume})
	tests := []struct {
		name string
		now  []dmDevice
		want []Event
	}{
		{"nothing", []dmDevice{poolDevice("a", 7), old, volume}, nil},
		{"a volume", []dmDevice{poolDevice("a", 7), old, {name: "vg-lv", uuid: dmUUID, eventNr: 10}}, nil},
		{"a pool", []dmDevice{poolDevice("a", 8), old}, []Event{changed("a")}},
		{"a pool made anew", []dmDevice{poolDevice("a", 0), old}, []Event{changed("a")}},
		{"a new pool", []dmDevice{poolDevice("a", 7), poolDevice("b", 0)}, nil},
		{"a new pool in trouble", []dmDevice{poolDevice("a", 7), poolDevice("b", 1)}, []Event{changed("b")}},
		{"a pool without UUID", []dmDevice{{name: old.name, device: old.device, eventNr: 2}}, []Event{PoolChanged{Name: old.name, Device: old.device}}},
	}
	for _, tt := range tests {
		if got, _ := compare(first, tt.now); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
	if got, _ := compare(nil, []dmDevice{poolDevice("a", 7)}); got != nil {
		t.Errorf("the first list gave %+v", got)
	}
}

func TestTheHeaderIsAsLargeAsTheKernels(t *testing.T) {
	if dmHeaderSize != 312 {
		t.Errorf("struct dm_ioctl has 312 bytes, ours %d", dmHeaderSize)
	}
}

func TestOpeningSaysWhetherThereIsDeviceMapper(t *testing.T) {
	_, missing := os.Stat(dmControl)
	m, err := OpenDeviceMapper()
	if (err == nil) != (missing == nil) || (err != nil && !strings.Contains(err.Error(), dmControl)) {
		t.Errorf("got %v, where looking for %s gives %v", err, dmControl, missing)
	}
	if err == nil {
		err = m.Close()
	}
	if missing == nil && err != nil {
		t.Error(err)
	}
}

func FuzzDevices(f *testing.F) {
	f.Add(listing(poolDevice("a", 7), dmDevice{name: "x"}, poolDevice("b", 7)))
	f.Add(make([]byte, 16))
	f.Fuzz(func(t *testing.T, data []byte) {
		devices, err := parseDevices(data)
		if err == nil && len(devices) > len(data)/dmListRecord {
			t.Errorf("%d devices in %d bytes", len(devices), len(data))
		}
		compare(map[string]uint32{}, devices)
	})
}
