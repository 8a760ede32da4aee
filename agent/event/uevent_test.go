package event

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	vgID   = "xR0cqeEkI3Ub2qSVvHi2KQdKhBeeCFiH"
	lvID   = "Ab3dEfGh1jK2mN0pQrStUvWxYz567890"
	lvUUID = "Ab3dEf-Gh1j-K2mN-0pQr-StUv-WxYz-567890"
	dmUUID = "LVM-" + vgID + lvID
)

// message puts properties into a message as udev sends them.
func message(fields ...string) []byte {
	body := strings.Join(fields, "\x00") + "\x00"
	const header = 40
	m := make([]byte, header, header+len(body))
	copy(m, udevPrefix)
	binary.BigEndian.PutUint32(m[8:], udevMagic)
	binary.NativeEndian.PutUint32(m[12:], header)
	binary.NativeEndian.PutUint32(m[16:], header)
	binary.NativeEndian.PutUint32(m[20:], uint32(len(body)))
	return append(m, body...)
}

// about is the message of a device-mapper device, with what is to be different or more.
func about(action string, fields ...string) []byte {
	return message(append([]string{
		"UDEV_DATABASE_VERSION=1", "ACTION=" + action, "DEVPATH=/devices/virtual/block/dm-7", "SUBSYSTEM=block", "DEVNAME=/dev/dm-7",
		"DEVTYPE=disk", "DISKSEQ=42", "SEQNUM=1234", "MAJOR=253", "MINOR=7",
	}, fields...)...)
}

func volumeFields(more ...string) []string {
	return append([]string{
		"DM_COOKIE=6312345", "DM_NAME=vg--a-data--set.x1", "DM_UUID=" + dmUUID, "DM_SUSPENDED=0", "DM_UDEV_RULES_VSN=2",
		"DM_VG_NAME=vg-a", "DM_LV_NAME=data-set.x1", "ID_FS_TYPE=ext4", "TAGS=:systemd:",
	}, more...)
}

func TestWhatUdevSaysBecomesEvents(t *testing.T) {
	dev := Device{253, 7}
	whole := VolumeChanged{VG: "vg-a", LV: "data-set.x1", UUID: lvUUID, Device: dev, Action: Change, DiskSeq: 42}
	with := func(change func(v *VolumeChanged)) VolumeChanged {
		v := whole
		change(&v)
		return v
	}
	named := func(name, uuid string) []string { return []string{"DM_NAME=" + name, "DM_UUID=" + uuid} }
	tests := []struct {
		name string
		msgs [][]byte
		want []Event // nil entries for what is ignored
	}{
		{"a volume is activated", [][]byte{about("change", volumeFields()...)}, []Event{whole}},
		{"a volume is suspended", [][]byte{about("change", volumeFields("DM_SUSPENDED=1")...)},
			[]Event{with(func(v *VolumeChanged) { v.Suspended = true })}},
		{"a device without a table", [][]byte{about("add", volumeFields("DM_UDEV_DISABLE_OTHER_RULES_FLAG=1")...)}, []Event{nil}},
		{"a volume goes, and udev knows it", [][]byte{about("remove", volumeFields("DM_UDEV_DISABLE_OTHER_RULES_FLAG=1")...)},
			[]Event{with(func(v *VolumeChanged) { v.Action = Remove })}},
		{"a volume goes, and only we know it", [][]byte{about("change", volumeFields()...), about("remove")},
			[]Event{whole, with(func(v *VolumeChanged) { v.Action = Remove })}},
		{"a device goes that nobody knows", [][]byte{about("remove")}, []Event{VolumeChanged{Device: dev, Action: Remove, DiskSeq: 42}}},
		{"a number that another device had before", [][]byte{about("change", volumeFields()...), about("remove", "DISKSEQ=43")},
			[]Event{whole, VolumeChanged{Device: dev, Action: Remove, DiskSeq: 43}}},
		{"it goes once", [][]byte{about("change", volumeFields()...), about("remove"), about("remove")},
			[]Event{whole, with(func(v *VolumeChanged) { v.Action = Remove }), VolumeChanged{Device: dev, Action: Remove, DiskSeq: 42}}},
		{"udev knows the UUID of what goes, and we the names", [][]byte{about("change", volumeFields()...), about("remove", "DM_UUID="+dmUUID)},
			[]Event{whole, with(func(v *VolumeChanged) { v.Action = Remove })}},
		{"names from the device's", [][]byte{about("change", named("vg--a-data--set.x1", dmUUID)...)}, []Event{whole}},
		{"the pool's working device", [][]byte{about("change", append(named("vg-pool-tpool", dmUUID+"-tpool"), "DM_UDEV_DISABLE_OTHER_RULES_FLAG=1")...)},
			[]Event{PoolChanged{Name: "vg-pool-tpool", Device: dev}}},
		{"the pool's visible device", [][]byte{about("change", named("vg-pool", dmUUID+"-pool")...)}, []Event{nil}},
		{"the pool's data", [][]byte{about("change", named("vg-pool_tdata", dmUUID+"-tdata")...)}, []Event{nil}},
		{"the pool's metadata", [][]byte{about("change", named("vg-pool_tmeta", dmUUID+"-tmeta")...)}, []Event{nil}},
		{"the layers of a classic snapshot", [][]byte{about("change", named("vg-s-cow", dmUUID+"-cow")...), about("change", named("vg-o-real", dmUUID+"-real")...)},
			[]Event{nil, nil}},
		{"a crypt device", [][]byte{about("change", named("luks", "CRYPT-LUKS2-0123-luks")...), about("remove", named("luks", "CRYPT-LUKS2-0123-luks")...)},
			[]Event{nil, nil}},
		{"a physical volume was written", [][]byte{message("ACTION=change", "SUBSYSTEM=block", "DEVNAME=/dev/sdb", "MAJOR=8", "MINOR=16", "ID_FS_TYPE=LVM2_member")},
			[]Event{PhysicalChanged{Name: "/dev/sdb", Device: Device{8, 16}, Action: Change}}},
		{"a physical volume on a crypt device", [][]byte{about("change", append(named("luks", "CRYPT-LUKS2-0123-luks"), "ID_FS_TYPE=LVM2_member")...)},
			[]Event{PhysicalChanged{Name: "/dev/dm-7", Device: dev, Action: Change}}},
		{"a disk", [][]byte{message("ACTION=change", "SUBSYSTEM=block", "DEVNAME=/dev/sdb", "MAJOR=8", "MINOR=16", "ID_FS_TYPE=ext4")}, []Event{nil}},
		{"a disk goes", [][]byte{message("ACTION=remove", "SUBSYSTEM=block", "DEVPATH=/devices/virtual/block/loop0", "MAJOR=7", "MINOR=0")}, []Event{nil}},
		{"another action", [][]byte{about("bind", volumeFields()...)}, []Event{nil}},
		{"another subsystem", [][]byte{about("change", volumeFields("SUBSYSTEM=net")...)}, []Event{nil}},
		{"no number", [][]byte{about("change", volumeFields("MINOR=x")...)}, []Event{nil}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := memory{}
			for i, msg := range tt.msgs {
				p, err := parseMessage(msg)
				if err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
				if got := m.read(p); !reflect.DeepEqual(got, tt.want[i]) {
					t.Errorf("message %d: got %+v, want %+v", i, got, tt.want[i])
				}
			}
		})
	}
}

func TestMessagesThatAreNotUdevsAreRefused(t *testing.T) {
	good := about("change", volumeFields()...)
	broken := func(change func(m []byte) []byte) []byte { return change(append([]byte(nil), good...)) }
	put := func(at int, n uint32) []byte {
		return broken(func(m []byte) []byte { binary.NativeEndian.PutUint32(m[at:], n); return m })
	}
	many := make([]string, maxProperties+1)
	for i := range many {
		many[i] = fmt.Sprintf("K%d=", i)
	}
	tests := map[string][]byte{
		"empty":                    nil,
		"the kernel's own":         []byte("change@/devices/virtual/block/dm-7\x00ACTION=change\x00"),
		"cut in the header":        good[:20],
		"cut in the properties":    good[:len(good)-1],
		"another magic number":     broken(func(m []byte) []byte { m[8]++; return m }),
		"a header of no size":      put(12, 0),
		"properties in the header": put(16, 8),
		"properties past the end":  put(16, 1<<32-1),
		"more than there is":       put(20, 1<<32-1),
		"too many":                 message(many...),
	}
	for name, msg := range tests {
		if p, err := parseMessage(msg); err == nil {
			t.Errorf("%s: read as %v", name, p)
		}
	}
}

func TestNamesOfDevicesAreTakenApart(t *testing.T) {
	for dm, want := range map[string][2]string{
		"vg-lv": {"vg", "lv"}, "a--b-c--d": {"a-b", "c-d"}, "a----b-c": {"a--b", "c"}, "vg": {}, "": {}, "vg--lv": {}, "vg-": {"vg", ""},
	} {
		if vg, lv := splitName(dm); vg != want[0] || lv != want[1] {
			t.Errorf("splitName(%q) = %q, %q, want %q", dm, vg, lv, want)
		}
	}
}

func TestOnlyRootsMulticastIsUdev(t *testing.T) {
	cred := func(uid uint32) []byte { return unix.UnixCredentials(&unix.Ucred{Pid: 300, Uid: uid}) }
	udev := &unix.SockaddrNetlink{Pid: 300, Groups: 2}
	tests := []struct {
		name string
		from unix.Sockaddr
		oob  []byte
		want bool
	}{
		{"udev", udev, cred(0), true},
		{"another user", udev, cred(1000), false},
		{"nobody says who", udev, nil, false},
		{"to us alone", &unix.SockaddrNetlink{Pid: 300}, cred(0), false},
		{"the kernel", &unix.SockaddrNetlink{Groups: 2}, cred(0), false},
		{"another family", &unix.SockaddrUnix{}, cred(0), false},
	}
	for _, tt := range tests {
		if got := fromUdev(tt.from, tt.oob); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(about("change", volumeFields()...), about("remove"))
	f.Add(message("ACTION=change", "SUBSYSTEM=block", "MAJOR=8", "MINOR=16", "ID_FS_TYPE=LVM2_member"), about("change", "DM_UUID=LVM-"))
	f.Add([]byte(udevPrefix), message("=", "A", "A=B=C", ""))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		m := memory{}
		for _, msg := range [][]byte{first, second} {
			p, err := parseMessage(msg)
			if err != nil {
				continue
			}
			switch e := m.read(p).(type) {
			case VolumeChanged:
				if e.UUID != "" && len(e.UUID) != len(lvUUID) {
					t.Errorf("UUID %q", e.UUID)
				}
				if e.Action == Remove {
					if _, kept := m[e.Device]; kept {
						t.Error("a removed device is remembered")
					}
				}
			case nil, PoolChanged, PhysicalChanged:
			default:
				t.Errorf("made %T of a device", e)
			}
		}
	})
}
