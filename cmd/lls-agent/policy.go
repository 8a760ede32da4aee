package main

import (
	"context"
	"net/url"
	"strings"

	"lls/agent/api"
	"lls/agent/api/cli"
)

func policyCommand() cli.Command {
	return cli.Command{
		Name: "policy", Operands: "explain NAME | dry-run", Min: 1, Max: 2,
		Short: "see why a volume is kept or goes, and what would happen by itself",
		Examples: []cli.Example{
			{Line: "policy explain web1/mine", Does: "why it is kept, until when, and what would change that"},
			{Line: "policy dry-run", Does: "now, within a week, and when a pool is 90 % full"},
		},
		Run: func(ctx context.Context, c *cli.Call) error {
			switch {
			case c.Operand(0) == "explain" && len(c.Operands) == 2:
				return explain(ctx, c)
			case c.Operand(0) == "dry-run" && len(c.Operands) == 1:
				return dryRun(ctx, c)
			}
			return api.Errorf(api.Malformed, "cannot policy: it is explain NAME, or dry-run").WithHint("for example: %s", c.Hint("policy", "dry-run"))
		},
	}
}

func explain(ctx context.Context, c *cli.Call) error {
	var e api.Explanation
	if err := c.Get(ctx, api.PathExplain, url.Values{"name": {c.Operand(1)}}, &e); err != nil {
		return err
	}
	lines := []string{e.Name + " (" + e.State + "):"}
	for _, r := range e.Reasons {
		lines = append(lines, "  "+r)
	}
	lines = append(lines, e.Next)
	if len(e.Change) > 0 {
		lines = append(lines, "what would change that: "+strings.Join(e.Change, "; "))
	}
	return c.Show(e, lines...)
}

func dryRun(ctx context.Context, c *cli.Call) error {
	all := []api.Prospect{}
	if err := c.Get(ctx, api.PathDryRun, nil, &all); err != nil {
		return err
	}
	if len(all) == 0 {
		return c.Show(all, "nothing would happen")
	}
	t := cli.Table{Head: []string{"WHEN", "WHAT", "NAME", "WHY"}}
	for _, p := range all {
		t.Add(p.When, p.Action, p.Name, strings.Join(p.Why, "; "))
	}
	return c.Show(all, t.Lines()...)
}
