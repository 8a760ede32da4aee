package main

import (
	"context"
	"net/url"
	"strings"

	"lls/agent/api"
	"lls/agent/api/cli"
)

func policyExplain() cli.Command {
	return cli.Command{
		Name: "policy explain", Operands: "NAME", Min: 1, Max: 1,
		Short: "see why a volume is kept or goes, and what would change that",
		Examples: []cli.Example{
			{Line: "policy explain web1/mine", Does: "why it is kept, and until when"},
			{Line: "policy explain web1/mine.k3f9ab2", Does: "NAME.ID: of several in the trash this one"},
		},
		Run: explain,
	}
}

func policyDryRun() cli.Command {
	return cli.Command{
		Name: "policy dry-run", Max: 0,
		Short:    "see what would happen by itself",
		Examples: []cli.Example{{Line: "policy dry-run", Does: "now, within a week, and when a pool is 90 % full"}},
		Run:      dryRun,
	}
}

func explain(ctx context.Context, c *cli.Call) error {
	var e api.Explanation
	if err := c.Get(ctx, api.PathExplain, url.Values{"name": {c.Operand(0)}}, &e); err != nil {
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
