package kit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// ownMounts says in the environment of a test program that it is the inner one.
const ownMounts = "LLS_TEST_OWN_MOUNTS"

// InOwnMounts runs the tests of a program in a mount namespace of their own when root does, and gives the program's status. Tests of other
// packages that run meanwhile make namespaces, which begin as copies and would hold for a while what is mounted here.
func InOwnMounts(m *testing.M) int {
	if os.Geteuid() != 0 || os.Getenv(ownMounts) != "" {
		return m.Run()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), ownMounts+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // whose end would be the death that the signal is for
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return max(1, exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "cannot run the tests in a mount namespace of their own:", err)
	return 1
}
