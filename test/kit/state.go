package kit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// State is all that a request may leave a trace in: volumes and their tags, device-mapper's devices, and the mounts of the host and of
// every running container.
type State []string

// TakeState reads the present state.
func TakeState(t testing.TB) State {
	t.Helper()
	var s State
	for _, v := range LVs(t) {
		s = append(s, fmt.Sprintf("volume %+v", v))
	}
	for line := range strings.Lines(Must(t, "dmsetup", "ls")) {
		s = append(s, "device "+strings.TrimSpace(line))
	}
	mounts := func(who string, pid int) {
		for _, m := range Mounts(t, pid) {
			s = append(s, fmt.Sprintf("mount in %s: %+v", who, m))
		}
	}
	mounts("host", 1)
	for _, name := range strings.Fields(Must(t, "lxc-ls", "--running", "-1")) {
		c := Container{Name: name}
		mounts(name, c.PID(t))
	}
	slices.Sort(s)
	return s
}

// Diff says what is in one of two states only, a line each; nothing when they are the same.
func (s State) Diff(now State) string {
	var b strings.Builder
	for _, line := range s {
		if !slices.Contains(now, line) {
			fmt.Fprintln(&b, "gone: "+line)
		}
	}
	for _, line := range now {
		if !slices.Contains(s, line) {
			fmt.Fprintln(&b, "new:  "+line)
		}
	}
	if b.Len() == 0 && len(s) != len(now) {
		fmt.Fprintf(&b, "%d lines became %d\n", len(s), len(now))
	}
	return b.String()
}

// WantSame fails the test when the state is not the same any more.
func (s State) WantSame(t testing.TB) {
	t.Helper()
	if diff := s.Diff(TakeState(t)); diff != "" {
		t.Errorf("it left traces:\n%s", diff)
	}
}
