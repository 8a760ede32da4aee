package notify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of what one item may say, in characters, and of a mail's lines.
const (
	maxLine    = 400
	maxDetails = 12
	maxName    = 40
	maxText    = 1000
	maxSubject = 160
	maxDoer    = 80
	width      = 76 // RFC 5322, 2.1.1, wants less than 79
)

// message is a mail, ready for any sender but for its addresses.
type message struct {
	ID            string // before the @
	At            time.Time
	Subject, Body string // the body's lines end in \n
}

// clean gives an item that can do no harm in a mail, and has an end.
func (it Item) clean() Item {
	it.Line, it.Subject = oneLine(it.Line, maxLine), oneLine(it.Subject, maxSubject)
	if it.Line == "" {
		it.Line = "(nothing said)"
	}
	it.Of = oneLine(it.Of, maxDoer)
	it.Severity = min(max(it.Severity, Info), Urgent)
	var details []Detail
	for _, d := range it.Details[:min(len(it.Details), maxDetails)] {
		details = append(details, Detail{oneLine(d.Name, maxName), oneLine(d.Text, maxText)})
	}
	it.Details = details
	return it
}

// oneLine makes text one line of what can be printed, with single spaces, of so many characters at most.
func oneLine(text string, most int) string {
	if limit := most * utf8.UTFMax * 4; len(text) > limit { // do not work on what is cut anyway
		text = text[:limit]
	}
	safe := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r) || r == utf8.RuneError: // controls, and what turns the direction of writing
			return '?'
		}
		return r
	}, text)
	safe = strings.Join(strings.Fields(safe), " ")
	if runes := []rune(safe); len(runes) > most {
		return strings.TrimRight(string(runes[:most-3]), " ") + "..."
	}
	return safe
}

// mark goes before what is urgent.
func (s Severity) mark() string {
	if s >= Urgent {
		return "URGENT: "
	}
	return ""
}

// compose writes the mail about items, of which some more were left out.
func (h identity) compose(id string, at time.Time, items []Item, out leftOut) message {
	return message{ID: id, At: at, Subject: "[lls " + h.host + "] " + subject(items, out.Count), Body: h.body(at, items, out)}
}

// subject is about the last of the most severe items: it tells the present state.
func subject(items []Item, leftOut int) string {
	count := len(items) + leftOut
	if len(items) == 0 {
		return fmt.Sprintf("%d events", count)
	}
	top := items[0]
	for _, it := range items {
		if it.Severity >= top.Severity {
			top = it
		}
	}
	text := top.Subject
	if text == "" {
		text = top.Line
	}
	text = top.Severity.mark() + text
	if count > 1 {
		text = fmt.Sprintf("%d events: %s", count, text)
	}
	return oneLine(strings.ReplaceAll(text, "=?", "= ?"), maxSubject) // nothing a mail reader would decode (RFC 2047)
}

// body lists the items in their order, under the day they happened.
func (h identity) body(at time.Time, items []Item, out leftOut) string {
	var b strings.Builder
	day := ""
	for _, it := range items {
		when := it.At.Local()
		if d := when.Format("Monday, 2 January 2006"); d != day {
			if day != "" {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "%s on %s (%s)\n\n", d, h.host, when.Format("MST"))
			day = d
		}
		stamp := when.Format("15:04:05") + "  "
		fold(&b, stamp, strings.Repeat(" ", len(stamp)), it.Severity.mark()+it.Line)
		widest := 0
		for _, d := range it.Details {
			widest = max(widest, utf8.RuneCountInString(d.Name))
		}
		for _, d := range it.Details {
			label := "            " + d.Name + ":"
			label += strings.Repeat(" ", widest-utf8.RuneCountInString(d.Name)+1)
			fold(&b, label, strings.Repeat(" ", utf8.RuneCountInString(label)), d.Text)
		}
		if len(it.Details) > 0 {
			b.WriteByte('\n')
		}
	}
	if out.Count > 0 {
		fold(&b, "", "", fmt.Sprintf("And %d more, until %s, which were too many to list%s: see journalctl -u lls-agent.",
			out.Count, at.Local().Format("2 January, 15:04:05"), out.whose()))
	}
	text := strings.TrimRight(b.String(), "\n")
	return text + "\n\n-- \nlls-agent on " + h.host + "\n"
}

// whose tells of whom most of the items were that were left out: " (470 of web1, 1 of web2)".
func (l leftOut) whose() string {
	var all []string
	for _, of := range slices.Sorted(maps.Keys(l.Of)) {
		all = append(all, fmt.Sprintf("%d of %s", l.Of[of], oneLine(of, maxDoer)))
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + strings.Join(all, ", ") + ")"
}

// fold writes text as lines of the width at most: the first begins with one string, the others with another.
func fold(b *strings.Builder, first, rest, text string) {
	line, room := first, width-utf8.RuneCountInString(first)
	empty := true
	flush := func() {
		b.WriteString(strings.TrimRight(line, " "))
		b.WriteByte('\n')
		line, room, empty = rest, width-utf8.RuneCountInString(rest), true
	}
	for word := range strings.FieldsSeq(text) {
		runes := []rune(word)
		if !empty && len(runes)+1 > room {
			flush()
		}
		if !empty {
			line, room = line+" ", room-1
		}
		for len(runes) > room { // longer than a line
			line += string(runes[:room])
			runes = runes[room:]
			flush()
		}
		line, room, empty = line+string(runes), room-len(runes), false
	}
	flush()
}
