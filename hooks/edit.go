package hooks

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Entry is a mount that is to come back at each start.
type Entry struct {
	Name     string // NAME or OWNER/NAME
	Target   string // an absolute path
	ReadOnly bool
	NoAtime  bool
	Discard  bool
	Required bool
}

// Line is the entry as [Add] writes it, without an end of line.
func (e Entry) Line() string { return entryLine(SourcePrefix+e.Name, e.Target, TypeLLS, e.options()) }

func (e Entry) options() options {
	return options{readOnly: e.ReadOnly, noAtime: e.NoAtime, discard: e.Discard, required: e.Required}
}

// entryLine writes a line that LLS replays and that the container's own init leaves alone.
func entryLine(source, target, fsType string, o options) string {
	field := strings.Join(append([]string{"noauto", "x-lls.auto"}, o.words()...), ",")
	return strings.Join([]string{Escape(source), Escape(target), Escape(fsType), field, "0", "0"}, " ")
}

// words are the options that LLS acts on in every mount.
func (o options) words() []string {
	var w []string
	for _, f := range []struct {
		on   bool
		word string
	}{{o.readOnly, "ro"}, {o.noAtime, "noatime"}, {o.discard, "discard"}, {o.required, "x-lls.required"}} {
		if f.on {
			w = append(w, f.word)
		}
	}
	return w
}

// ErrTaken means that another line has the target, or one above it, and hides what is mounted there.
type ErrTaken struct {
	Line           int
	Source, Target string
}

func (e *ErrTaken) Error() string {
	return fmt.Sprintf("line %d of the fstab mounts %s at %s", e.Line, quote(e.Source), quote(e.Target))
}

// ErrNotUnderstood means that a line must be edited by its author: LLS does not know what it would change. Line 0 is the file.
type ErrNotUnderstood struct {
	Line int
	Why  string
}

func (e *ErrNotUnderstood) Error() string {
	if e.Line == 0 {
		return "the fstab is not understood: " + e.Why
	}
	return fmt.Sprintf("line %d of the fstab is not understood: %s", e.Line, e.Why)
}

// ErrEntry means that no line can be written that LLS would replay.
type ErrEntry struct {
	Reason Reason
	Why    string
}

func (e *ErrEntry) Error() string { return e.Why }

// ErrFull means that the line would not be read at the container's start: it is too long itself, or the file is, or has too many.
var ErrFull = errors.New("the line would be too long, or the fstab too full, to be read at the start")

// Add sees to it that the entry is mounted at each start. A line that mounts the volume there already is kept: it becomes
// read-only or writable as the entry says and gets the other options that it lacks, and nothing is taken from it. Else a line is
// added at the end. Errors are ErrEntry, ErrTaken, ErrNotUnderstood and ErrFull; the file is unchanged then.
func Add(f File, e Entry) (File, bool, error) {
	target, reason, why := CheckTarget(e.Target)
	if reason != "" {
		return f, false, &ErrEntry{reason, "cannot mount at " + quote(e.Target) + " at each start: it " + why}
	}
	if e.Name == "" || strings.ContainsRune(e.Name, utf8.RuneError) || hasControl(e.Name) {
		return f, false, &ErrEntry{BadName, quote(e.Name) + " is no name"}
	}
	e.Target = target
	if err := f.editable(); err != nil {
		return f, false, err
	}
	same, err := f.lineOf(e)
	if err != nil {
		return f, false, err
	}
	p := planner{}
	p.over = p.covers(f.Lines)
	if over, _, hidden := p.coverOf(target); hidden {
		return f, false, &ErrTaken{over.line, over.source, over.target}
	}
	text := string(f.Bytes())
	if same == nil {
		text = f.appended(e.Line())
	} else if line := withOptions(*same, e); line != same.Text {
		text = f.replaced(same.Number, line)
	}
	edited := Parse([]byte(text))
	if !edited.replays(e) {
		return f, false, ErrFull
	}
	return edited, text != string(f.Bytes()), nil
}

func (f File) editable() error {
	if f.tooBig() {
		return &ErrNotUnderstood{Why: f.Lines[0].Problem}
	}
	return nil
}

// replays tells whether the entry's volume is mounted at its target at each start.
func (f File) replays(e Entry) bool {
	return slices.ContainsFunc(f.Plan(nil).Mounts, func(m Mount) bool { return m.Target == e.Target && m.Name == e.Name })
}

// lineOf finds the only line that has the entry's target, which must be one that LLS would mount.
func (f File) lineOf(e Entry) (*Line, error) {
	var same *Line
	for i, l := range f.Lines {
		if !l.at(e.Target) {
			continue
		}
		name, _ := l.Volume()
		if name != e.Name || same != nil {
			return nil, &ErrTaken{l.Number, l.Source, e.Target}
		}
		same = &f.Lines[i]
	}
	if same == nil {
		return nil, nil
	}
	switch o := parseOptions(same.Options); {
	case same.Problem != "":
		return nil, &ErrNotUnderstood{same.Number, same.Problem}
	case !same.mountable():
		return nil, &ErrNotUnderstood{same.Number, "its type is " + quote(same.Type)}
	case len(o.refused) > 0:
		return nil, &ErrNotUnderstood{same.Number, "it has the options " + listed(o.refused)}
	case same.Type == "swap" || strings.Contains(same.rawOptions(), `\`):
		return nil, &ErrNotUnderstood{same.Number, "it is no mount as LLS writes it"}
	}
	return same, nil
}

// at tells whether the line has the target, which is clean.
func (l Line) at(target string) bool {
	return strings.HasPrefix(l.Target, "/") && path.Clean(l.Target) == target
}

// leadsTo tells whether the line's target is at the same place as another, which is clean. Other programs' lines are not to be asked: who
// follows a path may wait for the server of a file system.
func (l Line) leadsTo(target string, resolve Resolve) bool {
	return l.at(target) || strings.HasPrefix(l.Target, "/") && strings.HasPrefix(target, "/") && resolve(path.Clean(l.Target)) == resolve(target)
}

// withOptions is the text of a line for the entry's volume, with its options changed as far as the entry wants it.
func withOptions(l Line, e Entry) string {
	had := parseOptions(l.Options)
	missing := options{
		readOnly: e.ReadOnly && !had.readOnly, noAtime: e.NoAtime && !had.noAtime,
		discard: e.Discard && !had.discard, required: e.Required && !had.required,
	}.words()
	if had.byHand(l.Type) {
		missing = append(missing, "x-lls.auto")
	}
	if had.readOnly == e.ReadOnly && len(missing) == 0 {
		return l.Text
	}
	words := slices.DeleteFunc(strings.Split(l.rawOptions(), ","), func(w string) bool {
		return w == "" || had.readOnly != e.ReadOnly && (w == "ro" || w == "rw")
	})
	words = append(words, missing...)
	if len(words) == 0 {
		words = []string{"defaults"}
	}
	field := strings.Join(words, ",")
	spans := fieldSpans(l.Text)
	if len(spans) < 4 {
		at := spans[2].end
		return l.Text[:at] + " " + field + l.Text[at:]
	}
	return l.Text[:spans[3].start] + field + l.Text[spans[3].end:]
}

// rawOptions is the fourth field as it is written.
func (l Line) rawOptions() string {
	spans := fieldSpans(l.Text)
	if len(spans) < 4 {
		return ""
	}
	return l.Text[spans[3].start:spans[3].end]
}

// appended adds a line with the line end that the file's last lines have.
func (f File) appended(line string) string {
	end := "\n"
	var b strings.Builder
	for _, l := range f.Lines {
		b.WriteString(l.Text)
		if e := lineEnd(l.Text); strings.HasSuffix(e, "\n") {
			end = e
		}
	}
	if n := len(f.Lines); n > 0 && !strings.HasSuffix(f.Lines[n-1].Text, "\n") {
		b.WriteString(end)
	}
	b.WriteString(line + end)
	return b.String()
}

func (f File) replaced(number int, text string) string {
	var b strings.Builder
	for _, l := range f.Lines {
		if l.Number == number {
			l.Text = text
		}
		b.WriteString(l.Text)
	}
	return b.String()
}

// Resolve says where the links in a clean absolute path lead; the path itself is where that cannot be told.
type Resolve func(path string) string

// Remove takes away the lines for LLS that have this target, when what is an absolute path, or else all lines of this volume:
// NAME, OWNER/NAME, lls:NAME or /dev/mf/NAME. Targets are the same that lead to the same place. A line by LABEL or UUID is for LLS when it
// has an x-lls option. The removed lines are returned; none is no error. Errors are ErrTaken for a target of somebody else's line, and
// ErrNotUnderstood; the file is unchanged then.
func Remove(f File, what string, resolve Resolve) (File, []Line, error) {
	if err := f.editable(); err != nil {
		return f, nil, err
	}
	name, named := Line{Source: what}.Volume()
	if !named && !strings.HasPrefix(what, "/") {
		name, named = what, true
	}
	var removed []Line
	var foreign *Line
	var kept strings.Builder
	for i, l := range f.Lines {
		volume, ok := l.Volume()
		match := ok && volume == name && name != ""
		if !named {
			match = l.at(path.Clean(what)) || l.forLLS() && l.leadsTo(path.Clean(what), resolve)
		}
		switch {
		case match && !l.forLLS():
			foreign = &f.Lines[i]
		case match && l.Problem != "":
			return f, nil, &ErrNotUnderstood{l.Number, l.Problem}
		case match:
			removed = append(removed, l)
			continue
		}
		kept.WriteString(l.Text)
	}
	if len(removed) == 0 {
		if foreign != nil {
			return f, nil, &ErrTaken{foreign.Number, foreign.Source, foreign.Target}
		}
		return f, nil, nil
	}
	return Parse([]byte(kept.String())), removed, nil
}

// RemoveMount takes away the lines of a volume's mount at target that [Remove] does not know by the name: those that name it with or
// without its owner, those by LABEL or UUID that have an x-lls option, and where LLS is known to have replayed one there those that have
// none. The removed lines are returned; none is no error.
func RemoveMount(f File, name, target string, replayed bool, resolve Resolve) (File, []Line) {
	var removed []Line
	var kept strings.Builder
	for _, l := range f.Lines {
		volume, direct := l.Volume()
		_, tagged := l.tag()
		named := direct && sameName(volume, name) || tagged && (replayed || l.forLLS())
		if l.Problem == "" && named && l.leadsTo(path.Clean(target), resolve) {
			removed = append(removed, l)
			continue
		}
		kept.WriteString(l.Text)
	}
	if len(removed) == 0 {
		return f, nil
	}
	return Parse([]byte(kept.String())), removed
}

// sameName tells names that differ by no more than an owner which one of them leaves out.
func sameName(a, b string) bool {
	return a == b || strings.HasSuffix(a, "/"+b) || strings.HasSuffix(b, "/"+a)
}

// forLLS tells a line that speaks of LLS by itself, without asking what a label or UUID belongs to.
func (l Line) forLLS() bool {
	_, ok := l.Volume()
	return ok || l.Type == TypeLLS || parseOptions(l.Options).forLLS()
}
