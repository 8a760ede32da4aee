package boot

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"lls/test/kit"
)

// dataset is the host's, visible, 64 MiB; the file who in it says its name.
const dataset = "base"

// first is where a container's init writes what is mounted, as its very first act.
const first = "/var/log/first"

var (
	sceneOnce          sync.Once
	plain, power       *kit.Container // with the long fstab, until after the reboot of the host
	dev, devRoot       *kit.Container // for all else; each test leaves them as it found them
	other              *kit.Container // somebody else, who has a hidden volume: secret
	sceneHasBeenMade   bool
	unprivilegedAndNot = []string{"unprivileged", "privileged"}
)

// scene makes the dataset and the containers, once.
func scene(t *testing.T) {
	t.Helper()
	kit.Init(t)
	sceneOnce.Do(func() {
		kit.Agent(t, "create", dataset, "--size", "64M").Want(t, 0)
		dir := "/mnt/base"
		kit.Must(t, "mkdir", "-p", dir)
		kit.Agent(t, "mount", dataset, dir).Want(t, 0)
		putFile(t, dir+"/who", dataset+"\n")
		kit.Agent(t, "umount", dir).Want(t, 0)
		other = kit.NewContainer(t, "other")
		other.Do(t, "create", "secret", "--size", "64M")
		dev, devRoot = witness(t, "dev"), witness(t, "devroot", "--privileged")
		for _, c := range []*kit.Container{dev, devRoot} {
			c.Start(t)
			own(t, c, "e4")
			own(t, c, "more")
		}
		sceneHasBeenMade = true
	})
	if !sceneHasBeenMade {
		t.Fatal("the scene could not be set; an earlier test says why")
	}
}

// kinds runs a test with an unprivileged and with a privileged container.
func kinds(t *testing.T, test func(t *testing.T, c *kit.Container)) {
	scene(t)
	for i, c := range []*kit.Container{dev, devRoot} {
		t.Run(unprivilegedAndNot[i], func(t *testing.T) { test(t, c) })
	}
}

// witness makes a container, not started, whose init writes down what is mounted before it does anything else.
func witness(t *testing.T, name string, flags ...string) *kit.Container {
	t.Helper()
	c := kit.NewContainer(t, name, append(flags, "--no-start")...)
	init := filepath.Join(c.Root(), "sbin/init")
	if err := os.Rename(init, init+".lab"); err != nil {
		t.Fatal(err)
	}
	inside(t, c, "/sbin/init", "#!/bin/sh\n/bin/busybox cat /proc/self/mountinfo >"+first+"\nexec /bin/sh /sbin/init.lab\n", 0o755)
	return c
}

// own makes a small volume of a container whose file who says its name, and leaves it unmounted.
func own(t *testing.T, c *kit.Container, name string, flags ...string) kit.LV {
	t.Helper()
	args := []string{"create", name, "--mount", "/mnt", "--size"}
	if !slices.Contains(flags, "--size") {
		args = append(args, "64M")
	} else {
		args = args[:len(args)-1]
	}
	c.Do(t, append(args, flags...)...)
	c.Sh(t, "echo "+name+" >/mnt/who")
	c.Do(t, "umount", name)
	return kit.FindLV(t, c.Name, name)
}

// inside writes a file of a container from the host, with the owner of its root.
func inside(t *testing.T, c *kit.Container, path, text string, mode os.FileMode) {
	t.Helper()
	file := filepath.Join(c.Root(), path)
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(c.Root())
	if err != nil {
		t.Fatal(err)
	}
	root := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(file, int(root.Uid), int(root.Gid)); err != nil {
		t.Fatal(err)
	}
}

func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func getFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// withFstab gives a container another fstab and, when the test ends, an empty one in a container that runs and has nothing mounted.
func withFstab(t *testing.T, c *kit.Container, text string) {
	t.Helper()
	inside(t, c, "/etc/fstab", text, 0o644)
	t.Cleanup(func() {
		inside(t, c, "/etc/fstab", "", 0o644)
		if c.Running(t) {
			kit.Must(t, "lxc-stop", "-k", "-n", c.Name)
		}
		start(t, c)
		if left := mounted(t, c); len(left) > 0 {
			t.Errorf("mounted without a line of fstab: %v", left)
		}
	})
}

// forget takes away what the last start of a container left to be seen.
func forget(t *testing.T, c *kit.Container) {
	t.Helper()
	for _, file := range []string{first, "/run/ready"} {
		if err := os.RemoveAll(filepath.Join(c.Root(), file)); err != nil {
			t.Fatal(err)
		}
	}
}

// start starts a container and waits for its init.
func start(t *testing.T, c *kit.Container) kit.Result {
	t.Helper()
	forget(t, c)
	return c.Start(t)
}

// volumes are the mounts among the lines of a mountinfo file that are of volumes: path and NAME, with " ro" when it is read-only.
func volumes(t *testing.T, mountinfo string) map[string]string {
	t.Helper()
	names := map[string]string{}
	for _, v := range kit.LVs(t) {
		if v.Active() {
			names[v.Device()] = v.Tag("lls.n")
		}
	}
	all := map[string]string{}
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if !ok || len(b) < 6 || len(a) < 3 {
			t.Fatalf("cannot read the line of mountinfo %q", line)
		}
		name, known := names[b[2]]
		if !known && !strings.HasPrefix(a[1], "/dev/mapper/") && !strings.HasPrefix(a[1], "/dev/dm-") {
			continue
		}
		if options := strings.Split(b[5], ","); slices.Contains(options, "ro") {
			name += " ro"
		}
		if had, twice := all[b[4]]; twice {
			name = had + " under " + name
		}
		all[b[4]] = name
	}
	return all
}

// mounted are the volumes mounted in a container now.
func mounted(t *testing.T, c *kit.Container) map[string]string {
	t.Helper()
	return volumes(t, getFile(t, fmt.Sprintf("/proc/%d/mountinfo", c.PID(t))))
}

// found are the volumes that a container's init found at its start.
func found(t *testing.T, c *kit.Container) map[string]string {
	t.Helper()
	return volumes(t, getFile(t, filepath.Join(c.Root(), first)))
}

// same fails the test unless both are the same.
func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: mounted is %v\nwant %v", what, got, want)
	}
}
