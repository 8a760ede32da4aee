package agent

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/lvm"
)

// start runs the agent that comes after the bench's, which was killed, and lets do ask it. The error is that of Run.
func (b *bench) start(log *slog.Logger, do func(admin *api.Client)) error {
	b.t.Helper()
	opts := b.agent.opts
	opts.Socket, opts.Log = b.t.TempDir()+"/agent.sock", log
	a, err := New(opts, b.parts(fakeContainers{}))
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.t.Context())
	defer stop()
	return a.Run(ctx, func() {
		defer stop()
		do(api.Dial(opts.Socket))
	}, nil)
}

// What a reload refuses changes nothing, and neither does the end of the agent that refused it.
func TestAStartWithABadFileKeepsTheOldRules(t *testing.T) {
	const bad = testConfig + "colour = \"red\"\n"
	const none = "there is no pool yet: lls-agent init makes one"
	for name, tt := range map[string]struct {
		file, kept string // "": there is none
		pools      int    // that it runs with; -1: it does not run
		problem    string
	}{
		"a mistake":                        {bad, testConfig, 1, ": limits.colour: no such key"},
		"no TOML":                          {"[limits", testConfig, 1, ":1: "},
		"a mistake, and an empty one kept": {bad, "\n", 0, ": limits.colour: no such key"},
		"a mistake at the first start":     {bad, "", -1, ": limits.colour: no such key"},
		"a mistake in both":                {bad, "colour = 1\n", -1, ": limits.colour: no such key"},
		"no file":                          {"", testConfig, 0, none},
		"no file at the first start":       {"", "", 0, none},
		"a good one":                       {testConfig + "[mail]\nto = []\n", "\n", 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			for path, text := range map[string]string{b.config: tt.file, b.agent.opts.Kept: tt.kept} {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if text == "" {
					continue
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var text bytes.Buffer
			var s api.Status
			asked := false
			err := b.start(slog.New(slog.NewTextHandler(&text, nil)), func(admin *api.Client) {
				if err := admin.Get(t.Context(), api.PathStatus, nil, &s); err != nil {
					t.Error(err)
				}
				asked = true
			})
			if tt.pools < 0 {
				if asked || err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("it ran: %v, and ended with %v", asked, err)
				}
				return
			}
			told := func(p string) bool { return tt.problem != "" && strings.Contains(p, tt.problem) }
			if err != nil || !asked || len(s.Pools) != tt.pools || slices.ContainsFunc(s.Problems, told) != (tt.problem != "") {
				t.Errorf("%v; it ran: %v, and its status is %+v", err, asked, s)
			}
			const stays = "level=ERROR msg=\"the configuration that was taken last stays in force\""
			if refused := tt.problem != "" && tt.problem != none; strings.Contains(text.String(), stays) != refused {
				t.Errorf("the journal says\n%s", text.String())
			}
			want, mode := tt.kept, os.FileMode(0o644) // what is refused is not kept, and what is taken is
			if tt.problem == "" || tt.problem == none {
				want, mode = tt.file, 0o600
			}
			now, err := os.ReadFile(b.agent.opts.Kept)
			if err != nil || string(now) != want {
				t.Errorf("kept is %q, %v; want %q", now, err, want)
			}
			if fi, err := os.Stat(b.agent.opts.Kept); err != nil || fi.Mode().Perm() != mode {
				t.Errorf("%v, %v", fi, err)
			}
		})
	}
}

// The status tells of the bad file until a good one is taken.
func TestAReloadEndsWhatAStartWithABadFileBegan(t *testing.T) {
	b := newBench(t)
	b.write("nosuch = 1\n")
	var problems []string
	err := b.start(slog.New(slog.DiscardHandler), func(admin *api.Client) {
		reload := func() error { return admin.Post(t.Context(), api.PathReload, api.Empty{}, nil) }
		if err := reload(); !api.Malformed.Is(err) {
			t.Errorf("the bad file once more: %v", err)
		}
		b.write(testConfig + quietMail)
		if err := reload(); err != nil {
			t.Error(err)
		}
		var s api.Status
		if err := admin.Get(t.Context(), api.PathStatus, nil, &s); err != nil {
			t.Error(err)
		}
		problems = s.Problems
	})
	if now, gone := os.ReadFile(b.agent.opts.Kept); err != nil || gone != nil || len(problems) > 0 || string(now) != testConfig+quietMail {
		t.Errorf("%v; problems %q; kept is %q, %v", err, problems, now, gone)
	}
}

// Containers start once the agent is ready, and what their fstab says needs the pools.
func TestAStartWaitsForPoolsThatAreNotActiveYet(t *testing.T) {
	activate := func(b *bench, active bool) {
		b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.Active = active })
	}
	for name, tt := range map[string]struct {
		wait time.Duration
		want bool
	}{
		"they become active": {time.Hour, true},
		"they do not":        {10 * time.Millisecond, false},
		"nobody waits":       {0, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.agent.opts.PoolWait = tt.wait
			activate(b, false)
			if tt.want {
				from := b.lvm.Calls("Report")
				go func() {
					for b.lvm.Calls("Report") < from+4 { // it has found them inactive
						time.Sleep(time.Millisecond)
					}
					activate(b, true)
				}()
			}
			ready := false
			err := b.start(slog.New(slog.DiscardHandler), func(*api.Client) { ready = b.pool().Active == tt.want })
			if err != nil || !ready {
				t.Errorf("%v, ready as it should be: %v", err, ready)
			}
		})
	}
}
