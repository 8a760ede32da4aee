package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"lls/agent/api"
	"lls/agent/api/cli"
	"lls/agent/setup"
	"lls/policy"
)

func configCheck() cli.Command {
	return cli.Command{
		Name: "config check", Operands: "[FILE]", Max: 1,
		Short: "check a configuration without using it; the daemon need not run",
		Examples: []cli.Example{
			{Line: "config check", Does: "before: systemctl reload lls-agent"},
			{Line: "config check new.toml", Does: "another file"},
		},
		Direct: func(_ context.Context, c *cli.Call) int { return checkConfig(c) },
	}
}

// checkConfig prints "ok", or each mistake on a line that begins with its file and line, as compilers do.
func checkConfig(c *cli.Call) int {
	file := configFile
	var err error
	if len(c.Operands) > 0 {
		file = c.Operand(0)
		_, err = os.Stat(file) // the daemon takes a missing file for an empty one; who names one means one that is there
	}
	if err == nil {
		_, err = setup.ReadConfig(file)
	}
	problems, ok := errors.AsType[policy.Problems](err)
	switch {
	case err == nil:
		if err := c.Show(api.Empty{}, "ok"); err != nil {
			return c.Report(err)
		}
		return 0
	case !ok:
		return c.Report(api.Errorf(api.Malformed, "cannot check %s: %v", file, err).WithHint("give a file that can be read: %s", c.Hint("config", "check", "FILE")))
	case c.Has("json"):
		return c.Report(mistakes("cannot take "+file, problems))
	}
	for _, p := range problems {
		_, _ = fmt.Fprintln(c.Stderr, cli.Clean(p.Error()))
	}
	return api.Malformed.Exit()
}

// mistakes is an error with every mistake of a configuration; what says what cannot be done because of them.
func mistakes(what string, problems policy.Problems) *api.Error {
	e := api.Errorf(api.Malformed, "%s: it has mistakes", what).WithHint("all keys are in /usr/share/doc/lls/lls.toml.example")
	for _, p := range problems {
		e.Problems = append(e.Problems, p.Error())
	}
	return e
}
