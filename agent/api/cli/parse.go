package cli

import (
	"slices"
	"strings"
	"unicode/utf8"

	"lls/agent/api"
)

// parsed is a command's arguments, sorted out. A flag without value has the empty string.
type parsed struct {
	operands []string
	flags    map[string]string
}

// parse sorts args of command c of the program called prog. Flags may stand before and after operands; "--" ends them.
// The error is of code [api.Malformed].
func parse(prog string, c *Command, args []string) (parsed, error) {
	p := parsed{flags: map[string]string{}}
	bad := func(format string, a ...any) *api.Error {
		return api.Errorf(api.Malformed, "cannot "+c.Name+": "+format, a...).WithHint("see: %s %s --help", prog, c.Name)
	}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			p.operands = append(p.operands, args[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			p.operands = append(p.operands, arg)
			continue
		}
		name, value, has := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if arg == "-h" {
			name = "help"
		}
		f, known := c.flag(name)
		if !known {
			return p, unknownFlag(c, arg, bad("unknown flag %s", strings.SplitN(arg, "=", 2)[0]))
		}
		if _, twice := p.flags[name]; twice {
			return p, bad("--%s is given twice", name)
		}
		switch {
		case f.Value == "" && has:
			return p, bad("--%s takes no value", name)
		case f.Value != "" && !has:
			if i+1 == len(args) || strings.HasPrefix(args[i+1], "--") {
				return p, bad("--%s needs a value: --%s %s", name, name, f.Value)
			}
			i++
			value = args[i]
		}
		p.flags[name] = value
	}
	return p, p.check(prog, c, bad)
}

// check looks at what one argument cannot show. A call for help is always in order.
func (p *parsed) check(prog string, c *Command, bad func(string, ...any) *api.Error) error {
	if _, help := p.flags["help"]; help {
		return nil
	}
	// JSON knows only UTF-8: other bytes would reach the agent changed, as another name or path.
	for _, o := range p.operands {
		if !utf8.ValidString(o) {
			return bad("%q is not UTF-8 text", o)
		}
	}
	for name, v := range p.flags {
		if !utf8.ValidString(v) {
			return bad("--%s %q is not UTF-8 text", name, v)
		}
	}
	words := strings.Fields(c.Operands)
	if n := len(p.operands); n < c.Min && n < len(words) {
		return exemplified(prog, c, bad("%s is missing", words[n]))
	} else if c.Max >= 0 && n > c.Max {
		return bad("one operand too many: %q", p.operands[c.Max])
	}
	for _, f := range c.Flags {
		if _, given := p.flags[f.Name]; f.Needed && !given {
			return exemplified(prog, c, bad("--%s %s is missing", f.Name, f.Value))
		}
	}
	return nil
}

// exemplified makes the command's first example the hint of err.
func exemplified(prog string, c *Command, err *api.Error) *api.Error {
	if len(c.Examples) == 0 {
		return err
	}
	return err.WithHint("for example: %s %s", prog, c.Examples[0].Line)
}

// unknownFlag adds the best hint it can think of to err.
func unknownFlag(c *Command, arg string, err *api.Error) *api.Error {
	var names []string
	for _, f := range c.AllFlags() {
		names = append(names, f.Name)
	}
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	if near := nearest(name, names); near != "" {
		return err.WithHint("did you mean: --%s", near)
	}
	return err
}

// nearest gives the word that is most like what was typed, or nothing if none is.
func nearest(typed string, words []string) string {
	best, least := "", 3
	for _, w := range words {
		d := distance(typed, w)
		if len(typed) >= 3 && strings.HasPrefix(w, typed) {
			d = min(d, 1)
		}
		if d < least && d < max(len(typed), len(w))-1 {
			best, least = w, d
		}
	}
	return best
}

// distance counts the letters to insert, drop, replace or swap with their neighbour to make b of a. What is longer than
// any command or flag is far from all of them.
func distance(a, b string) int {
	const longest = 32
	if len(a) > longest || len(b) > longest {
		return longest
	}
	var before, prev []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, prev, row = prev, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = slices.Min([]int{prev[j] + 1, row[j-1] + 1, prev[j-1] + cost})
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
