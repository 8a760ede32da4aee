package clitest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"lls/agent/api/cli"
)

// CheckMan fails where the manual page does not tell of a command or one of its flags. A command's part starts with
// ".It Cm NAME" and ends with the next command's, or the section.
func CheckMan(t *testing.T, file string, p *cli.Program) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, commands, ok := strings.Cut(string(text), "\n.Sh COMMANDS\n")
	if !ok {
		t.Fatalf("%s has no section COMMANDS", file)
	}
	commands, _, _ = strings.Cut(commands, "\n.Sh ")
	parts := map[string]string{}
	for part := range strings.SplitSeq("\n"+commands, "\n.It Cm ") {
		parts[commandOf(part)] = part
	}
	for i := range p.Commands {
		c := &p.Commands[i]
		part, ok := parts[c.Name]
		if !ok {
			t.Errorf("%s does not tell of the command %s", file, c.Name)
		}
		for _, f := range c.Flags {
			if !strings.Contains(part, "Fl -"+f.Name) {
				t.Errorf("%s does not tell of %s --%s", file, c.Name, f.Name)
			}
		}
		delete(parts, c.Name)
	}
	delete(parts, "") // what stands before the first command
	for name := range parts {
		t.Errorf("%s tells of a command %s, which there is not", file, name)
	}
	for _, f := range []string{"json", "help", "version"} {
		if !strings.Contains(string(text), "Fl -"+f) {
			t.Errorf("%s does not tell of --%s", file, f)
		}
	}
}

// commandOf is the name that a part of a manual page begins with: one word or two, before the first macro or name of an operand.
func commandOf(part string) string {
	line, _, _ := strings.Cut(part, "\n")
	var name []string
	for _, word := range strings.Fields(line) {
		if word[0] < 'a' || word[0] > 'z' {
			break
		}
		name = append(name, word)
	}
	return strings.Join(name, " ")
}

// groups are the first words of commands that have two, each with its second words.
func groups(p *cli.Program) (words []string, seconds map[string][]string) {
	seconds = map[string][]string{}
	for i := range p.Commands {
		if first, second, two := strings.Cut(p.Commands[i].Name, " "); two {
			if seconds[first] == nil {
				words = append(words, first)
			}
			seconds[first] = append(seconds[first], second)
		}
	}
	return words, seconds
}

// word is a command's name as a pattern of a shell's case.
func word(name string) string {
	if strings.Contains(name, " ") {
		return `"` + name + `"`
	}
	return name
}

// volumes is a pipeline that lists the names of volumes. Nothing but plain names comes out of it: bash expands the words
// it completes from.
func volumes(prog string) string {
	return prog + ` list --all --json 2>/dev/null | sed -n 's/^    "name": "\([A-Za-z0-9_.+#/-]*\)",$/\1/p'`
}

// head is how a completion begins.
func head(prog string) string {
	return "# Made from the table of commands: go test ./cmd/" + prog + " -update\n"
}

// takesName tells whether a command's operands name volumes that there are.
func takesName(c *cli.Command) bool {
	first, _, _ := strings.Cut(c.Operands, " ")
	return c.Name != "create" && (strings.HasPrefix(first, "NAME") || first == "SOURCE")
}

// isFile tells whether a flag's value is a path.
func isFile(f cli.Flag) bool { return f.Value == "PATH" || f.Value == "FILE" || f.Value == "DEVICE" }

// Bash is p's completion for bash.
func Bash(p *cli.Program) string {
	fn := "_" + strings.ReplaceAll(p.Name, "-", "_")
	var b strings.Builder
	b.WriteString(head(p.Name))
	firsts, seconds := groups(p)
	joined := "${COMP_WORDS[i]}"
	if len(firsts) > 0 {
		joined = "$cmd${cmd:+ }${COMP_WORDS[i]}; [[ $cmd == @(" + strings.Join(firsts, "|") + ") ]] && continue"
	}
	fmt.Fprintf(&b, `%s() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= i words=
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} != -* ]]; then cmd=%s; break; fi
    done
    case $cmd:$prev in
`, fn, joined)
	for i := range p.Commands {
		c := &p.Commands[i]
		for _, f := range c.Flags {
			switch {
			case f.Value == "":
			case len(f.Values) > 0:
				fmt.Fprintf(&b, "    %s:--%s) COMPREPLY=($(compgen -W %q -- \"$cur\")); return ;;\n", word(c.Name), f.Name, strings.Join(f.Values, " "))
			case isFile(f):
				fmt.Fprintf(&b, "    %s:--%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", word(c.Name), f.Name)
			default:
				fmt.Fprintf(&b, "    %s:--%s) return ;;\n", word(c.Name), f.Name)
			}
		}
	}
	b.WriteString("    esac\n    case $cmd in\n")
	var names, onVolumes []string
	for i := range p.Commands {
		c := &p.Commands[i]
		if first, _, _ := strings.Cut(c.Name, " "); !slices.Contains(names, first) {
			names = append(names, first)
		}
		if takesName(c) {
			onVolumes = append(onVolumes, word(c.Name))
		}
		var flags []string
		for _, f := range c.AllFlags() {
			flags = append(flags, "--"+f.Name)
		}
		fmt.Fprintf(&b, "    %s) words=%q ;;\n", word(c.Name), strings.Join(flags, " "))
	}
	for _, first := range firsts {
		fmt.Fprintf(&b, "    %s) words=%q ;;\n", first, strings.Join(seconds[first], " "))
	}
	fmt.Fprintf(&b, "    \"\") words=%q ;;\n    esac\n", strings.Join(append(names, "help", "--help", "--version"), " "))
	fmt.Fprintf(&b, "    if [[ $cur != -* ]]; then\n        case $cmd in\n        %s)\n            words=$(%s) ;;\n        esac\n    fi\n",
		strings.Join(onVolumes, "|"), volumes(p.Name))
	fmt.Fprintf(&b, "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n")
	b.WriteString("    if [[ ${#COMPREPLY[@]} == 0 && $cur == [./]* ]]; then COMPREPLY=($(compgen -f -- \"$cur\")); fi\n}\n")
	fmt.Fprintf(&b, "complete -F %s %s\n", fn, p.Name)
	return b.String()
}

// Zsh is p's completion for zsh.
func Zsh(p *cli.Program) string {
	fn := "_" + strings.ReplaceAll(p.Name, "-", "_")
	safe := strings.NewReplacer("'", "'\\''", "[", "(", "]", ")", ":", " -").Replace
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %s\n%s\n%s_volumes() {\n    local -a names\n    names=(${(f)\"$(%s)\"})\n    compadd -a names\n}\n\n", p.Name, head(p.Name), fn, volumes(p.Name))
	fmt.Fprintf(&b, "%s() {\n    local -a commands\n    commands=(\n", fn)
	firsts, _ := groups(p)
	describe := func(indent, first string) {
		for i := range p.Commands {
			name, second, two := strings.Cut(p.Commands[i].Name, " ")
			switch {
			case first == "" && !two:
				fmt.Fprintf(&b, "%s'%s:%s'\n", indent, name, safe(p.Commands[i].Short))
			case name == first && two:
				fmt.Fprintf(&b, "%s'%s:%s'\n", indent, second, safe(p.Commands[i].Short))
			}
		}
	}
	describe("        ", "")
	for _, first := range firsts {
		fmt.Fprintf(&b, "        %s\n", first)
	}
	b.WriteString("    )\n    if ((CURRENT == 2)); then\n        _describe -t commands command commands\n        return\n    fi\n")
	b.WriteString("    local cmd=$words[2]\n    shift words\n    ((CURRENT--))\n")
	if len(firsts) > 0 {
		fmt.Fprintf(&b, "    if [[ $cmd == (%s) ]]; then\n        if ((CURRENT == 2)); then\n            case $cmd in\n", strings.Join(firsts, "|"))
		for _, first := range firsts {
			fmt.Fprintf(&b, "            %s) commands=(\n", first)
			describe("                ", first)
			b.WriteString("            ) ;;\n")
		}
		b.WriteString("            esac\n            _describe -t commands command commands\n            return\n        fi\n" +
			"        cmd=\"$cmd $words[2]\"\n        shift words\n        ((CURRENT--))\n    fi\n")
	}
	b.WriteString("    case $cmd in\n")
	for i := range p.Commands {
		c := &p.Commands[i]
		fmt.Fprintf(&b, "    %s)\n        _arguments", word(c.Name))
		for _, f := range c.AllFlags() {
			fmt.Fprintf(&b, " \\\n            '--%s[%s]", f.Name, safe(f.Help))
			switch {
			case f.Value == "":
			case len(f.Values) > 0:
				fmt.Fprintf(&b, ":%s:(%s)", f.Value, strings.Join(f.Values, " "))
			case isFile(f):
				fmt.Fprintf(&b, ":%s:_files", f.Value)
			default:
				fmt.Fprintf(&b, ":%s:", f.Value)
			}
			b.WriteString("'")
		}
		switch {
		case strings.Contains(c.Operands, "PATH"):
			fmt.Fprintf(&b, " \\\n            '1:NAME:%s_volumes' '2:PATH:_files -/'", fn)
		case c.Max < 0:
			fmt.Fprintf(&b, " \\\n            '*:NAME:%s_volumes'", fn)
		case takesName(c):
			fmt.Fprintf(&b, " \\\n            '1:NAME:%s_volumes' '*: :'", fn)
		case c.Max > 0:
			b.WriteString(" '*: :'")
		}
		b.WriteString(" ;;\n")
	}
	fmt.Fprintf(&b, "    esac\n}\n\n%s \"$@\"\n", fn)
	return b.String()
}
