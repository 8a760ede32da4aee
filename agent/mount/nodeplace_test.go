package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent/filesystem"
)

func mustInject(t *testing.T, m *Mounter, n *Nodes, g *guest) {
	t.Helper()
	if err := m.InjectNodes(deadline(t, 20*time.Second), n, g.box); err != nil {
		t.Fatal(err)
	}
	n.Tidy()
	if in, err := m.NodesInjected(g.box, n); err != nil || !in {
		t.Fatalf("injected: %v %v", in, err)
	}
}

func readOf(node string) []string {
	return []string{"dd", "if=" + node, "of=/dev/null", "bs=512", "count=1"}
}

func writeTo(node string) []string {
	return []string{"dd", "if=/dev/zero", "of=" + node, "bs=512", "count=1", "conv=notrunc"}
}

// ordinary are the devices that any container has.
func (g *guest) ordinary() {
	g.t.Helper()
	g.do("sh", "-c", "echo x >/dev/null")
	g.do(readOf("/dev/zero")...)
}

func TestNodesInAnUnprivilegedContainer(t *testing.T) {
	m, n, d := newMounter(findHelper(t)), newNodes(t), newDisk(t, filesystem.Ext4)
	g := newGuest(t, "", false, oneMap)
	in, err := m.NodesInjected(g.box, n)
	if err != nil || in {
		t.Fatalf("injected: %v %v", in, err)
	}
	set(t, n, Node{Path: "none", Major: d.Major, Minor: d.Minor})
	mustInject(t, m, n, g)
	if got := g.do("ls", "-a", "/dev/mf"); got != ".\n..\nnone\n" {
		t.Errorf("there is %q", got)
	}
	gid := g.box.RootGID
	set(t, n, Node{Path: "none", Major: d.Major, Minor: d.Minor},
		Node{Path: "o/ro", Major: d.Major, Minor: d.Minor, Mode: 0o440, GID: gid},
		Node{Path: "rw", Major: d.Major, Minor: d.Minor, Mode: 0o660, GID: gid},
		Node{Path: "other", Major: d.Major, Minor: d.Minor, Mode: 0o660, GID: otherMap})
	want := fmt.Sprintf("0 %[1]x %[2]x 65534 65534\n440 %[1]x %[2]x 65534 0\n660 %[1]x %[2]x 65534 0\n", d.Major, d.Minor)
	if got := g.do("stat", "-c", "%a %t %T %u %g", "/dev/mf/none", "/dev/mf/o/ro", "/dev/mf/rw"); got != want {
		t.Errorf("it sees %q", got)
	}
	for _, node := range []string{"/dev/mf/none", "/dev/mf/other"} {
		g.refuse(readOf(node)...)
		g.refuse(writeTo(node)...)
	}
	g.do(readOf("/dev/mf/o/ro")...)
	g.refuse(writeTo("/dev/mf/o/ro")...)
	g.do(readOf("/dev/mf/rw")...)
	g.do(writeTo("/dev/mf/rw")...)
	for _, try := range []string{
		"touch /dev/mf/new", "mkdir /dev/mf/new", "mknod /dev/mf/new b 7 0", "ln -s none /dev/mf/new", "ln /dev/mf/none /dev/mf/new",
		"rm -f /dev/mf/none", "mv /dev/mf/none /dev/mf/new", "rm -rf /dev/mf/o", "rmdir /dev/mf/o", "touch /dev/mf/o/new",
		"chmod 666 /dev/mf/none", "chown 0 /dev/mf/none", "chmod 777 /dev/mf", "chmod 660 /dev/mf/o/ro", "chgrp 1 /dev/mf/rw",
		"cp -a /dev/mf/rw /dev/copy", "mknod /dev/copy b 7 0",
		"mount -o remount,bind,rw,nosuid,noexec /dev/mf", "mount -o remount,bind,ro,suid,noexec /dev/mf",
		"mount -o remount,bind,ro,nosuid,exec /dev/mf", "mount -o remount,rw /dev/mf", "mount -o remount,size=1g /dev/mf",
	} {
		g.refuse("sh", "-c", try)
	}
	if got := shown(t, n); len(got) != 5 {
		t.Errorf("there is %q", got)
	}
	if in, err := m.NodesInjected(g.box, n); err != nil || !in {
		t.Errorf("after all that: %v %v", in, err)
	}
	g.ordinary()
	// A revoked mode holds for the next open, through the same name.
	set(t, n, Node{Path: "rw", Major: d.Major, Minor: d.Minor})
	g.refuse(readOf("/dev/mf/rw")...)
	if got := g.do("ls", "/dev/mf"); got != "rw\n" {
		t.Errorf("there is %q", got)
	}
	g.do("umount", "/dev/mf")
	if got := g.do("stat", "-c", "%a %u:%g", "/dev/mf"); got != "755 0:0\n" {
		t.Errorf("the directory is %q", got)
	}
	g.ordinary()
}

func TestNodesInAPrivilegedContainer(t *testing.T) {
	m, n, d := newMounter(findHelper(t)), newNodes(t), newDisk(t, filesystem.Ext4)
	g := newGuest(t, "", true, 0)
	mustInject(t, m, n, g)
	node := Node{Path: "o/d", Major: d.Major, Minor: d.Minor, Mode: 0o660}
	set(t, n, node)
	g.do("stat", "/dev/mf/o/d")
	if inLab { // only there does a device cgroup guard the container
		g.refuse(readOf("/dev/mf/o/d")...)
		g.refuse(writeTo("/dev/mf/o/d")...)
	}
	before := must(t, "ls", "/etc")
	g.do("sh", "-c", "mount -o remount,bind,rw /dev/mf && rm -rf /dev/mf/o && ln -s /etc /dev/mf/o && mknod -m 666 /dev/mf/x b 7 0 && mkdir -p /dev/mf/.mnt/y")
	if inLab {
		g.refuse(readOf("/dev/mf/x")...)
	}
	set(t, n, node)
	if got := g.do("find", "/dev/mf"); got != "/dev/mf\n/dev/mf/o\n/dev/mf/o/d\n" {
		t.Errorf("there is %q", got)
	}
	if after := must(t, "ls", "/etc"); after != before {
		t.Errorf("/etc changed: %s", after)
	}
	mustInject(t, m, n, g) // read-only again
	g.refuse("touch", "/dev/mf/y")
	g.ordinary()
}

func TestNodesComeBackAfterWhatRootCanDoToThem(t *testing.T) {
	for _, privileged := range []bool{false, true} {
		for i, spoil := range []string{
			"umount /dev/mf",
			"umount -l /dev/mf",
			"umount /dev/mf && rmdir /dev/mf",
			"mount -t tmpfs none /dev/mf",
			"mount -t tmpfs none /dev && touch /dev/null", // which lxc-attach wants
			"mount --bind /dev /dev",
			"mount --make-private /dev/mf",
			"mount --make-shared /dev/mf",
			"mount --make-rprivate /",
			"mkdir -p /x && mount --make-private /dev && mount --move /dev/mf /x",
			"mount -o remount,bind,ro,nosuid,noexec,nodev /dev/mf",
			"mount --bind /dev/mf /dev/mf",
		} {
			t.Run(fmt.Sprintf("privileged=%v %s", privileged, spoil), func(t *testing.T) {
				m, n := newMounter(findHelper(t)), newNodes(t)
				g := newGuest(t, fmt.Sprintf("%v%d", privileged, i), privileged, oneMap)
				set(t, n, Node{Path: "a", Major: 7})
				mustInject(t, m, n, g)
				before, err := g.box.points()
				if err != nil {
					t.Fatal(err)
				}
				mustInject(t, m, n, g)
				if after, err := g.box.points(); err != nil || len(after) != len(before) {
					t.Errorf("injected twice: %d mounts, then %d, %v", len(before), len(after), err)
				}
				g.do("sh", "-c", spoil)
				mustInject(t, m, n, g)
				set(t, n, Node{Path: "after", Major: 7})
				if got := g.do("ls", "-A", "/dev/mf"); got != "after\n" {
					t.Errorf("there is %q", got)
				}
			})
		}
	}
}

// An agent that was killed while it injected leaves a copy of the nodes in them.
func TestNodesAreSweptWhenAdopted(t *testing.T) {
	n := newNodes(t)
	set(t, n, Node{Path: "a", Major: 7})
	second, err := clone(n.dir, n.view.locked)
	if err != nil {
		t.Fatal(err)
	}
	_, at, err := n.place(second)
	if err != nil {
		t.Fatal(err)
	}
	if err := attach(second, at); err != nil {
		t.Fatal(err)
	}
	if set(t, n, Node{Path: "a", Major: 7}) {
		t.Error("changed what was right")
	}
	again, err := OpenNodes(filepath.Dir(filepath.Dir(n.path)), "box")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := shown(t, n); !slices.Equal(got, []string{"a 60000 7:0 0:0"}) {
		t.Errorf("there is %q", got)
	}
	points, err := Points(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if of := PointsOf(points, unix.Major(n.dev), unix.Minor(n.dev)); len(of) != 1 {
		t.Errorf("mounted as %+v", of)
	}
}

func TestNoPlaceForTheNodes(t *testing.T) {
	m := newMounter(findHelper(t))
	for i, plant := range []string{
		"ln -s /etc /dev/mf", "touch /dev/mf", "mkfifo /dev/mf", "ln -s /nothing /dev/mf", "mknod /dev/mf c 1 3 || touch /dev/mf",
		"mount -o remount,bind,ro /dev", "mkdir /real && mount --move /dev /real && rmdir /dev && ln -s /real /dev",
	} {
		for _, privileged := range []bool{false, true} {
			t.Run(fmt.Sprintf("privileged=%v %s", privileged, plant), func(t *testing.T) {
				n := newNodes(t)
				g := newGuest(t, fmt.Sprintf("%v%d", privileged, i), privileged, oneMap)
				if strings.Contains(plant, "--move") {
					g.do("mount", "--make-rprivate", "/")
				}
				g.do("sh", "-c", plant)
				if err := m.InjectNodes(deadline(t, 20*time.Second), n, g.box); !errors.Is(err, ErrNoPlace) {
					t.Errorf("%v", err)
				} else if strings.Contains(err.Error(), n.path) {
					t.Errorf("it names a path of the host: %v", err)
				}
				if points, err := g.box.points(); err != nil || len(PointsOf(points, unix.Major(n.dev), unix.Minor(n.dev))) != 0 {
					t.Errorf("%+v %v", points, err)
				}
			})
		}
	}
}

// The host's /dev is one file system: a directory made there would be there for all.
func TestHostDevtmpfsIsLeftAlone(t *testing.T) {
	m, n := newMounter(findHelper(t)), newNodes(t)
	g := newGuest(t, "", true, 0)
	fd, err := filesystem.NewMount("devtmpfs", nil, 0)
	if err != nil {
		if inLab {
			t.Fatal(err)
		}
		t.Skip("no devtmpfs here: ", err)
	}
	_ = fd.Close()
	must(t, "nsenter", "-t", strconv.Itoa(g.pid), "-m", "--", "/bin/busybox", "mount", "-t", "devtmpfs", "none", "/dev")
	if err := m.InjectNodes(deadline(t, 20*time.Second), n, g.box); !errors.Is(err, ErrNoPlace) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat("/proc/" + strconv.Itoa(g.pid) + "/root/dev/mf"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
	if _, err := os.Lstat("/dev/mf"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is on the host: %v", err)
	}
}
