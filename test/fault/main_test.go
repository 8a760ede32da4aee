// Package fault breaks LLS in the lab's guest while it works: it kills the agent and its helper at any moment, stops it, takes LVM
// away from it, and looks in LVM, device-mapper and the mount tables whether anything was lost or left half made.
package fault

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lls/test/kit"
)

const dataset = "base"

var (
	setUp sync.Once
	box   *kit.Container
)

// scene makes a dataset and a container, once.
func scene(t *testing.T) {
	t.Helper()
	kit.Init(t)
	setUp.Do(func() {
		kit.Must(t, "lls-agent", "create", dataset, "--size", "256M")
		c := kit.NewContainer(t, "box")
		c.Sh(t, "mkdir -p /keep /a /b")
		box = c
	})
	if box == nil {
		t.Fatal("the scene could not be set; an earlier test says why")
	}
}

// start runs the client in the container in the background.
func start(t *testing.T, args ...string) <-chan kit.Result {
	done := make(chan kit.Result, 1)
	go func() {
		r, err := kit.Try(context.Background(), kit.Patience, "", append([]string{"lab-exec", box.Name, "lls"}, args...)...)
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	return done
}

// half tells of what is unfinished: volumes being made or that contradict themselves, suspended devices, mounts on their way.
func half(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, v := range kit.LVs(t) {
		if v.Tag("lls.s") == "new" {
			fmt.Fprintf(&b, "half made: %+v\n", v)
		}
		seen := map[string]bool{}
		for _, tag := range v.Tags() {
			key, _, _ := strings.Cut(tag, "=")
			if seen[key] || tag == "lls.g" {
				fmt.Fprintf(&b, "unfinished: %+v\n", v)
			}
			seen[key] = true
		}
	}
	if out := kit.Must(t, "dmsetup", "info", "-c", "--noheadings", "-o", "name,suspended"); strings.Contains(out, "Suspended") {
		fmt.Fprintf(&b, "suspended devices:\n%s\n", out)
	}
	for _, m := range kit.HostMounts(t) {
		if strings.HasPrefix(m.Path, "/run/lls/") && strings.Contains(m.Path, "/.mnt/") {
			fmt.Fprintf(&b, "left on its way: %+v\n", m)
		}
	}
	return b.String()
}

// recovered fails the test when something stays unfinished for longer than the agent's next look.
func recovered(t *testing.T, after string) {
	t.Helper()
	var left string
	for end := time.Now().Add(35 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		if left = half(t); left == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %s:\n%s", after, left)
		}
	}
}

// isAt is what of a volume is mounted at a path of the container.
func isAt(t *testing.T, name, path string) bool {
	t.Helper()
	m := box.MountAt(t, path)
	for _, v := range kit.FindLVs(t, box.Name, name) {
		if m != nil && m.Device == v.Device() {
			return true
		}
	}
	return false
}

// killAgent kills the daemon after a while and waits until it is back.
func killAgent(t *testing.T, after time.Duration) {
	t.Helper()
	pid := kit.AgentPID(t)
	time.Sleep(after)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	kit.AgentBack(t, pid)
}
