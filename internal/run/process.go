package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The whole environment of every program; only Cmd.Env is added.
var environment = []string{
	"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	"LC_ALL=C",
	"LVM_SUPPRESS_FD_WARNINGS=1", // lvm(8)
}

func (r *Runner) run(ctx context.Context, c Cmd) (Result, error) {
	path, err := r.Path(c.Name)
	if err != nil {
		return Result{}, err
	}
	argv := append([]string{path}, c.Args...)
	if err := ctx.Err(); err != nil {
		return Result{}, &Error{Argv: argv, ExitStatus: -1, Err: context.Cause(ctx)}
	}
	p, err := start(path, c)
	if err != nil {
		if errors.Is(err, syscall.ENOENT) {
			err = fmt.Errorf("%w: %w", ErrNotInstalled, err)
		}
		return Result{}, &Error{Argv: argv, ExitStatus: -1, Err: err}
	}
	stop, stuck := p.supervise(ctx, c)
	if stuck {
		r.stuck.Add(1)
		go func() { // owns the program until it ends
			<-p.ended
			r.stuck.Add(-1)
		}()
		return p.result(), &Error{Argv: argv, ExitStatus: -1, Stderr: p.stderr.String(), Err: errors.Join(ErrStuck, stop)}
	}
	if e := p.failure(argv, stop); e != nil {
		return p.result(), e
	}
	return p.result(), nil
}

// A process is a started program.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr capped

	mu     sync.Mutex // held while it is reaped or signalled, so that a signal never meets a reused pid
	reaped bool
	dead   chan struct{} // closed when it has ended, before its pipes have
	ended  chan struct{} // closed when it is reaped and err is set
	err    error
}

func start(path string, c Cmd) (*process, error) {
	p := &process{dead: make(chan struct{}), ended: make(chan struct{})}
	limit := c.Limit
	if limit <= 0 {
		limit = DefaultLimit
	}
	p.stdout.limit, p.stderr.limit = limit, limit
	p.cmd = &exec.Cmd{
		Path:       path,
		Args:       append([]string{path}, c.Args...),
		Env:        append(append([]string{}, environment...), c.Env...),
		Dir:        "/",
		Stdin:      c.Stdin,
		Stdout:     &p.stdout,
		Stderr:     &p.stderr,
		ExtraFiles: c.ExtraFiles,
		WaitDelay:  pipeWait,
		// A group of its own: a Ctrl-C on our terminal is not for it.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.reap()
	return p, nil
}

// reap waits for the program's end, however long that takes.
func (p *process) reap() {
	for { // first without taking its status: until then the pid is its own
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	close(p.dead)
	p.err = p.cmd.Wait() // at most pipeWait more
	close(p.ended)
}

// signal reaches the program and, if asked, what it started in its group.
func (p *process) signal(s syscall.Signal, group bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	pid := p.cmd.Process.Pid
	if group {
		pid = -pid
	}
	_ = syscall.Kill(pid, s) // fails only when it has ended
}

// supervise returns when the program has ended or is stuck. The error says why
// it was told to end, if it was.
func (p *process) supervise(ctx context.Context, c Cmd) (stop error, stuck bool) {
	select {
	case <-p.ended:
		return nil, false
	case <-ctx.Done():
	}
	stop = context.Cause(ctx)
	grace := c.Grace
	if grace <= 0 {
		grace = DefaultGrace
	}
	// LVM's helpers, like thin_check, may be at work on what must not be half done.
	p.signal(syscall.SIGTERM, !c.NoKill)
	if p.endsWithin(grace) {
		return stop, false
	}
	if c.NoKill {
		return stop, true
	}
	p.signal(syscall.SIGKILL, true)
	return stop, !p.endsWithin(killWait)
}

func (p *process) endsWithin(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.dead:
		<-p.ended
		return true
	case <-t.C:
		return false
	}
}

func (p *process) result() Result {
	return Result{Stdout: p.stdout.Bytes(), Stderr: p.stderr.Bytes()}
}

// failure says how an ended program failed, or nil.
func (p *process) failure(argv []string, stop error) error {
	state := p.cmd.ProcessState
	e := &Error{Argv: argv, ExitStatus: -1, Stderr: p.stderr.String()}
	switch {
	case state == nil:
		e.Err = p.err
		return e
	case state.Success():
		// ErrWaitDelay only says that somebody else holds its pipes.
		if p.err != nil && !errors.Is(p.err, exec.ErrWaitDelay) {
			e.ExitStatus, e.Err = 0, p.err
			return e
		}
		if p.stdout.Cut() {
			e.ExitStatus, e.Err = 0, ErrOutput
			return e
		}
		return nil
	}
	e.ExitStatus = state.ExitCode()
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = unix.SignalName(ws.Signal())
	}
	e.Err = stop
	return e
}

// capped keeps the first limit bytes and drops the rest.
type capped struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	limit int
	cut   bool
}

func (w *capped) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	keep := min(len(b), w.limit-w.buf.Len())
	w.buf.Write(b[:keep])
	w.cut = w.cut || keep < len(b)
	return len(b), nil
}

func (w *capped) Bytes() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.buf.Bytes())
}

func (w *capped) String() string { return string(w.Bytes()) }

func (w *capped) Cut() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut
}

// reason picks the line that names the failure: the first, warnings aside.
func reason(s string) string {
	first := ""
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if !strings.HasPrefix(line, "WARNING") {
			return line
		}
		if first == "" {
			first = line
		}
	}
	return first
}
