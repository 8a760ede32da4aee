package boot

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lls/test/kit"
)

// prompt is how long the start of a container may take whatever the agent does.
const prompt = 30 * time.Second

// tryStart starts a container that is stopped, and gives what LXC's log has to say.
func tryStart(t *testing.T, c *kit.Container) (r kit.Result, log string) {
	t.Helper()
	forget(t, c)
	file := filepath.Join(t.TempDir(), "lxc.log")
	r = kit.Run(t, "lxc-start", "-n", c.Name, "-o", file, "-l", "DEBUG") // at which LXC writes down what hooks say
	return r, getFile(t, file)
}

// refusedStart fails the test unless the container does not start, and LXC's log says why.
func refusedStart(t *testing.T, c *kit.Container, words ...string) {
	t.Helper()
	r, log := tryStart(t, c)
	if r.Exit == 0 || c.Running(t) || r.Took > prompt {
		t.Errorf("it started, or that took its time: %v", r)
	}
	for _, w := range words {
		if !strings.Contains(log, w) {
			t.Errorf("LXC's log has no %q:\n%s", w, log)
		}
	}
	kit.Must(t, "journalctl", "--sync")
	journal := kit.Must(t, "journalctl", "--no-pager", "-o", "cat", "-t", "lls-hook", "--since", "-60s")
	if last := journal[strings.LastIndex(journal, "\n")+1:]; !strings.Contains(last, "container "+c.Name+" does not start: "+words[0]) {
		t.Errorf("the journal has no %q of %s:\n%s", words[0], c.Name, journal)
	}
	kit.Eventually(t, "a container that did not start holds nothing", func() bool { return !kit.FindLV(t, c.Name, "e4").Open() })
}

// startsWithout fails the test unless the container starts promptly, with nothing mounted.
func startsWithout(t *testing.T, c *kit.Container) {
	t.Helper()
	r, log := tryStart(t, c)
	if r.Exit != 0 || r.Took > prompt {
		t.Fatalf("the start: %v\n%s", r, log)
	}
	t.Logf("the start took %v", r.Took.Round(time.Millisecond))
	c.WaitReady(t)
	same(t, "when init began", found(t, c), map[string]string{})
}

func TestRequired(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		withFstab(t, c, "lls:e4 /data lls noauto,x-lls.auto,x-lls.required 0 0\n")
		c.Stop(t)
		start(t, c)
		same(t, "when init began", found(t, c), map[string]string{"/data": "e4"})
		c.Stop(t)

		inside(t, c, "/etc/fstab", "lls:e4 /data lls noauto,x-lls.auto 0 0\nlls:nothere /mnt lls noauto,x-lls.auto,x-lls.required 0 0\n", 0o644)
		refusedStart(t, c, "line 2", "is required", "nothere", "does not start")
		inside(t, c, "/etc/fstab", "lls:e4 /data lls noauto,x-lls.auto 0 0\nlls:other/secret /mnt lls noauto,x-lls.required 0 0\n", 0o644)
		refusedStart(t, c, "line 2", "is required", "does not start")
		inside(t, c, "/etc/fstab", "lls:e4 /proc/1 lls noauto,x-lls.required 0 0\n", 0o644)
		refusedStart(t, c, "line 1", "is required")

		inside(t, c, "/etc/fstab", "# mine\nlls:e4 /data lls noauto,x-lls.required 0 0\n", 0o644)
		path := filepath.Join(c.Root(), "etc/fstab")
		kit.Must(t, "chown", "4242:4242", path)
		kit.Must(t, "chmod", "600", path) // nobody's whom the container's root could be taken for
		if c.Privileged {                 // but the host's root reads all
			start(t, c)
			same(t, "when init began", found(t, c), map[string]string{"/data": "e4"})
			c.Stop(t)
		} else {
			refusedStart(t, c, "line 2", "cannot read it", "does not start")
		}
		putFile(t, path, getFile(t, path)+strings.Repeat("# too large\n", 256<<10/12))
		refusedStart(t, c, "line 1: the file is longer", "does not start")

		inside(t, c, "/etc/fstab", "lls:e4 /data lls noauto,x-lls.required 0 0\n", 0o644)
		dir := filepath.Join(c.Root(), "lls")
		kit.Must(t, "rmdir", dir)
		putFile(t, dir, "a file\n")
		refusedStart(t, c, "line 1", "cannot serve", "does not start")
		inside(t, c, "/etc/fstab", "lls:e4 /data lls noauto,x-lls.auto 0 0\n", 0o644)
		startsWithout(t, c)
		kit.Must(t, "lxc-stop", "-k", "-n", c.Name)
		kit.Must(t, "rm", dir)

		// More than a pipe holds, if all of it were said: the start must end all the same.
		inside(t, c, "/etc/fstab", longRequired(80, ",x-lls.required"), 0o644)
		refusedStart(t, c, "and 70 lines more", "line 1: not allowed", "line 10", "does not start")
		kit.Must(t, "systemctl", "stop", kit.Unit)
		defer kit.StartAgent(t)
		refusedStart(t, c, "and 70 lines more", "line 1: not allowed", "does not answer")
		inside(t, c, "/etc/fstab", "lls:e4 /data lls noauto,x-lls.required 0 0\n", 0o644)
		refusedStart(t, c, "line 1", "does not answer", "does not start")
	})
}

// TestRequiredOfAContainerThatCannotBeServed has one whose token anybody may have written, and one whose lxcpath LXC does not say.
func TestRequiredOfAContainerThatCannotBeServed(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		withFstab(t, c, "lls:e4 /data lls noauto,x-lls.required 0 0\n")
		c.Stop(t)
		dir := filepath.Dir(c.Root())
		token := filepath.Join(dir, "lls.id")
		kit.Must(t, "chmod", "666", token)
		defer kit.Must(t, "chmod", "644", token)
		refusedStart(t, c, "line 1 of its fstab is required", "cannot trust its token")
		listed := func(state string) {
			t.Helper()
			kit.Eventually(t, "lls-agent tells what is wrong with "+c.Name, func() bool {
				all, status := kit.Must(t, "lls-agent", "containers"), kit.Must(t, "lls-agent", "status")
				return regexp.MustCompile(`(?m)^`+c.Name+` +`+state+` .*cannot trust its token`).MatchString(all) && strings.Contains(status, "container "+c.Name+": cannot trust its token")
			})
		}
		listed("stopped")
		inside(t, c, "/etc/fstab", "lls:e4 /data lls noauto,x-lls.auto 0 0\n", 0o644)
		startsWithout(t, c)
		listed("running")
		if r := kit.Agent(t, "list", "--all"); r.Exit != 0 || !strings.Contains(r.Stdout, c.Name+"/e4") {
			t.Errorf("its volumes are not listed: %v", r)
		}
		kit.Must(t, "chmod", "644", token)
		comesBack(t, c)
		if status := kit.Must(t, "lls-agent", "status"); strings.Contains(status, "token") {
			t.Errorf("once it is mended the status says %s", status)
		}
		c.Stop(t)

		elsewhere := filepath.Join(t.TempDir(), "c.conf")
		putFile(t, elsewhere, getFile(t, filepath.Join(dir, "config")))
		inside(t, c, "/etc/fstab", "lls:e4 /data lls noauto,x-lls.required 0 0\n", 0o644)
		if r := kit.Run(t, "lxc-start", "-n", c.Name, "-f", elsewhere); r.Exit == 0 || c.Running(t) || r.Took > prompt {
			t.Errorf("with -f it started, or that took its time: %v", r)
		}
	})
}

// TestNothingElsePreventsAStart has the agent away, stuck or not even told, and back again.
func TestNothingElsePreventsAStart(t *testing.T) {
	scene(t)
	both := []*kit.Container{dev, devRoot}
	for _, c := range both {
		withFstab(t, c, "lls:e4 /data lls noauto,x-lls.auto 0 0\n")
	}
	for _, kind := range []struct {
		name       string
		away, back func(t *testing.T)
	}{
		{"agent down", func(t *testing.T) { kit.Must(t, "systemctl", "stop", kit.Unit) }, func(t *testing.T) { kit.StartAgent(t) }},
		{"agent stuck", signal(syscall.SIGSTOP), signal(syscall.SIGCONT)},
		{"hook missing", move(hook, hook+".away"), move(hook+".away", hook)},
		{"hook cut short", cutShort, move(hook+".away", hook)},
		{"hook without memory", withoutMemory, move(hook+".away", hook)},
	} {
		t.Run(kind.name, func(t *testing.T) {
			for _, c := range both {
				c.Stop(t)
			}
			kind.away(t)
			isBack := false
			defer func() {
				if !isBack {
					kind.back(t)
				}
			}()
			for _, c := range both {
				startsWithout(t, c)
			}
			isBack = true
			kind.back(t)
			for _, c := range both {
				comesBack(t, c)
			}
		})
	}
	t.Run("agent dies at work", func(t *testing.T) {
		for i, c := range both {
			c.Stop(t)
			pid := kit.AgentPID(t)
			killed := make(chan error, 1)
			go func() {
				time.Sleep(time.Duration(100+150*i) * time.Millisecond)
				killed <- syscall.Kill(pid, syscall.SIGKILL)
			}()
			r, log := tryStart(t, c)
			if r.Exit != 0 || r.Took > prompt {
				t.Fatalf("the start: %v\n%s", r, log)
			}
			if err := <-killed; err != nil {
				t.Fatal(err)
			}
			c.WaitReady(t)
			comesBack(t, c)
		}
	})
}

// hook is what LXC runs at the start of each container.
const hook = "/usr/lib/lls/lls-hook"

// signal sends the agent a signal.
func signal(s syscall.Signal) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		if err := syscall.Kill(kit.AgentPID(t), s); err != nil {
			t.Fatal(err)
		}
	}
}

// cutShort has the hook end after its first pages, as a full disk leaves it.
func cutShort(t *testing.T) {
	t.Helper()
	text := getFile(t, hook)
	move(hook, hook+".away")(t)
	if err := os.WriteFile(hook, []byte(text[:200000]), 0o755); err != nil {
		t.Fatal(err)
	}
}

// withoutMemory has the hook start with less memory than its runtime asks for: it ends with status 2, and says so at length.
func withoutMemory(t *testing.T) {
	t.Helper()
	move(hook, hook+".away")(t)
	if err := os.WriteFile(hook, []byte("#!/bin/sh\nulimit -v 20000\nexec "+hook+".away\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := kit.Run(t, hook); r.Exit == 0 || r.Exit == 42 {
		t.Fatalf("it does not die of that: %v", r)
	}
}

func move(from, to string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
}

// comesBack fails the test unless what the container's fstab says is mounted soon, and the agent answers in it.
func comesBack(t *testing.T, c *kit.Container) {
	t.Helper()
	want, began := map[string]string{"/data": "e4"}, time.Now()
	kit.Eventually(t, "what the fstab of "+c.Name+" says is mounted", func() bool { return len(mounted(t, c)) > 0 })
	t.Logf("mounted %v after that", time.Since(began).Round(100*time.Millisecond))
	kit.Eventually(t, "LLS answers in "+c.Name, func() bool { return c.LLS(t, "list").Exit == 0 })
	same(t, "in "+c.Name, mounted(t, c), want)
}

func TestWhatWasUnmountedByHandStaysUnmounted(t *testing.T) {
	scene(t)
	both := []*kit.Container{dev, devRoot}
	all, want := map[string]string{"/data": "e4", "/srv": "more"}, map[string]string{"/srv": "more"}
	each := func(what string, want map[string]string) {
		t.Helper()
		for _, c := range both {
			same(t, what+" in "+c.Name, mounted(t, c), want)
		}
	}
	for _, c := range both {
		withFstab(t, c, "lls:e4 /data lls noauto,x-lls.auto 0 0\nlls:more /srv lls noauto,x-lls.auto 0 0\n")
		c.Stop(t)
		start(t, c)
	}
	each("after the start", all)
	for _, c := range both {
		c.Do(t, "umount", "/data")
	}
	kit.KillAgent(t)
	time.Sleep(3 * time.Second)
	each("after the agent was killed", want)
	kit.Must(t, "systemctl", "stop", kit.Unit)
	kit.StartAgent(t)
	time.Sleep(17 * time.Second) // longer than it takes the agent to look around once more
	each("after the agent was started again", want)
	for _, c := range both {
		c.Do(t, "replay")
	}
	each("after lls replay", all)
}

// TestAKilledMonitor kills the process of LXC's that looks after a container, with which the container ends.
func TestAKilledMonitor(t *testing.T) {
	want := map[string]string{"/data": "e4"}
	kinds(t, func(t *testing.T, c *kit.Container) {
		withFstab(t, c, "lls:e4 /data lls noauto,x-lls.auto 0 0\n")
		c.Stop(t)
		start(t, c)
		monitor, err := strconv.Atoi(kit.Must(t, "ps", "-o", "ppid=", "-p", strconv.Itoa(c.PID(t))))
		if err != nil || monitor < 2 {
			t.Fatalf("the monitor of %s is %d: %v", c.Name, monitor, err)
		}
		if err := syscall.Kill(monitor, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		kit.Eventually(t, "the volume is let go", func() bool { return !kit.FindLV(t, c.Name, "e4").Open() })
		kit.Eventually(t, "LXC sees that it has ended", func() bool { return !c.Running(t) })
		start(t, c)
		same(t, "when its init began the next time", found(t, c), want)
		c.Do(t, "list")
	})
}
