// Command suite runs LLS's test suites: `suite check` the tests that need no lab, `suite e2e` those that do, `suite all` all that
// `make check` does, those of the lab, and the demo. Each suite's output is kept in build/e2e and shown when it fails; the last line
// counts suites. No test is skipped unseen: in the lab none may be, outside it only for reasons that are known.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// dir is where test programs and logs go.
const dir = "build/e2e"

func main() { os.Exit(dispatch(os.Args[1:])) }

func dispatch(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch {
	case len(args) > 1 && args[0] == "guest":
		return inGuest(ctx, args[1:])
	case len(args) == 1 && args[0] == "check":
		return check(ctx)
	case len(args) == 1 && args[0] == "e2e":
		return host(ctx, false)
	case len(args) == 1 && args[0] == "all":
		return host(ctx, true)
	}
	fmt.Fprintln(os.Stderr, "usage: suite check|e2e|all")
	return 2
}

// host runs the suites and says how many passed.
func host(ctx context.Context, all bool) int {
	t := &tally{}
	if all && t.add(ctx, job{name: "check", cmd: command(ctx, "make", "--no-print-directory", "check")}) != nil {
		return t.report() // what does not build or is not tidy is not worth a guest
	}
	programs, err := build(ctx)
	if err != nil {
		fmt.Fprintf(os.Stderr, "suite: %v\n", err)
		t.failed = append(t.failed, "build")
		return t.report()
	}
	jobs := guests(ctx, programs)
	if all {
		jobs = append(jobs, monthJob(ctx))
	}
	runGuests(ctx, t, jobs)
	if all {
		_ = t.add(ctx, job{name: "demo", cmd: command(ctx, "make", "--no-print-directory", "demo")}) // it is counted
	}
	return t.report()
}

// monthJob is the whole simulated month, of which check has a few days: it does without the race detector.
func monthJob(ctx context.Context) job {
	cmd := command(ctx, "go", "test", "-count=1", "-v", "-timeout", testTimeout.String(), "-run", "^TestAMonthOfLife$", "./agent")
	return job{name: "month", tests: true, cmd: cmd}
}

// report prints the last lines and gives the exit status.
func (t *tally) report() int {
	for _, line := range t.why {
		fmt.Println(line)
	}
	if len(t.failed) > 0 {
		fmt.Println("failed: " + strings.Join(t.failed, ", "))
	}
	fmt.Printf("%d passed, %d failed\n", t.passed, len(t.failed))
	if len(t.failed) > 0 || t.passed == 0 {
		return 1
	}
	return 0
}

// seconds is how long something took, for people.
func seconds(since time.Time) string {
	return time.Since(since).Round(100 * time.Millisecond).String()
}
