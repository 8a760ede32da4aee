package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	File string
	Line int // 0 when it belongs to none
	Text string
}

func (p Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Problems is everything that is wrong with a file, in the order of its lines.
type Problems []Problem

// Error has each problem on a line of its own.
func (p Problems) Error() string {
	var all []string
	for _, one := range p {
		all = append(all, one.Error())
	}
	return strings.Join(all, "\n")
}

// parser collects what is wrong while it reads.
type parser struct {
	file  string
	lines lines
	size  SizeParser
	wrong Problems
}

func (p *parser) bad(path []string, format string, args ...any) {
	text := oneLine(fmt.Sprintf(format, args...))
	if name := shown(path); name != "" {
		text = name + ": " + text
	}
	p.wrong = append(p.wrong, Problem{p.file, p.lines.of(path), text})
}

// result is what was wrong, nil if nothing.
func (p *parser) result() error {
	if len(p.wrong) == 0 {
		return nil
	}
	slices.SortStableFunc(p.wrong, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return p.wrong
}

// syntax is the one problem of a text that is no TOML. Its line is counted here: the decoder's own is that behind the end of the line in
// some cases.
func (p *parser) syntax(data string, err error) error {
	var pe toml.ParseError
	if errors.As(err, &pe) {
		before := data[:max(0, min(pe.Position.Start, len(data)))]
		return Problems{{p.file, 1 + strings.Count(before, "\n"), oneLine(pe.Message)}}
	}
	return Problems{{p.file, 0, oneLine(err.Error())}}
}

// oneLine keeps a message on its line: the decoder's may show what stood in the file.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// shown is a path as a person would write it. The places of arrays are left out: the line says which element it is.
func shown(path []string) string {
	return toml.Key(slices.DeleteFunc(slices.Clone(path), func(part string) bool { return part[:min(1, len(part))] == "[" })).String()
}

func below(path []string, parts ...string) []string { return slices.Concat(path, parts) }

// table is one table of the file, whose keys are all known. They may be in tables of their own, as their dotted names say.
type table struct {
	*parser
	path   []string
	values map[string]any // by the dotted names
}

// table takes a table in, and complains of every key whose dotted name is not among names.
func (p *parser) table(path []string, values map[string]any, names []string) *table {
	t := &table{p, path, map[string]any{}}
	t.take("", values, names)
	return t
}

// take takes in the keys below a prefix, which is empty or ends in a dot.
func (t *table) take(prefix string, values map[string]any, names []string) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name, path := prefix+key, below(t.at(prefix), key)
		section := slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, name+".") })
		inner, isTable := values[key].(map[string]any)
		switch {
		case strings.Contains(key, ".") || !section && !slices.Contains(names, name):
			t.bad(path, "no such key; there are %s", strings.Join(children(names, prefix), ", "))
		case section && isTable:
			t.take(name+".", inner, names)
		case section:
			t.bad(path, "%s is no table; its keys are %s", written(values[key]), strings.Join(children(names, name+"."), ", "))
		default:
			t.values[name] = values[key]
		}
	}
}

// children are the names right below a prefix.
func children(names []string, prefix string) []string {
	var all []string
	for _, n := range names {
		if rest, ok := strings.CutPrefix(n, prefix); ok {
			first, _, _ := strings.Cut(rest, ".")
			all = append(all, first)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// at is the path of a dotted name in the table.
func (t *table) at(name string) []string {
	if name = strings.TrimSuffix(name, "."); name == "" {
		return t.path
	}
	return below(t.path, strings.Split(name, ".")...)
}

func (t *table) wrongAt(name, format string, args ...any) { t.bad(t.at(name), format, args...) }

// get reads a key into a variable, which keeps what it has when the key is not there or is wrong.
func get[T any](t *table, name string, into *T, read func(any) (T, error)) {
	v, ok := t.values[name]
	if !ok {
		return
	}
	got, err := read(v)
	if err != nil {
		t.wrongAt(name, "%v", err)
		return
	}
	*into = got
}

// getList reads a key whose value is a list, as get does. Each element that is wrong has its own line.
func getList[T any](t *table, name string, into *[]T, read func(any) (T, error)) {
	v, ok := t.values[name]
	if !ok {
		return
	}
	all, ok := v.([]any)
	if !ok {
		t.wrongAt(name, "%s is no list in brackets", written(v))
		return
	}
	out := []T{}
	for i, one := range all {
		got, err := read(one)
		if err != nil {
			t.bad(below(t.at(name), element(i)), "%v", err)
		}
		out = append(out, got)
	}
	*into = out
}

// tables are the elements of an array of tables.
func (p *parser) tables(path []string, v any) []map[string]any {
	var all []map[string]any
	switch v := v.(type) {
	case []map[string]any:
		return v
	case []any:
		for i, one := range v {
			m, ok := one.(map[string]any)
			if !ok {
				p.bad(below(path, element(i)), "%s is no table", written(one))
			}
			all = append(all, m)
		}
	default:
		p.bad(path, "%s is no list of tables", written(v))
	}
	return all
}
