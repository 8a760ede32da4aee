package cli_test

import (
	"errors"
	"strings"
	"testing"

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
