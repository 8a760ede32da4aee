package inside

import (
	"strings"
	"testing"
)

func TestReserved(t *testing.T) {
	for path, want := range map[string]bool{
		"/": true, "": true, "/tmp": true, "/tmp/x": false, "/run": true, "/run/x": true, "/proc": true, "/proc/1": true,
		"/sys": true, "/sys/fs/cgroup": true, "/dev": true, "/dev/mf": true, "/lls": true, "/lls/bin": true,
		"/running": false, "/develop": false, "/llsx": false, "/data": false, "/data/dev": false, "/var/run": false, "/home/proc": false,
	} {
		if got := Reserved(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}

func TestShadowed(t *testing.T) {
	for path, want := range map[string]bool{"/tmp/x": true, "/tmp/x/y": true, "/tmpx": false, "/data/tmp/x": false, "/var/tmp/x": false} {
		if got := Shadowed(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}

func TestAnswersComeThrough(t *testing.T) {
	for _, a := range []Answer{
		{Kind: OK, ID: 7, Path: "/data"}, {Kind: Missing, Path: "/a b\n\"\\\x00\xff", Text: "no such directory"}, {Kind: Failed, ID: -1},
	} {
		line := a.String()
		if strings.Count(line, "\n") != 1 {
			t.Errorf("not one line: %q", line)
		}
		if got, err := ParseAnswer(line); err != nil || got != a {
			t.Errorf("%q: %+v %v", line, got, err)
		}
	}
	for _, line := range []string{"", "\n", "ok", "ok 1 \"a\" \"b\"", "ok x \"a\" \"b\"\n", "ok 1 a b\n", "ok 1 \"a\"\n", "ok 1 \"a\" \"b\" c\n"} {
		if a, err := ParseAnswer(line); err == nil {
			t.Errorf("%q: %+v", line, a)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add("ok 1 \"a\" \"b\"\n")
	f.Fuzz(func(t *testing.T, line string) {
		a, err := ParseAnswer(line)
		if err != nil {
			return
		}
		if again, err := ParseAnswer(a.String()); err != nil || again != a {
			t.Errorf("%q: %+v %+v %v", line, a, again, err)
		}
	})
}

func TestArgumentsAreChecked(t *testing.T) {
	for _, args := range [][]string{
		nil, {"x"}, {OpPlace}, {OpPlace, "s", "1", "2"}, {OpPlace, "s", "x", "2", "/a"}, {OpPlace, "s", "-1", "2", "/a"}, {OpReplay, "s", "1", "2"},
		{OpInject, "0", "0", ""}, {OpInject, "4294967296", "0", "", TreeDir}, {OpRead, "0", "0", "/a"}, {OpRead, "0", "0", "x", "/a"}, {OpUnmount, "1", "2", "/a"}, {OpUnmount, "1", "2", "x", "/a"},
	} {
		if a := Run(args); a.Kind != Failed {
			t.Errorf("%q: %+v", args, a)
		}
	}
}
