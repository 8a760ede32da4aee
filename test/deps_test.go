// Package test keeps rules about the whole tree.
package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module = "lls"
	lines  = 500 // of one file
)

// Libraries that are not Go's own.
const (
	sys     = "golang.org/x/sys/unix"
	goLXC   = "github.com/lxc/go-lxc"
	toml    = "github.com/BurntSushi/toml"
	dbus    = "github.com/godbus/dbus/v5"
	dbusTo  = "github.com/godbus/dbus/v5/introspect"
	uevents = "github.com/vishvananda/netlink/nl"
	gomail  = "github.com/wneessen/go-mail"
)

// rooms says what each package may import besides Go's own packages: first packages of ours, without the module's name, then
// libraries. Tests may import more. A package that is not here fails the test: decide where it belongs, and write it down here and in
// ARCHITECTURE.md.
func rooms() map[string][]string {
	return map[string][]string{
		"policy":                 {toml},
		"internal/run":           {sys},
		"lvm":                    {"internal/run", sys},
		"lvm/lvmtest":            {"lvm"},
		"hooks":                  {"agent/api"},
		"agent/api":              {},
		"agent/api/cli":          {"agent/api"},
		"agent/api/cli/clitest":  {"agent/api", "agent/api/cli"},
		"agent/catalog":          {"agent/api", "lvm"},
		"agent/container":        {"agent/catalog", goLXC, sys},
		"agent/event":            {uevents, sys},
		"agent/event/bus":        {dbus, dbusTo, "agent/api", "agent/event"},
		"agent/fdstore":          {sys},
		"agent/filesystem":       {"agent/filesystem/apart", "internal/run", "lvm", sys},
		"agent/filesystem/apart": {sys},
		"agent/history":          {"policy"},
		"agent/mount":            {"agent/filesystem", "agent/mount/inside", "internal/run", sys},
		"agent/mount/inside":     {sys},
		"agent/notify":           {"internal/run", gomail},
		"agent/thin":             {"internal/run", "lvm"},
		"agent/setup":            {"agent/catalog", "internal/run", "lvm", "policy", sys},
		"agent": {"agent/api", "agent/catalog", "agent/container", "agent/event", "agent/event/bus", "agent/filesystem", "agent/history", "agent/mount", "agent/notify", "agent/setup", "agent/thin", "hooks", "internal/run", "lvm",
			"policy", sys},
		"cmd/lls":       {"agent/api", "agent/api/cli", "hooks"},
		"cmd/lls-hook":  {"agent/api", "hooks", sys},
		"cmd/lls-mount": {"agent/filesystem/apart", "agent/mount/inside"},
		"cmd/lls-agent": {"agent", "agent/api", "agent/api/cli", "agent/catalog", "agent/container", "agent/event", "agent/event/bus", "agent/fdstore", "agent/filesystem",
			"agent/mount", "agent/notify", "agent/setup", "agent/thin", "internal/run", "lvm", "policy", sys},
		"test":         {},
		"test/bench":   {},
		"test/boot":    {"test/kit"},
		"test/e2e":     {"test/kit"},
		"test/fault":   {"test/kit"},
		"test/hostile": {"test/kit"},
		"test/kit":     {},
		"test/policy":  {"test/kit"},
		"test/lab":     {sys},
		"test/suite":   {},
	}
}

// withoutCgo are the programs that have to be static: two run in other distributions or before a container's init, one in its mount
// namespace.
var withoutCgo = []string{"./cmd/lls", "./cmd/lls-hook", "./cmd/lls-mount"}

type pkg struct {
	ImportPath, Dir string
	Standard        bool
	GoFiles         []string
	CgoFiles        []string
	Imports         []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Standard,GoFiles,CgoFiles,Imports"}, args...)...)
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatal("go list finds no package")
	}
	return all
}

func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	for _, p := range list(t, "./...") {
		room := strings.TrimPrefix(p.ImportPath, module+"/")
		allowed, ok := rooms()[room]
		if !ok {
			t.Errorf("%s is in no rule", room)
			continue
		}
		for _, i := range p.Imports {
			own, ours := strings.CutPrefix(i, module+"/")
			library := !ours && strings.Contains(strings.Split(i, "/")[0], ".")
			if (ours || library) && !slices.Contains(allowed, own) {
				t.Errorf("%s imports %s", room, i)
			}
			if i == "os/exec" && room != "internal/run" && !strings.HasPrefix(room, "test/") {
				t.Errorf("%s starts programs by itself: only internal/run may", room)
			}
		}
	}
}

func TestStaticProgramsNeedNoC(t *testing.T) {
	for _, p := range list(t, append([]string{"-deps"}, withoutCgo...)...) {
		if !p.Standard && len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo", p.ImportPath)
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	for _, p := range list(t, "./...") {
		files := slices.Concat(p.GoFiles, p.CgoFiles)
		if len(files) == 0 { // of tests alone
			found, err := filepath.Glob(filepath.Join(p.Dir, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				files = append(files, filepath.Base(f))
			}
		}
		comments := 0
		for _, f := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if parsed.Doc != nil {
				comments++
			}
		}
		if comments != 1 {
			t.Errorf("%s has %d package comments", p.ImportPath, comments)
		}
	}
}

func TestNoFileIsTooLong(t *testing.T) {
	seen := 0
	for _, p := range list(t, "./...") {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			seen++
			if n := bytes.Count(text, []byte("\n")); n > lines {
				t.Errorf("%s has %d lines, more than %d", f, n, lines)
			}
		}
	}
	if seen == 0 {
		t.Error("no file was looked at")
	}
}
