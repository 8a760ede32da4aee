package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lls/agent/api"
	"lls/agent/api/cli"
	"lls/agent/api/cli/clitest"
)

func TestSaveAndForgetKeepEveryOtherByte(t *testing.T) {
	f := fstab{filepath.Join(t.TempDir(), "fstab")}
	before := "# mine\nproc  /proc\tproc defaults 0 0"
	if err := os.WriteFile(f.path, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if err := f.Save("genomes", "/data set", true); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(f.path)
	if want := before + "\nlls:genomes /data\\040set lls noauto,x-lls.auto,ro 0 0\n"; err != nil || string(text) != want {
		t.Errorf("%q, %v", text, err)
	}
	if err := f.Save("other", "/data set", false); !api.Exists.Is(err) {
		t.Errorf("a second volume there: %v", err)
	}
	if n, err := f.Forget("/data set", nil); n != 1 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	if text, err := os.ReadFile(f.path); err != nil || string(text) != before+"\n" {
		t.Errorf("%q, %v", text, err)
	}
	if n, err := f.Forget("genomes", nil); n != 0 || err != nil {
		t.Errorf("forgot %d once more, %v", n, err)
	}
}

func TestUmountForgetsTheLineHoweverItNamesTheVolume(t *testing.T) {
	a := clitest.Serve(t, map[string]clitest.Answer{
		"POST /umount":                    {Result: []api.Mount{{Volume: "mine", Container: "c1", Path: "/data"}}},
		`POST /umount {"target":"away"}`:  {Err: api.Errorf(api.NotFound, "cannot unmount away: it is not mounted here")},
		`POST /umount {"target":"/hand"}`: {Result: []api.Mount{{Volume: "other", Container: "c1", Path: "/hand"}}},
		"GET /volume?name=mine":           {Result: api.Volume{Name: "mine", Fstab: []api.Replayed{{Line: 1, Volume: "mine", Path: "/data", Mounted: true}, {Line: 2, Volume: "mine", Path: "/b"}}}},
		"GET /volume?name=other":          {Result: api.Volume{Name: "other", Fstab: []api.Replayed{{Line: 1, Volume: "other", Path: "/hand"}}}},
	})
	const none, done = "no line of /etc/fstab named it", "not mounted at the next start any more"
	for _, tt := range []struct {
		line, target string
		gone         bool
		says         string
	}{
		{"lls:mine /x lls noauto,x-lls.auto", "mine", true, done},
		{"lls:c1/mine /data lls noauto,x-lls.auto", "mine", true, done},
		{"/dev/mf/mine /data/ ext4 noauto", "c1/mine", true, done},
		{"LABEL=stuff /data ext4 noauto,x-lls.auto", "mine", true, done},
		{"LABEL=stuff /data ext4 nofail", "mine", true, done},
		{"UUID=1-2 /data ext4 nofail", "/data", true, done},
		{"UUID=1-2 /b ext4 nofail", "mine", false, none},
		{"lls:other /data lls noauto,x-lls.auto", "mine", false, none},
		{"lls:notmine /data lls noauto,x-lls.auto", "mine", false, none},
		{"/dev/sda1 /data ext4 nofail", "mine", false, none},
		{"tmpfs /data tmpfs", "/data", false, "line 1 of the fstab mounts"},
		{"LABEL=theirs /hand ext4 nofail", "/hand", false, "line 1 of the fstab mounts"},
		{"# nothing", "mine", false, none},
		{"lls:away /away lls", "away", true, done},
		{"lls:c1/away /away lls", "away", false, "not mounted here\n  " + none},
	} {
		f := fstab{filepath.Join(t.TempDir(), "fstab")}
		if err := os.WriteFile(f.path, []byte(tt.line+"\n# kept\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		var term clitest.Terminal
		stdout, stderr, _ := term.Run(&cli.Program{Name: "lls", Commands: cli.Volumes(cli.Container, f)}, a, "umount", tt.target, "--forget")
		want := tt.line + "\n# kept\n"
		if tt.gone {
			want = "# kept\n"
		}
		if text, err := os.ReadFile(f.path); err != nil || string(text) != want || !strings.Contains(stdout+stderr, tt.says) {
			t.Errorf("umount %s with %q: left %q, %v, said %s%s", tt.target, tt.line, text, err, stdout, stderr)
		}
	}
}

// A mount follows links, so the path that was typed, that of the line and that of the mount may be three.
func TestUmountForgetsByEveryPathThatLeadsThere(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	data, link, other, away := dir+"/data", dir+"/link", dir+"/other", dir+"/away"
	for _, err := range []error{os.Mkdir(data, 0o755), os.Symlink("data", link), os.Symlink(link, other), os.Symlink("nowhere", away)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	notThere := api.Errorf(api.NotFound, "cannot unmount it: no volume of LLS is mounted there")
	taken := clitest.Answer{Result: []api.Mount{{Volume: "a", Container: "c1", Path: data}}}
	busy := clitest.Answer{Err: api.Errorf(api.Busy, "cannot unmount a: it is in use")}
	for name, tt := range map[string]struct {
		line, target string
		there        clitest.Answer // to the path of the mount, or to its name
		exit         int
		gone         bool // the line
		says         []string
	}{
		"the link of the line":           {"lls:a " + link + " lls", link, taken, 0, true, []string{link + " is not mounted at the next start", "a is not mounted at " + data}},
		"where the line leads":           {"lls:a " + link + " lls", data, taken, 0, true, []string{"next start", "a is not mounted at " + data}},
		"a link to the line":             {"lls:a " + data + " lls", link, taken, 0, true, []string{"next start", "a is not mounted at " + data}},
		"another link":                   {"lls:a " + link + " lls", other, taken, 0, true, []string{"next start", "a is not mounted at " + data}},
		"the volume, named otherwise":    {"lls:c1/a " + link + " lls", "a", taken, 0, true, []string{"next start", "a is not mounted at " + data}},
		"a label, where the line leads":  {"LABEL=x " + link + " ext4 nofail", data, taken, 0, true, []string{"next start", "a is not mounted at " + data}},
		"a label, the link of the line":  {"LABEL=x " + link + " ext4 nofail", link, taken, 0, true, []string{"next start", "a is not mounted at " + data}},
		"in use, by the link":            {"lls:a " + link + " lls", link, busy, 11, false, []string{"it is in use"}},
		"mounted nowhere":                {"lls:a " + link + " lls", other, clitest.Answer{Err: notThere}, 0, true, []string{"next start"}},
		"a link that leads nowhere":      {"lls:a " + away + " lls", away, taken, 0, true, []string{"next start"}},
		"another line, mounted there":    {"lls:a " + away + " lls", link, taken, 0, false, []string{"no line of /etc/fstab named it", "a is not mounted at " + data}},
		"another program's, by the link": {"tmpfs " + link + " tmpfs", link, taken, 1, false, []string{"line 1 of the fstab mounts"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := clitest.Serve(t, map[string]clitest.Answer{
				"POST /umount": {Err: notThere}, `POST /umount {"target":"` + data + `"}`: tt.there, `POST /umount {"target":"a"}`: tt.there,
				"GET /volume?name=a": {Result: api.Volume{Name: "a", Fstab: []api.Replayed{{Line: 1, Volume: "a", Path: data, Mounted: true}}}},
			})
			f := fstab{filepath.Join(t.TempDir(), "fstab")}
			before := tt.line + "\n# kept\n"
			if err := os.WriteFile(f.path, []byte(before), 0o644); err != nil {
				t.Fatal(err)
			}
			var term clitest.Terminal
			stdout, stderr, exit := term.Run(&cli.Program{Name: "lls", Commands: cli.Volumes(cli.Container, f)}, a, "umount", tt.target, "--forget")
			if tt.gone {
				before = "# kept\n"
			}
			text, err := os.ReadFile(f.path)
			if err != nil || string(text) != before || exit != tt.exit {
				t.Errorf("exit %d, left %q, %v", exit, text, err)
			}
			for _, want := range tt.says {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("%q is not in %s%s", want, stdout, stderr)
				}
			}
		})
	}
}

func TestWhatWouldNotBeReplayedIsNotSaved(t *testing.T) {
	f := fstab{filepath.Join(t.TempDir(), "fstab")}
	for _, target := range []string{"/tmp/x", "/tmp", "/run/x", "/proc/x", "/", "/a\nb", "/" + strings.Repeat("a", 5000)} {
		for what, err := range map[string]error{"check": f.Check("mine", target), "save": f.Save("mine", target, false)} {
			e := api.AsError(err)
			if !api.BadPath.Is(err) || !strings.Contains(e.Hint, "another path") || strings.Contains(e.Hint, "edit") || len(e.Message) > 500 {
				t.Errorf("%s at %.20q: %+v", what, target, e)
			}
		}
	}
	if err := f.Check("mine", "/data"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(f.path); err == nil {
		t.Error("the fstab was written")
	}
	if err := f.Save("a\nb", "/data", false); !api.Failed.Is(err) {
		t.Errorf("a name that is none: %v", err)
	}
}

// Nothing is mounted that was asked for at each start and could not be there.
func TestMountSaveAsksTheAgentForNothingThatCannotBeSaved(t *testing.T) {
	a := clitest.Serve(t, answers())
	var term clitest.Terminal
	_, stderr, exit := term.Run(program(), a, "mount", "mine", "/tmp/x", "--save")
	if exit != 17 || !strings.Contains(stderr, "below /tmp") || len(a.Requests()) > 0 {
		t.Errorf("exit %d, asked for %q: %s", exit, a.Requests(), stderr)
	}
}

func TestMountHelperAsMountCallsIt(t *testing.T) {
	a := clitest.Serve(t, map[string]clitest.Answer{
		"POST /mount": {Result: api.Mount{Path: "/data", Already: true}},
		`POST /mount {"name":"gone","path":"/data"}`: {Err: api.Errorf(api.NotFound, "cannot mount gone: there is no such volume")},
	})
	for _, tt := range []struct {
		args   string
		exit   int
		sent   string
		stderr string
	}{
		{"lls:mine /data -o rw,noauto,x-lls.auto", 0, `{"name":"mine","path":"/data"}`, ""},
		{"mine /data -o ro,noatime", 0, `{"name":"mine","path":"/data","read_only":true,"noatime":true}`, ""},
		{"/dev/mf/c2/x /data -v -o rw", 0, `{"name":"c2/x","path":"/data"}`, ""},
		{"mine /data -sfn -o rw", 0, "", ""},
		{"gone /data -o rw", 32, `{"name":"gone","path":"/data"}`, "no such volume"},
		{"mine /data -o rw,suid", 32, "", "suid"},
		{"mine /data -o noexec", 0, `{"name":"mine","path":"/data"}`, `/data: mounted without "noexec", which LLS does not offer`},
		{"/dev/mf/mine /data", 0, `{"name":"mine","path":"/data"}`, ""},
		{"gone /data -o noexec", 32, `{"name":"gone","path":"/data"}`, "no such volume"},
		{"mine /proc/x -o rw", 32, "", "/proc"},
		{"mine", 1, "", "usage"},
		{"mine /data -x", 1, "", "-x"},
		{"mine /data -o", 1, "", "-o"},
	} {
		var stderr bytes.Buffer
		exit := mountHelper(t.Context(), strings.Fields(tt.args), api.Dial(a.Socket), &stderr)
		sent := strings.Join(a.Requests(), "")
		if exit != tt.exit || !strings.Contains(sent, tt.sent) || tt.sent == "" && sent != "" || !strings.Contains(stderr.String(), tt.stderr) || tt.stderr == "" && stderr.Len() > 0 {
			t.Errorf("%s: exit %d, sent %q, said %q", tt.args, exit, sent, stderr.String())
		}
	}
}
