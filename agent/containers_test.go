package agent

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/policy"
)

// unclear has a container whose token cannot be trusted any more.
func (b *bench) unclear(name string, inits map[string]int) {
	b.t.Helper()
	fake := fakeContainers{inits: inits}
	for _, c := range b.agent.containers.(fakeContainers).all {
		if c.Base == name {
			c.Owner.Token, c.Err = "", errors.New("cannot trust its token")
		}
		fake.all = append(fake.all, c)
	}
	b.agent.containers = fake
}

func TestAContainerWhoseTokenCannotBeTrustedIsTold(t *testing.T) {
	b := newBench(t)
	inits := map[string]int{}
	listed := func() (one api.Container) {
		t.Helper()
		var all []api.Container
		if err := b.admin.Get(t.Context(), api.PathContainers, nil, &all); err != nil || len(all) != 2 {
			t.Fatalf("%+v, %v", all, err)
		}
		return all[0]
	}
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
	b.unclear("c1", inits)
	b.agent.adopt(t.Context())
	if c := listed(); c.Name != "c1" || c.State != "stopped" || !strings.Contains(c.LLS, "token") || c.Token != "" {
		t.Errorf("stopped: %+v", c)
	}
	if p := b.problems(); len(p) != 1 || p[0] != "container c1: cannot trust its token" {
		t.Errorf("the status has %q", p)
	}
	inits["c1"] = os.Getpid()
	b.agent.adopt(t.Context())
	if c := listed(); c.State != "running" || !strings.Contains(c.LLS, "token") {
		t.Errorf("running: %+v", c)
	}
	b.agent.guests.all[b.guest1.Key()] = b.guest1 // it is known from before
	if c := listed(); c.State != "running" || !strings.Contains(c.LLS, "token") || c.Token != "t1" {
		t.Errorf("served: %+v", c)
	}
	delete(b.agent.guests.all, b.guest1.Key())

	var answer api.HookAnswer
	if err := b.admin.Post(t.Context(), api.PathHookStart, api.HookStart{Name: "c1", LXCPath: "/var/lib/lxc", PID: os.Getpid()}, &answer); !api.NeedsAdmin.Is(err) {
		t.Errorf("its hook is told %v", err)
	}
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "more", Size: "1G", Owner: "c1"}, api.NeedsAdmin)
	b.agent.containers = fakeContainers{all: b.agent.containers.(fakeContainers).all[1:]}
	b.agent.adopt(t.Context())
	if p := b.problems(); len(p) != 0 {
		t.Errorf("once it is destroyed the status has %q", p)
	}
}

// What it owns may be anybody's who was called so, and counts neither as an orphan's nor as a stopped container's.
func TestNothingIsKnownOfTheVolumesOfAContainerWhoseTokenCannotBeTrusted(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail + "[expiry]\nunused = \"20m\"\nnotice = \"20m\"\n")
	pass := b.ageing("mine")
	delete(b.agent.guests.all, b.guest1.Key())
	b.unclear("c1", nil)
	pass(20)
	if is := b.names(b.c1, true); !strings.Contains(is, "mine=live") {
		t.Errorf("after 100 minutes: %s", is)
	}
	if why := b.explained("c1/mine"); !strings.Contains(why, "not known whether its container still exists") {
		t.Errorf("it is kept because %q", why)
	}
	c := &call{agent: b.agent, config: b.agent.config()}
	mine, gone := catalog.Owner{Name: "c1", Token: "t1"}, catalog.Owner{Name: "c3", Token: "t3"}
	if !c.exists(mine) || c.exists(gone) || c.defined.has(mine) != policy.Unknown || c.defined.has(gone) != policy.No {
		t.Errorf("c1: %v, c3: %v", c.defined.has(mine), c.defined.has(gone))
	}
}

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
		within(t, "it has mounts of its own", func() bool {
			b.agent.adopt(t.Context())
			return !strings.Contains(list()["c1"].LLS, "shares")
		})
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
