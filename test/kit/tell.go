package kit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// JournalIfFailed logs what the guest's journal has of a time, as journalctl(1) takes it, if the test fails: by then nobody can look.
func JournalIfFailed(t testing.TB, of ...string) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		out, err := exec.Command("journalctl", append([]string{"--no-pager", "--lines=600", "--output=short-precise"}, of...)...).CombinedOutput()
		t.Logf("the journal (%v):\n%s", err, out)
	})
}

// hung tells what the guest is at, while a command of a test does not end: all processes and what they wait for in the kernel, what those
// do that run, what LVM waits for from udev, and where the agent is. It ends the agent, which systemd starts again: the test has failed.
func hung() string {
	var b strings.Builder
	look := func(limit int, args ...string) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		fmt.Fprintf(&b, "--- %s\n%s\n", strings.Join(args, " "), out[:min(len(out), limit)])
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
		}
	}
	look(64<<10, "ps", "axww", "-o", "pid,ppid,stat,etimes,cputimes,wchan:24,args")
	for _, pid := range running() {
		look(8<<10, "cat", "/proc/"+pid+"/stack")
		look(8<<10, "timeout", "1", "strace", "-f", "-k", "-p", pid)
	}
	look(8<<10, "dmsetup", "udevcookies")
	look(64<<10, "dmsetup", "info", "-c", "--noheadings", "-o", "name,open,suspended,tables_loaded")
	look(8<<10, "systemctl", "kill", "--kill-whom=main", "--signal=SIGQUIT", Unit) // a Go program then says where each goroutine is
	look(8<<10, "sleep", "2")
	look(1<<20, "journalctl", "--no-pager", "--lines=1500", "--output=short-precise")
	return b.String()
}

// running are the pids of all other processes that run, or want to.
func running() (pids []string) {
	all, _ := filepath.Glob("/proc/[1-9]*")
	for _, dir := range all {
		text, _ := os.ReadFile(filepath.Join(dir, "stat")) // it may have ended
		_, after, _ := strings.Cut(string(text), ") ")
		if pid := filepath.Base(dir); strings.HasPrefix(after, "R ") && pid != strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	return pids
}
