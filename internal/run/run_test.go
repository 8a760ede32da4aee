package run

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func sh(script string) Cmd { return Cmd{Name: "sh", Args: []string{"-c", script}} }

func TestOutputsAreSeparateAndTheEnvironmentIsClean(t *testing.T) {
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	t.Setenv("SECRET", "x")
	c := sh("env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= -e ^OLDPWD= | sort; pwd; cat; echo oops >&2")
	c.Env = []string{"MINE=1"}
	c.Stdin = strings.NewReader("in\n")
	out, err := New().Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	want := "LC_ALL=C\nLVM_SUPPRESS_FD_WARNINGS=1\nMINE=1\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n/\nin\n"
	if string(out.Stdout) != want || string(out.Stderr) != "oops\n" {
		t.Errorf("output is %q and %q", out.Stdout, out.Stderr)
	}
}

func TestErrorKeepsWhatHappened(t *testing.T) {
	_, err := New().Run(t.Context(), sh("echo '  WARNING: dull' >&2; echo '  the reason' >&2; echo help >&2; exit 5"))
	var e *Error
	if !errors.As(err, &e) || e.ExitStatus != 5 || e.Signal != "" || e.Argv[0] != "/usr/bin/sh" || len(e.Argv) != 3 {
		t.Fatalf("error is %#v", err)
	}
	if got, want := err.Error(), "cannot run sh: exit status 5: the reason"; got != want {
		t.Errorf("text is %q, want %q", got, want)
	}
	_, err = New().Run(t.Context(), sh("kill -SEGV $$"))
	if !errors.As(err, &e) || e.ExitStatus != -1 || e.Signal != "SIGSEGV" {
		t.Errorf("error is %#v", err)
	}
}

func TestMissingProgram(t *testing.T) {
	for _, name := range []string{"nosuchprogram", "", "../bin/sh", "bin/sh", "/nosuch/program"} {
		if _, err := New().Run(t.Context(), Cmd{Name: name}); !errors.Is(err, ErrNotInstalled) {
			t.Errorf("%q gives %v", name, err)
		}
	}
}

func TestTheCallersPathIsNotUsed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/ours", []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if _, err := New().Run(t.Context(), Cmd{Name: "ours"}); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("error is %v", err)
	}
}

func TestTooMuchOutputIsDroppedAndSaid(t *testing.T) {
	c := sh("head -c 300000 /dev/zero; echo done >&2")
	c.Limit = 1000
	out, err := New().Run(t.Context(), c)
	if !errors.Is(err, ErrOutput) || len(out.Stdout) != 1000 || string(out.Stderr) != "done\n" {
		t.Errorf("%d bytes, error %v", len(out.Stdout), err)
	}
	c = sh("head -c 300000 /dev/zero >&2; echo fine")
	c.Limit = 1000
	if out, err := New().Run(t.Context(), c); err != nil || string(out.Stdout) != "fine\n" || len(out.Stderr) != 1000 {
		t.Errorf("%q, error %v", out.Stdout, err)
	}
}

func TestExtraFilesAreInheritedAndOthersAreNot(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	private, err := os.Create(t.TempDir() + "/private")
	if err != nil {
		t.Fatal(err)
	}
	defer private.Close()
	c := sh("echo hello >&3; ls -l /proc/self/fd")
	c.ExtraFiles = []*os.File{w}
	out, err := New().Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	text, err := io.ReadAll(r)
	if err != nil || string(text) != "hello\n" {
		t.Errorf("pipe has %q, %v", text, err)
	}
	if !strings.Contains(string(out.Stdout), " 3 -> pipe:") || strings.Contains(string(out.Stdout), "/private") {
		t.Errorf("its descriptors are %s", out.Stdout)
	}
}

// untilReady is a context that is over when the command has written something to its descriptor 3.
func untilReady(t *testing.T, c *Cmd) context.Context {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.ExtraFiles = []*os.File{w}
	ctx, cancel := context.WithCancelCause(t.Context())
	var reader sync.WaitGroup
	reader.Go(func() {
		_, _ = r.Read(make([]byte, 1))
		cancel(context.DeadlineExceeded)
	})
	t.Cleanup(func() {
		_ = w.Close()
		_ = r.Close()
		reader.Wait()
	})
	return ctx
}

func TestTheContextsEndTerminates(t *testing.T) {
	for _, c := range []struct {
		name string
		cmd  Cmd
		sig  string
	}{
		{"a polite program", sh("echo >&3; exec sleep 60"), "SIGTERM"},
		{"a deaf program", sh("trap '' TERM; echo >&3; while :; do sleep 60; done"), "SIGKILL"},
		{"a program with children", sh("sleep 60 & echo >&3; sleep 60"), "SIGTERM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			ctx := untilReady(t, &c.cmd)
			c.cmd.Grace = 300 * time.Millisecond
			r := New()
			_, err := r.Run(ctx, c.cmd)
			took := time.Since(start)
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrStuck) {
				t.Fatalf("error is %v", err)
			}
			if e.Signal != c.sig {
				t.Errorf("ended by %q, want %s", e.Signal, c.sig)
			}
			if took > 30*time.Second || r.Stuck() != 0 {
				t.Errorf("took %v, stuck %d", took, r.Stuck())
			}
		})
	}
}

func TestNoKillIsNeverKilledButLeftToItsOwner(t *testing.T) {
	t.Parallel()
	mark := t.TempDir() + "/done"
	c := Cmd{Name: "sh", Args: []string{"-c", "trap '' TERM; echo >&3; sleep 8; echo x > " + mark}, NoKill: true, Grace: 50 * time.Millisecond}
	ctx := untilReady(t, &c)
	r := New()
	_, err := r.Run(ctx, c)
	if !errors.Is(err, ErrStuck) || !errors.Is(err, context.DeadlineExceeded) || r.Stuck() != 1 {
		t.Fatalf("error is %v, stuck %d", err, r.Stuck())
	}
	for range 1000 {
		if r.Stuck() == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := os.Stat(mark); err != nil || r.Stuck() != 0 {
		t.Errorf("it did not finish: %v, stuck %d", err, r.Stuck())
	}
}

func TestSuccessAfterTheContextsEndIsSuccess(t *testing.T) {
	t.Parallel()
	c := sh("trap '' TERM; echo >&3; sleep 1; echo made")
	c.NoKill, c.Grace = true, time.Minute
	ctx := untilReady(t, &c)
	out, err := New().Run(ctx, c)
	if err != nil || string(out.Stdout) != "made\n" {
		t.Errorf("output %q, error %v", out.Stdout, err)
	}
}

func TestNothingIsStartedAfterTheContextsEnd(t *testing.T) {
	mark := t.TempDir() + "/done"
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New().Run(ctx, sh("echo x > "+mark)); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("it ran")
	}
}

func TestADaemonLeftBehindDoesNotHoldUsForEver(t *testing.T) {
	start := time.Now()
	out, err := New().Run(t.Context(), sh("setsid sleep 60 & echo started"))
	if err != nil || string(out.Stdout) != "started\n" {
		t.Errorf("output %q, error %v", out.Stdout, err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}
