package setup

import (
	"context"
	"fmt"
	"strings"
	"time"

	"lls/internal/run"
)

// loopDeadline bounds one losetup.
const loopDeadline = 30 * time.Second

// Loops attaches the files that hold pools.
type Loops struct{ Run Runner }

// Attach gives a file its loop device, if it has none yet.
func (l Loops) Attach(ctx context.Context, file string) error {
	_, err := l.attach(ctx, file)
	return err
}

func (l Loops) attach(ctx context.Context, file string) (device string, err error) {
	if device, err = l.losetup(ctx, "--noheadings", "--output", "NAME", "--associated", file); err != nil || device != "" {
		return device, err
	}
	// Direct I/O keeps the pool's data from being cached twice; not every file system has it.
	device, err = l.losetup(ctx, "--find", "--show", "--direct-io=on", "--", file)
	if err != nil {
		device, err = l.losetup(ctx, "--find", "--show", "--", file)
	}
	if err == nil && device == "" {
		err = fmt.Errorf("cannot attach %s: losetup names no device", file)
	}
	return device, err
}

func (l Loops) losetup(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, loopDeadline)
	defer cancel()
	out, err := l.Run.Run(ctx, run.Cmd{Name: "losetup", Args: args})
	first, _, _ := strings.Cut(strings.TrimSpace(string(out.Stdout)), "\n")
	return first, err
}
