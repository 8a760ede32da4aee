package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// job is a command whose output goes to a log. It is one suite, or several when want names them: then lines that begin with mark say
// how each of them ended. tests says that Go tests run in it, of which at least one has to pass.
type job struct {
	name  string
	want  []string
	tests bool
	cmd   *exec.Cmd
}

// mark begins a line by which a guest says how a suite ended.
const mark = "=== suite "

// tally counts suites.
type tally struct {
	mu     sync.Mutex
	passed int
	failed []string
	why    []string // what tests that failed said last
}

func command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // the lab clears up
	cmd.WaitDelay = time.Minute
	return cmd
}

// errFailed says that a suite did not pass.
var errFailed = errors.New("failed")

// add runs a job and counts its suites.
func (t *tally) add(ctx context.Context, j job) error {
	began := time.Now()
	fmt.Printf("%s: running\n", j.name)
	out, err := run(ctx, j)
	o := read(out)
	switch {
	case err != nil || !j.tests:
	case o.tests == 0:
		err = errors.New("no test passed in it")
	case len(o.skipped) > 0:
		err = fmt.Errorf("skipped in the lab, where there is all that a test needs: %s", strings.Join(o.skipped, " "))
	}
	return t.count(j, o, err, seconds(began), out)
}

// run runs a job and returns what it wrote, which is in its log as it comes.
func run(ctx context.Context, j job) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(j.log())
	if err != nil {
		return nil, err
	}
	j.cmd.Stdout, j.cmd.Stderr = log, log
	err = errors.Join(j.cmd.Run(), log.Close())
	out, readErr := os.ReadFile(j.log())
	return out, errors.Join(err, readErr)
}

func (j job) log() string { return filepath.Join(dir, j.name+".log") }

// outcome is what a job's output says.
type outcome struct {
	passed  map[string]bool // suites
	tests   int             // that passed
	skipped []string        // tests
	notes   []string        // of what was skipped outside the lab
	why     []string        // the last words of each test that failed, and its name
}

// lastWords is how many lines of a test that failed are shown again at the end.
const lastWords = 4

func read(out []byte) outcome {
	o := outcome{passed: map[string]bool{}}
	var words []string // of the test that runs
	for raw := range bytes.Lines(out) {
		line := strings.TrimRight(string(raw), "\r\n")
		switch {
		case logged.MatchString(line) || strings.HasPrefix(line, "panic: "):
			words = append(words, line)
		case strings.HasPrefix(line, "=== RUN "):
			if !strings.Contains(line, "/") {
				words = nil
			}
		case strings.HasPrefix(line, "--- FAIL: "):
			o.why = append(append(o.why, words[max(0, len(words)-lastWords):]...), line)
		case strings.HasPrefix(line, mark):
			name, how, _ := strings.Cut(line[len(mark):], ": ")
			o.passed[name] = strings.HasPrefix(how, "passed")
		case strings.HasPrefix(line, "--- PASS: "):
			o.tests++
		case strings.HasPrefix(strings.TrimLeft(line, " "), "--- SKIP: "): // a test in a test is indented
			o.skipped = append(o.skipped, strings.Fields(line)[2])
		case strings.HasPrefix(line, skippedMark):
			o.notes = append(o.notes, line)
		}
	}
	return o
}

// count adds a job's suites, and shows the output of a job that failed. A suite that nobody spoke of has failed.
func (t *tally) count(j job, o outcome, err error, took string, out []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var bad []string
	for _, name := range j.want {
		if o.passed[name] {
			t.passed++
		} else {
			bad = append(bad, j.name+":"+name)
		}
	}
	if len(j.want) == 0 && err == nil {
		t.passed++
	}
	if err != nil && len(bad) == 0 {
		bad = append(bad, j.name)
	}
	t.failed = append(t.failed, bad...)
	for _, line := range o.why {
		t.why = append(t.why, j.name+" | "+line)
	}
	if len(bad) > 0 {
		for line := range bytes.Lines(out) {
			fmt.Printf("%s | %s\n", j.name, bytes.TrimRight(line, "\r\n"))
		}
		fmt.Printf("%s: FAILED after %s (%v); the log is %s\n", j.name, took, err, j.log())
		return errFailed
	}
	fmt.Printf("%s: passed in %s", j.name, took)
	if j.tests {
		fmt.Printf(", %d tests", o.tests)
	}
	fmt.Println()
	for _, note := range o.notes {
		fmt.Printf("%s: %s\n", j.name, note)
	}
	return nil
}

// runGuests runs as many guests side by side as there are CPUs, four at most: each takes 2 GiB of memory. They wait half of the time, but
// with one more the tests of who is quicker, the agent or LVM, begin to show the machine and not the agent.
func runGuests(ctx context.Context, t *tally, jobs []job) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(1, min(runtime.NumCPU(), 4)))
	for _, j := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			_ = t.add(ctx, j) // it is counted
		})
	}
	wg.Wait()
}
