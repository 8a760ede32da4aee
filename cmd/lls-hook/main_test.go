package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lls/agent/api"
	"lls/agent/api/cli/clitest"
	"lls/hooks"
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

// hooked starts the hook of a container with this fstab.
func hooked(t *testing.T, socket, text string) (missing []string, err error) {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/etc/fstab", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(env("LXC_NAME", "c1", "LXC_PID", "77", "LXC_CONFIG_FILE", "/srv/lxc/c1/config"), socket, func(int) string { return root })
}

func TestOnlyWhatIsRequiredKeepsAContainerFromStarting(t *testing.T) {
	nobody := t.TempDir() + "/nobody"
	serve := func(a clitest.Answer) string {
		return clitest.Serve(t, map[string]clitest.Answer{"POST /hook/start": a}).Socket
	}
	failed := serve(clitest.Answer{Progress: []string{"serving"}, Err: api.Errorf(api.NeedsAdmin, "cannot make /lls: it is a file")})
	for name, c := range map[string]struct {
		socket, says string
		looks        bool // the hook looks into the fstab itself
	}{
		"away":                   {nobody, "does not answer", true},
		"cannot serve":           {failed, "cannot make /lls", true},
		"refuses the hook":       {serve(clitest.Answer{Err: api.Errorf(api.Denied, "cannot serve container: not a child")}), "not a child", true},
		"has a bug":              {serve(clitest.Answer{Err: api.Errorf(api.Failed, "cannot do it")}), "cannot do it", true},
		"could not read":         {serve(clitest.Answer{Result: api.HookAnswer{Unread: true}}), "cannot read it", true},
		"does not serve this":    {serve(clitest.Answer{Err: api.Errorf(api.NotFound, "cannot serve container")}), "", false},
		"has mounted everything": {serve(clitest.Answer{Result: api.HookAnswer{}}), "", false},
	} {
		if missing, _ := hooked(t, c.socket, "lls:a /data lls noauto,x-lls.auto 0 0\n"); len(missing) > 0 {
			t.Errorf("an agent that %s, nothing required: %q", name, missing)
		}
		missing, _ := hooked(t, c.socket, "proc /proc proc\nlls:a /data lls x-lls.required 0 0\n")
		switch {
		case !c.looks && len(missing) > 0:
			t.Errorf("an agent that %s: %q", name, missing)
		case c.looks && (len(missing) != 1 || !strings.HasPrefix(missing[0], "line 2 ") || !strings.Contains(missing[0], c.says)):
			t.Errorf("an agent that %s: %q, want line 2 and %q", name, missing, c.says)
		}
	}
	large := "lls:a /data lls x-lls.required 0 0\n" + strings.Repeat("# large\n", hooks.MaxFile/8)
	if missing, _ := hooked(t, serve(clitest.Answer{Result: api.HookAnswer{Unread: true}}), large); len(missing) != 1 {
		t.Errorf("an fstab that is too large: %q", missing)
	}
}

// As after lxc-start -f, which nobody can tell an lxcpath from.
func TestWhatIsRequiredIsRequiredOfAContainerThatCannotBePlacedToo(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{"lls:a /data lls\n": 0, "lls:a /data lls x-lls.required\n": 1} {
		if err := os.WriteFile(root+"/etc/fstab", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		e := env("LXC_NAME", "c1", "LXC_PID", "77", "LXC_CONFIG_FILE", "/root/c1.conf")
		missing, err := start(e, t.TempDir()+"/nobody", func(int) string { return root })
		if err == nil || len(missing) != want || want > 0 && !strings.Contains(missing[0], "cannot tell the lxcpath") {
			t.Errorf("%q: %q, %v", text, missing, err)
		}
	}
}

func TestTheHookOfAnOrdinaryUserIsLeftInPeace(t *testing.T) {
	if served(api.Errorf(api.Denied, "cannot reach the agent").Because(syscall.EACCES)) || !served(api.Errorf(api.Denied, "not a child")) {
		t.Error("a refusal of the socket is taken for one of the agent, or the other way round")
	}
}

func TestPatience(t *testing.T) {
	for name, c := range map[string]struct {
		words  []time.Duration // when there was one
		wanted bool
		want   time.Duration
	}{
		"no word":                        {nil, false, firstWord},
		"no word, but wanted":            {nil, true, firstWord},
		"one word":                       {[]time.Duration{0}, false, nextWord},
		"one word, wanted":               {[]time.Duration{0}, true, wantedWord},
		"words":                          {[]time.Duration{0, 4 * time.Second, 8 * time.Second}, false, 8*time.Second + nextWord},
		"a late word, wanted":            {[]time.Duration{0, 15 * time.Second}, true, 15*time.Second + wantedWord},
		"a late word, when it has ended": {[]time.Duration{0, 15 * time.Second}, false, nextWord},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			ended := make(chan time.Duration, 9)
			p := &patience{end: func() { ended <- time.Since(began) }, wanted: func() bool { return c.wanted }}
			p.timer = time.AfterFunc(firstWord, p.over)
			for _, at := range c.words {
				time.Sleep(at - time.Since(began))
				if len(ended) == 0 { // else the request has been given up
					p.word()
				}
			}
			if got := <-ended; got != c.want {
				t.Errorf("%s: it ended after %v, want %v", name, got, c.want)
			}
		})
	}
}

func TestTheKernelsFilesAreNotReadForAnFstab(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"/etc", "/sub"} {
		if err := os.Mkdir(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(root+"/sub/real", []byte("lls:a /a lls\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/sub/real", root+"/etc/fstab"); err != nil {
		t.Fatal(err)
	}
	if text, err := readFstab(root); err != nil || len(text) == 0 {
		t.Errorf("a link below the root: %q, %v", text, err)
	}
	// The machine's own root has the kernel's files mounted, as a container's has.
	if err := os.Remove(root + "/etc/fstab"); err != nil {
		t.Fatal(err)
	}
	if text, err := readFile("/", "proc/version"); err == nil || !strings.Contains(err.Error(), "of the kernel") {
		t.Errorf("a file of /proc: %q, %v", text, err)
	}
}

// TestTheHookAndTheHelperRefuseTheSameFileSystems holds two lists together that may not import each other.
func TestTheHookAndTheHelperRefuseTheSameFileSystems(t *testing.T) {
	list := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, after, found := strings.Cut(string(text), "var kernelTypes = ")
		list, _, ends := strings.Cut(after, "\n}\n")
		if !found || !ends {
			t.Fatalf("%s has no list", file)
		}
		return list
	}
	if ours, theirs := list("fstab.go"), list("../../agent/mount/inside/resolve.go"); ours != theirs {
		t.Errorf("the hook's list is\n%s\nand the helper's\n%s", ours, theirs)
	}
}
