package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// host is the machine the lab runs on: its programs and its apt.
type host struct {
	say func(format string, args ...any)
}

// need installs the Debian packages that bring the given programs, where the
// programs are missing. The map is from program to package.
func (h *host) need(ctx context.Context, programs map[string]string) error {
	var packages []string
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil {
			packages = append(packages, pkg)
		}
	}
	if len(packages) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("cannot install %s: the lab needs a Debian machine: %w", strings.Join(packages, " "), err)
	}
	h.say("installing %s", strings.Join(packages, " "))
	install := append([]string{"-q", "-y", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends", "install", "--"}, packages...)
	if err := h.run(ctx, "", "apt-get", install...); err == nil {
		return nil
	}
	// A fresh machine has no package lists yet, or old ones.
	if err := h.run(ctx, "", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "update"); err != nil {
		return err
	}
	return h.run(ctx, "", "apt-get", install...)
}

// run runs a program to its end; its output appears in the error only.
func (h *host) run(ctx context.Context, dir, name string, args ...string) error {
	_, err := h.output(ctx, dir, name, args...)
	return err
}

// output runs a program to its end and returns what it wrote to stdout.
func (h *host) output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	// SIGTERM lets mmdebstrap unmount what it mounted.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("cannot run %s %s: %w\n%s", name, quoteArgs(args), err, lastLines(stdout.String()+stderr.String(), 30))
	}
	return stdout.Bytes(), nil
}

// aptOptions returns those settings of the machine's apt that say how to reach
// the archive, as lines of an apt configuration file.
func (h *host) aptOptions(ctx context.Context) ([]string, error) {
	out, err := h.output(ctx, "", "apt-config", "dump", "--no-empty", "--format", "%F \"%v\";%n",
		"Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Check-Date")
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' }), nil
}

// download fetches packages of another suite with the machine's apt, in a state
// folder of its own, so that the machine's package lists stay what they are. apt
// checks the archive's signature against Debian's keyring.
func (h *host) download(ctx context.Context, dir string, r kernelRecipe) ([]string, error) {
	for _, sub := range []string{"state", "lists/partial", "cache/archives/partial", "preferences.d", "debs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("cannot make apt's folder: %w", err)
		}
	}
	sources := fmt.Sprintf("deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n", r.Mirror, r.Suite)
	for name, text := range map[string]string{"sources.list": sources, "status": "", "preferences": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("cannot write apt's configuration: %w", err)
		}
	}
	var options []string
	for key, value := range map[string]string{
		"Dir::State": "state", "Dir::State::lists": "lists", "Dir::State::status": "status", "Dir::Cache": "cache",
		"Dir::Etc::sourcelist": "sources.list", "Dir::Etc::sourceparts": "preferences.d",
		"Dir::Etc::preferences": "preferences", "Dir::Etc::preferencesparts": "preferences.d",
	} {
		options = append(options, "-o", key+"="+filepath.Join(dir, value))
	}
	options = append(options, "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none", "-o", "Acquire::Retries=5", "-o", "Acquire::AllowInsecureRepositories=false",
		"-o", "APT::Get::AllowUnauthenticated=false")
	if err := h.run(ctx, dir, "apt-get", append(options, "update")...); err != nil {
		return nil, err
	}
	debs := filepath.Join(dir, "debs")
	if err := h.run(ctx, debs, "apt-get", append(append(options, "download", "--"), r.Packages...)...); err != nil {
		return nil, err
	}
	found, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return nil, err
	}
	if len(found) != len(r.Packages) {
		return nil, fmt.Errorf("cannot download %s: got %d packages", strings.Join(r.Packages, " "), len(found))
	}
	return found, nil
}

// lastLines returns the last n lines of text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
