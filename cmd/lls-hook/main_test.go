package main

import (
	"strings"
	"testing"
)

func env(pairs ...string) func(string) string {
	return func(key string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestSaidTakesOnlyAContainerOfAnLXCPath(t *testing.T) {
	h, err := said(env("LXC_NAME", "c1", "LXC_PID", "77", "LXC_CONFIG_FILE", "/srv/lxc/c1/config"))
	if err != nil || h.Name != "c1" || h.LXCPath != "/srv/lxc" || h.PID != 77 {
		t.Errorf("%+v, %v", h, err)
	}
	for name, e := range map[string]func(string) string{
		"nothing":        env(),
		"no pid":         env("LXC_NAME", "c1", "LXC_CONFIG_FILE", "/srv/lxc/c1/config"),
		"another config": env("LXC_NAME", "c1", "LXC_PID", "77", "LXC_CONFIG_FILE", "/tmp/c.conf"),
		"relative":       env("LXC_NAME", "c1", "LXC_PID", "77", "LXC_CONFIG_FILE", "c1/config"),
	} {
		if h, err := said(e); err == nil {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func TestAnAgentThatIsAwayKeepsNothingFromStarting(t *testing.T) {
	// Our own pid stands in for the container's: this machine's fstab requires nothing of LLS.
	missing, err := start(env("LXC_NAME", "c1", "LXC_PID", "2147483", "LXC_CONFIG_FILE", "/srv/lxc/c1/config"), t.TempDir()+"/nobody")
	if len(missing) > 0 || err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("missing %v, %v", missing, err)
	}
}
