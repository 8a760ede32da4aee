// Package kit is what tests of the real thing stand on. It runs inside the lab's guest, as root, with real device-mapper, LVM and
// LXC and with LLS installed from its package. It asks LVM, /proc and the containers themselves, and uses nothing of LLS's own code,
// so that a mistake there cannot hide itself.
package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a command may take, and what a test waits for. It is there to end what hangs, and is no promise of LLS's: a
// guest may be ten times slower than its neighbour, and stand still for seconds.
const Patience = 5 * time.Minute

// Guest skips the test outside the lab's guest. Inside, where LLS_LAB=1 says so, nothing is ever skipped.
func Guest(t testing.TB) {
	t.Helper()
	if os.Getenv("LLS_LAB") != "1" {
		t.Skip("needs the lab's guest: real device-mapper, LVM and LXC (LLS_LAB=1)")
	}
	if os.Geteuid() != 0 {
		t.Fatal("LLS_LAB=1 is set, but this is not root in the lab's guest")
	}
}

// Result is how a command ended.
type Result struct {
	Args           []string
	Stdout, Stderr string
	Exit           int // 128+N when signal N ended it
	Took           time.Duration
	Hung           string // what the guest was at, when the command did not end in time
}

// String shows all of it, for a test's log.
func (r Result) String() string {
	return fmt.Sprintf("%s\nexit %d after %v\nstdout: %s\nstderr: %s%s", strings.Join(r.Args, " "), r.Exit, r.Took.Round(time.Millisecond), r.Stdout, r.Stderr, r.Hung)
}

// Run runs a command to its end, without input. Only a command that cannot be started, or that takes longer than Patience, fails the test.
func Run(t testing.TB, args ...string) Result {
	t.Helper()
	return RunInput(t, Patience, "", args...)
}

// RunFor is Run with another patience.
func RunFor(t testing.TB, patience time.Duration, args ...string) Result {
	t.Helper()
	return RunInput(t, patience, "", args...)
}

// RunInput is Run with input and another patience.
func RunInput(t testing.TB, patience time.Duration, input string, args ...string) Result {
	t.Helper()
	r, err := Try(context.Background(), patience, input, args...)
	if err != nil {
		t.Fatalf("%v\n%v", err, r)
	}
	return r
}

// Try is Run for goroutines that must not end the test themselves: an error says that the command did not start or did not end in
// time: it is then killed, with all it started, and the result says what the guest was at.
func Try(ctx context.Context, patience time.Duration, input string, args ...string) (Result, error) {
	r := Result{Args: args, Exit: -1}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			r.Hung = "\nmeanwhile:\n" + hung()
		}
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	cmd.WaitDelay = 5 * time.Second // for what keeps the output open
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	r.Took, r.Stdout, r.Stderr = time.Since(began), stdout.String(), stderr.String()
	if cmd.ProcessState != nil {
		if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			r.Exit = 128 + int(ws.Signal())
		} else {
			r.Exit = cmd.ProcessState.ExitCode()
		}
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return r, fmt.Errorf("%s did not end in %v", strings.Join(args, " "), patience)
	case err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay):
		return r, fmt.Errorf("cannot run %s: %w", args[0], err)
	}
	return r, nil
}

// Must runs a command that has to end well, and gives what it wrote to stdout, without white space around it.
func Must(t testing.TB, args ...string) string {
	t.Helper()
	r := Run(t, args...)
	r.Want(t, 0)
	return strings.TrimSpace(r.Stdout)
}

// Want fails the test unless the command ended with this status.
func (r Result) Want(t testing.TB, exit int) Result {
	t.Helper()
	if r.Exit != exit {
		t.Fatalf("want exit %d of: %v", exit, r)
	}
	return r
}

// WantError fails the test unless the command ended with this status, wrote nothing to stdout, and explained itself on stderr: one
// line that says what cannot be done, then one hint. Each of words must stand there too.
func (r Result) WantError(t testing.TB, exit int, words ...string) Result {
	t.Helper()
	var errs, hints int
	for line := range strings.Lines(r.Stderr) {
		switch {
		case strings.HasPrefix(line, "lls: ") || strings.HasPrefix(line, "lls-agent: "):
			errs++
		case strings.HasPrefix(line, "hint: ") && len(strings.TrimSpace(line)) > len("hint: "):
			hints++
		case !strings.HasPrefix(line, "  held by "):
			errs += 100 // nothing else belongs there
		}
	}
	if r.Exit != exit || r.Stdout != "" || errs != 1 || hints != 1 {
		t.Errorf("want exit %d, nothing on stdout, one error and one hint of: %v", exit, r)
	}
	for _, w := range words {
		if !strings.Contains(r.Stderr, w) {
			t.Errorf("want %q on stderr of: %v", w, r)
		}
	}
	return r
}

// JSON decodes stdout, all of it, into out.
func (r Result) JSON(t testing.TB, out any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.Stdout), out); err != nil {
		t.Fatalf("cannot decode the output: %v\n%v", err, r)
	}
}

// Eventually asks again and again until ok, and fails the test when Patience is over.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	Within(t, Patience, what, ok)
}

// Within is Eventually for what is promised within a time.
func Within(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); ; time.Sleep(100 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, d)
		}
	}
}
