// Command lab runs a command in a fresh virtual machine that has a real
// device-mapper, LVM and LXC, with this tree's LLS installed from its Debian
// package. It is built from Debian packages alone, and needs neither KVM nor a
// device-mapper on the machine it runs on.
//
// The same program serves both sides: on the machine it prepares images and
// supervises the guest, in the guest it runs the command and provides
// lab-container, lab-exec and lab-reboot.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// exitLab is the exit status that says "the lab itself failed", as opposed to
// the command that ran in it.
const exitLab = 125

func main() {
	os.Exit(dispatch(os.Args))
}

// dispatch picks the side and the role by the program's name and first argument.
func dispatch(argv []string) int {
	switch filepath.Base(argv[0]) {
	case "lab-container":
		return tool("lab-container", containerMain(argv[1:]))
	case "lab-exec":
		return attachMain(argv[1:])
	case "lab-reboot":
		return tool("lab-reboot", rebootMain(argv[1:]))
	}
	if len(argv) > 1 {
		switch argv[1] {
		case roleJail:
			return tool("lab jail", jailMain(argv[2:]))
		case roleGuest:
			return tool("lab guest", guestMain())
		}
	}
	return hostMain(argv[1:])
}

// tool turns the outcome of a guest-side tool into an exit status.
func tool(name string, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

func hostMain(args []string) int {
	opt, err := parseArgs(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		return exitLab
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "lab: the lab mounts and makes namespaces and needs root; run:\n  sudo --preserve-env=PATH go run ./test/lab "+quoteArgs(args))
		return exitLab
	}
	dieWithGoRun()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	status, err := runLab(ctx, opt)
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		return exitLab
	}
	return status
}

// dieWithGoRun makes the end of `go run` ours: the go command passes SIGINT on
// but dies from SIGTERM without a word to the program it started.
func dieWithGoRun() {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", os.Getppid()))
	if err != nil || filepath.Base(exe) != "go" {
		return
	}
	// Errors leave us as we were, which is what any other parent gets.
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0)
}
