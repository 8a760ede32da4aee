package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"lls/test/kit"
)

const (
	hook = "/usr/lib/lls/lls-hook"
	// startAtMost is how long a container's start may take whatever state LLS is in.
	startAtMost = 10 * time.Second
	// adoptWithin is how soon a container that LLS was not told of has to find it. The agent looks four times a minute.
	adoptWithin = 40 * time.Second
)

// served waits until LLS works in a container.
func served(t *testing.T, c *kit.Container) {
	t.Helper()
	kit.Eventually(t, adoptWithin, "LLS works in "+c.Name, func() bool {
		r := c.LLS(t, "list")
		return r.Exit == 0 && strings.Contains(r.Stdout, dataset)
	})
	if m := c.MountAt(t, "/lls"); m == nil || !m.Has("ro") || !m.Has("nodev") || !m.Has("nosuid") {
		t.Errorf("/lls of %s is %+v", c.Name, m)
	}
}

// startsQuickly starts a container whose LLS cannot work now.
func startsQuickly(t *testing.T, c *kit.Container) {
	t.Helper()
	if took := c.Start(t).Took; took > startAtMost {
		t.Errorf("the start of %s took %v", c.Name, took)
	}
	if !c.Running(t) {
		t.Errorf("%s does not run", c.Name)
	}
	if r := c.LLS(t, "list"); r.Exit == 0 {
		t.Errorf("LLS works in %s: then this test shows nothing", c.Name)
	}
}

func TestStartsThatLLSMisses(t *testing.T) {
	lab(t)
	c := kit.TempContainer(t, "missed", "--no-start")
	t.Run("the agent is down", func(t *testing.T) {
		kit.StopAgent(t)
		startsQuickly(t, c)
		kit.StartAgent(t)
		served(t, c)
	})
	c.Stop(t)
	t.Run("the agent does not answer", func(t *testing.T) {
		pid := kit.AgentPID(t)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		goOn := func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
		t.Cleanup(goOn)
		began := time.Now()
		kit.Run(t, "lxc-start", "-n", c.Name).Want(t, 0)
		c.WaitReady(t)
		if took := time.Since(began); took > startAtMost {
			t.Errorf("the start took %v", took)
		}
		goOn()
		served(t, c)
	})
	c.Stop(t)
	t.Run("the hook's program is missing", func(t *testing.T) {
		if err := os.Rename(hook, hook+".away"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Rename(hook+".away", hook); err != nil {
				t.Error(err)
			}
		})
		if took := c.Start(t).Took; took > startAtMost {
			t.Errorf("the start took %v", took)
		}
		served(t, c)
	})
	c.Stop(t)
	t.Run("the configuration erases the hook", func(t *testing.T) {
		c.Configure(t, "lxc.hook.start-host =")
		if took := c.Start(t).Took; took > startAtMost {
			t.Errorf("the start took %v", took)
		}
		served(t, c)
	})
}

// TestLLSIsThereWhenInitStarts: with the hook, a container finds LLS from its first process on.
func TestLLSIsThereWhenInitStarts(t *testing.T) {
	lab(t)
	for _, flags := range [][]string{{}, {"--privileged"}} {
		name := "early" + strings.Join(flags, "")
		c := kit.TempContainer(t, name, append(flags, "--no-start")...)
		write(t, c.Root()+"/etc/rc.local", "#!/bin/sh\n/lls/bin/lls list >/early 2>&1\necho $? >>/early\n")
		if err := os.Chmod(c.Root()+"/etc/rc.local", 0o755); err != nil {
			t.Fatal(err)
		}
		// The container's root must be able to write there.
		st, err := os.Stat(c.Root())
		if err != nil {
			t.Fatal(err)
		}
		uid := int(st.Sys().(*syscall.Stat_t).Uid)
		if err := os.Chown(c.Root()+"/etc/rc.local", uid, uid); err != nil {
			t.Fatal(err)
		}
		c.Start(t)
		if out := c.Must(t, "cat", "/early"); !strings.Contains(out, dataset) || !strings.HasSuffix(out, "\n0") {
			t.Errorf("in %s, init was told:\n%s", name, out)
		}
	}
}

// TestTakenAwayLLSComesBack: root of a container may unmount /lls, and harms only itself, for a while.
func TestTakenAwayLLSComesBack(t *testing.T) {
	w := lab(t)
	c := kit.TempContainer(t, "careless")
	c.Must(t, "umount", "-l", "/lls")
	if r := c.Exec(t, "/lls/bin/lls", "list"); r.Exit == 0 {
		t.Errorf("it is still there: %v", r)
	}
	w.alice.Do(t, "list")
	served(t, c)
}
