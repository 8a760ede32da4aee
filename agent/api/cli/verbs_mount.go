package cli

import (
	"context"
	"path"

	"lls/agent/api"
)

// whichContainer is the flag with which the sysadmin reaches into a container.
func whichContainer(side Side) []Flag {
	return pick(side, nil, []Flag{{Name: "container", Value: "CONTAINER", Help: "in this container instead of on the host"}})
}

func mount(side Side) Command {
	return Command{
		Name: "mount", Operands: "NAME PATH", Min: 2, Max: 2,
		Short: "mount a volume at a directory",
		Flags: append([]Flag{{Name: "ro", Help: "read-only"}}, whichContainer(side)...),
		Examples: pick(side,
			[]Example{
				{"mount mine /data", "a volume of yours"},
				{"mount genomes /genomes --ro", "the host's dataset, read-only"},
			},
			[]Example{
				{"mount genomes /mnt", "on the host, to fill it"},
				{"mount web1/mine /data --container web1", "in a container"},
			}),
		Run: func(ctx context.Context, c *Call) error {
			at, err := c.pathIn(c.Operand(1))
			if err != nil {
				return err
			}
			var m api.Mount
			if err := c.Post(ctx, api.PathMount, api.MountRequest{
				Name: c.Operand(0), Path: at, ReadOnly: c.Has("ro"), Container: c.Flag("container"),
			}, &m); err != nil {
				return err
			}
			line := c.Operand(0) + " is mounted at " + m.Path
			if m.Already {
				line = c.Operand(0) + " was mounted already at " + m.Path
			}
			if m.ReadOnly {
				line += ", read-only"
			}
			return c.Show(m, line)
		},
	}
}

func umount(side Side) Command {
	return Command{
		Name: "umount", Operands: "NAME|PATH", Min: 1, Max: 1,
		Short: "unmount a volume everywhere, or one directory",
		Flags: whichContainer(side),
		Examples: pick(side,
			[]Example{
				{"umount mine", "wherever it is mounted"},
				{"umount /data", "what is mounted there"},
				{"umount ./data", "a path of one word starts with ./, else it is a name"},
			},
			[]Example{
				{"umount genomes", "on the host"},
				{"umount /data --container web1", "in a container"},
			}),
		Run: func(ctx context.Context, c *Call) error {
			target := c.Operand(0)
			if isPath(target) {
				at, err := c.pathIn(target)
				if err != nil {
					return err
				}
				target = at
			}
			gone := []api.Mount{}
			if err := c.Post(ctx, api.PathUmount, api.UmountRequest{Target: target, Container: c.Flag("container")}, &gone); err != nil {
				return err
			}
			var lines []string
			for _, m := range gone {
				what := m.Volume
				if what == "" {
					what = target
				}
				lines = append(lines, what+" is not mounted at "+m.Path+" any more")
			}
			if len(gone) == 0 {
				lines = []string{target + " was not mounted"}
			}
			return c.Show(gone, lines...)
		},
	}
}

// pathIn is a path of where the mount is to be: of this machine, or, untouched by our own directory, of --container.
func (c *Call) pathIn(p string) (string, error) {
	if c.Flag("container") == "" {
		return c.abs(p)
	}
	if !path.IsAbs(p) {
		return "", api.Errorf(api.BadPath, "cannot %s %s: a path in a container must start with /", c.command.Name, c.Operand(0)).
			WithHint("see: %s", c.Hint(c.command.Name, "--help"))
	}
	return path.Clean(p), nil
}
