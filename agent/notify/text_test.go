package notify

import (
	"bytes"
	"io"
	"mime"
	"net/mail"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var lab = identity{host: "lab", domain: "lab.example"}

func at(hour, minute, second int) time.Time {
	return time.Date(2026, 11, 22, hour, minute, second, 0, time.Local)
}

func grown() Item {
	return Item{At: at(14, 3, 5), Line: "pool main: data grew from 1.0G to 1.2G, because it was 82% full", Subject: "pool main: data grew to 1.2G (82% full)",
		Details: []Detail{{"left in the group", "3.1G"}, {"top writers", "web1/data 12M/s, web1/scratch 3.5M/s, db/tables 900k/s, host/reference 12k/s"},
			{"forecast", "full again in 3 hours"}}}
}

func TestAMailReadsWell(t *testing.T) {
	zone, _ := at(14, 0, 0).Zone()
	items := []Item{grown(), {At: at(14, 3, 9), Line: "web1/data went to the trash: unused for 90 days"},
		{At: at(14, 5, 0), Severity: Urgent, Line: "pool main: metadata cannot grow from 8.0M: 2.0M are left in the group, and 4.0M are its reserve"}}
	m := lab.compose("id", at(14, 8, 0), items, leftOut{Count: 7, Of: map[string]int{"web1": 4}})
	if want := "[lls lab] 10 events: URGENT: pool main: metadata cannot grow from 8.0M: 2.0M are left in the group, and 4.0M are its reserve"; m.Subject != want {
		t.Errorf("subject is %q, want %q", m.Subject, want)
	}
	want := `Sunday, 22 November 2026 on lab (` + zone + `)

14:03:05  pool main: data grew from 1.0G to 1.2G, because it was 82% full
            left in the group: 3.1G
            top writers:       web1/data 12M/s, web1/scratch 3.5M/s,
                               db/tables 900k/s, host/reference 12k/s
            forecast:          full again in 3 hours

14:03:09  web1/data went to the trash: unused for 90 days
14:05:00  URGENT: pool main: metadata cannot grow from 8.0M: 2.0M are left
          in the group, and 4.0M are its reserve
And 7 more, until 22 November, 14:08:00, which were too many to list (4 of
web1): see journalctl -u lls-agent.

-- ` + `
lls-agent on lab
`
	if m.Body != want {
		t.Errorf("body is\n%s\nwant\n%s", m.Body, want)
	}
}

func TestTheSubjectIsAboutWhatMattersMost(t *testing.T) {
	first, second := Item{Line: "first"}, Item{Line: "second", Subject: "in short"}
	warn, urgent := Item{Line: "warn", Severity: Warn}, Item{Line: "now", Severity: Urgent}
	for _, c := range []struct {
		items   []Item
		leftOut int
		want    string
	}{
		{[]Item{first}, 0, "first"},
		{[]Item{second}, 0, "in short"},
		{[]Item{first, second}, 0, "2 events: in short"},
		{[]Item{second, first}, 0, "2 events: first"},
		{[]Item{warn, first}, 0, "2 events: warn"},
		{[]Item{warn, urgent, first}, 2, "5 events: URGENT: now"},
		{nil, 3, "3 events"},
		{[]Item{{Line: "=?utf-8?q?=0D=0A?="}}, 0, "= ?utf-8?q?=0D=0A?="},
	} {
		if got := subject(c.items, c.leftOut); got != c.want {
			t.Errorf("subject is %q, want %q", got, c.want)
		}
	}
}

func TestTextsAreOneLineOfWhatPrints(t *testing.T) {
	for in, want := range map[string]string{
		"plain text":                      "plain text",
		"  much \t\r\n white\u2028space ": "much white space",
		"a\r\nBcc: x@y\r\n\r\nz":          "a Bcc: x@y z",
		"bell\a esc\x1b[2J del\x7f":       "bell? esc?[2J del?",
		"bad\xff\xfe":                     "bad??",
		"turn\u202eround":                 "turn?round",
		"größer, 12 µs":                   "größer, 12 µs",
		strings.Repeat("x", 50):           strings.Repeat("x", 37) + "...",
		strings.Repeat("ü", 40):           strings.Repeat("ü", 40),
	} {
		if got := oneLine(in, 40); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestAnItemHasAnEnd(t *testing.T) {
	huge := strings.Repeat("ü x", 1<<20)
	it := Item{Severity: 99, Line: huge, Subject: huge, Details: make([]Detail, 1000)}
	for i := range it.Details {
		it.Details[i] = Detail{huge, huge}
	}
	it = it.clean()
	total := len(it.Line) + len(it.Subject)
	for _, d := range it.Details {
		total += len(d.Name) + len(d.Text)
	}
	if total > maxFile/2 || it.Severity != Urgent {
		t.Errorf("it has %d bytes, severity %d", total, it.Severity)
	}
}

// FuzzMail: whatever an item says, the mail has the headers it is to have, and a body of short lines of text.
func FuzzMail(f *testing.F) {
	f.Add("pool main: data grew", "", "left", "3.1G", 0)
	f.Add("a\r\nBcc: evil@example.org\r\n\r\nbody", "\r\n.\r\nQUIT\r\n", "x\ny: z", strings.Repeat("long", 500), 3)
	f.Add("=?utf-8?q?=0D=0ABcc:x?=", "\x00\x1b", "größe", "From \x85nobody\u2028.", 0)
	f.Add(strings.Repeat("ü", 3000), strings.Repeat("漢字", 300), strings.Repeat("n", 300), "\xff", 1)
	f.Fuzz(func(t *testing.T, line, short, name, text string, left int) {
		it := Item{At: at(1, 2, 3), Line: line, Subject: short, Details: []Detail{{name, text}, {"forecast", text}}}.clean()
		m := lab.compose("lls.id", at(1, 2, 4), []Item{it, it}, leftOut{Count: left})
		from := &mail.Address{Address: "root@lab.example"}
		var raw bytes.Buffer
		if _, err := build(m, lab.domain, from, &mail.Address{Address: "admin@lab.example"}).WriteTo(&raw); err != nil {
			t.Fatal(err)
		}
		for l := range bytes.Lines(raw.Bytes()) {
			if len(l) > 998 {
				t.Errorf("a line has %d bytes: %q", len(l), l)
			}
		}
		got, err := mail.ReadMessage(&raw)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"Subject", "Date", "Message-Id", "Auto-Submitted", "From", "To", "Mime-Version", "Content-Type", "Content-Transfer-Encoding"}
		for _, key := range want {
			if len(got.Header[key]) != 1 {
				t.Errorf("header %s is %q", key, got.Header[key])
			}
		}
		if len(got.Header) != len(want) {
			t.Errorf("headers are %v", got.Header)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
		if err != nil || subject != m.Subject || printable(subject) != nil {
			t.Errorf("subject is %q, want %q, %v, %v", subject, m.Subject, err, printable(subject))
		}
		for l := range strings.Lines(m.Body) {
			l = strings.TrimSuffix(l, "\n")
			if err := printable(l); err != nil || utf8.RuneCountInString(l) > width {
				t.Errorf("line %q: %v", l, err)
			}
		}
		if _, err := io.ReadAll(got.Body); err != nil {
			t.Error(err)
		}
	})
}

type unprintable struct{ r rune }

func (u unprintable) Error() string { return "it has " + string(u.r) }

func printable(text string) error {
	for _, r := range text {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError || r == 0x2028 || r == 0x202e {
			return unprintable{r}
		}
	}
	return nil
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]struct{ full, bare string }{
		"root":                   {"root@lab.example", "root"},
		" root ":                 {"root@lab.example", "root"},
		"me@example.org":         {"me@example.org", "me@example.org"},
		"Me <me@example.org>":    {"me@example.org", "me@example.org"},
		"\"odd name\"@x.example": {},
		"":                       {},
		"-oQ/tmp":                {},
		"-f@example.org":         {},
		"two words":              {},
		"a@b, c@d":               {},
		"me@example.org\r\nX: y": {},
		"me@example.org\n":       {},
		"größe@example.org":      {},
	} {
		full := ""
		a, err := lab.address(in)
		if err == nil {
			full = a.Address
		}
		bare, bareErr := lab.bare(in)
		if full != want.full || bare != want.bare || (err == nil) != (want.full != "") || (bareErr == nil) != (err == nil) {
			t.Errorf("%q is %q and %q, want %q; %v, %v", in, full, bare, want, err, bareErr)
		}
	}
}

func TestTheDomainOfUsers(t *testing.T) {
	for _, c := range [][3]string{{"lab", "example.org", "example.org"}, {"lab", "not a domain", "localhost"}, {"odd host", "", ""}} {
		if got := identify(c[0], c[1]); c[2] != "" && got.domain != c[2] || !isHostName(got.domain) {
			t.Errorf("%q, %q gives %+v", c[0], c[1], got)
		}
	}
}
