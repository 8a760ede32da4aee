package agent

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"lls/agent/api"
)

func TestContainersTellWhyARunningOneIsNotServed(t *testing.T) {
	b := newBench(t)
	list := func() map[string]api.Container {
		t.Helper()
		var all []api.Container
		if err := b.admin.Get(t.Context(), api.PathContainers, nil, &all); err != nil {
			t.Fatal(err)
		}
		out := map[string]api.Container{}
		for _, c := range all {
			out[c.Name] = c
		}
		return out
	}
	if c := list()["c1"]; c.State != "stopped" || c.Privileged != nil || c.LLS != "-" || c.PID != 0 {
		t.Errorf("before anything runs: %+v", c)
	}
	inits := map[string]int{"c1": os.Getpid()} // which has the mounts of the host
	fake := b.agent.containers.(fakeContainers)
	fake.inits = inits
	b.agent.containers = fake
	b.agent.adopt(t.Context())
	if c := list()["c1"]; c.State != "running" || c.Privileged != nil || c.LLS != "the container shares the mounts of the host" || c.PID != os.Getpid() {
		t.Errorf("it shares the mounts of the host: %+v", c)
	}
	if p := b.problems(); len(p) != 0 {
		t.Errorf("the status has %q", p)
	}
	if os.Getuid() == 0 { // with mounts of its own, and no place for its tree
		b.agent.opts.Trees = "/dev/null/trees"
		cmd := exec.CommandContext(t.Context(), "/usr/bin/unshare", "--mount", "/bin/sleep", "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		inits["c1"] = cmd.Process.Pid
		for range 100 {
			if b.agent.adopt(t.Context()); !strings.Contains(list()["c1"].LLS, "shares") {
				break
			}
		}
		if c := list()["c1"]; c.State != "running" || !strings.Contains(c.LLS, "/dev/null") || c.PID != cmd.Process.Pid {
			t.Errorf("it has no tree: %+v", c)
		}
		if p := strings.Join(b.problems(), "\n"); !strings.Contains(p, "container c1: ") {
			t.Errorf("the status has %q", p)
		}
	}
	delete(inits, "c1")
	b.agent.adopt(t.Context())
	if c := list()["c1"]; c.State != "stopped" || c.LLS != "-" {
		t.Errorf("after its end: %+v", c)
	}
	b.agent.guests.all[b.guest1.Key()] = b.guest1
	if c := list()["c1"]; c.State != "running" || c.Privileged == nil || *c.Privileged || c.LLS != "ok" {
		t.Errorf("served: %+v", c)
	}
}
