// Package run starts programs. It is the only place in LLS that does: by an
// argument vector, never through a shell, with a clean environment, capped
// output and a deadline.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNotInstalled means that the program is in none of the fixed directories.
var ErrNotInstalled = errors.New("program not installed")

// ErrStuck means that the program still runs although it was told to end:
// because it hangs in the kernel, or because it must not be killed. It has an
// owner that waits for it, and what it did is not known.
var ErrStuck = errors.New("program does not end")

// ErrOutput means that the program wrote more than the command's Limit.
var ErrOutput = errors.New("too much output")

// Where programs are looked up, in this order. The caller's PATH is not used.
var directories = []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// Default values of the fields of Cmd.
const (
	DefaultLimit = 16 << 20
	DefaultGrace = 2 * time.Second
)

// How long a program that got SIGKILL has to vanish before it is called stuck.
const killWait = time.Second

// How long the pipes of a program that has ended may stay open: a daemon it
// left behind could hold them for ever.
const pipeWait = 2 * time.Second

// Cmd says what to run.
type Cmd struct {
	// Name is a bare program name, looked up in the fixed directories, or an
	// absolute path, taken as it is (for our own helper).
	Name string
	Args []string

	// Stdin is read by the program; nil is /dev/null.
	Stdin io.Reader

	// Env is added to the clean environment, "KEY=value" each.
	Env []string

	// ExtraFiles become the descriptors 3, 4, … of the program. They stay the
	// caller's, who closes them after Run.
	ExtraFiles []*os.File

	// Limit is how many bytes of each output are kept. The rest is read and
	// dropped, so that the program never blocks. 0 is DefaultLimit.
	Limit int

	// Grace is how long after SIGTERM a program may go on before it is killed,
	// or, with NoKill, before it is left to its owner. 0 is DefaultGrace.
	Grace time.Duration

	// NoKill programs never get SIGKILL. A killed LVM command can leave
	// devices suspended; SIGTERM is safe, LVM blocks it while it must not end.
	NoKill bool
}

// Result is what a program wrote, each part cut at the command's Limit.
type Result struct {
	Stdout, Stderr []byte
}

// Error is the failure of a program that was found.
type Error struct {
	Argv       []string
	ExitStatus int    // -1 when it did not exit by itself
	Signal     string // what ended it, or empty
	Stderr     string // cut at the command's Limit
	Err        error  // the context's error, ErrStuck, ErrOutput or what the system said
}

func (e *Error) Error() string {
	name := "program"
	if len(e.Argv) > 0 {
		name = filepath.Base(e.Argv[0])
		if name == "lvm" && len(e.Argv) > 1 {
			name = e.Argv[1]
		}
	}
	text := "cannot run " + name
	switch {
	case e.Err != nil:
		text = fmt.Sprintf("%s: %v", text, e.Err)
	case e.Signal != "":
		text = fmt.Sprintf("%s: ended by %s", text, e.Signal)
	default:
		text = fmt.Sprintf("%s: exit status %d", text, e.ExitStatus)
	}
	if line := reason(e.Stderr); line != "" {
		text += ": " + line
	}
	return text
}

// Unwrap gives the cause, so that errors.Is finds ErrStuck or a context's end.
func (e *Error) Unwrap() error { return e.Err }

// Runner starts programs. It is safe for concurrent use.
type Runner struct {
	mu    sync.Mutex
	paths map[string]string
	stuck atomic.Int64
}

// New returns a Runner.
func New() *Runner { return &Runner{paths: map[string]string{}} }

// Stuck counts the programs that were given up and still run.
func (r *Runner) Stuck() int { return int(r.stuck.Load()) }

// Run starts a program and waits for its end, or until the context's end and
// then a bounded time more. The error is a *Error once the program was found.
// A program that succeeds although the context ended meanwhile has succeeded.
func (r *Runner) Run(ctx context.Context, c Cmd) (Result, error) {
	return r.run(ctx, c)
}

// Path returns where a program is.
func (r *Runner) Path(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.paths[name]; ok {
		return p, nil
	}
	if name == "" || filepath.Base(name) != name {
		return "", fmt.Errorf("cannot run %q: not a bare program name: %w", name, ErrNotInstalled)
	}
	for _, dir := range directories {
		p := filepath.Join(dir, name)
		info, err := os.Stat(p)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			r.paths[name] = p
			return p, nil
		}
	}
	return "", fmt.Errorf("cannot run %s: %w", name, ErrNotInstalled)
}
