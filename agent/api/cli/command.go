// Package cli is what the command lines of LLS have in common: commands as data, from which parsing, help, completions
// and their tests follow; the volume commands, which the client and the sysadmin's program share; and how answers,
// errors and progress look. It uses the standard library and the words of [lls/agent/api] only.
package cli

import (
	"context"
	"slices"
	"strings"
)

// Program is a command line: a name and its commands.
type Program struct {
	Name     string
	Version  string
	Short    string // what it is, in one line
	Socket   string // where its agent listens
	Commands []Command
	Examples []Example
	Notes    []string // lines at the end of its help
}

// Command is one verb of a program. Every command also takes --json and --help.
type Command struct {
	Name     string // one word, or two: those with the first in common are a group
	Operands string // as in the usage line: "SOURCE [NAME]"
	Short    string // what it does, in one line
	Flags    []Flag
	Min, Max int // how many operands it takes; Max < 0 is any number
	Examples []Example
	// Run does the work by asking the agent. What it returns is reported with its hint and exit status.
	Run func(ctx context.Context, call *Call) error
	// Direct stands in for Run where a command is the whole program: it reports its own errors and gives the exit status.
	Direct func(ctx context.Context, call *Call) int
}

// Flag is one flag of a command, given as --NAME, --NAME VALUE or --NAME=VALUE.
type Flag struct {
	Name   string // without the dashes
	Value  string // what stands for its value in the usage line; empty for a flag that takes none
	Help   string
	Values []string // what may be given, for completion; the agent is who checks it
	Needed bool
}

// Example is a command line without the program's name, and what it does.
type Example struct {
	Line, Does string
}

// common are the flags that every command takes.
func common() []Flag {
	return []Flag{
		{Name: "json", Help: "answer in JSON; errors too, on standard error"},
		{Name: "help", Help: "show this text"},
	}
}

// AllFlags lists the flags of c and those that every command takes.
func (c *Command) AllFlags() []Flag {
	return append(append([]Flag(nil), c.Flags...), common()...)
}

func (c *Command) flag(name string) (Flag, bool) {
	for _, f := range c.AllFlags() {
		if f.Name == name {
			return f, true
		}
	}
	return Flag{}, false
}

// find gives the command that args begin with, and the rest of them. Flags may stand before a name's second word.
func (p *Program) find(args []string) (*Command, []string) {
	if c := p.command(args[0]); c != nil {
		return c, args[1:]
	}
	for i, arg := range args[1:] {
		if strings.HasPrefix(arg, "-") {
			continue
		}
		if c := p.command(args[0] + " " + arg); c != nil {
			return c, slices.Concat(args[1:1+i], args[2+i:])
		}
		break
	}
	return nil, nil
}

// group gives the commands of two words whose first is word.
func (p *Program) group(word string) []*Command {
	var all []*Command
	for i := range p.Commands {
		if strings.HasPrefix(p.Commands[i].Name, word+" ") {
			all = append(all, &p.Commands[i])
		}
	}
	return all
}

func (p *Program) command(name string) *Command {
	for i := range p.Commands {
		if p.Commands[i].Name == name {
			return &p.Commands[i]
		}
	}
	return nil
}
