package policy

import (
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// lines says on which line of a TOML text each key stands. A key is known by its path from the top, and an element of an array by
// its place, as in rules, [0], limits, volumes.
type lines map[string]int

// of is the line of a path, or of the nearest thing around it whose line is known; 0 when there is none.
func (l lines) of(path []string) int {
	for n := len(path); n > 0; n-- {
		if line, ok := l[joined(path[:n])]; ok {
			return line
		}
	}
	return 0
}

func joined(path []string) string { return strings.Join(path, "\x00") }

// element is how a path names an element of an array.
func element(n int) string { return "[" + strconv.Itoa(n) + "]" }

// findLines reads a text that the decoder took: what is no TOML gives lines that mean nothing, but does no harm.
func findLines(text string) lines {
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} { // the decoder drops it
		if rest, ok := strings.CutPrefix(text, mark); ok {
			text = rest
			break
		}
	}
	s := &scanner{text: text, line: 1, found: lines{}, arrays: map[string]int{}}
	var table []string
	for s.blank(); s.at < len(s.text); s.blank() {
		before := s.at
		if s.peek() == '[' {
			table = s.header()
		} else {
			s.pair(table)
		}
		if s.at == before {
			s.skip(1) // no TOML: go on all the same
		}
	}
	return s.found
}

// scanner walks over the text from key to key.
type scanner struct {
	text   string
	at     int
	line   int
	found  lines
	arrays map[string]int // how many elements each array of tables has so far
}

// peek is the next byte, or 0 at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) has(prefix string) bool { return strings.HasPrefix(s.text[s.at:], prefix) }

// skip goes n bytes on and counts the lines.
func (s *scanner) skip(n int) {
	end := min(s.at+n, len(s.text))
	s.line += strings.Count(s.text[s.at:end], "\n")
	s.at = end
}

// blank skips white space, ends of lines and comments.
func (s *scanner) blank() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.skip(1)
		case '#':
			if n := strings.IndexByte(s.text[s.at:], '\n'); n >= 0 {
				s.skip(n)
			} else {
				s.at = len(s.text)
			}
		default:
			return
		}
	}
}

// header reads [TABLE] or [[TABLE]] and gives the path of what follows.
func (s *scanner) header() []string {
	line, array := s.line, s.has("[[")
	for s.peek() == '[' {
		s.skip(1)
	}
	keys := s.key()
	for s.peek() == ']' {
		s.skip(1)
	}
	var path []string
	for i, k := range keys {
		path = append(path, k)
		s.note(path, line)
		name := joined(path)
		if last := i == len(keys)-1; last && array {
			s.arrays[name]++
		}
		if n := s.arrays[name]; n > 0 {
			path = append(path, element(n-1))
			s.note(path, line)
		}
	}
	return path
}

// note keeps the first line of a path.
func (s *scanner) note(path []string, line int) {
	name := joined(path)
	if _, ok := s.found[name]; !ok {
		s.found[name] = line
	}
}

// pair reads KEY = VALUE below a path.
func (s *scanner) pair(below []string) {
	line := s.line
	path := append([]string(nil), below...)
	for _, k := range s.key() {
		path = append(path, k)
		s.note(path, line)
	}
	s.blank()
	if s.peek() == '=' {
		s.skip(1)
	}
	s.blank()
	s.value(path)
}

// key reads a key of one or more parts.
func (s *scanner) key() []string {
	var parts []string
	for {
		s.blank()
		parts = append(parts, s.part())
		s.blank()
		if s.peek() != '.' {
			return parts
		}
		s.skip(1)
	}
}

// part reads one part of a key, bare or in quotes.
func (s *scanner) part() string {
	from := s.at
	if c := s.peek(); c == '"' || c == '\'' {
		s.quoted()
		var is struct{ K string }
		if _, err := toml.Decode("K = "+s.text[from:s.at], &is); err != nil {
			return s.text[from:s.at]
		}
		return is.K
	}
	for s.at < len(s.text) && strings.IndexByte(".=[]{},#\"' \t\r\n", s.text[s.at]) < 0 {
		s.at++
	}
	return s.text[from:s.at]
}

// quoted skips a string of any of the four kinds.
func (s *scanner) quoted() {
	mark := s.text[s.at : s.at+1]
	escapes := mark == `"`
	if long := strings.Repeat(mark, 3); s.has(long) {
		mark = long
	}
	s.skip(len(mark))
	for s.at < len(s.text) && !s.has(mark) {
		if escapes && s.peek() == '\\' {
			s.skip(1)
		}
		s.skip(1)
	}
	s.skip(len(mark))
	for n := 0; len(mark) == 3 && n < 2 && s.has(mark[:1]); n++ {
		s.skip(1) // a long string may end in quotes of its own
	}
}

// value skips a value, and notes the keys that are in it.
func (s *scanner) value(path []string) {
	switch s.peek() {
	case '"', '\'':
		s.quoted()
	case '[':
		s.list(']', func(n int) {
			in := append(append([]string(nil), path...), element(n))
			s.note(in, s.line)
			s.value(in)
		})
	case '{':
		s.list('}', func(int) { s.pair(path) })
	default:
		for s.at < len(s.text) && strings.IndexByte(",]}#\n", s.text[s.at]) < 0 {
			s.at++
		}
	}
}

// list reads what stands between brackets or braces.
func (s *scanner) list(end byte, one func(n int)) {
	s.skip(1)
	for n := 0; ; n++ {
		s.blank()
		if s.at == len(s.text) || s.peek() == end {
			s.skip(1)
			return
		}
		before := s.at
		one(n)
		s.blank()
		if s.peek() == ',' || s.at == before {
			s.skip(1)
		}
	}
}
