package cli_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lls/agent/api"
	"lls/agent/api/cli"
	"lls/agent/api/cli/clitest"
)

// noFstab is never written.
type noFstab struct{}

func (noFstab) Check(string, string) error      { return nil }
func (noFstab) Save(string, string, bool) error { return errors.New("unused") }
func (noFstab) Forget(string, []cli.Unmounted) (lines int, e error) {
	return 0, errors.New("unused")
}

// The path as it was typed comes first; links are followed where nothing is mounted at that, and the file system is this one.
func TestUmountFollowsLinksAsMountDoes(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Mkdir(dir+"/data", 0o755), os.Symlink("data", dir+"/link"), os.Mkdir(dir+"/data/sub", 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	sent := func(path, more string) string { return `POST /umount {"target":"` + dir + path + `"` + more + `}` }
	a := clitest.Serve(t, map[string]clitest.Answer{
		"POST /umount":           {Err: api.Errorf(api.NotFound, "cannot unmount what was typed")},
		sent("/data", ""):        {Result: []api.Mount{{Volume: "a", Path: dir + "/data"}}},
		sent("/link/busy", ""):   {Err: api.Errorf(api.Busy, "in use")},
		sent("/data/sub", ""):    {Err: api.Errorf(api.Busy, "in use")},
		sent("/link/hidden", ""): {Result: []api.Mount{{Volume: "a", Path: dir + "/link/hidden"}}},
	})
	in := `,"container":"web1"`
	for _, tt := range []struct {
		side cli.Side
		args []string
		exit int
		sent []string
	}{
		{cli.Container, []string{dir + "/data"}, 0, []string{sent("/data", "")}},
		{cli.Container, []string{dir + "/link"}, 0, []string{sent("/link", ""), sent("/data", "")}},
		{cli.Container, []string{"./link/"}, 0, []string{sent("/link", ""), sent("/data", "")}},
		{cli.Container, []string{dir + "/link/sub"}, 11, []string{sent("/link/sub", ""), sent("/data/sub", "")}},
		{cli.Container, []string{dir + "/link/busy"}, 11, []string{sent("/link/busy", "")}},
		{cli.Container, []string{dir + "/link/hidden"}, 0, []string{sent("/link/hidden", "")}},
		{cli.Container, []string{dir + "/link/none"}, 10, []string{sent("/link/none", "")}},
		{cli.Container, []string{"link"}, 10, []string{`POST /umount {"target":"link"}`}},
		{cli.Host, []string{dir + "/link"}, 0, []string{sent("/link", ""), sent("/data", "")}},
		{cli.Host, []string{dir + "/link", "--container", "web1"}, 10, []string{sent("/link", in)}},
	} {
		p := &cli.Program{Name: "lls", Commands: cli.Volumes(tt.side, noFstab{})}
		_, stderr, exit := clitest.Terminal{Dir: dir}.Run(p, a, append([]string{"umount"}, tt.args...)...)
		if got := a.Requests(); exit != tt.exit || !slices.Equal(got, tt.sent) || exit == 10 && !strings.Contains(stderr, "what was typed") {
			t.Errorf("%q: exit %d, sent %q, said %q", tt.args, exit, got, stderr)
		}
	}
}

// An example that a person copies must at least reach the agent, which here knows nothing.
func TestExamplesCanBeTyped(t *testing.T) {
	a := clitest.Serve(t, nil)
	for _, side := range []cli.Side{cli.Container, cli.Host} {
		p := &cli.Program{Name: "lls", Commands: cli.Volumes(side, noFstab{})}
		for _, c := range p.Commands {
			own := false
			for _, e := range c.Examples {
				args := strings.Fields(e.Line)
				own = own || args[0] == c.Name
				term := clitest.Terminal{Answer: "yes\n"}
				if _, stderr, exit := term.Run(p, a, args...); exit != 10 || len(a.Requests()) == 0 {
					t.Errorf("%q gives exit %d and %q", e.Line, exit, stderr)
				}
			}
			if !own || c.Short == "" {
				t.Errorf("%s has no example or no description of its own", c.Name)
			}
		}
	}
}
