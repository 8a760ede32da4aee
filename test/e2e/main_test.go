// Package e2e shows that LLS does its job: every test here types what people type, in the lab's guest, and then looks at the truth in
// LVM, in the kernel's mount tables and inside the containers.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"

	"lls/test/kit"
)

const (
	// shortTests are what -test.short runs, for the guests that are not the main one.
	shortTests = "^(TestTheStory|TestFilesKeepTheirOwnersUnderAnotherIDMap|TestLockedFlagsStay|TestAccessSaysHowOthersMount|TestBadSizes|TestResizeGrowsTheFileSystem)$"
	// rebootTest and autostartTest run in processes of their own, after reboots of the guest that TestMain asks for when all else is
	// well: both after a shutdown, the second also after a power cut.
	rebootTest    = "TestAfterAHostReboot"
	autostartTest = "TestContainersThatTheHostStarts"
	rebootPhase   = "LLS_E2E_AFTER"
	shutdown      = "shutdown"
	powerCut      = "power cut"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("LLS_LAB") != "1" {
		os.Exit(m.Run()) // they say themselves why they skip
	}
	switch os.Getenv(rebootPhase) {
	case shutdown:
		set("test.run", "^("+rebootTest+"|"+autostartTest+")$")
		if status := m.Run(); status != 0 {
			os.Exit(status)
		}
		os.Exit(reboot(powerCut, "--hard"))
	case powerCut:
		set("test.run", "^"+autostartTest+"$")
		os.Exit(m.Run())
	}
	wanted := flag.Lookup("test.run").Value.String()
	set("test.skip", "^("+rebootTest+"|"+autostartTest+")$")
	if testing.Short() && wanted == "" {
		set("test.run", shortTests)
	}
	status := m.Run()
	if status != 0 || testing.Short() && wanted == "" || !regexp.MustCompile(wanted).MatchString(rebootTest) {
		os.Exit(status)
	}
	if err := prepareReboot(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: cannot prepare the guest for its reboot:", err)
		os.Exit(1)
	}
	os.Exit(reboot(shutdown))
}

// reboot has the lab boot the guest again and run this program for what is to be seen then. It returns only when it fails.
func reboot(phase string, flags ...string) (status int) {
	fmt.Println("=== rebooting the guest:", phase)
	self, err := os.Executable()
	if err == nil {
		var lab string
		if lab, err = exec.LookPath("lab-reboot"); err == nil {
			argv := append([]string{lab}, flags...)
			err = syscall.Exec(lab, append(argv, "env", "LLS_LAB=1", rebootPhase+"="+phase, self, "-test.v"), os.Environ())
		}
	}
	fmt.Fprintln(os.Stderr, "FAIL: cannot reboot the guest:", err)
	return 1
}

func set(name, value string) {
	if err := flag.Set(name, value); err != nil {
		panic(err)
	}
}

// world is what all tests share: LLS on the lab's disk, a dataset of the host, and three containers.
type world struct {
	alice, bob *kit.Container // unprivileged, with different id maps
	root       *kit.Container // privileged
}

// dataset is the host's, 512 MiB, with one file: /hello says "hello".
const dataset = "genomes"

var (
	worldOnce sync.Once
	theWorld  *world
)

// lab makes the world, once for all tests.
func lab(t *testing.T) *world {
	t.Helper()
	kit.Init(t)
	worldOnce.Do(func() {
		kit.Agent(t, "create", dataset, "--size", "512M").Want(t, 0)
		onHost(t, dataset, func(dir string) { write(t, dir+"/hello", "hello\n") })
		theWorld = &world{
			alice: kit.NewContainer(t, "alice"), bob: kit.NewContainer(t, "bob"), root: kit.NewContainer(t, "root", "--privileged"),
		}
	})
	if theWorld == nil {
		t.Fatal("the containers could not be made; an earlier test says why")
	}
	return theWorld
}

// onHost mounts a volume on the host for as long as do runs.
func onHost(t *testing.T, name string, do func(dir string)) {
	t.Helper()
	if err := os.MkdirAll("/mnt/e2e", 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/mnt/e2e", "")
	if err != nil {
		t.Fatal(err)
	}
	kit.Agent(t, "mount", name, dir).Want(t, 0)
	defer func() {
		kit.Agent(t, "umount", dir).Want(t, 0)
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	}()
	do(dir)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// purgeAfter destroys volumes of a container when the test ends, mounted or not, as far as they are there.
func purgeAfter(t *testing.T, c *kit.Container, names ...string) {
	t.Cleanup(func() {
		for _, name := range names {
			c.LLS(t, "umount", name)
			c.LLS(t, "delete", name)
			c.LLS(t, "purge", name, "--yes")
			if left := kit.FindLVs(t, c.Name, name); len(left) > 0 {
				t.Errorf("cannot clear up %s of %s: %+v", name, c.Name, left)
			}
		}
	})
}

// own makes a small volume of a container for one test, perhaps with more flags.
func own(t *testing.T, c *kit.Container, name string, flags ...string) {
	t.Helper()
	purgeAfter(t, c, name)
	args := []string{"create", name, "--size", "64M"}
	c.Do(t, append(args, flags...)...)
}

// dirs makes directories in a container to mount on, and takes them away when the test ends. Ask for them before the volumes.
func dirs(t *testing.T, c *kit.Container, paths ...string) {
	t.Helper()
	for _, p := range paths {
		c.Must(t, "mkdir", "-p", p)
		t.Cleanup(func() { c.Exec(t, "rmdir", p) })
	}
}

// wantMounted fails the test unless exactly this volume is mounted at the container's path, and the container sees it there itself.
func wantMounted(t *testing.T, c *kit.Container, path string, v kit.LV) *kit.Mount {
	t.Helper()
	m := c.MountAt(t, path)
	if m == nil || m.Device != v.Device() || m.Root != "/" {
		t.Fatalf("at %s of %s is %+v, want device %s", path, c.Name, m, v.Device())
	}
	if !m.Has("nodev") || !m.Has("nosuid") {
		t.Errorf("the mount at %s of %s has %v, want nodev and nosuid", path, c.Name, m.Options)
	}
	c.Must(t, "grep", "-q", " "+v.Device()+" / "+path+" ", "/proc/1/mountinfo")
	return m
}

// wantNotMounted fails the test if the volume's device is mounted anywhere in the container.
func wantNotMounted(t *testing.T, c *kit.Container, v kit.LV) {
	t.Helper()
	for _, m := range c.Mounts(t) {
		if m.Device == v.Device() {
			t.Errorf("%s is still mounted in %s: %+v", v.Name, c.Name, m)
		}
	}
}
