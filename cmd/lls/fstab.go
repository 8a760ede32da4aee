package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"lls/agent/api"
	"lls/agent/api/cli"
	"lls/hooks"
)

// fstab is the container's own, edited by its own root.
type fstab struct{ path string }

// Check looks whether a line with this target would be replayed.
func (f fstab) Check(name, target string) error {
	if e := badTarget(name, target); e != nil {
		return e.WithHint("mount it at another path, or without --save")
	}
	return nil
}

// badTarget is nil for a target of which a line would be replayed.
func badTarget(name, target string) *api.Error {
	_, reason, why := hooks.CheckTarget(target)
	if reason == "" {
		return nil
	}
	return api.Errorf(api.BadPath, "cannot mount %s at each start: %.80q %s", name, target, why)
}

// Save adds a line, or changes the one that mounts the volume there.
func (f fstab) Save(name, target string, readOnly bool) error {
	if e := badTarget(name, target); e != nil { // a link has led there
		return e.WithHint("it is mounted now, until the container ends; for each start choose another path")
	}
	err := hooks.Save(f.path, func(old []byte) ([]byte, error) {
		file, _, err := hooks.Add(hooks.Parse(old), hooks.Entry{Name: name, Target: target, ReadOnly: readOnly})
		return file.Bytes(), err
	})
	var taken *hooks.ErrTaken
	switch {
	case err == nil:
		return nil
	case errors.As(err, &taken):
		return api.Errorf(api.Exists, "cannot save the mount of %s: %v", name, taken).WithHint("it is mounted now; change that line of %s, or choose another path", f.path)
	}
	return f.failed("save the mount of "+name, err)
}

// Forget takes lines away.
func (f fstab) Forget(what string, gone []cli.Unmounted) (int, error) {
	n := 0
	err := hooks.Save(f.path, func(old []byte) ([]byte, error) {
		file, removed, err := hooks.Remove(hooks.Parse(old), what, cli.Resolved)
		n = len(removed)
		var taken *hooks.ErrTaken
		if err != nil && !errors.As(err, &taken) {
			return nil, err
		}
		for _, m := range gone {
			file, removed = hooks.RemoveMount(file, m.Volume, m.Path, m.Replayed, cli.Resolved)
			n += len(removed)
		}
		if n > 0 {
			err = nil // it was LLS that had mounted what the line at that path asks for
		}
		return file.Bytes(), err
	})
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, f.failed("forget the mount of "+what, err)
	}
	return n, nil
}

func (f fstab) failed(verb string, err error) error {
	return api.Errorf(api.Failed, "cannot %s: %v", verb, err).WithHint("edit %s by hand: lls:NAME PATH lls noauto,x-lls.auto 0 0", f.path)
}

// Exit statuses of mount(8), whose helper this program is under the name mount.lls.
const (
	mountUsage  = 1
	mountFailed = 32
)

// mountHelper is `mount.lls SPEC DIR [-sfnv] [-o OPTIONS]`, as mount(8) calls it for `mount -t lls NAME PATH` and `mount -a`. It is
// idempotent: what is mounted there already is no error.
func mountHelper(ctx context.Context, args []string, client *api.Client, stderr io.Writer) int {
	fail := func(status int, format string, a ...any) int {
		_, _ = fmt.Fprintf(stderr, "mount.lls: "+format+"\n", a...)
		return status
	}
	spec, dir, options, fake, err := helperArgs(args)
	if err != nil {
		return fail(mountUsage, "%v", err)
	}
	if !strings.HasPrefix(spec, hooks.SourcePrefix) && !strings.HasPrefix(spec, hooks.DevicePrefix) {
		spec = hooks.SourcePrefix + spec
	}
	// The words of -o mean what they mean in the fstab, so they are read as a line of it.
	line := strings.Join([]string{hooks.Escape(spec), hooks.Escape(dir), hooks.TypeLLS, hooks.Escape(options + ",x-lls.auto"), "0 0"}, " ")
	plan := hooks.Parse([]byte(line)).Plan(nil)
	if len(plan.Refused) > 0 {
		return fail(mountFailed, "%s", plan.Refused[0].Text)
	}
	if len(plan.Mounts) != 1 {
		return fail(mountUsage, "cannot mount %s: it names no volume", spec)
	}
	if fake {
		return 0
	}
	m := plan.Mounts[0]
	err = client.Post(ctx, api.PathMount, api.MountRequest{Name: m.Name, Path: m.Target, ReadOnly: m.ReadOnly, NoAtime: m.NoAtime, Discard: m.Discard}, nil)
	if err != nil {
		e := api.AsError(err)
		return fail(mountFailed, "%s\nhint: %s", e.Message, e.Hint)
	}
	for _, w := range plan.Warnings {
		if w.Reason == hooks.Dropped { // the other is about lines of an fstab, which this may not be
			_, _ = fmt.Fprintf(stderr, "mount.lls: %s: %s\n", m.Target, w.Text)
		}
	}
	return 0
}

// helperArgs reads the command line of a mount helper.
func helperArgs(args []string) (spec, dir, options string, fake bool, err error) {
	options = "rw"
	var operands []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "-o" || arg == "-N" || arg == "-t":
			if i++; i == len(args) {
				return "", "", "", false, fmt.Errorf("%s wants a value", arg)
			}
			if arg == "-o" {
				options = args[i]
			}
		case len(arg) > 1 && arg[0] == '-' && strings.Trim(arg[1:], "sfnv") == "":
			fake = fake || strings.Contains(arg, "f")
		case strings.HasPrefix(arg, "-"):
			return "", "", "", false, fmt.Errorf("%s is no option of this", arg)
		default:
			operands = append(operands, arg)
		}
	}
	if len(operands) != 2 {
		return "", "", "", false, errors.New("usage: mount -t lls NAME PATH [-o OPTIONS]")
	}
	return operands[0], operands[1], options, fake, nil
}
