package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"lls/agent/api"
	"lls/agent/api/cli"
)

// daemonCommands are those about the agent and its host rather than about volumes.
func daemonCommands() []cli.Command {
	return []cli.Command{
		{
			Name: "init", Max: 0,
			Short: "make a pool; without flags, one in a file that is back at boot",
			Flags: []cli.Flag{
				{Name: "device", Value: "DEVICE", Help: "on this empty disk or partition"},
				{Name: "vg", Value: "VG", Help: "in this volume group; with --device or --loop, the name of the new one"},
				{Name: "pool", Value: "POOL", Help: "take this thin pool of the group"},
				{Name: "loop", Value: "SIZE", Help: "in a file of this size; without flags, of 80 % of what is free where /var/lib/lls is"},
				{Name: "yes", Help: "do not ask"},
			},
			Examples: []cli.Example{
				{Line: "init --device /dev/sdb", Does: "a new group and pool on an empty disk"},
				{Line: "init --vg data", Does: "a new pool in the free space of the group data"},
				{Line: "init --vg data --pool thin", Does: "a pool that is there already"},
				{Line: "init --loop 50G", Does: "to try LLS out"},
			},
			Direct: runInit,
		},
		{
			Name: "run", Max: 0, Short: "be the daemon; systemd does this",
			Flags:    []cli.Flag{{Name: "config", Value: "FILE", Help: "instead of /etc/lls/lls.toml"}},
			Examples: []cli.Example{{Line: "run", Does: "as the systemd unit has it"}},
			Direct: func(ctx context.Context, c *cli.Call) int {
				return runDaemon(ctx, cmp.Or(c.Flag("config"), configFile))
			},
		},
		{
			Name: "reload", Max: 0, Short: "have the daemon read its configuration again",
			Examples: []cli.Example{{Line: "reload", Does: "after a change of lls.toml"}},
			Run: func(ctx context.Context, c *cli.Call) error {
				if err := c.Post(ctx, api.PathReload, api.Empty{}, nil); err != nil {
					return err
				}
				return c.Show(api.Empty{}, "the configuration is read anew and in force")
			},
		},
		configCheck(), policyExplain(), policyDryRun(),
		{
			Name: "mail test", Max: 0, Short: "send a test mail now, and see what the mail server says",
			Examples: []cli.Example{{Line: "mail test", Does: "to those that mail.to names"}},
			Run: func(ctx context.Context, c *cli.Call) error {
				if err := c.Post(ctx, api.PathMailTest, api.Empty{}, nil); err != nil {
					return err
				}
				return c.Show(api.Empty{}, "the mail server took a test mail")
			},
		},
		{
			Name: "status", Max: 0, Short: "show pools, numbers and problems",
			Examples: []cli.Example{{Line: "status", Does: "an overview"}},
			Run:      status,
		},
		{
			Name: "containers", Max: 0, Short: "show the containers and whether LLS works in them",
			Examples: []cli.Example{{Line: "containers", Does: "all of them"}},
			Run:      containers,
		},
	}
}

func status(ctx context.Context, c *cli.Call) error {
	var s api.Status
	if err := c.Get(ctx, api.PathStatus, nil, &s); err != nil {
		return err
	}
	lines := []string{
		"lls-agent " + s.Version + ", running since " + s.Since,
		fmt.Sprintf("%d containers served, %d volumes, %d in the trash", s.Containers, s.Volumes, s.Trash),
		"",
	}
	t := cli.Table{Head: []string{"POOL", "LV", ">SIZE", ">DATA", ">METADATA", ">VIRTUAL", ">GROUP FREE", "PROBLEM"}}
	for _, p := range s.Pools {
		t.Add(p.Name, p.LV, cli.Size(p.Size), percent(p.DataPercent), percent(p.MetadataPercent),
			cli.Size(p.Virtual), cli.Size(p.GroupFree), p.Problem)
	}
	if len(s.Pools) == 0 {
		lines = append(lines, "there is no pool yet; to make one: "+c.Hint("init"))
	} else {
		lines = append(lines, t.Lines()...)
	}
	for _, p := range s.Pools {
		lines = append(lines, prospects(p)...)
	}
	lines = append(lines, mailLine(s.Mail, c.Now())...)
	for _, p := range s.Problems {
		lines = append(lines, "problem: "+p)
	}
	return c.Show(s, lines...)
}

// prospects are what is to come of a pool, and who writes most.
func prospects(p api.Pool) []string {
	var lines []string
	if p.DataForecast != nil && p.MetadataForecast != nil {
		lines = append(lines, "pool "+p.Name+": "+p.DataForecast.Text+"; "+p.MetadataForecast.Text)
	}
	var most []string
	for _, w := range p.Writers {
		most = append(most, w.Name+" "+cli.Size(w.Bytes))
	}
	if len(most) > 0 {
		lines = append(lines, "pool "+p.Name+": most was written by "+strings.Join(most, ", "))
	}
	return lines
}

// mailLine is how mail goes, where there is something to know.
func mailLine(m *api.MailStatus, now time.Time) []string {
	switch {
	case m == nil:
		return nil
	case len(m.To) == 0:
		return []string{"mail: to nobody, as lls.toml says"}
	}
	line := "mail: to " + strings.Join(m.To, ", ")
	if m.LastSent != nil {
		line += ", last sent " + m.LastSent.In(now.Location()).Format("2006-01-02 15:04")
	}
	if m.Queued > 0 {
		line += fmt.Sprintf(", %d waiting", m.Queued)
	}
	if m.LastError != "" {
		line += "; the last try failed: " + m.LastError
	}
	return []string{line}
}

func percent(p float64) string { return strconv.FormatFloat(p, 'f', 1, 64) + "%" }

func containers(ctx context.Context, c *cli.Call) error {
	all := []api.Container{}
	if err := c.Get(ctx, api.PathContainers, nil, &all); err != nil {
		return err
	}
	if len(all) == 0 {
		return c.Show([]api.Container{}, "there is no container yet; they are looked for where lxc.paths in /etc/lls/lls.toml says, /var/lib/lxc if nothing")
	}
	t := cli.Table{Head: []string{"NAME", "STATE", ">PID", "KIND", ">MOUNTS", "LLS", "LXCPATH"}}
	for _, ct := range all {
		kind, pid := "", ""
		switch {
		case ct.Privileged == nil:
		case *ct.Privileged:
			kind = "privileged"
		default:
			kind = "unprivileged"
		}
		if ct.PID != 0 {
			pid = strconv.Itoa(ct.PID)
		}
		t.Add(ct.Name, ct.State, pid, kind, strconv.Itoa(ct.Mounts), ct.LLS, ct.LXCPath)
	}
	lines := t.Lines()
	for _, ct := range all {
		lines = append(lines, complaints(ct)...)
	}
	return c.Show(all, lines...)
}

// complaints are what there is to say about a container's fstab.
func complaints(ct api.Container) []string {
	var lines []string
	for _, r := range ct.Fstab {
		for _, text := range cli.Complaints(r) {
			lines = append(lines, "fstab of "+ct.Name+", "+text)
		}
	}
	return lines
}

func give() cli.Command {
	return cli.Command{
		Name: "give", Operands: "OLD NEW", Min: 2, Max: 2,
		Short: "hand every volume of one owner to another",
		Examples: []cli.Example{
			{Line: "give web1 web2", Does: "after a container was renamed"},
			{Line: "give 'web1#k3f9' web1", Does: "the volumes of a container that was made anew"},
		},
		Run: func(ctx context.Context, c *cli.Call) error {
			moved := []api.Volume{}
			if err := c.Post(ctx, api.PathGive, api.GiveRequest{From: c.Operand(0), To: c.Operand(1)}, &moved); err != nil {
				return err
			}
			return c.Show(moved, fmt.Sprintf("%s has %d more volumes now, which were of %s", c.Operand(1), len(moved), c.Operand(0)))
		},
	}
}

func revoke() cli.Command {
	return cli.Command{
		Name: "revoke", Operands: "NAME", Min: 1, Max: 1,
		Short: "see who still has a device open raw that may not any more",
		Flags: []cli.Flag{{Name: "force", Help: "have them get errors from now on"}},
		Examples: []cli.Example{
			{Line: "revoke web1/db", Does: "after it was deleted, hidden or set to access none"},
			{Line: "revoke web1/db --force", Does: "cut them off"},
		},
		Run: func(ctx context.Context, c *cli.Call) error {
			var v api.Volume
			if err := c.Post(ctx, api.PathRevoke, api.RevokeRequest{Name: c.Operand(0), Force: c.Has("force")}, &v); err != nil {
				return err
			}
			if len(v.Holders) == 0 {
				return c.Show(v, "nobody has "+v.Name+" open raw who may not")
			}
			line := v.Name + " is still open raw:"
			if c.Has("force") {
				line = v.Name + " was open raw, and gives errors now:"
			}
			return c.Show(v, append([]string{line}, cli.Holders(v.Holders)...)...)
		},
	}
}
