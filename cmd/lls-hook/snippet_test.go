package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// snippet is the line that LXC runs, as it runs it, with another program in the hook's place. LXC gives it to a shell, with arguments of
// its own at the end.
func snippet(t *testing.T, program string) *exec.Cmd {
	t.Helper()
	text, err := os.ReadFile("../../packaging/lxc/lls.conf")
	if err != nil {
		t.Fatal(err)
	}
	_, line, found := strings.Cut(string(text), "\nlxc.hook.start-host = ")
	if !found || strings.Count(line, "/usr/lib/lls/lls-hook") != 2 || strings.TrimSpace(line) != strings.TrimSuffix(line, "\n") {
		t.Fatalf("the snippet is %q", text)
	}
	line = strings.ReplaceAll(strings.TrimSpace(line), "/usr/lib/lls/lls-hook", program)
	return exec.CommandContext(t.Context(), "/bin/sh", "-c", "exec "+line+" c1 lxc start-host")
}

func TestTheSnippetFailsOnlyWhereSomethingIsRequired(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		program string // none: it is missing
		mode    os.FileMode
		fails   bool
	}{
		"done":                  {"#!/bin/sh\nexit 0\n", 0o755, false},
		"something is required": {"#!/bin/sh\nexit " + strconv.Itoa(doesNotStart) + "\n", 0o755, true},
		"failed":                {"#!/bin/sh\nexit 1\n", 0o755, false},
		"a panic, or no memory": {"#!/bin/sh\nexit 2\n", 0o755, false},
		"killed":                {"#!/bin/sh\nkill -9 $$\n", 0o755, false},
		"cut short":             {string(self[:200000]), 0o755, false},
		"empty":                 {"", 0o755, false},
		"no interpreter":        {"#!/nonexistent\n", 0o755, false},
		"may not be run":        {"#!/bin/sh\nexit 42\n", 0o644, false},
		"missing":               {"", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "hook")
			if c.mode != 0 {
				if err := os.WriteFile(program, []byte(c.program), c.mode); err != nil {
					t.Fatal(err)
				}
			}
			out, err := snippet(t, program).CombinedOutput()
			if (err != nil) != c.fails {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
