package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"lls/agent/api"
)

// Side is whose program the volume commands are for.
type Side int

// A container's users see their container; the sysadmin sees the host and every container.
const (
	Container Side = iota
	Host
)

// Fstab is where mounts stand that come back at each start. Errors are for the user.
type Fstab interface {
	// Check says beforehand that a mount at target cannot come back at each start, wherever its links lead.
	Check(name, target string) error
	// Save has a volume mounted at target at each start.
	Save(name, target string, readOnly bool) error
	// Forget takes the lines of a volume's name, or of a path, away, and those of what was unmounted, however they call the volume or
	// the path. It says how many there were.
	Forget(what string, gone []Unmounted) (lines int, err error)
}

// Unmounted is a mount that was taken away.
type Unmounted struct {
	Volume, Path string
	Replayed     bool // a line of the fstab had LLS mount it there
}

// Volumes gives the commands on volumes, which both programs have, in the order of a help text. The host has no fstab of LLS's: nil.
func Volumes(side Side, fstab Fstab) []Command {
	return []Command{
		list(side), info(side), usageOf(side), watch(), create(side), snapshot(side), mount(side, fstab), umount(side, fstab), replay(side),
		resize(), set(), trim(side), keep(), refresh(), remove(), undelete(), purge(),
	}
}

// pick gives what fits the side.
func pick[T any](side Side, container, host T) T {
	if side == Host {
		return host
	}
	return container
}

// ownership are the flags that say whose a new volume is and who sees it: the host's is visible unless told otherwise, and a container's
// what lls.toml says.
func ownership(side Side) []Flag {
	return pick(side,
		[]Flag{
			{Name: "visible", Help: "let other containers see it, and snapshot it"},
			{Name: "hidden", Help: "let no other container see it"},
			{Name: "mount", Value: "PATH", Help: "mount it at this directory, too"},
		},
		[]Flag{
			{Name: "owner", Value: "CONTAINER", Help: "make it this container's instead of the host's"},
			{Name: "visible", Help: "let every container see it, and snapshot it"},
			{Name: "hidden", Help: "let no other container see it"},
		})
}

// visibility is what was said about it, if anything.
func (c *Call) visibility() (*bool, error) {
	yes, no := c.Has("visible"), c.Has("hidden")
	switch {
	case yes && no:
		return nil, api.Errorf(api.Malformed, "cannot %s %s: --visible and --hidden are opposites", c.command.Name, c.Operand(0)).WithHint("give one of them")
	case !yes && !no:
		return nil, nil
	}
	return &yes, nil
}

// mountPath is the absolute path of --mount, or nothing.
func (c *Call) mountPath() (string, error) {
	if !c.Has("mount") {
		return "", nil
	}
	return c.abs(c.Flag("mount"))
}

func create(side Side) Command {
	flags := []Flag{
		{Name: "size", Value: "SIZE", Help: "how big: 500M, 100G, 2T (powers of 1024)", Needed: true},
		{Name: "fs", Value: "TYPE", Values: []string{"ext4", "xfs"}, Help: "its file system (what default_fs in lls.toml says, ext4 if nothing)"},
		{Name: "pool", Value: "POOL", Help: "the pool to take it from"},
	}
	return Command{
		Name: "create", Operands: "NAME", Min: 1, Max: 1, Flags: append(flags, ownership(side)...),
		Short: "make a new, empty volume with a file system",
		Examples: pick(side,
			[]Example{
				{"create scratch --size 100G", "100 GiB with ext4"},
				{"create scratch --size 100G --fs xfs --mount /data", "with xfs, and mounted"},
			},
			[]Example{
				{"create genomes --size 2T", "a dataset that every container may snapshot"},
				{"create scratch --size 100G --owner web1", "a volume of container web1"},
			}),
		Run: func(ctx context.Context, c *Call) error {
			path, err := c.mountPath()
			if err != nil {
				return err
			}
			visible, err := c.visibility()
			if err != nil {
				return err
			}
			var v api.Volume
			if err := c.Post(ctx, api.PathCreate, api.CreateRequest{
				Name: c.Operand(0), Size: c.Flag("size"), FS: c.Flag("fs"), Pool: c.Flag("pool"),
				Visible: visible, Mount: path, Owner: c.Flag("owner"),
			}, &v); err != nil {
				return err
			}
			what := " is a new volume of "
			if v.FS != "" {
				what = " is a new " + v.FS + " volume of "
			}
			return c.Show(v, v.Name+what+Size(v.Size)+mountedAt(v))
		},
	}
}

func snapshot(side Side) Command {
	flags := append(ownership(side), Flag{Name: "ro", Help: "make it read-only for ever, itself included"})
	return Command{
		Name: "snapshot", Operands: "SOURCE [NAME]", Min: 1, Max: 2, Flags: flags,
		Short: "make a writable snapshot of a volume; without NAME, a name is made from SOURCE and the date",
		Examples: pick(side,
			[]Example{
				{"snapshot genomes mine --mount /data", "a snapshot of the dataset genomes, mounted"},
				{"snapshot web2/build", "of another container's visible volume"},
			},
			[]Example{
				{"snapshot genomes before-update --hidden", "of the host's volume genomes"},
				{"snapshot genomes mine --owner web1", "a snapshot that belongs to container web1"},
			}),
		Run: func(ctx context.Context, c *Call) error {
			path, err := c.mountPath()
			if err != nil {
				return err
			}
			visible, err := c.visibility()
			if err != nil {
				return err
			}
			var v api.Volume
			if err := c.Post(ctx, api.PathSnapshot, api.SnapshotRequest{
				Source: c.Operand(0), Name: c.Operand(1), Visible: visible, Mount: path,
				ReadOnly: c.Has("ro"), Owner: c.Flag("owner"),
			}, &v); err != nil {
				return err
			}
			return c.Show(v, v.Name+" is a "+readOnly(v.ReadOnly)+"snapshot of "+c.Operand(0)+mountedAt(v))
		},
	}
}

func resize() Command {
	return Command{
		Name: "resize", Operands: "NAME SIZE|+SIZE", Min: 2, Max: 2,
		Short: "grow a volume and its file system, mounted or not",
		Examples: []Example{
			{"resize scratch 200G", "to 200 GiB"},
			{"resize scratch +50G", "by 50 GiB"},
		},
		Run: func(ctx context.Context, c *Call) error {
			var v api.Volume
			if err := c.Post(ctx, api.PathResize, api.ResizeRequest{Name: c.Operand(0), Size: c.Operand(1)}, &v); err != nil {
				return err
			}
			return c.Show(v, v.Name+" has "+Size(v.Size)+" now")
		},
	}
}

func set() Command {
	return Command{
		Name: "set", Operands: "NAME", Min: 1, Max: 1,
		Short: "say who sees a volume, how others may mount it, and how far it grows by itself",
		Flags: []Flag{
			{Name: "visibility", Value: "WHO", Values: []string{api.Visible, api.Hidden}, Help: "whether others see it, and may snapshot it"},
			{Name: "access", Value: "HOW", Values: []string{api.AccessRW, api.AccessRO, api.AccessNone}, Help: "how others may mount it while it is visible"},
			{Name: "grow-to", Value: "MAX", Help: "have it grow by itself, up to this size, when it fills; none: not any more"},
		},
		Examples: []Example{
			{"set build --visibility visible", "others see it"},
			{"set build --visibility hidden", "while it is under construction"},
			{"set build --access ro", "others may mount it, read-only"},
			{"set build --grow-to 500G", "it grows by itself while it is mounted"},
		},
		Run: func(ctx context.Context, c *Call) error {
			if c.Flag("visibility") == "" && c.Flag("access") == "" && c.Flag("grow-to") == "" {
				return api.Errorf(api.Malformed, "cannot set %s: nothing to change was given", c.Operand(0)).
					WithHint("try: %s", c.Hint("set", c.Operand(0), "--visibility", api.Visible))
			}
			var v api.Volume
			if err := c.Post(ctx, api.PathSet, api.SetRequest{
				Name: c.Operand(0), Visibility: c.Flag("visibility"), Access: c.Flag("access"), GrowTo: c.Flag("grow-to"),
			}, &v); err != nil {
				return err
			}
			lines := []string{v.Name + " is " + v.Visibility + " now" + others(v)}
			switch {
			case c.Has("grow-to") && v.GrowTo == 0:
				lines = append(lines, "it does not grow by itself")
			case c.Has("grow-to"):
				lines = append(lines, "it grows by itself, up to "+Size(v.GrowTo))
			}
			if others := usedBy(v); others != "" {
				lines = append(lines, "mounted already in "+others+": there it stays as it is until it is unmounted")
			}
			return c.Show(v, append(lines, Holders(v.Holders)...)...)
		},
	}
}

// usedBy are those besides its owner who have it mounted.
func usedBy(v api.Volume) string {
	var others []string
	for _, m := range v.Mounts {
		if m.Container != v.Owner && !slices.Contains(others, m.Container) {
			others = append(others, m.Container)
		}
	}
	return strings.Join(others, ", ")
}

// others ends a sentence with what others may do with v.
func others(v api.Volume) string {
	switch {
	case v.Visibility == api.Hidden:
		return ""
	case v.Access == api.AccessNone:
		return "; others may snapshot it, and not mount it"
	}
	return "; others may snapshot it, and mount it " + v.Access
}

func remove() Command {
	return Command{
		Name: "delete", Operands: "NAME ...", Min: 1, Max: -1,
		Short: "move volumes to the trash",
		Examples: []Example{
			{"delete mine", "undelete brings it back"},
			{"delete mine old other", "goes on after a failure"},
		},
		Run: func(ctx context.Context, c *Call) error {
			return c.each(ctx, true, func(c *Call, name string) (v api.Volume, lines []string, err error) {
				if err := c.Post(ctx, api.PathDelete, api.NameRequest{Name: name}, &v); err != nil {
					return v, nil, err
				}
				line := v.Name + " is in the trash"
				if v.Expires != nil {
					line += " until " + date(*v.Expires, c.Now())
				}
				lines = []string{line + "; to have it back: " + c.Hint("undelete", v.Name)}
				if others := usedBy(v); others != "" {
					lines = append(lines, "  used by "+others+", where it stays mounted until it is unmounted there")
				}
				return v, append(lines, Holders(v.Holders)...), nil
			})
		},
	}
}

func undelete() Command {
	return Command{
		Name: "undelete", Operands: "NAME ...", Min: 1, Max: -1,
		Short: "bring volumes back from the trash",
		Flags: []Flag{{Name: "as", Value: "NEW", Help: "under another name; for one volume only"}},
		Examples: []Example{
			{"undelete mine", "under its old name; list --all shows the trash"},
			{"undelete mine --as mine-old", "where the old name is taken"},
			{"undelete mine.k3f9ab2", "NAME.ID: of several of that name this one"},
		},
		Run: func(ctx context.Context, c *Call) error {
			if c.Has("as") && len(c.Operands) > 1 {
				return api.Errorf(api.Malformed, "cannot undelete: --as gives one volume a name, not %d", len(c.Operands)).
					WithHint("one after the other: %s", c.Hint("undelete", c.Operand(0), "--as", c.Flag("as")))
			}
			return c.each(ctx, false, func(c *Call, name string) (v api.Volume, lines []string, err error) {
				err = c.Post(ctx, api.PathUndelete, api.UndeleteRequest{Name: name, As: c.Flag("as")}, &v)
				return v, []string{v.Name + " is back"}, err
			})
		},
	}
}

func purge() Command {
	return Command{
		Name: "purge", Operands: "NAME ...", Min: 1, Max: -1,
		Short: "destroy volumes of the trash for ever",
		Flags: []Flag{{Name: "yes", Help: "do not ask"}},
		Examples: []Example{
			{"purge mine", "asks first; what is not in the trash stays as it is"},
			{"purge mine --yes", "does not ask"},
			{"purge mine.k3f9ab2 --yes", "NAME.ID: of several of that name this one"},
		},
		Run: func(ctx context.Context, c *Call) error {
			if !c.Has("yes") {
				if err := c.mayPurge(ctx); err != nil {
					return err
				}
			}
			return c.each(ctx, false, func(c *Call, name string) (v api.Volume, lines []string, err error) {
				err = c.Post(ctx, api.PathPurge, api.NameRequest{Name: name}, &v)
				return v, []string{name + " is gone for ever"}, err
			})
		},
	}
}

// mayPurge asks the person at the terminal, once for all that were named.
func (c *Call) mayPurge(ctx context.Context) error {
	names := strings.Join(c.Operands, ", ")
	question := "Destroy the volume " + names + ", which is in the trash, for ever?"
	if len(c.Operands) > 1 {
		question = "Destroy the volumes " + names + ", which are in the trash, for ever?"
	}
	said, err := c.Confirm(ctx, question)
	switch {
	case err != nil:
		return err
	case said == Nobody:
		return api.Errorf(api.Malformed, "cannot purge %s: nobody is there to confirm it", names).
			WithHint("if you mean it: %s", c.Hint(append(append([]string{"purge"}, c.Operands...), "--yes")...))
	case said == No:
		return api.Errorf(api.Failed, "cannot purge %s: you did not say yes", names).
			WithHint("nothing was changed: %s", c.Hint("list", "--all"))
	}
	return nil
}

// mountedAt ends a sentence with where v is mounted, if it is.
func mountedAt(v api.Volume) string {
	var paths []string
	for _, m := range v.Mounts {
		if m.Path != "" {
			paths = append(paths, m.Path)
		}
	}
	if len(paths) == 0 {
		return ""
	}
	return ", mounted at " + strings.Join(paths, " and ")
}

func readOnly(ro bool) string {
	if ro {
		return "read-only "
	}
	return ""
}

// dateIn is a date and how far off it is.
func dateIn(t time.Time, now time.Time) string { return date(t, now) + " (" + until(&t, now) + ")" }
