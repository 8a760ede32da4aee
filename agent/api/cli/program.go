package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"lls/agent/api"
)

// Env is the world around a program, so that a test can make its own.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Getwd          func() (string, error)
	Now            func() time.Time
	// Ask tells whether a person sits at standard input and error, who can answer a question.
	Ask func() bool
	// Width gives the columns of the terminal at standard error, or 0 if that is none.
	Width func() int
}

// Exit statuses that do not come from an [api.Code].
const (
	exitOK    = 0
	exitUsage = 2
	// signalled is added to a signal's number, as a shell does.
	signalled = 128
)

// stopped is why a context ended: the user wants no more of it.
type stopped struct{ sig syscall.Signal }

func (s stopped) Error() string { return "stopped by " + s.sig.String() }

// Main runs p as this process and gives its exit status. The first SIGINT or SIGTERM ends the context, a second one
// the process.
func Main(p *Program) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		sig, _ := (<-signals).(syscall.Signal)
		signal.Stop(signals)
		cancel(stopped{sig})
	}()
	return p.Run(ctx, systemEnv(), os.Args[1:])
}

func systemEnv() Env {
	return Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, Getwd: os.Getwd, Now: time.Now,
		Ask:   func() bool { return columns(os.Stdin) > 0 && columns(os.Stderr) > 0 },
		Width: func() int { return columns(os.Stderr) },
	}
}

// Run runs p with args, which do not hold its name, and gives the exit status.
func (p *Program) Run(ctx context.Context, env Env, args []string) int {
	call := &Call{Env: env, program: p, command: &Command{}, out: &output{w: env.Stdout}}
	status := p.dispatch(ctx, call, args)
	if err := call.out.err; err != nil {
		return call.Report(api.Errorf(api.Failed, "cannot write the answer: %v", err).WithHint("see whether there is room where the output goes: df"))
	}
	return status
}

// dispatch finds the command in args and runs it.
func (p *Program) dispatch(ctx context.Context, call *Call, args []string) int {
	var before []string // flags before the command belong to it
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		switch args[0] {
		case "--version":
			call.out.print(p.Name + " " + p.Version + "\n")
			return exitOK
		case "--help", "-h", "--json":
			call.json = call.json || args[0] == "--json"
			before, args = append(before, args[0]), args[1:]
		default:
			return call.Report(api.Errorf(api.Malformed, "unknown flag %s", args[0]).WithHint("see: %s --help", p.Name))
		}
	}
	if len(args) > 1 && args[0] == "help" {
		before, args = append(before, "--help"), args[1:]
	}
	if len(args) == 0 || args[0] == "help" {
		call.out.print(p.usage())
		return exitOK
	}
	c, rest := p.find(args)
	if c == nil {
		return p.astray(call, before, args)
	}
	call.command = c
	if len(rest) == 0 && len(before) == 0 && c.Min > 0 {
		_, _ = io.WriteString(call.Stderr, c.usage(p.Name))
		return exitUsage
	}
	return p.start(ctx, call, append(before, rest...))
}

// astray answers args that name no command: the first word of some may ask for help, or go without a second.
func (p *Program) astray(call *Call, before, args []string) int {
	var usages []string
	for _, c := range p.group(args[0]) {
		usages = append(usages, c.usage(p.Name))
	}
	help := func(arg string) bool { return arg == "--help" || arg == "-h" }
	switch text := strings.Join(usages, "\n"); {
	case text == "":
		return call.Report(p.unknown(args[0]))
	case slices.ContainsFunc(before, help) || slices.ContainsFunc(args, help):
		call.out.print(text)
		return exitOK
	case len(args) == 1 && len(before) == 0:
		_, _ = io.WriteString(call.Stderr, text)
		return exitUsage
	}
	for _, arg := range args[1:] {
		if !strings.HasPrefix(arg, "-") {
			return call.Report(p.unknown(args[0] + " " + arg))
		}
	}
	return call.Report(api.Errorf(api.Malformed, "%s alone is no command", args[0]).WithHint("see: %s %s --help", p.Name, args[0]))
}

// start parses the command's args and runs it.
func (p *Program) start(ctx context.Context, call *Call, args []string) int {
	got, err := parse(p.Name, call.command, args)
	call.Operands, call.flags = got.operands, got.flags
	call.json = call.json || call.Has("json")
	if err != nil {
		return call.Report(err)
	}
	if call.Has("help") {
		call.out.print(call.command.usage(p.Name))
		return exitOK
	}
	socket := p.Socket
	if other := call.Getenv("LLS_SOCKET"); other != "" {
		socket = other
	}
	call.client = api.Dial(socket)
	call.progress = &progress{w: call.Stderr, width: call.Width()}
	call.client.Progress = call.progress.show
	if call.command.Direct != nil {
		return call.command.Direct(ctx, call)
	}
	if err := call.command.Run(ctx, call); err != nil {
		return call.Report(err)
	}
	return exitOK
}

func (p *Program) unknown(name string) error {
	var names []string
	for i := range p.Commands {
		names = append(names, p.Commands[i].Name)
		if first, _, two := strings.Cut(p.Commands[i].Name, " "); two && !strings.Contains(name, " ") {
			names = append(names, first)
		}
	}
	err := api.Errorf(api.Malformed, "unknown command %q", name).WithHint("see: %s --help", p.Name)
	if word, _, _ := strings.Cut(name, " "); p.group(word) != nil {
		err = err.WithHint("see: %s %s --help", p.Name, word)
	}
	if near := nearest(strings.ToLower(name), names); near != "" {
		return err.WithHint("did you mean: %s %s", p.Name, near)
	}
	return err
}

// output remembers the first error of writing, so that it is looked at once, at the end.
type output struct {
	w   io.Writer
	err error
}

func (o *output) print(text string) {
	if o.err == nil {
		_, o.err = fmt.Fprint(o.w, text)
	}
}
