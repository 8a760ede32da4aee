package hooks

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Reason is the kind of a Notice, for programs.
type Reason string

// The reasons why a line is refused.
const (
	BadLine   Reason = "line"      // fields are missing, it is too long, or has a NUL byte
	BadName   Reason = "name"      // it names no volume
	NotFound  Reason = "not-found" // no volume here has that label or UUID, and x-lls options want one
	BadTarget Reason = "target"    // no absolute path, too long, or with control characters
	Forbidden Reason = "forbidden" // a target where nothing may be mounted
	Shadowed  Reason = "shadowed"  // a target that systemd, or another line, would mount over
	Duplicate Reason = "duplicate" // an earlier line has the target
	BadType   Reason = "type"
	BadOption Reason = "option"
	TooMuch   Reason = "too-much" // over a limit
)

// The reasons of a warning.
const (
	Waits   Reason = "waits"   // the container's systemd may wait for a device that never comes
	Fails   Reason = "fails"   // the container's systemd does not come up when the mount is not there
	Dropped Reason = "dropped" // an option is not given
	Covered Reason = "covered" // another line may be mounted over it
)

// Notice is what there is to say about a line. It names nothing that the container did not write, and is printable.
type Notice struct {
	Line     int
	Name     string // of the volume, as far as there is one and it is fit to be shown
	Target   string // where it was to be mounted, fit to be shown
	Reason   Reason
	Text     string
	Better   string // the line to write instead; empty when there is none to offer
	Required bool   // the line was refused and says x-lls.required: the mount cannot be had
}

// String is for people: the line, what is the matter, and what to write instead.
func (n Notice) String() string {
	s := fmt.Sprintf("line %d: %s", n.Line, n.Text)
	if n.Better != "" {
		s += "; better: " + n.Better
	}
	return s
}

func (p *planner) refuse(l Line, required bool, name string, reason Reason, better, text string) {
	p.plan.Refused = limited(p.plan.Refused, Notice{l.Number, tidy(name), tidy(l.Target), reason, text, better, required})
}

// warn tells what is wrong with a line that is mounted all the same.
func (p *planner) warn(l Line, target string, o options, better string) {
	if len(o.dropped) > 0 {
		p.plan.Warnings = limited(p.plan.Warnings, Notice{
			Line: l.Number, Reason: Dropped, Text: "mounted without " + listed(o.dropped) + ", which LLS does not offer"})
	}
	if o.noauto || o.nofail {
		return
	}
	reason, text := Waits, "systemd in the container may wait for a device at "+quote(target)
	if strings.HasPrefix(l.Source, SourcePrefix) {
		reason, text = Fails, "systemd in the container ends in emergency mode if "+quote(target)+" cannot be mounted"
	}
	p.plan.Warnings = limited(p.plan.Warnings, Notice{
		Line: l.Number, Reason: reason, Better: better, Text: text + ", because the line has neither noauto nor nofail"})
}

// warnCovered tells that another line may be mounted over one that is mounted.
func (p *planner) warnCovered(l Line, target string, over cover) {
	where := ""
	if over.target != target {
		where = " at " + quote(over.target)
	}
	p.plan.Warnings = limited(p.plan.Warnings, Notice{
		Line: l.Number, Reason: Covered, Text: fmt.Sprintf("%s is hidden if line %d mounts %s%s, over it", quote(target), over.line, quote(over.fsType), where)})
}

// limited appends the notice. When there are MaxNotices, the last one comes to stand for all that follow.
func limited(list []Notice, n Notice) []Notice {
	if len(list) < MaxNotices {
		return append(list, n)
	}
	last := &list[len(list)-1]
	*last = Notice{Line: last.Line, Reason: TooMuch, Text: "there is more to say about this line and others after it", Required: last.Required || n.Required}
	return list
}

// betterLine is how a line should read that names a volume in one way or another.
func betterLine(l Line, target string, o options) string {
	if name, ok := l.Volume(); ok {
		return shown(entryLine(SourcePrefix+name, target, TypeLLS, o))
	}
	fsType := l.Type
	if !l.mountable() {
		fsType = "auto"
	}
	return shown(entryLine(l.Source, target, fsType, o))
}

// betterName is how a line should read that says NAME where lls:NAME is meant.
func betterName(l Line, o options) string {
	target, reason, _ := CheckTarget(l.Target)
	if l.Type != TypeLLS || reason != "" || hasControl(l.Source) || strings.ContainsAny(l.Source, ":=") || strings.HasPrefix(l.Source, "/") {
		return ""
	}
	return shown(entryLine(SourcePrefix+l.Source, target, TypeLLS, o))
}

// maxBetter is how long a line is offered, in bytes: many notices have one.
const maxBetter = 200

// shown is the line if people can copy it from what they see, else nothing.
func shown(line string) string {
	if len(line) > maxBetter || strings.ContainsFunc(line, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		return ""
	}
	return line
}

// listed shows the first few options.
func listed(options []string) string {
	const most = 4
	var first []string
	for i, o := range options {
		if i == most {
			return strings.Join(first, ", ") + " and others"
		}
		first = append(first, quote(o))
	}
	return strings.Join(first, ", ")
}
