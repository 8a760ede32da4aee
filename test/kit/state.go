package kit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// State is all that a request may leave a trace in: volumes and their tags, device-mapper's devices, and the mounts of the host and of
// every running container.
type State struct {
	volumes map[string]LV // by UUID
	devices []string
	mounts  []string
}

// TakeState reads the present state.
func TakeState(t testing.TB) State {
	t.Helper()
	Must(t, "udevadm", "settle") // which opens what is new, for a moment
	s := State{volumes: map[string]LV{}}
	devices, was := "", "-"
	var volumes []LV
	for devices != was { // both of one moment
		was = Must(t, "dmsetup", "ls")
		volumes = LVs(t)
		devices = Must(t, "dmsetup", "ls")
	}
	for _, v := range volumes {
		s.volumes[v.UUID] = v
	}
	for line := range strings.Lines(devices) {
		s.devices = append(s.devices, strings.TrimSpace(line))
	}
	mounts := func(who string, pid int) {
		for _, m := range Mounts(t, pid) {
			s.mounts = append(s.mounts, fmt.Sprintf("%s: %+v", who, m))
		}
	}
	mounts("host", 1)
	for _, name := range strings.Fields(Must(t, "lxc-ls", "--running", "-1")) {
		c := Container{Name: name}
		mounts(name, c.PID(t))
	}
	return s
}

// Diff says what is in one of two states only, a line each; nothing when they are the same. A volume that was active and open nowhere may
// have become inactive: LLS lets go what nobody uses, whenever it likes.
func (s State) Diff(now State) string {
	var b strings.Builder
	letGo := map[string]bool{} // devices that went with that
	for uuid, was := range s.volumes {
		is, ok := now.volumes[uuid]
		if ok && was.Active() && !was.Open() && !is.Active() {
			letGo[fmt.Sprintf("%s-%s\t(%s)", dmEscape(was.VG), dmEscape(was.Name), was.Device())] = true
			was.Attr, was.Major, was.Minor, was.Writable = is.Attr, is.Major, is.Minor, is.Writable
		}
		switch was, is := was.closed(), is.closed(); {
		case !ok:
			fmt.Fprintf(&b, "gone: volume %+v\n", was)
		case is != was:
			fmt.Fprintf(&b, "was:  volume %+v\nis:   volume %+v\n", was, is)
		}
	}
	for _, uuid := range slices.Sorted(maps.Keys(now.volumes)) {
		if _, ok := s.volumes[uuid]; !ok {
			fmt.Fprintf(&b, "new:  volume %+v\n", now.volumes[uuid])
		}
	}
	was := slices.DeleteFunc(slices.Clone(s.devices), func(d string) bool { return letGo[d] && !slices.Contains(now.devices, d) })
	diffLines(&b, "device", was, now.devices)
	diffLines(&b, "mount", s.mounts, now.mounts)
	return b.String()
}

func diffLines(b *strings.Builder, what string, was, is []string) {
	for _, line := range was {
		if !slices.Contains(is, line) {
			fmt.Fprintf(b, "gone: %s %s\n", what, line)
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			fmt.Fprintf(b, "new:  %s %s\n", what, line)
		}
	}
	if len(was) != len(is) {
		fmt.Fprintf(b, "%d %ss became %d\n", len(was), what, len(is))
	}
}

func dmEscape(s string) string { return strings.ReplaceAll(s, "-", "--") }

// WantSame fails the test when the state is not the same any more. That nothing else is open is waited for: udev has a device open for a
// moment, whenever it likes.
func (s State) WantSame(t testing.TB) {
	t.Helper()
	now := TakeState(t)
	if diff := s.Diff(now); diff != "" {
		t.Errorf("it left traces:\n%s", diff)
	}
	for uuid, was := range s.volumes {
		if was.Open() || !now.volumes[uuid].Open() {
			continue
		}
		Eventually(t, fmt.Sprintf("nobody has it open again: %+v", was), func() bool {
			return !slices.ContainsFunc(LVs(t), func(is LV) bool { return is.UUID == uuid && is.Open() })
		})
	}
}

// closed is the volume as it would be if nobody had it open.
func (v LV) closed() LV {
	if v.Open() {
		v.Attr = v.Attr[:5] + "-" + v.Attr[6:]
	}
	return v
}
