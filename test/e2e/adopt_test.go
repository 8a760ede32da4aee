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
	startAtMost = 30 * time.Second
)

// served waits until LLS works in a container.
func served(t *testing.T, c *kit.Container) {
	t.Helper()
	kit.Eventually(t, "LLS works in "+c.Name, func() bool {
		r := c.LLS(t, "list")
		return r.Exit == 0 && strings.Contains(r.Stdout, dataset)
	})
	if m := c.MountAt(t, "/lls"); m == nil || !m.Has("ro") || !m.Has("nodev") || !m.Has("nosuid") {
		t.Errorf("/lls of %s is %+v", c.Name, m)
	}
}

// startsQuickly starts a container that LLS does not hear of.
func startsQuickly(t *testing.T, c *kit.Container) {
	t.Helper()
	began := time.Now()
	kit.Must(t, "lxc-start", "-n", c.Name)
	c.WaitReady(t)
	if took := time.Since(began); took > startAtMost {
		t.Errorf("the start of %s took %v", c.Name, took)
	}
}

func TestAContainerThatStartsWithoutTheAgent(t *testing.T) {
	lab(t)
	c := kit.TempContainer(t, "agentless", "--no-start")
	kit.StopAgent(t)
	startsQuickly(t, c)
	if r := c.LLS(t, "list"); r.Exit == 0 {
		t.Errorf("LLS works in it: then this test shows nothing: %v", r)
	}
	kit.StartAgent(t)
	served(t, c)
}

// TestContainersThatLLSWasNotToldOf start all the same, and are found after a while.
func TestContainersThatLLSWasNotToldOf(t *testing.T) {
	w := lab(t)
	silent := kit.TempContainer(t, "silent", "--no-start") // the agent does not answer
	pid := kit.AgentPID(t)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	t.Cleanup(goOn)
	startsQuickly(t, silent)
	goOn()

	hookless := kit.TempContainer(t, "hookless", "--no-start") // the hook's program is missing
	if err := os.Rename(hook, hook+".away"); err != nil {
		t.Fatal(err)
	}
	startsQuickly(t, hookless)
	if err := os.Rename(hook+".away", hook); err != nil {
		t.Fatal(err)
	}

	erased := kit.TempContainer(t, "erased", "--no-start") // its configuration erases the hook
	erased.Configure(t, "lxc.hook.start-host =")
	startsQuickly(t, erased)

	careless := kit.TempContainer(t, "careless")               // its root takes /lls away
	careless.Sh(t, "umount -l /lls && ! test -e /lls/bin/lls") // at once: the agent puts it back
	w.alice.Do(t, "list")
	for _, c := range []*kit.Container{silent, hookless, erased, careless} {
		served(t, c)
	}
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
