package hostile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/test/kit"
)

func TestATreeThatIsTakenAwayComesBack(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		c.Sh(t, "umount -l /lls; mount -t tmpfs none /lls; mkdir -p /lls/bin /lls/.mnt; echo no > /lls/lls.sock || true") // the agent may have been quicker
		othersWork(t, "while /lls is something else")
		c.Sh(t, "umount -l /lls || true")
		worksAgain(t, c)
	})
}

// listing is every file below a directory of the host, with owner, mode and time; LVM's own files aside.
func listing(t *testing.T, dir string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for line := range strings.Lines(kit.Must(t, "find", dir, "-path", dir+"/lvm", "-prune", "-o", "-printf", "%p %y %U:%G %m %l %C@\n")) {
		all[strings.TrimSpace(line)] = true
	}
	return all
}

func TestWhatIsPlantedAtTheTreesPlaceIsNotFollowed(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		place := filepath.Join(c.Root(), "lls")
		etc := listing(t, "/etc")
		for _, plant := range []struct {
			what string
			do   func() error
		}{
			{"link out", func() error { return os.Symlink("/etc", place) }},
			{"link up", func() error { return os.Symlink("../../../../../etc", place) }},
			{"file", func() error { return os.WriteFile(place, nil, 0o644) }},
			{"fifo", func() error { return unix.Mkfifo(place, 0o644) }},
			{"socket", func() error { return unix.Mknod(place, unix.S_IFSOCK|0o666, 0) }},
		} {
			c.Stop(t)
			if err := os.RemoveAll(place); err != nil {
				t.Fatal(err)
			}
			if err := plant.do(); err != nil {
				t.Fatal(err)
			}
			if r := c.Start(t); r.Took > 10*time.Second {
				t.Errorf("%s: the start took %v", plant.what, r.Took)
			}
			for _, m := range c.Mounts(t) {
				if m.Source == "lls" {
					t.Errorf("%s: the tree went to %+v", plant.what, m)
				}
			}
			if r := c.Exec(t, "sh", "-c", "ls -A /etc/.mnt /etc/bin /etc/lls.sock"); !strings.Contains(r.Stderr, "No such file") || r.Stdout != "" {
				t.Errorf("%s: something of ours is in /etc: %v", plant.what, r)
			}
		}
		othersWork(t, "with a container that cannot be served")
		for line := range listing(t, "/etc") {
			if !etc[line] {
				t.Errorf("the host's /etc was changed: %s", line)
			}
		}
		c.Stop(t)
		if err := os.RemoveAll(place); err != nil {
			t.Fatal(err)
		}
		c.Start(t)
		worksAgain(t, c)
	})
}

func TestATreeThatIsRewrittenIsNotBelieved(t *testing.T) {
	scene(t)
	if r := plain.Exec(t, "sh", "-c", "mount -o remount,bind,rw /lls || echo x > /lls/x || rm /lls/lls.sock || rm -r /lls/bin"); r.Exit == 0 {
		t.Errorf("an unprivileged root could change /lls: %v", r)
	}
	if err := os.WriteFile("/var/tmp/precious", []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The privileged one is the host's root as far as its own tree goes.
	power.Sh(t, `mount -o remount,bind,rw /lls
rm -rf /lls/lls.sock /lls/bin /lls/.mnt /lls/tools /lls/config.json
ln -s /var/tmp/precious /lls/lls.sock; ln -s /var/tmp /lls/bin; ln -s /var/tmp /lls/.mnt; ln -s /var/tmp/precious /lls/config.json; mkfifo /lls/tools`)
	othersWork(t, "with a rewritten tree")
	before := kit.Must(t, "ls", "-A", "/var/tmp")
	kit.Agent(t, "reload").Want(t, 0)
	kit.KillAgent(t) // it adopts the tree as it is
	othersWork(t, "after adopting a rewritten tree")
	worksAgain(t, power)
	if text, err := os.ReadFile("/var/tmp/precious"); err != nil || string(text) != "precious" {
		t.Errorf("a link out of the tree was followed: %q %v", text, err)
	}
	if info, err := os.Stat("/var/tmp/precious"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a link out of the tree was followed: %v %v", info, err)
	}
	if now := kit.Must(t, "ls", "-A", "/var/tmp"); now != before {
		t.Errorf("a link out of the tree was followed: /var/tmp had\n%s\nand has\n%s", before, now)
	}
}

func TestATargetThatChangesUnderTheAgentsHandsLeadsNowhere(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		c.Do(t, "snapshot", dataset, "racer")
		c.Sh(t, "rm -rf /t /l; mkdir /t; ln -s /proc/1 /l")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = kit.Try(t.Context(), kit.Patience, "", "lab-exec", c.Name, program, "part:swap", "/t", "/l", "6")
		}()
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
			r := c.LLS(t, "mount", "racer", "/t")
			if r.Exit != 0 && r.Exit != 17 && r.Exit != 11 {
				t.Errorf("neither done nor refused: %v", r)
			}
			device := kit.FindLV(t, c.Name, "racer").Device()
			for _, m := range c.Mounts(t) {
				if m.Device != device {
					continue
				}
				if m.Path != "/t" && m.Path != "/l" || r.Exit != 0 {
					t.Errorf("mounted at %s after exit %d", m.Path, r.Exit)
				}
				c.Do(t, "umount", "racer")
			}
		}
		<-done
		c.Purge(t, "racer")
		worksAgain(t, c)
	})
}

// silent mounts a FUSE file system that never answers in a container, and gives what ends it.
func silent(t *testing.T, c *kit.Container, dir string) func() {
	t.Helper()
	const device = "/var/tmp/fuse"
	if err := unix.Mknod(device, unix.S_IFCHR, int(unix.Mkdev(10, 229))); err != nil && err != unix.EEXIST {
		t.Fatal(err)
	}
	kit.Must(t, "chmod", "666", device)
	pid := strconv.Itoa(c.PID(t))
	argv := []string{program, "part:silence", device, pid, dir}
	if !c.Privileged {
		argv = append([]string{"nsenter", "-t", pid, "-U", "-S", "0", "-G", "0", "--"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
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
	if n, err := out.Read(make([]byte, 16)); n == 0 {
		t.Fatalf("the silent file system did not come up: %v", err)
	}
	return end
}

func TestAFileSystemThatNeverAnswersStopsOnlyItsOwnRequest(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		before := agentHolds(t)
		c.Sh(t, "mkdir -p /fuse")
		c.Do(t, "snapshot", dataset, "stuck")
		end := silent(t, c, "/fuse")
		results := make(chan kit.Result, 6)
		for range cap(results) {
			go func() {
				r, _ := kit.Try(t.Context(), kit.Patience, "", "lab-exec", c.Name, "lls", "mount", "stuck", "/fuse/below")
				results <- r
			}()
		}
		time.Sleep(300 * time.Millisecond)
		othersWork(t, "with requests that hang")
		if r := c.LLS(t, "list").Want(t, 0); r.Took > normal {
			t.Errorf("a second request of the same container took %v", r.Took)
		}
		for range cap(results) {
			if r := <-results; r.Exit != 11 && r.Exit != 17 || r.Took > 30*time.Second {
				t.Errorf("a mount below a file system that never answers: %v", r)
			}
		}
		c.LLS(t, "mount", "stuck", "/fuse").Want(t, 11) // something else is mounted there
		end()
		c.Sh(t, "umount -l /fuse")
		c.Purge(t, "stuck") // nothing holds it
		worksAgain(t, c)
		before.letsGo(t)
	})
}

func TestAFrozenContainerStopsNobodyElse(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		for _, delay := range []time.Duration{50, 150, 300, 500} {
			done := make(chan kit.Result, 1)
			go func() {
				r, _ := kit.Try(t.Context(), kit.Patience, "", "lab-exec", c.Name, "lls", "snapshot", dataset, "ice", "--mount", "/data")
				done <- r
			}()
			time.Sleep(delay * time.Millisecond)
			kit.Must(t, "lxc-freeze", "-n", c.Name)
			othersWork(t, "with a frozen container")
			kit.Must(t, "lxc-unfreeze", "-n", c.Name)
			r := <-done
			m := c.MountAt(t, "/data")
			switch found := kit.FindLVs(t, c.Name, "ice"); {
			case r.Exit == 0 && len(found) == 1 && m != nil && m.Device == found[0].Device():
				c.Do(t, "umount", "ice")
				c.Purge(t, "ice")
			case r.Exit != 0 && len(found) == 0 && m == nil:
			default:
				t.Errorf("frozen after %v: %v; LVM has %+v, /data is %+v", delay, r, found, m)
			}
		}
		worksAgain(t, c)
	})
}
