package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

const containerPath = "/lls/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

// attachMain is lab-exec: it runs a command as a container's root, and its
// input, output and status are the command's.
func attachMain(args []string) int {
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "lab-exec: usage: lab-exec NAME CMD ARGS...")
		return 2
	}
	interactive := isTerminal(0) && isTerminal(1)
	term := os.Getenv("TERM")
	if term == "" || !interactive {
		term = "dumb"
	}
	argv := append([]string{"-n", args[0], "--clear-env",
		"--set-var", "PATH=" + containerPath, "--set-var", "HOME=/root", "--set-var", "TERM=" + term,
		"--set-var", "LC_ALL=C.UTF-8", "--set-var", "USER=root", "--"}, args[1:]...)
	if interactive {
		path, err := exec.LookPath("lxc-attach")
		if err == nil {
			err = syscall.Exec(path, append([]string{"lxc-attach"}, argv...), os.Environ())
		}
		return tool("lab-exec", err)
	}
	status, err := attach(exec.Command("lxc-attach", argv...))
	if err != nil {
		return tool("lab-exec", err)
	}
	return status
}

// attach runs lxc-attach with pipes: with a terminal or the console for one of
// its streams it would make a terminal of its own, which mixes the streams or
// prints nothing at all.
func attach(cmd *exec.Cmd) (int, error) {
	cmd.Stdout, cmd.Stderr = writerOnly{os.Stdout}, writerOnly{os.Stderr}
	cmd.WaitDelay = outputPatience
	var in io.WriteCloser
	if isTerminal(0) {
		var err error
		if in, err = cmd.StdinPipe(); err != nil {
			return 0, err
		}
	} else {
		cmd.Stdin = os.Stdin
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("cannot start lxc-attach: %w", err)
	}
	if in != nil {
		go func() {
			// Ends with the input or, unread, with this process.
			_, _ = io.Copy(in, os.Stdin)
			in.Close()
		}()
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go func() {
		for sig := range signals {
			_ = cmd.Process.Signal(sig)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, err
	}
	return exitStatus(cmd.ProcessState), nil
}

// writerOnly hides that a writer is a file, so that os/exec makes a pipe.
type writerOnly struct{ io.Writer }
