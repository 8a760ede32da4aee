package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lls/agent/api/cli/clitest"
)

// build makes the client as it is shipped.
func build(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "lls")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=9.9", "-o", file, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

// The client runs in whatever a container holds, and is started once for each command.
func TestBinaryIsStaticAndSmall(t *testing.T) {
	file := build(t)
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it has a program header %v", p.Type)
		}
	}
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() > 3<<20 {
		t.Errorf("it has %d bytes, more than 3 MiB", st.Size())
	}
	if out, err := exec.Command(file, "--version").Output(); err != nil || string(out) != "lls 9.9\n" {
		t.Errorf("--version says %q, %v", out, err)
	}
}

// What the client imports is why it is small: no network stack, nothing of the agent's but its words.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		first, _, _ := strings.Cut(dep, "/")
		switch {
		case dep == "net", dep == "net/http", dep == "os/exec", dep == "testing":
			t.Errorf("it imports %s", dep)
		case strings.Contains(first, "."):
			t.Errorf("it imports %s, which is not of the standard library", dep)
		case first == "lls" && dep != "lls/agent/api" && dep != "lls/agent/api/cli" && dep != "lls/hooks" && dep != "lls/cmd/lls":
			t.Errorf("it imports %s", dep)
		}
	}
}

func exitOf(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		return -100
	}
	return 0
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	file := build(t)
	a := clitest.Serve(t, answers())
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	cmd := exec.Command(file, "list")
	var stderr bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), "LLS_SOCKET="+a.Socket), full, &stderr
	if exit := exitOf(cmd.Run()); exit != 1 || !strings.Contains(stderr.String(), "no space left") {
		t.Errorf("a full disk gives exit %d and %q", exit, stderr.String())
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	defer func() { _ = w.Close() }()
	cmd = exec.Command(file, "list")
	stderr.Reset()
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), "LLS_SOCKET="+a.Socket), w, &stderr
	_ = cmd.Run()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGPIPE || stderr.Len() > 0 {
		t.Errorf("a reader who left gives %v and %q, want a quiet SIGPIPE", cmd.ProcessState, stderr.String())
	}
}

func TestSignalsEndTheWait(t *testing.T) {
	file := build(t)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		cmd := exec.Command(file, "snapshot", "genomes")
		var stderr bytes.Buffer
		cmd.Env, cmd.Stderr = append(os.Environ(), "LLS_SOCKET="+socket), &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept() // it has asked by now, and waits
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Read(make([]byte, 4096))
		_ = cmd.Process.Signal(sig)
		timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		if exit := exitOf(cmd.Wait()); exit != want || !strings.Contains(stderr.String(), "hint: see whether it was done: lls list") {
			t.Errorf("%v gives exit %d and %q, want %d", sig, exit, stderr.String(), want)
		}
		timer.Stop()
		_ = conn.Close()
	}
}
