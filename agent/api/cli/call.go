package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"lls/agent/api"
)

// Call is one command being run.
type Call struct {
	Env
	Operands []string

	program  *Program
	command  *Command
	flags    map[string]string
	json     bool
	out      *output
	client   *api.Client
	progress *progress
}

// Operand gives operand i, counted from 0, or nothing.
func (c *Call) Operand(i int) string {
	if i < len(c.Operands) {
		return c.Operands[i]
	}
	return ""
}

// Has tells whether a flag was given.
func (c *Call) Has(flag string) bool {
	_, ok := c.flags[flag]
	return ok
}

// Flag gives a flag's value, or nothing.
func (c *Call) Flag(name string) string { return c.flags[name] }

// Get asks the agent what path tells.
func (c *Call) Get(ctx context.Context, path string, query url.Values, out any) error {
	return c.client.Get(ctx, path, query, out)
}

// Post has the agent do what path says, and shows its progress meanwhile.
func (c *Call) Post(ctx context.Context, path string, in, out any) error {
	defer c.progress.clear()
	return c.client.Post(ctx, path, in, out)
}

// Show answers with v for programs or with lines for people, as was asked for.
func (c *Call) Show(v any, lines ...string) error {
	if !c.json {
		for _, l := range lines {
			c.out.print(Clean(l) + "\n")
		}
		return nil
	}
	text, err := encode(v, "  ")
	if err != nil {
		return err
	}
	c.out.print(text)
	return nil
}

func encode(v any, indent string) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return b.String(), err
}

// Hint builds a line to type with this program: Hint("info", name) is "lls info NAME".
func (c *Call) Hint(words ...string) string {
	typed := c.program.Name
	for _, w := range words {
		typed += " " + Quote(w)
	}
	return typed
}

// abs makes a path of this container absolute, by its words alone: the agent is who looks at the file system.
func (c *Call) abs(path string) (string, error) {
	if path == "" {
		return "", api.Errorf(api.Malformed, "cannot %s %s: the path is empty", c.command.Name, c.Operand(0)).
			WithHint("see: %s", c.Hint(c.command.Name, "--help"))
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	dir, err := c.Getwd()
	if err != nil {
		return "", api.Errorf(api.BadPath, "cannot %s %s: cannot tell which directory %s is in: %v",
			c.command.Name, c.Operand(0), path, err).WithHint("give a path that starts with /")
	}
	return filepath.Join(dir, path), nil
}

// Resolved is where the links in an absolute path lead, or the path itself where that cannot be told, as below what covers it.
func Resolved(path string) string {
	if at, err := filepath.EvalSymlinks(path); err == nil {
		return at
	}
	return path
}

// isPath tells a path from a name where either may stand. A lone word is a name, and so is OWNER/NAME.
func isPath(s string) bool {
	return strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") ||
		s == "." || s == ".." || strings.HasSuffix(s, "/")
}

// Answer is what a question brought.
type Answer int

const (
	Nobody Answer = iota // was there to be asked
	No
	Yes
)

// Confirm asks the person at the terminal. Any answer but yes is a no; the error is ctx's.
func (c *Call) Confirm(ctx context.Context, question string) (Answer, error) {
	if !c.Ask() {
		return Nobody, nil
	}
	_, _ = io.WriteString(c.Stderr, Clean(question)+" [y/N] ")
	typed := make(chan string, 1)
	go func() { // ends with the line, or with the process
		line, _ := bufio.NewReader(c.Stdin).ReadString('\n')
		typed <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return No, context.Cause(ctx)
	case a := <-typed:
		if a == "y" || a == "yes" {
			return Yes, nil
		}
		return No, nil
	}
}

// reported is an error that was printed already and only gives the exit status.
type reported struct{ err error }

func (r reported) Error() string { return r.err.Error() }
func (r reported) Unwrap() error { return r.err }

// Report prints an error, who holds what was asked for, and what to type next. It gives the exit status.
func (c *Call) Report(err error) int {
	e := api.AsError(err)
	status := e.Code.Exit()
	if sig, ok := errors.AsType[stopped](err); ok {
		status = signalled + int(sig.sig)
		e = api.Errorf(api.Interrupted, "stopped waiting; the agent may still do what was asked")
	}
	if _, done := errors.AsType[reported](err); done {
		return status
	}
	hint := c.hint(e)
	if c.json {
		text, err := encode(struct {
			Error *api.Error `json:"error"`
		}{&api.Error{Code: e.Code, Message: e.Message, Hint: hint, Holders: e.Holders, Problems: e.Problems, RetryAfter: e.RetryAfter}}, "")
		if err == nil {
			_, _ = io.WriteString(c.Stderr, text)
		}
		return status
	}
	lines := []string{c.program.Name + ": " + Clean(e.Message)}
	for _, p := range e.Problems {
		lines = append(lines, "  "+Clean(p))
	}
	lines = append(lines, Holders(e.Holders)...)
	if hint != "" {
		lines = append(lines, "hint: "+Clean(hint))
	}
	_, _ = io.WriteString(c.Stderr, strings.Join(lines, "\n")+"\n")
	return status
}

// hint is e's hint as it can be typed here: the table of codes speaks of NAME, and to users of the client.
func (c *Call) hint(e *api.Error) string {
	hint := e.Hint
	if hint == "" || hint == e.Code.Hint() {
		hint = e.Code.Hint()
		if e.Code == api.Malformed && c.command.Name != "" {
			return "see: " + c.Hint(append(strings.Fields(c.command.Name), "--help")...)
		}
		if name := c.Operand(0); name != "" && !isPath(name) {
			hint = strings.ReplaceAll(hint, "NAME", Quote(name))
		}
	}
	return c.program.own(hint)
}

// typed is where a hint may have a line to type: "lls" as a word, with the word after it.
var typed = regexp.MustCompile(`(^|[ (])lls ([a-z]+)`)

// own has the lines to type that a hint holds begin with p's name: the agent writes them for the client in a container.
func (p *Program) own(hint string) string {
	return typed.ReplaceAllStringFunc(hint, func(found string) string {
		before, verb, _ := strings.Cut(found, "lls ")
		if p.command(verb) == nil {
			return found
		}
		return before + p.Name + " " + verb
	})
}

// Holders are lines that say who has something open.
func Holders(all []api.Holder) []string {
	var lines []string
	for _, h := range all {
		lines = append(lines, "  held by "+Clean(holder(h)))
	}
	return lines
}
