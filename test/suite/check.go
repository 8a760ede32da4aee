package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// known is a reason for which a test may be skipped outside the lab.
type known struct {
	begins string
	inLab  bool // the test must be one that `make e2e` runs in the lab, where it fails instead of being skipped
}

func knownSkips(root bool) []known {
	all := []known{
		{"needs the lab's guest: ", true},                // test/kit
		{"needs real LVM and a disk to erase: ", true},   // lvm/lvmtest
		{"needs real LVM: ", true},                       // agent/thin
		{"needs device-mapper: ", true},                  // agent/filesystem
		{"needs LXC's start-host hook: ", true},          // agent/mount
		{"needs CAP_SYS_RESOURCE, to resize ext4", true}, // agent/filesystem: many containers are without
		{"no devtmpfs here: ", true},                     // agent/mount: only the host's own user namespace may mount it
		{"needs busctl", false},                          // agent/event/bus: test/boot looks with it
	}
	if !root {
		all = append(all, known{"needs root, ", false})
	}
	return all
}

// knows says whether tests of a package may be skipped for a reason.
func knows(all []known, why, pkg string) bool {
	return slices.ContainsFunc(all, func(k known) bool {
		return strings.HasPrefix(why, k.begins) && (!k.inLab || slices.ContainsFunc(allPrograms(), func(p program) bool {
			return pkg == "lls"+strings.TrimPrefix(p.pkg, ".")
		}))
	})
}

// check runs the tests that need no lab, and shows what failed, and what was skipped and why.
func check(ctx context.Context) int {
	cmd := exec.CommandContext(ctx, "go", "test", "-race", "-json", "-timeout", "30m", "./...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "suite: cannot run the tests: %v\n", err)
		return 1
	}
	skips, err := follow(out, os.Stdout)
	if err = errors.Join(err, cmd.Wait()); err != nil {
		fmt.Fprintf(os.Stderr, "suite: the tests failed: %v\n", err)
		return 1
	}
	if !skips.tell(os.Stdout, knownSkips(os.Geteuid() == 0)) {
		return 1
	}
	return 0
}

// event is a line of `go test -json`: see `go doc test2json`.
type event struct{ Action, Package, Test, Output string }

// skips are the skipped tests: by reason and by package, their names.
type skips map[string]map[string][]string

// follow reads the events of `go test -json` and shows what `go test` would have shown.
func follow(events io.Reader, show io.Writer) (skips, error) {
	skipped := skips{}
	said := map[event]*strings.Builder{} // by package and test: what is not shown yet
	for lines := json.NewDecoder(events); ; {
		var e event
		if err := lines.Decode(&e); errors.Is(err, io.EOF) {
			return skipped, nil
		} else if err != nil {
			return skipped, fmt.Errorf("cannot read what go test says: %w", err)
		}
		of := event{Package: e.Package, Test: e.Test}
		if said[of] == nil {
			said[of] = &strings.Builder{}
		}
		switch e.Action {
		case "output":
			said[of].WriteString(e.Output)
			continue
		case "build-output":
			fmt.Fprint(show, e.Output)
			continue
		case "fail":
			if e.Test == "" { // what did not end has no event of its own
				for left, text := range said {
					if left.Package == e.Package && left.Test != "" {
						fmt.Fprint(show, text)
					}
				}
			}
			fmt.Fprint(show, said[of])
		case "pass":
			if e.Test == "" {
				fmt.Fprintln(show, lastLine(said[of].String()))
			}
		case "skip":
			if e.Test != "" {
				skipped.add(e, reason(said[of].String()))
			}
		default:
			continue
		}
		delete(said, of)
	}
}

func (s skips) add(e event, why string) {
	if s[why] == nil {
		s[why] = map[string][]string{}
	}
	s[why][e.Package] = append(s[why][e.Package], e.Test)
}

// tell shows what was skipped, and says whether all of it may be.
func (s skips) tell(show io.Writer, all []known) bool {
	ok := true
	for _, why := range slices.Sorted(maps.Keys(s)) {
		n := 0
		for _, tests := range s[why] {
			n += len(tests)
		}
		fmt.Fprintf(show, "%s%d: %s\n", skippedMark, n, why)
		for _, pkg := range slices.Sorted(maps.Keys(s[why])) {
			verdict := ""
			if !knows(all, why, pkg) {
				verdict, ok = "FAILED: ", false
			}
			fmt.Fprintf(show, "  %s%s: %s\n", verdict, pkg, strings.Join(s[why][pkg], " "))
		}
	}
	if !ok {
		fmt.Fprintln(show, "what is skipped for a reason that test/suite does not know, or that it runs nowhere else, has failed")
	}
	return ok
}

// skippedMark begins a line that tells how many tests were skipped, and why.
const skippedMark = "skipped "

// logged is a line of a test's log, without its place.
var logged = regexp.MustCompile(`(?m)^\s*\S+\.go:\d+: (.*)$`)

// reason is what a skipped test said last.
func reason(output string) string {
	all := logged.FindAllStringSubmatch(output, -1)
	if len(all) == 0 {
		return "no reason was given"
	}
	return all[len(all)-1][1]
}

func lastLine(text string) string {
	text = strings.TrimRight(text, "\n")
	return text[strings.LastIndex(text, "\n")+1:]
}
