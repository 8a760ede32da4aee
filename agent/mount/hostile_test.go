package mount

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent/filesystem"
)

// serveSilence mounts a FUSE file system that never answers at a directory of
// the container. The function it returns ends it.
func serveSilence(t *testing.T, g *guest, dir string) func() {
	t.Helper()
	part := as(t, "silent-fuse")
	device := filepath.Join(filepath.Dir(part), "fuse") // the host's may be for root only
	if err := unix.Mknod(device, unix.S_IFCHR, int(unix.Mkdev(10, 229))); err != nil {
		t.Fatal(err)
	}
	must(t, "chmod", "666", device)
	cmd := exec.Command(part, device, strconv.Itoa(g.pid), dir)
	if g.box.Mapped {
		cmd = exec.Command("nsenter", "-t", strconv.Itoa(g.pid), "-U", "-S", "0", "-G", "0", "--", part, device, strconv.Itoa(g.pid), dir)
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	t.Cleanup(end)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the FUSE server did not start: %q %v", line, err)
	}
	return end
}

func TestSilentFUSEBlocksOnlyItsOwnRequest(t *testing.T) {
	for _, privileged := range []bool{false, true} {
		t.Run(fmt.Sprintf("privileged=%v", privileged), func(t *testing.T) { silentFUSECase(t, privileged) })
	}
}

func silentFUSECase(t *testing.T, privileged bool) {
	m, tree, d := hastyMounter(findHelper(t)), newTree(t), newDisk(t, filesystem.Ext4)
	g := newGuest(t, fmt.Sprintf("a%v", privileged), privileged, oneMap)
	other := newGuest(t, fmt.Sprintf("b%v", privileged), false, otherMap)
	g.do("mkdir", "-p", "/fuse")
	end := serveSilence(t, g, "/fuse")
	hang := func(target string) {
		t.Helper()
		r := d.Request
		r.Target = target
		start := time.Now()
		_, err := m.Mount(deadline(t, time.Minute), tree, g.box, r)
		var (
			occupied *ErrOccupied
			denied   *ErrTarget // the kernel keeps us from a FUSE of another user namespace
		)
		switch {
		case target == "/fuse" && errors.As(err, &occupied):
		case target != "/fuse" && privileged && errors.Is(err, ErrStuck):
		case target != "/fuse" && !privileged && errors.As(err, &denied) && denied.Kind == Forbidden:
		default:
			t.Errorf("%s: %v", target, err)
		}
		if took := time.Since(start); took > 3*helperDeadline {
			t.Errorf("%s: took %v", target, took)
		}
		d.mustBeFree("the request gave up")
	}
	hang("/fuse")
	for range maxHelpers - 1 {
		hang("/fuse/below")
	}
	start := time.Now()
	p := mustMount(t, m, newTree(t), other, d.Request)
	if time.Since(start) >= helperDeadline {
		t.Errorf("another container waited %v", time.Since(start))
	}
	if err := m.Unmount(deadline(t, 20*time.Second), other.box, d.Major, d.Minor, p.Path); err != nil {
		t.Error(err)
	}
	if found, err := newFinder().Holders(deadline(t, time.Minute), d.Major, d.Minor); err != nil || len(found) != 0 {
		t.Errorf("holders: %+v %v", found, err)
	}
	if p := mustMount(t, m, tree, g, d.Request); p.Path != "/data" { // with the server still silent
		t.Errorf("placed %+v", p)
	}
	if err := m.Unmount(deadline(t, 20*time.Second), g.box, d.Major, d.Minor, "/data"); err != nil {
		t.Error(err)
	}
	hang("/fuse/below")
	start = time.Now()
	hang("/fuse/below") // all places are taken, so this one does not wait
	if took := time.Since(start); took >= helperDeadline {
		t.Errorf("one helper too many waited %v", took)
	}
	end() // and with the server the helpers that wait for it, in a moment
	g.do("umount", "-l", "/fuse")
	var err error
	for range 100 {
		if _, err = m.Mount(deadline(t, 20*time.Second), tree, g.box, d.Request); !errors.Is(err, ErrStuck) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("after the server's end: %v", err)
	}
}

func TestHungHelpersAreLimitedForEachContainer(t *testing.T) {
	g := &gate{boxes: map[uint64]*slots{}}
	ctx := deadline(t, time.Minute)
	var in []*place
	for range maxHelpers {
		p, err := g.enter(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		p.isLate()
		p.isLate() // counts once
		in = append(in, p)
	}
	start := time.Now()
	if _, err := g.enter(ctx, 1); !errors.Is(err, ErrStuck) || time.Since(start) > helperDeadline {
		t.Errorf("one more: %v after %v", err, time.Since(start))
	}
	other, err := g.enter(ctx, 2)
	if err != nil {
		t.Errorf("another container: %v", err)
	}
	in[0].leave()
	in[0].isLate() // no more
	again, err := g.enter(ctx, 1)
	if err != nil {
		t.Errorf("after one has ended: %v", err)
	}
	if _, err := g.enter(deadline(t, 20*time.Millisecond), 1); !errors.Is(err, ErrStuck) {
		t.Errorf("while all places are taken: %v", err)
	}
	for _, p := range append(in[1:], again, other) {
		p.leave()
	}
	if len(g.boxes) != 0 {
		t.Errorf("left %v", g.boxes)
	}
}

func TestFrozenContainerIsServed(t *testing.T) {
	m, tree, d := newMounter(findHelper(t)), newTree(t), newDisk(t, filesystem.Ext4)
	g := newGuest(t, "", false, oneMap)
	freeze, thaw := func() { check(unix.Kill(g.pid, unix.SIGSTOP)) }, func() { check(unix.Kill(g.pid, unix.SIGCONT)) }
	if inLab {
		freeze, thaw = func() { must(t, "lxc-freeze", "-n", g.name) }, func() { must(t, "lxc-unfreeze", "-n", g.name) }
	}
	freeze()
	defer thaw()
	p := mustMount(t, m, tree, g, d.Request)
	if err := m.Unmount(deadline(t, 20*time.Second), g.box, d.Major, d.Minor, p.Path); err != nil {
		t.Error(err)
	}
	d.mustBeFree("unmounted")
}

func TestTreeComesBackAfterWhatRootCanDoToIt(t *testing.T) {
	for _, privileged := range []bool{false, true} {
		for i, spoil := range []string{
			"umount /lls",
			"umount -l /lls",
			"mount -t tmpfs none /lls",
			"mount -t tmpfs none /lls && mount --bind /data /lls && mount --bind /proc /lls",
			"mount --make-private /lls",
			"mount --make-shared /lls",
			"mkdir -p /x && mount --make-private / && mount --move /lls /x",
			"umount /lls && rmdir /lls",
			"mount --make-rprivate /",
			"mount --bind /lls /lls",
		} {
			t.Run(fmt.Sprintf("privileged=%v %s", privileged, spoil), func(t *testing.T) {
				m, tree, d := newMounter(findHelper(t)), newTree(t), newDisk(t, filesystem.Ext4)
				g := newGuest(t, fmt.Sprintf("%v%d", privileged, i), privileged, oneMap)
				if err := m.Inject(deadline(t, 20*time.Second), tree, g.box); err != nil {
					t.Fatal(err)
				}
				before, err := g.box.points()
				if err != nil {
					t.Fatal(err)
				}
				if err := m.Inject(deadline(t, 20*time.Second), tree, g.box); err != nil {
					t.Fatal(err)
				}
				if after, err := g.box.points(); err != nil || len(after) != len(before) {
					t.Errorf("injected twice: %d mounts, then %d, %v", len(before), len(after), err)
				}
				g.do("sh", "-c", spoil)
				p := mustMount(t, m, tree, g, d.Request)
				g.do("touch", "/data/file")
				if err := tree.Put("probe", []byte(spoil), 0o644); err != nil {
					t.Fatal(err)
				}
				if got := g.do("cat", "/lls/probe"); got != spoil {
					t.Errorf("/lls is not the tree: %q", got)
				}
				if err := m.Unmount(deadline(t, 20*time.Second), g.box, d.Major, d.Minor, p.Path); err != nil {
					t.Error(err)
				}
				d.mustBeFree("unmounted")
			})
		}
	}
}

func TestNoPlaceForTheTree(t *testing.T) {
	m, tree, d := newMounter(findHelper(t)), newTree(t), newDisk(t, filesystem.Ext4)
	for i, plant := range []string{"ln -s /etc /lls", "touch /lls", "mkfifo /lls", "ln -s /nothing /lls"} {
		g := newGuest(t, strconv.Itoa(i), i%2 == 1, oneMap+i*65536)
		g.do("sh", "-c", plant)
		if err := m.Inject(deadline(t, 20*time.Second), tree, g.box); !errors.Is(err, ErrNoPlace) {
			t.Errorf("%s: %v", plant, err)
		}
		if _, err := m.Mount(deadline(t, 20*time.Second), tree, g.box, d.Request); !errors.Is(err, ErrNoPlace) {
			t.Errorf("%s: mount: %v", plant, err)
		}
		if points, err := g.box.points(); err != nil || len(PointsOf(points, d.Major, d.Minor)) != 0 {
			t.Errorf("%s: %+v %v", plant, points, err)
		}
	}
	d.mustBeFree("nothing was mounted")
}

// The directory is made with the ids of the container's root, never the host's.
func TestDirectoryOfTheTreeBelongsToTheContainer(t *testing.T) {
	m, tree := newMounter(findHelper(t)), newTree(t)
	g := newGuest(t, "", false, oneMap)
	if err := m.Inject(deadline(t, 20*time.Second), tree, g.box); err != nil {
		t.Fatal(err)
	}
	if got := g.do("stat", "-c", "%a %u", "/lls"); got != "755 65534\n" {
		t.Errorf("the tree: %q", got)
	}
	g.refuse("ls", "/lls/.mnt")
	g.refuse("touch", "/lls/x")
	g.do("umount", "/lls")
	if got := g.do("stat", "-c", "%a %u:%g", "/lls"); got != "755 0:0\n" {
		t.Errorf("the directory: %q", got)
	}
}

func TestNothingOfAnotherContainerIsReached(t *testing.T) {
	m, tree, d := newMounter(findHelper(t)), newTree(t), newDisk(t, filesystem.Ext4)
	g := newGuest(t, "", true, 0)
	mustMount(t, m, tree, g, d.Request)
	// A privileged root can write the tree. What it does is seen nowhere else.
	g.do("sh", "-c", "mount -o remount,bind,rw /lls && rm -rf /lls/.mnt && ln -s /etc /lls/.mnt && mkdir -p /lls/lls.sock/x /lls/bin/lls/y")
	before := must(t, "ls", "/etc")
	g.do("umount", "/data")
	mustMount(t, m, tree, g, d.Request)
	if after := must(t, "ls", "/etc"); after != before {
		t.Errorf("/etc changed: %s", after)
	}
	if err := tree.Put("bin/lls", []byte("client"), 0o755); err != nil {
		t.Error(err)
	}
	l, err := tree.Listen("lls.sock", 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := g.do("cat", "/lls/bin/lls"); got != "client" {
		t.Errorf("read %q", got)
	}
	if got := g.do("stat", "-c", "%F %a", "/lls/lls.sock"); !strings.HasPrefix(got, "socket 666") {
		t.Errorf("the socket is %q", got)
	}
}
