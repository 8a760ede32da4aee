package hooks

import (
	"fmt"
	"slices"
	"strings"
)

// What the sources and types of LLS's lines look like.
const (
	SourcePrefix = "lls:"     // lls:NAME or lls:OWNER/NAME
	DevicePrefix = "/dev/mf/" // /dev/mf/NAME or /dev/mf/OWNER/NAME
	TypeLLS      = "lls"
)

// Limits of a plan, so that an fstab cannot keep the agent busy for long.
const (
	MaxMounts  = 256 // in one plan
	MaxNotices = 100 // refused, and again as many warnings; the last one stands for all others
	MaxLookups = 256 // different labels and UUIDs
)

// Tag is what a file system is called, as a source of an fstab says it. Key is "LABEL" or "UUID".
type Tag struct{ Key, Value string }

// Lookup finds volumes by what their file systems are called, among those that the container may mount. The names are as the container
// would type them; what no volume is called is left out. A plan asks once, for at most MaxLookups, or not at all.
type Lookup func(wanted []Tag) map[Tag]string

// Plan is what an fstab wants mounted, in the order in which to do it: parents before children, else as they are written.
type Plan struct {
	Mounts   []Mount
	Refused  []Notice // lines for LLS that will not be mounted
	Warnings []Notice // on lines that will
	Unfound  []int    // numbers of lines that would be mounted if a volume had their label or UUID; most are nothing of ours
}

// Mount is one line to be mounted. Name is not empty and has no control character, but is not checked otherwise.
type Mount struct {
	Line     int
	Name     string // NAME or OWNER/NAME
	Target   string // absolute and clean
	ReadOnly bool
	NoAtime  bool
	Discard  bool
	Required bool // x-lls.required: without it the container must not start
}

// Plan works out what to mount. A line of type lls with noauto and without x-lls.auto or x-lls.required waits for a mount by hand;
// all other lines for LLS are mounted, whatever noauto and its kind say to the container's own init. With a nil Lookup, no line is found by label.
func (f File) Plan(find Lookup) Plan {
	p := planner{at: map[string]int{}}
	if f.tooBig() {
		// Nobody looked inside. Whether something required was there is a guess, on the side of what was asked for.
		p.refuse(f.Lines[0], strings.Contains(f.Lines[0].Text, "x-lls.required"), "", TooMuch, "", f.Lines[0].Problem)
		return p.plan
	}
	if wanted := f.wanted(); find != nil && len(wanted) > 0 {
		p.found = find(wanted)
	}
	p.over = p.covers(f.Lines)
	for _, l := range f.Lines {
		p.line(l)
	}
	slices.SortStableFunc(p.plan.Mounts, func(a, b Mount) int {
		return strings.Count(a.Target, "/") - strings.Count(b.Target, "/")
	})
	return p.plan
}

// wanted are the labels and UUIDs whose volumes would be mounted: to look for one costs, so no others are looked for.
func (f File) wanted() []Tag {
	var all []Tag
	seen := map[Tag]bool{}
	for _, l := range f.Lines {
		if tag, ok := l.wants(parseOptions(l.Options)); ok && !seen[tag] && len(all) < MaxLookups {
			seen[tag] = true
			all = append(all, tag)
		}
	}
	return all
}

type planner struct {
	found map[Tag]string
	over  map[string]cover // by target
	at    map[string]int   // index in plan.Mounts by target
	plan  Plan
}

func (p *planner) line(l Line) {
	if !l.IsEntry() {
		return
	}
	o := parseOptions(l.Options)
	if l.Type == "swap" && !o.forLLS() {
		return
	}
	name, ours := p.volume(l, o)
	if _, wanted := l.wants(o); wanted && name == "" {
		p.plan.Unfound = append(p.plan.Unfound, l.Number)
	}
	if !ours || o.byHand(l.Type) {
		return
	}
	refuse := func(reason Reason, better, text string) { p.refuse(l, o.required, name, reason, better, text) }
	if l.Problem != "" {
		refuse(BadLine, "", l.Problem)
		return
	}
	if reason, why := badName(l, name); reason != "" {
		refuse(reason, betterName(l, o), why)
		return
	}
	target, reason, why := CheckTarget(l.Target)
	if reason != "" {
		refuse(reason, "", "cannot mount at "+quote(l.Target)+": it "+why)
		return
	}
	better := betterLine(l, target, o)
	if !l.mountable() {
		refuse(BadType, better, "the type is "+quote(l.Type)+", but a volume's is lls, ext4, xfs or auto")
		return
	}
	if len(o.refused) > 0 {
		refuse(BadOption, better, "not allowed or not known: "+listed(o.refused))
		return
	}
	if name == "" { // badName has passed a label or UUID
		refuse(NotFound, "", quote(l.Source)+" is no volume that can be mounted here")
		return
	}
	over, covered, hidden := p.coverOf(target)
	if hidden {
		refuse(Shadowed, "", fmt.Sprintf("cannot mount at %s: line %d mounts %s at %s, over it", quote(target), over.line, quote(over.fsType), quote(over.target)))
		return
	}
	m := Mount{l.Number, name, target, o.readOnly, o.noAtime, o.discard, o.required}
	if !p.add(l, m) {
		return
	}
	if covered {
		p.warnCovered(l, target, over)
	}
	p.warn(l, target, o, better)
}

// add takes the mount into the plan unless its target is taken already, or there are too many.
func (p *planner) add(l Line, m Mount) bool {
	if i, taken := p.at[m.Target]; taken {
		first := &p.plan.Mounts[i]
		required := m.Required && first.Name != m.Name
		first.Required = first.Required || m.Required && first.Name == m.Name // the other line says no more than this
		p.refuse(l, required, m.Name, Duplicate, "", fmt.Sprintf("%s is the target of line %d already", quote(m.Target), first.Line))
		return false
	}
	if len(p.plan.Mounts) >= MaxMounts {
		p.refuse(l, m.Required, m.Name, TooMuch, "", fmt.Sprintf("LLS mounts no more than %d lines", MaxMounts))
		return false
	}
	p.at[m.Target] = len(p.plan.Mounts)
	p.plan.Mounts = append(p.plan.Mounts, m)
	return true
}

// volume says whether a line is for LLS, and of which volume it speaks; the name can be empty in a bad line.
func (p *planner) volume(l Line, o options) (name string, ours bool) {
	if name, ok := l.Volume(); ok {
		return name, true
	}
	if _, ok := l.tag(); !ok {
		return "", l.Type == TypeLLS || o.forLLS()
	}
	if tag, wanted := l.wants(o); wanted {
		name = p.found[tag]
	}
	return name, name != "" || o.forLLS()
}

// wants is the label or UUID of a line for which nothing but a volume of that name is missing. The container's root directory, swap and
// boot partitions of a machine that it was copied from are none.
func (l Line) wants(o options) (Tag, bool) {
	tag, ok := l.tag()
	if !ok || l.Problem != "" || !l.mountable() || len(o.refused) > 0 || o.byHand(l.Type) {
		return Tag{}, false
	}
	_, reason, _ := CheckTarget(l.Target)
	return tag, reason == ""
}

// Volume is the name in a line whose source is lls:NAME or /dev/mf/NAME. It is not checked, and can be empty.
func (l Line) Volume() (name string, ok bool) {
	if name, ok = strings.CutPrefix(l.Source, SourcePrefix); ok {
		return name, true
	}
	return strings.CutPrefix(l.Source, DevicePrefix)
}

// tag reads LABEL=value and UUID=value, the value with or without quotation marks, as libblkid does.
func (l Line) tag() (Tag, bool) {
	key, value, _ := strings.Cut(l.Source, "=")
	if key != "LABEL" && key != "UUID" {
		return Tag{}, false
	}
	if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		value = value[1 : n-1]
	}
	return Tag{key, value}, value != "" && !hasControl(value)
}

// mountable tells whether the type fits a volume. An lls: source is nobody else's, and its type can be anything.
func (l Line) mountable() bool {
	if strings.HasPrefix(l.Source, SourcePrefix) {
		return true
	}
	for t := range strings.SplitSeq(l.Type, ",") {
		if t != "ext4" && t != "xfs" && t != "auto" && t != TypeLLS {
			return false
		}
	}
	return true
}

// badName tells why a line that is for LLS names no volume. A label or UUID is a good name even when no volume has it.
func badName(l Line, name string) (Reason, string) {
	_, direct := l.Volume()
	_, tagged := l.tag()
	switch {
	case hasControl(name):
		return BadName, "the name in " + quote(l.Source) + " has a control character"
	case name != "" || tagged:
		return "", ""
	case direct:
		return BadName, quote(l.Source) + " names no volume"
	}
	return BadName, quote(l.Source) + " is no source that LLS knows"
}
