package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/test/kit"
)

func TestAHostileFstabMountsNothingAndDelaysNobody(t *testing.T) {
	putFile(t, "/etc/outside", hostileLine) // a link must not lead there
	t.Cleanup(func() { _ = os.Remove("/etc/outside") })
	kinds(t, func(t *testing.T, c *kit.Container) {
		withFstab(t, c, "")
		agent := kit.AgentPID(t)
		hostileStarts(t, c, func(what string) {
			if r := c.LLS(t, "list"); r.Exit != 0 || r.Took > 30*time.Second {
				t.Errorf("%s: LLS does not work: %v", what, r)
			}
		})
		if now := kit.AgentPID(t); now != agent {
			t.Errorf("the agent was %d and is %d", agent, now)
		}
	})
	t.Run("agent down", func(t *testing.T) { // then the hook reads it, with the rights of the host's root
		for _, c := range []*kit.Container{dev, devRoot} {
			withFstab(t, c, "")
		}
		kit.StopAgent(t)
		for _, c := range []*kit.Container{dev, devRoot} {
			hostileStarts(t, c, func(string) {})
		}
	})
}

const hostileLine = "lls:e4 /data lls noauto,x-lls.auto 0 0\n"

// longRequired are lines that are refused, each of more than 3000 bytes, and with option x-lls.required each wants to be told of.
func longRequired(n int, option string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "lls:%s%d /m%[2]d lls suid%s 0 0\n", strings.Repeat("a", 3000), i, option)
	}
	return b.String()
}

// hostileStarts starts a container with one hostile fstab after the other.
func hostileStarts(t *testing.T, c *kit.Container, then func(what string)) {
	t.Helper()
	path := filepath.Join(c.Root(), "etc/fstab")
	link := func(to string) func() error { return func() error { return os.Symlink(to, path) } }
	for _, plant := range []struct {
		what string
		do   func() error
	}{
		{"fifo", func() error { return unix.Mkfifo(path, 0o644) }},
		{"link to /dev/zero", link("/dev/zero")},
		{"link to /proc/1/root/etc/outside", link("/proc/1/root/etc/outside")},
		{"link to /proc/kmsg", link("/proc/kmsg")},
		{"link to /proc/1/environ", link("/proc/1/environ")},
		{"ten megabytes", func() error {
			return os.WriteFile(path, []byte(strings.Repeat(hostileLine, 10<<20/len(hostileLine))), 0o644)
		}},
		{"one line of 200 KB", func() error { return os.WriteFile(path, []byte(hostileLine[:8]+strings.Repeat("x", 200<<10)), 0o644) }},
		{"link out", link("../../../../../../../../etc/outside")},
		{"link to itself", link("fstab")},
		{"directory", func() error { return os.Mkdir(path, 0o755) }},
		{"socket", func() error { return unix.Mknod(path, unix.S_IFSOCK|0o666, 0) }},
		{"block device", func() error { return unix.Mknod(path, unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))) }},
		{"80 long lines, refused", func() error { return os.WriteFile(path, []byte(longRequired(80, "")), 0o644) }},
		{"NUL bytes", func() error { return os.WriteFile(path, make([]byte, 100<<10), 0o644) }},
	} {
		if c.Running(t) {
			kit.Must(t, "lxc-stop", "-k", "-n", c.Name)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := plant.do(); err != nil {
			t.Fatal(err)
		}
		mark := fmt.Sprintf("lls-test: %s, %s, %d", c.Name, plant.what, time.Now().UnixNano())
		putFile(t, "/dev/kmsg", mark)
		r := start(t, c)
		if r.Took > 30*time.Second {
			t.Errorf("%s: the start took %v", plant.what, r.Took)
		}
		if got := mounted(t, c); len(got) > 0 {
			t.Errorf("%s: mounted is %v", plant.what, got)
		}
		if !strings.Contains(kernelLog(t), mark) {
			t.Errorf("%s: the kernel's messages were taken away", plant.what)
		}
		then(plant.what)
	}
}

// kernelLog takes the messages out of /proc/kmsg that nobody has taken yet.
func kernelLog(t *testing.T) string {
	t.Helper()
	fd, err := unix.Open("/proc/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	var all strings.Builder
	for buf := make([]byte, 64<<10); ; {
		n, err := unix.Read(fd, buf)
		if err != nil || n <= 0 {
			return all.String()
		}
		all.Write(buf[:n])
	}
}

// attributes are an fstab's owner, mode and bytes, as the container sees them.
func attributes(t *testing.T, c *kit.Container) (owner, text string) {
	t.Helper()
	return c.Must(t, "stat", "-c", "%u:%g %a", "/etc/fstab"), getFile(t, filepath.Join(c.Root(), "etc/fstab"))
}

func TestSaveAndForget(t *testing.T) {
	const text = "# mine\n\nproc\t/proc   proc defaults 0 0   \n  lls:nothere /opt lls noauto 0 0 # keep\n\\040 /x ext4 a,b\r\n# end\n"
	kinds(t, func(t *testing.T, c *kit.Container) {
		withFstab(t, c, text)
		c.Sh(t, "chmod 640 /etc/fstab; chown 0:1000 /etc/fstab")
		c.Do(t, "mount", "e4", "/data", "--save")
		owner, got := attributes(t, c)
		if got != text+"lls:e4 /data lls noauto,x-lls.auto 0 0\n" || owner != "0:1000 640" {
			t.Errorf("after --save the fstab is of %s and says %q", owner, got)
		}
		c.Do(t, "mount", "e4", "/data", "--save")
		if _, again := attributes(t, c); again != got {
			t.Errorf("after a second --save it says %q", again)
		}
		kit.Must(t, "lxc-stop", "-k", "-n", c.Name)
		start(t, c)
		same(t, "when init began", found(t, c), map[string]string{"/data": "e4"})
		c.Do(t, "umount", "/data", "--forget")
		same(t, "after umount", mounted(t, c), map[string]string{})
		if owner, got := attributes(t, c); got != text || owner != "0:1000 640" {
			t.Errorf("after --forget the fstab is of %s and says %q", owner, got)
		}
		c.Sh(t, "mv /etc/fstab /etc/real; ln -s real /etc/fstab")
		if r := c.LLS(t, "mount", "e4", "/data", "--save"); r.Exit == 0 || getFile(t, filepath.Join(c.Root(), "etc/real")) != text {
			t.Errorf("a link was written through: %v", r)
		}
		c.LLS(t, "umount", "e4")
		c.Sh(t, "rm /etc/real")
	})
}

// TestWhatSystemdMountsOverIsNotReplayed has a link lead to where a mount that is made before the container's init would vanish.
func TestWhatSystemdMountsOverIsNotReplayed(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		withFstab(t, c, "lls:e4 /lnk/x lls noauto,x-lls.auto 0 0\n")
		c.Sh(t, "mkdir -p /tmp/x; ln -s /tmp /lnk")
		kit.Must(t, "lxc-stop", "-k", "-n", c.Name)
		start(t, c)
		same(t, "when init began", found(t, c), map[string]string{})
		if lines := fstabOf(t, c); len(lines) != 1 || lines[0].Mounted || !strings.Contains(lines[0].Problem, "leads below /tmp") {
			t.Errorf("lls-agent containers says %+v", lines)
		}
		_, before := attributes(t, c)
		if r := c.LLS(t, "mount", "e4", "/tmp/x", "--save"); r.Exit != 17 || !strings.Contains(r.Stderr, "below /tmp") {
			t.Errorf("to be saved in /tmp: %v", r)
		}
		same(t, "after that", mounted(t, c), map[string]string{})
		if r := c.LLS(t, "mount", "e4", "/lnk/x", "--save"); r.Exit != 17 || !strings.Contains(r.Stderr, "it is mounted now") {
			t.Errorf("to be saved behind a link to /tmp: %v", r)
		}
		same(t, "by hand", mounted(t, c), map[string]string{"/tmp/x": "e4"})
		if _, after := attributes(t, c); after != before {
			t.Errorf("the fstab became %q", after)
		}
		c.Do(t, "umount", "e4")
		c.Sh(t, "rm /lnk; rmdir /tmp/x")
	})
}

func TestReplayByHand(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		withFstab(t, c, "lls:e4 /data lls noauto,x-lls.auto 0 0\nlls:nothere /srv lls noauto,x-lls.auto 0 0\n")
		r := c.LLS(t, "replay")
		if r.Exit != 1 || !strings.Contains(r.Stdout, "e4 is mounted at /data") || !strings.Contains(r.Stdout+r.Stderr, "nothere") {
			t.Errorf("lls replay: %v", r)
		}
		same(t, "after lls replay", mounted(t, c), map[string]string{"/data": "e4"})
		c.Do(t, "umount", "e4")
		if r := c.Exec(t, "/lls/tools/lls_mount_on_boot.sh"); r.Exit != 1 || !strings.Contains(r.Stdout, "e4 is mounted at /data") {
			t.Errorf("the old name: %v", r)
		}
		same(t, "after the old name of it", mounted(t, c), map[string]string{"/data": "e4"})
		kit.Agent(t, "replay", c.Name).Want(t, 1)
		same(t, "after lls-agent replay", mounted(t, c), map[string]string{"/data": "e4"})
	})
}

// giveMount puts util-linux's mount into a container, with the libraries it needs.
func giveMount(t *testing.T, c *kit.Container) {
	t.Helper()
	for line := range strings.Lines(kit.Must(t, "ldd", "/usr/bin/mount")) {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "/") {
				kit.Must(t, "install", "-D", "-m", "755", word, filepath.Join(c.Root(), word))
			}
		}
	}
	kit.Must(t, "install", "-D", "-m", "755", "/usr/bin/mount", filepath.Join(c.Root(), "usr/local/bin/mount"))
}

func TestMountHelper(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		withFstab(t, c, "")
		giveMount(t, c)
		c.Sh(t, "ln -sf /lls/bin/lls /sbin/mount.lls")
		want := map[string]string{"/data": "e4"}
		for name, argv := range map[string][]string{
			"the helper itself":  {"/sbin/mount.lls", "lls:e4", "/data", "-o", "rw"},
			"util-linux's mount": {"/usr/local/bin/mount", "-t", "lls", "e4", "/data"},
		} {
			for _, again := range []string{"", ", again"} {
				c.Must(t, argv...)
				same(t, name+again, mounted(t, c), want)
			}
			c.Do(t, "umount", "e4")
		}
		r := c.Exec(t, "/bin/busybox", "mount", "-t", "lls", "e4", "/data")
		t.Logf("busybox's mount: exit %d, mounted is %v: %s", r.Exit, mounted(t, c), r.Stderr)
		c.LLS(t, "umount", "e4")

		if r := c.Exec(t, "/usr/local/bin/mount", "-t", "lls", "nothere", "/data"); r.Exit != 32 || !strings.Contains(r.Stderr, "nothere") {
			t.Errorf("a mount of what is not there: %v", r)
		}
		inside(t, c, "/etc/fstab", "lls:e4 /data lls defaults 0 0\nlls:more /srv lls ro 0 0\nlls:hand /opt lls noauto 0 0\n", 0o644)
		want["/srv"] = "more ro"
		for range 2 {
			c.Must(t, "/usr/local/bin/mount", "-a")
			same(t, "after mount -a", mounted(t, c), want)
		}
	})
}
