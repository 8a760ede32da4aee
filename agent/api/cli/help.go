package cli

import (
	"fmt"
	"strings"
)

// usage is the program's help text.
func (p *Program) usage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage: %s COMMAND [OPERANDS] [FLAGS]\n\nCommands:\n", p.Name, p.Short, p.Name)
	width := 0
	for i := range p.Commands {
		width = max(width, len(p.Commands[i].Name))
	}
	for i := range p.Commands {
		c := &p.Commands[i]
		fmt.Fprintf(&b, "  %-*s  %s\n", width, c.Name, c.Short)
	}
	writeExamples(&b, p.Name, p.Examples)
	fmt.Fprintf(&b, "\n%s COMMAND --help says more. Every command takes --json.\n", p.Name)
	for _, n := range p.Notes {
		b.WriteString(n + "\n")
	}
	return b.String()
}

// usage is the command's help text in the program called prog.
func (c *Command) usage(prog string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s\n\nUsage: %s\n\nFlags:\n", prog, c.Name, c.Short, c.synopsis(prog))
	flags, width := c.AllFlags(), 0
	for _, f := range flags {
		width = max(width, len(f.String()))
	}
	for _, f := range flags {
		fmt.Fprintf(&b, "  %-*s  %s\n", width, f, f.Help)
	}
	writeExamples(&b, prog, c.Examples)
	return b.String()
}

// synopsis is the usage line: "lls snapshot SOURCE [NAME] [--mount PATH]".
func (c *Command) synopsis(prog string) string {
	words := []string{prog, c.Name}
	if c.Operands != "" {
		words = append(words, c.Operands)
	}
	for _, f := range c.Flags {
		if f.Needed {
			words = append(words, f.String())
		} else {
			words = append(words, "["+f.String()+"]")
		}
	}
	return strings.Join(words, " ")
}

// String is the flag as in a usage line: "--fs ext4|xfs".
func (f Flag) String() string {
	switch {
	case f.Value == "":
		return "--" + f.Name
	case len(f.Values) > 0:
		return "--" + f.Name + " " + strings.Join(f.Values, "|")
	}
	return "--" + f.Name + " " + f.Value
}

func writeExamples(b *strings.Builder, prog string, examples []Example) {
	if len(examples) == 0 {
		return
	}
	width := 0
	for _, e := range examples {
		width = max(width, len(e.Line))
	}
	b.WriteString("\nExamples:\n")
	for _, e := range examples {
		fmt.Fprintf(b, "  %s %-*s  # %s\n", prog, width, e.Line, e.Does)
	}
}
