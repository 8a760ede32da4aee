package agent

import (
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/policy"
)

// ageing has a snapshot of c1 that nobody uses, and gives what lets the agent tend it for so many steps of policy.MaxStep.
func (b *bench) ageing(name string) (pass func(steps int)) {
	b.t.Helper()
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: name}, "")
	b.agent.guests.all[b.guest1.Key()] = b.guest1
	now := b.agent.opts.Now()
	b.agent.opts.Now = func() time.Time { return now }
	return func(steps int) {
		for range steps {
			now = now.Add(policy.MaxStep)
			b.agent.tend(b.t.Context(), policy.MaxStep)
		}
	}
}

func (b *bench) explained(name string) string {
	b.t.Helper()
	var e api.Explanation
	if err := b.admin.Get(b.t.Context(), api.PathExplain, url.Values{"name": {name}}, &e); err != nil {
		b.t.Fatal(err)
	}
	return strings.Join(e.Reasons, "\n")
}

// TestAnFstabThatNobodyCanReadKeepsNoLongerThanOneThatNamesTheVolume has all times be 20 minutes, of four steps.
func TestAnFstabThatNobodyCanReadKeepsNoLongerThanOneThatNamesTheVolume(t *testing.T) {
	const times = testConfig + quietMail + "[expiry]\nunused = \"20m\"\nnotice = \"20m\"\n"
	for _, tt := range []struct {
		name, fstab string
		dark        error
		why         string // the fstab keeps it, because of this
	}{
		{"it names the volume", "lls:mine /data lls 0 0\n", nil, "its container's fstab names it"},
		{"it may name the volume", "# a\nUUID=x-y /data ext4 defaults 0 2\n", nil, "line 2 names a file system by LABEL or UUID"},
		{"it cannot be read", "", os.ErrPermission, "it cannot be read"},
		{"it cannot name the volume", "LABEL=UEFI /boot/efi vfat umask=0077 0 1\nUUID=x-y none swap sw 0 0\n", nil, ""},
		{"there is none", "", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, capped := range []bool{false, true} {
				b := newBench(t)
				b.mounts.fstab, b.mounts.dark = tt.fstab, tt.dark
				config := times
				if capped {
					config += "idle_max = \"20m\"\n"
				}
				b.reload(config)
				pass := b.ageing("mine")
				pass(11)
				if is, want := b.names(b.c1, true), tt.why == ""; strings.Contains(is, "mine=trash") != want {
					t.Errorf("after 55 minutes: %s; %s", is, b.explained("c1/mine"))
				}
				if why := b.explained("c1/mine"); tt.why != "" && !strings.Contains(why, tt.why) {
					t.Errorf("it is kept because %q", why)
				}
				pass(4)
				if is, want := b.names(b.c1, true), tt.why == "" || capped; strings.Contains(is, "mine=trash") != want {
					t.Errorf("after 75 minutes, capped %v: %s; %s", capped, is, b.explained("c1/mine"))
				}
			}
		})
	}
}
