package cli

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"lls/agent/api"
)

// whichContainer is the flag with which the sysadmin reaches into a container.
func whichContainer(side Side) []Flag {
	return pick(side, nil, []Flag{{Name: "container", Value: "CONTAINER", Help: "in this container instead of on the host"}})
}

func mount(side Side, fstab Fstab) Command {
	return Command{
		Name: "mount", Operands: "NAME PATH", Min: 2, Max: 2,
		Short: "mount a volume at a directory",
		Flags: append([]Flag{{Name: "ro", Help: "read-only"}},
			pick(side, []Flag{{Name: "save", Help: "at each start of this container, too: adds a line to /etc/fstab"}}, whichContainer(Host))...),
		Examples: pick(side,
			[]Example{
				{"mount mine /data", "a volume of yours"},
				{"mount mine /data --save", "and again at each start"},
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
			if c.Has("save") {
				if err := fstab.Check(c.Operand(0), at); err != nil {
					return err
				}
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
			if c.Has("save") {
				if err := fstab.Save(c.Operand(0), m.Path, c.Has("ro")); err != nil {
					return err
				}
				line += ", and will be at each start"
			}
			return c.Show(m, line)
		},
	}
}

// noLine is for --forget, when there was nothing to forget.
const noLine = "no line of /etc/fstab named it"

func umount(side Side, fstab Fstab) Command {
	return Command{
		Name: "umount", Operands: "NAME|PATH", Min: 1, Max: 1,
		Short: "unmount a volume everywhere, or one directory",
		Flags: pick(side, []Flag{{Name: "forget", Help: "at each start, too: takes its line out of /etc/fstab"}}, whichContainer(Host)),
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
			gone, err := c.unmount(ctx, target)
			var lines []string
			if c.Has("forget") && (err == nil || api.NotFound.Is(err)) {
				// What is not mounted now can still stand in the fstab.
				n, forgetErr := fstab.Forget(target, c.replayed(ctx, gone))
				switch {
				case forgetErr != nil:
					return forgetErr
				case n > 0:
					lines, err = []string{target + " is not mounted at the next start any more"}, nil
				case err == nil:
					lines = []string{noLine}
				default:
					e := api.AsError(err)
					e.Problems = append(e.Problems, noLine)
					err = e
				}
			}
			if err != nil {
				return err
			}
			for _, m := range gone {
				lines = append(lines, m.Volume+" is not mounted at "+m.Path+" any more")
			}
			return c.Show(gone, lines...)
		},
	}
}

// unmount takes away what is mounted at the target or, as a mount follows links, at where those in it lead. The path as it was typed
// comes first: nobody is to wait for a file system to learn what is mounted. Paths of --container cannot be followed from here.
func (c *Call) unmount(ctx context.Context, target string) ([]api.Mount, error) {
	gone := []api.Mount{}
	in := api.UmountRequest{Target: target, Container: c.Flag("container")}
	err := c.Post(ctx, api.PathUmount, in, &gone)
	if !api.NotFound.Is(err) || !path.IsAbs(target) || in.Container != "" {
		return gone, err
	}
	if in.Target = Resolved(target); in.Target == target {
		return gone, err
	}
	if again := c.Post(ctx, api.PathUmount, in, &gone); !api.NotFound.Is(again) {
		return gone, again
	}
	return gone, err
}

// replayed are mounts that were taken away, and whether the fstab had them mounted, as far as the agent can tell.
func (c *Call) replayed(ctx context.Context, gone []api.Mount) []Unmounted {
	var all []Unmounted
	for _, m := range gone {
		u := Unmounted{Volume: m.Volume, Path: m.Path}
		var v api.Volume
		if err := c.Get(ctx, api.PathVolume, url.Values{"name": {m.Volume}}, &v); err == nil {
			u.Replayed = slices.ContainsFunc(v.Fstab, func(l api.Replayed) bool { return l.Mounted && l.Path == m.Path })
		}
		all = append(all, u)
	}
	return all
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

func replay(side Side) Command {
	return Command{
		Name: "replay", Operands: pick(side, "", "CONTAINER"), Min: pick(side, 0, 1), Max: pick(side, 0, 1),
		Short: "mount now what the container's /etc/fstab has of volumes",
		Examples: pick(side,
			[]Example{{"replay", "as at the start of this container"}},
			[]Example{{"replay web1", "as at the start of container web1"}}),
		Run: func(ctx context.Context, c *Call) error {
			done := []api.Replayed{}
			if err := c.Post(ctx, api.PathReplay, api.ReplayRequest{Container: c.Operand(0)}, &done); err != nil {
				return err
			}
			var lines []string
			failed := 0
			for _, d := range done {
				lines = append(lines, became(d)...)
				if !d.Mounted {
					failed++
				}
			}
			if len(done) == 0 {
				lines = []string{"/etc/fstab has no volume of LLS; to add one: lls mount NAME PATH --save"}
			}
			if err := c.Show(done, lines...); err != nil {
				return err
			}
			if failed > 0 {
				return api.Errorf(api.Failed, "cannot mount %d of %d lines of /etc/fstab", failed, len(done)).WithHint("mend those lines, then: %s", c.Hint(append([]string{"replay"}, c.Operands...)...))
			}
			return nil
		},
	}
}

// became is what became of a line of an fstab, in words.
func became(d api.Replayed) []string {
	line := d.Problem
	if d.Mounted {
		line = d.Volume + " is mounted at " + d.Path
		if d.ReadOnly {
			line += ", read-only"
		}
	}
	if d.Warning != "" {
		return []string{line, "  " + d.Warning}
	}
	return []string{line}
}

// Complaints are what there is to say against a line of an fstab, with its number: why it is not mounted, and what should stand there.
func Complaints(r api.Replayed) []string {
	var lines []string
	for _, text := range []string{r.Problem, r.Warning} {
		switch number := fmt.Sprintf("line %d: ", r.Line); {
		case text == "":
		case r.Line == 0 || strings.HasPrefix(text, number): // about all of it, or numbered already
			lines = append(lines, text)
		default:
			lines = append(lines, number+text)
		}
	}
	return lines
}
