package kit

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// LXCPath is where the guest's containers are.
const LXCPath = "/var/lib/lxc"

// Container is one of the guest's containers.
type Container struct {
	Name       string
	Privileged bool
}

// NewContainer makes and starts a container with lab-container, which takes --privileged, --map BASE and --no-start. The caller says
// with Destroy when it has to go; else it stays as long as the guest.
func NewContainer(t testing.TB, name string, flags ...string) *Container {
	t.Helper()
	Must(t, append([]string{"lab-container", name}, flags...)...)
	c := &Container{Name: name}
	for _, f := range flags {
		c.Privileged = c.Privileged || f == "--privileged"
	}
	return c
}

// TempContainer is NewContainer for one test alone.
func TempContainer(t testing.TB, name string, flags ...string) *Container {
	t.Helper()
	t.Cleanup(func() { Run(t, "lxc-destroy", "--force", "-n", name) })
	return NewContainer(t, name, flags...)
}

// Exec runs a command as the container's root; /lls/bin is on its PATH.
func (c *Container) Exec(t testing.TB, args ...string) Result {
	t.Helper()
	return Run(t, append([]string{"lab-exec", c.Name}, args...)...)
}

// Must is Exec of a command that has to end well; it gives its stdout.
func (c *Container) Must(t testing.TB, args ...string) string {
	t.Helper()
	return Must(t, append([]string{"lab-exec", c.Name}, args...)...)
}

// Sh runs a line of shell in the container, which has to end well.
func (c *Container) Sh(t testing.TB, line string) string {
	t.Helper()
	return c.Must(t, "sh", "-c", line)
}

// LLS runs the client in the container.
func (c *Container) LLS(t testing.TB, args ...string) Result {
	t.Helper()
	return c.Exec(t, append([]string{"lls"}, args...)...)
}

// Do is LLS of a command that has to end well; it gives its stdout.
func (c *Container) Do(t testing.TB, args ...string) string {
	t.Helper()
	return c.Must(t, append([]string{"lls"}, args...)...)
}

// Purge destroys volumes of the container, one of each name: the live one, or else the latest in the trash.
func (c *Container) Purge(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		c.LLS(t, "delete", name) // it may be in the trash already
		c.Do(t, "purge", name, "--yes")
	}
}

// Background starts a line of shell in the container, which must exec the program of this name, waits until it did, and gives its pid
// inside. It ends with the test.
func (c *Container) Background(t testing.TB, program, line string) (pid string) {
	t.Helper()
	pid = c.Sh(t, "("+line+") >/dev/null 2>&1 & echo $!")
	t.Cleanup(func() { c.Exec(t, "kill", "-9", pid) })
	Eventually(t, program+" runs in "+c.Name, func() bool {
		return strings.TrimSpace(c.Exec(t, "cat", "/proc/"+pid+"/comm").Stdout) == program
	})
	return pid
}

// Holder is Background for a shell that opens a file as its descriptor 3 and goes on with it.
func (c *Container) Holder(t testing.TB, line string) (pid string) {
	t.Helper()
	pid = c.Background(t, "sh", line)
	Eventually(t, "the shell in "+c.Name+" has its file open", func() bool { return c.Exec(t, "test", "-e", "/proc/"+pid+"/fd/3").Exit == 0 })
	return pid
}

// PID is the container's init, as the host sees it.
func (c *Container) PID(t testing.TB) int {
	t.Helper()
	pid, err := strconv.Atoi(Must(t, "lxc-info", "-n", c.Name, "-p", "-H"))
	if err != nil {
		t.Fatalf("the init of container %s: %v", c.Name, err)
	}
	return pid
}

// Running says whether the container runs.
func (c *Container) Running(t testing.TB) bool {
	t.Helper()
	return Must(t, "lxc-info", "-n", c.Name, "-s", "-H") == "RUNNING"
}

// Start starts the container and waits until its init is at work.
func (c *Container) Start(t testing.TB) Result {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(c.Root(), "run/ready")); err != nil { // of its last start
		t.Fatal(err)
	}
	r := Run(t, "lxc-start", "-n", c.Name).Want(t, 0)
	c.WaitReady(t)
	return r
}

// WaitReady waits until the container's init is at work.
func (c *Container) WaitReady(t testing.TB) {
	t.Helper()
	Eventually(t, "container "+c.Name+" comes up", func() bool {
		return Run(t, "lab-exec", c.Name, "test", "-e", "/run/ready").Exit == 0
	})
}

// Stop stops the container.
func (c *Container) Stop(t testing.TB) {
	t.Helper()
	Must(t, "lxc-stop", "-n", c.Name, "-t", "10")
}

// Destroy stops the container and takes it away.
func (c *Container) Destroy(t testing.TB) {
	t.Helper()
	Must(t, "lxc-destroy", "--force", "-n", c.Name)
}

// Root is the container's root file system on the host.
func (c *Container) Root() string { return filepath.Join(LXCPath, c.Name, "rootfs") }

// Configure adds a line to the container's configuration.
func (c *Container) Configure(t testing.TB, line string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(LXCPath, c.Name, "config"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, line); err != nil {
		t.Fatal(err)
	}
}

// Mounts are the container's mounts as the host's kernel tells them.
func (c *Container) Mounts(t testing.TB) []Mount {
	t.Helper()
	return Mounts(t, c.PID(t))
}

// MountAt is what is mounted at a path of the container, uppermost; nil when nothing is.
func (c *Container) MountAt(t testing.TB, path string) *Mount {
	t.Helper()
	return MountAt(c.Mounts(t), path)
}

// Mount is one line of a mountinfo file, proc_pid_mountinfo(5).
type Mount struct {
	ID           string
	Device       string // MAJOR:MINOR
	Root, Path   string
	Options      []string // of the mount
	FS, Source   string
	SuperOptions []string // of the file system
}

// Has says whether the mount itself has an option.
func (m *Mount) Has(option string) bool {
	for _, o := range m.Options {
		if o == option {
			return true
		}
	}
	return false
}

// Super says whether the file system has an option.
func (m *Mount) Super(option string) bool {
	for _, o := range m.SuperOptions {
		if o == option {
			return true
		}
	}
	return false
}

// Mounts reads the mounts of a process of the host.
func Mounts(t testing.TB, pid int) []Mount {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []Mount
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if !ok || len(b) < 6 || len(a) < 3 {
			t.Fatalf("cannot read the line of mountinfo %q", lines.Text())
		}
		all = append(all, Mount{
			ID: b[0], Device: b[2], Root: b[3], Path: b[4], Options: strings.Split(b[5], ","),
			FS: a[0], Source: a[1], SuperOptions: strings.Split(a[2], ","),
		})
	}
	return all
}

// HostMounts are the host's.
func HostMounts(t testing.TB) []Mount {
	t.Helper()
	return Mounts(t, 1)
}

// MountAt is the uppermost of those at a path; nil when nothing is mounted there.
func MountAt(all []Mount, path string) *Mount {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Path == path {
			return &all[i]
		}
	}
	return nil
}
