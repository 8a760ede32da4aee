// Package clitest tries command lines against an agent made of ready answers, and writes down what was typed, sent and
// shown. Only tests import it.
package clitest

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/api/cli"
)

var update = flag.Bool("update", false, "write golden files, completions included, instead of comparing them")

// Answer is what the agent says to one request: some progress, then the error, if any, or the result.
type Answer struct {
	Progress []string
	Result   any
	Err      *api.Error
}

// Agent is a fake agent on a real Unix socket.
type Agent struct {
	Socket string

	mu   sync.Mutex
	seen []string
}

// Serve starts an agent that answers "GET /path?query" and "POST /path body" from answers: by the whole of it, else
// by method and path alone; else with code not-found. It ends with the test.
func Serve(t testing.TB, answers map[string]Answer) *Agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "lls") // t.TempDir is too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{Socket: filepath.Join(dir, "s")}
	l, err := net.Listen("unix", a.Socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: a.handler(answers), ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
		_ = os.RemoveAll(dir)
	})
	return a
}

func (a *Agent) handler(answers map[string]Answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		short := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/"+api.Version)
		long := short
		if r.URL.RawQuery != "" {
			long += "?" + r.URL.RawQuery
		}
		if len(body) > 0 {
			long += " " + string(body)
		}
		a.mu.Lock()
		a.seen = append(a.seen, long)
		a.mu.Unlock()
		answer, ok := answers[long]
		if !ok {
			answer, ok = answers[short]
		}
		if !ok {
			answer.Err = api.Errorf(api.NotFound, "cannot do it: there is none")
		}
		answer.write(w, r.Method)
	})
}

func (a Answer) write(w http.ResponseWriter, method string) {
	enc := json.NewEncoder(w)
	for _, p := range a.Progress {
		_ = enc.Encode(api.Line{Progress: p})
		_ = http.NewResponseController(w).Flush()
	}
	if a.Err != nil {
		if len(a.Progress) == 0 {
			w.WriteHeader(a.Err.Code.HTTPStatus())
		}
		_ = enc.Encode(api.Line{Error: a.Err})
		return
	}
	if method == http.MethodGet {
		_ = enc.Encode(a.Result)
		return
	}
	result, _ := json.Marshal(a.Result)
	_ = enc.Encode(api.Line{Result: result})
}

// Requests gives what was asked since the last call.
func (a *Agent) Requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := a.seen
	a.seen = nil
	return seen
}

// Terminal is what stands around a program in a test. The zero Terminal is a pipe.
type Terminal struct {
	Width  int
	Answer string // what the person there types; nobody is there if empty
	Dir    string // the working directory; /home/dev if empty
}

// Now is the time in every test.
func Now() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// Run runs p with args against a and gives what it wrote and its exit status.
func (term Terminal) Run(p *cli.Program, a *Agent, args ...string) (stdout, stderr string, exit int) {
	var out, errs bytes.Buffer
	if term.Dir == "" {
		term.Dir = "/home/dev"
	}
	exit = p.Run(context.Background(), cli.Env{
		Stdin: strings.NewReader(term.Answer), Stdout: &out, Stderr: &errs,
		Getenv: func(name string) string { return map[string]string{"LLS_SOCKET": a.Socket}[name] },
		Getwd:  func() (string, error) { return term.Dir, nil },
		Now:    Now,
		Ask:    func() bool { return term.Answer != "" },
		Width:  func() int { return term.Width },
	}, args)
	return out.String(), errs.String(), exit
}

// Transcript runs lines, which hold arguments, and writes down what was typed ($), sent (>), shown, said on standard
// error (!) and the exit status if it is not 0.
func (term Terminal) Transcript(p *cli.Program, a *Agent, lines ...[]string) string {
	var b strings.Builder
	for _, args := range lines {
		typed := []string{"$", p.Name}
		for _, arg := range args {
			typed = append(typed, cli.Clean(cli.Quote(arg)))
		}
		b.WriteString(strings.Join(typed, " ") + "\n")
		stdout, stderr, exit := term.Run(p, a, args...)
		for _, r := range a.Requests() {
			b.WriteString("> " + r + "\n")
		}
		b.WriteString(strings.ReplaceAll(stdout, a.Socket, "SOCKET"))
		stderr = strings.ReplaceAll(stderr, a.Socket, "SOCKET")
		stderr = strings.NewReplacer("\x1b", "ESC", "\r", "CR").Replace(stderr)
		for line := range strings.Lines(stderr) {
			b.WriteString("! " + strings.TrimSuffix(line, "\n") + "\n")
		}
		if exit != 0 {
			fmt.Fprintf(&b, "exit %d\n", exit)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Golden compares got with the file, or writes the file with -update.
func Golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) == got {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s differs in line %d (write it anew with -update)\n got: %s\nwant: %s", file, i+1, at(g, i), at(w, i))
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end)"
}
