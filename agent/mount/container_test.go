package mount

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent/filesystem"
	"lls/internal/run"
)

// inLab says that the containers are real ones, of LXC, in the lab's guest.
// Otherwise they are made of namespaces here, which is all this layer sees.
var inLab = os.Getenv("LLS_LAB") == "1"

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if inLab {
		t.Fatal("not root in the lab")
	}
	t.Skip("needs root, for mounts and namespaces")
}

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// A guest is a container to mount into.
type guest struct {
	t    *testing.T
	name string
	pid  int
	box  *Box
}

func newGuest(t *testing.T, name string, privileged bool, firstID int) *guest {
	t.Helper()
	needRoot(t)
	g := &guest{t: t, name: name}
	if inLab {
		g.startLXC(privileged, firstID)
	} else {
		g.startNamespaces(privileged, firstID)
	}
	box, err := OpenBox(g.pid, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.box = box
	t.Cleanup(func() { _ = box.Close() })
	g.do("mkdir", "-p", "/data", "/other")
	return g
}

func (g *guest) startLXC(privileged bool, firstID int) {
	g.name = fmt.Sprintf("m%08x%s", crc32.ChecksumIEEE([]byte(g.t.Name())), g.name)
	args := []string{g.name, "--map", strconv.Itoa(firstID)}
	if privileged {
		args = []string{g.name, "--privileged"}
	}
	must(g.t, "lab-container", args...)
	g.t.Cleanup(func() { must(g.t, "lxc-stop", "-k", "-n", g.name) })
	g.pid = atoi(strings.TrimSpace(must(g.t, "lxc-info", "-n", g.name, "-p", "-H")))
}

func (g *guest) startNamespaces(privileged bool, firstID int) {
	dir, err := os.MkdirTemp("", "lls-guest")
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	rootfs := filepath.Join(dir, "rootfs")
	for _, d := range []string{"bin", "proc", "sys", "dev", "run", "tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(rootfs, d), 0o755); err != nil {
			g.t.Fatal(err)
		}
	}
	must(g.t, "cp", "/bin/busybox", rootfs+"/bin/busybox")
	must(g.t, rootfs+"/bin/busybox", "--install", "-s", rootfs+"/bin")
	for _, link := range strings.Fields(must(g.t, "ls", rootfs+"/bin")) {
		if link != "busybox" {
			_ = os.Remove(rootfs + "/bin/" + link)
			_ = os.Symlink("busybox", rootfs+"/bin/"+link)
		}
	}
	must(g.t, "chmod", "755", dir)
	cmd := exec.Command(as(g.t, "container-init"), rootfs)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if !privileged {
		must(g.t, "chown", "-R", fmt.Sprintf("%d:%d", firstID, firstID), rootfs)
		maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: firstID, Size: 65536}}
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = maps, maps
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
		cmd.SysProcAttr.Credential = &syscall.Credential{}
	}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if n, _ := ready.Read(make([]byte, 8)); n == 0 {
		g.t.Fatal("the container did not start")
	}
	g.pid = cmd.Process.Pid
	// A thread that is not the first of its process takes that one's place when it executes another program: for a moment the process has no
	// namespaces that could be opened.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", g.pid)); err == nil && filepath.Base(exe) == "busybox" {
			return
		}
		if time.Now().After(end) {
			g.t.Fatal("the container's init does not run")
		}
	}
}

// containerInit does what LXC does before a container's init.
func containerInit(rootfs string) error {
	mount := func(source, target, kind string, flags uintptr) error {
		data := ""
		if target == rootfs+"/dev" {
			data = "mode=755" // in a directory for all, the kernel guards the devices of others
		}
		if err := unix.Mount(source, target, kind, flags, data); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
		return nil
	}
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SLAVE); err != nil {
		return err
	}
	if err := mount(rootfs, rootfs, "", unix.MS_BIND); err != nil {
		return err
	}
	for target, kind := range map[string]string{"proc": "proc", "dev": "tmpfs", "run": "tmpfs", "tmp": "tmpfs"} {
		if err := mount(kind, filepath.Join(rootfs, target), kind, 0); err != nil {
			return err
		}
	}
	for _, device := range []string{"/dev/null", "/dev/zero"} {
		if err := os.WriteFile(rootfs+device, nil, 0o644); err != nil {
			return err
		}
		if err := mount(device, rootfs+device, "", unix.MS_BIND); err != nil {
			return err
		}
	}
	if err := unix.Chdir(rootfs); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SHARED); err != nil {
		return err
	}
	fmt.Println("ready")
	return unix.Exec("/bin/busybox", []string{"sleep", "1000000"}, []string{"PATH=/bin"})
}

// exec runs a command as the container's root and returns what it printed.
func (g *guest) exec(args ...string) (string, error) {
	cmd := g.command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (g *guest) command(args ...string) *exec.Cmd {
	if inLab {
		return exec.Command("lab-exec", append([]string{g.name}, args...)...)
	}
	enter := []string{"-t", strconv.Itoa(g.pid), "-m", "-p", "-r", "-w"}
	if g.box == nil || g.box.Mapped {
		enter = append(enter, "-U", "-S", "0", "-G", "0")
	}
	cmd := exec.Command("nsenter", append(append(enter, "--"), args...)...)
	cmd.Env = []string{"PATH=/bin"}
	return cmd
}

// do is exec of what must succeed.
func (g *guest) do(args ...string) string {
	g.t.Helper()
	out, err := g.exec(args...)
	if err != nil {
		g.t.Fatalf("%s: %q: %v: %s", g.name, args, err, out)
	}
	return out
}

// refuse is exec of what must fail.
func (g *guest) refuse(args ...string) {
	g.t.Helper()
	if out, err := g.exec(args...); err == nil {
		g.t.Errorf("%s: %q succeeded: %s", g.name, args, out)
	}
}

func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// A disk is a loop device with a file system, and a request for it.
type disk struct {
	Request
	t *testing.T
}

func newDisk(t *testing.T, kind filesystem.Type) *disk {
	t.Helper()
	needRoot(t)
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 512<<20); err != nil {
		t.Fatal(err)
	}
	device := strings.TrimSpace(must(t, "losetup", "-f", "--show", file))
	t.Cleanup(func() { must(t, "losetup", "-d", device) })
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	d := &disk{t: t, Request: Request{
		Device: device, Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev), Type: kind, Target: "/data",
	}}
	if err := filesystem.Make(deadline(t, time.Minute), run.New(), device, kind, filesystem.MakeOptions{}); err != nil {
		t.Fatal(err)
	}
	return d
}

// free says whether nothing at all holds the device.
func (d *disk) free() bool {
	fd, err := unix.Open(d.Device, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}

// newFinder finds holders on a machine that may stand still for a while.
func newFinder() *Finder { return &Finder{patience: time.Minute} }

// helperDeadline is how long a helper of hastyMounter may take; what is to be quick is quicker than that.
const helperDeadline = 4 * time.Second

// mustBeFree allows for what the kernel does after a system call returned.
func (d *disk) mustBeFree(why string) {
	d.t.Helper()
	for range 500 {
		if d.free() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	holders, err := newFinder().Holders(deadline(d.t, time.Minute), d.Major, d.Minor)
	d.t.Errorf("%s, and the device is still in use by %+v (%v)", why, holders, err)
}

// fill lets f write into the file system as the host's root.
func (d *disk) fill(f func(dir string)) {
	d.t.Helper()
	dir := d.t.TempDir()
	if err := unix.Mount(d.Device, dir, string(d.Type), 0, ""); err != nil {
		d.t.Fatal(err)
	}
	f(dir)
	if err := unix.Unmount(dir, 0); err != nil {
		d.t.Fatal(err)
	}
}

// newMounter uses lls-mount beside the test program, the installed one, or one
// that is built now.
func newMounter(helper string) *Mounter {
	return New(run.New(), Options{Helper: helper, Deadline: time.Minute})
}

// hastyMounter is for helpers that are to be given up.
func hastyMounter(helper string) *Mounter {
	return New(run.New(), Options{Helper: helper, Deadline: helperDeadline})
}

func findHelper(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(filepath.Dir(exe), "lls-mount"), DefaultHelper} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path := filepath.Join(t.TempDir(), "lls-mount")
	build := exec.Command("go", "build", "-o", path, "lls/cmd/lls-mount")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build lls-mount: %v: %s", err, out)
	}
	return path
}

func newTree(t *testing.T) *Tree {
	t.Helper()
	needRoot(t)
	base, err := os.MkdirTemp("/run", "lls-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(base) })
	tree, err := OpenTree(base, "box")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Remove(); err != nil {
			t.Error(err)
		}
	})
	return tree
}
