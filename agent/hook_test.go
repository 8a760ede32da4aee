package agent

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestAHookIsNearTheInitOfItsContainer(t *testing.T) {
	// last is the process that a script starts and names.
	last := func(script string) int {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		pid, numberErr := strconv.Atoi(strings.TrimSpace(line))
		if err != nil || numberErr != nil {
			t.Fatalf("%s: %q, %v", script, line, err)
		}
		t.Cleanup(func() {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
			_ = cmd.Wait()
		})
		return pid
	}
	init := last("echo $$; exec sleep 60") // we are its monitor
	for script, want := range map[string]bool{
		"echo $$; exec sleep 60":        true,
		"sleep 60 & echo $!; wait":      true,
		"(sleep 60 & echo $!; wait); :": false,
	} {
		if got := startedBy(last(script), init); got != want {
			t.Errorf("%s: %v", script, got)
		}
	}
	if startedBy(os.Getpid(), 1) {
		t.Error("a process that nobody's monitor started is taken for an init")
	}
}
