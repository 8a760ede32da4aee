package notify_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"lls/agent/notify"
)

// What a child process of a test is told: the queue's directory, and the lines to add.
const (
	childDir   = "LLS_NOTIFY_CHILD"
	childLines = "LLS_NOTIFY_LINES"
)

// TestMain is the tests, or the sender process that one of them kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := sendFor(dir, strings.Split(os.Getenv(childLines), "\n")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// sendFor says each line when it is queued, while it sends what it can, until it is killed.
func sendFor(dir string, lines []string) error {
	n, err := open(dir, relayed(0))
	if err != nil {
		return err
	}
	go func() {
		for _, line := range lines {
			if line == "" {
				continue
			}
			if err := n.Add(notify.Item{Line: line}); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			fmt.Println(line)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // an orphan ends
	defer cancel()
	return n.Run(ctx)
}

// child starts a sender process, and gives it back when it has queued its lines.
func child(t *testing.T, dir string, lines ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childLines+"="+strings.Join(lines, "\n"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	for _, line := range lines {
		if !said.Scan() || said.Text() != line {
			t.Errorf("the sender says %q, not %q; %v", said.Text(), line, said.Err())
		}
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the sender ended by itself: %v", err)
	}
}

func TestLabAKilledSenderSendsAfterItsRestart(t *testing.T) {
	server(t)
	down(t)
	dir := t.TempDir()
	first := child(t, dir, "before the first kill", "also before it")
	time.Sleep(2 * time.Second) // it tries
	kill(t, first)
	kill(t, child(t, dir, "before the second"))
	up(t)
	n := sending(t, dir, relayed(0))
	within(t, "the queue is empty", func() bool { return n.Status().Queued == 0 })
	text := ""
	within(t, "all arrives", func() bool {
		text = ""
		for _, m := range inbox(t) {
			text += m.body
		}
		return strings.Contains(text, "before the second") && strings.Contains(text, "also before it")
	})
	arrived(t, 2) // no more
	for _, line := range []string{"before the first kill", "also before it", "before the second"} {
		if n := strings.Count(text, line); n != 1 {
			t.Errorf("%q arrived %d times", line, n)
		}
	}
}

func TestLabKillsAtAnyTimeLoseNothing(t *testing.T) {
	server(t)
	dir := t.TempDir()
	rounds := 24
	if testing.Short() {
		rounds = 6
	}
	for n := range rounds {
		c := child(t, dir, fmt.Sprintf("event %03d.", n))
		time.Sleep(time.Duration(n) * 7 * time.Millisecond)
		kill(t, c)
	}
	n := sending(t, dir, relayed(0))
	within(t, "the queue is empty", func() bool { return n.Status().Queued == 0 })
	ids := map[string][]string{} // by event
	within(t, "every event arrives", func() bool {
		clear(ids)
		for _, m := range inbox(t) {
			for n := range rounds {
				if event := fmt.Sprintf("event %03d.", n); strings.Contains(m.body, event) {
					ids[event] = append(ids[event], m.Get("Message-ID"))
				}
			}
		}
		return len(ids) == rounds
	})
	twice := 0
	for event, all := range ids {
		if len(all) > 1 {
			twice++
		}
		if len(slices.Compact(slices.Sorted(slices.Values(all)))) != 1 {
			t.Errorf("%s came in different mails: %v", event, all)
		}
	}
	t.Logf("%d events in %d mails, %d of them twice", rounds, len(inbox(t)), twice)
}
