// Package hooks holds what the replay of mounts at a container's start knows of the container's own /etc/fstab: how
// its bytes are read, which of its lines are for LLS, in which order they are mounted, why others are refused, and how
// the client adds and takes away a line without touching any other byte.
//
// Everything but [Save] is pure. The bytes come from a container whose root is hostile: any input gives an answer of
// bounded size, and no text in an answer names anything that the container did not write itself.
package hooks

import (
	"strings"
)

// Limits of what is read, in bytes. Whoever reads the file must stop after MaxFile+1 bytes.
const (
	MaxFile = 256 << 10
	MaxLine = 8 << 10
)

// File is an fstab(5), every byte of it.
type File struct {
	Lines []Line
}

// Line is one line of a File. A comment or a blank line has no fields.
type Line struct {
	Number  int    // from 1
	Text    string // every byte as it was read, the end of the line included
	Problem string // why the line cannot be read as an entry; empty when it can, and for comments

	// The fields, without their escapes. What is missing is empty.
	Source, Target, Type, Options string
}

// Parse reads any bytes. Bytes of the answer gives the same ones back.
func Parse(b []byte) File {
	if len(b) == 0 {
		return File{}
	}
	if len(b) > MaxFile {
		return File{Lines: []Line{{Number: 1, Text: string(b), Problem: "the file is longer than 256 KiB"}}}
	}
	var f File
	for i, text := range strings.SplitAfter(string(b), "\n") {
		if text != "" { // what follows the last newline
			f.Lines = append(f.Lines, parseLine(i+1, text))
		}
	}
	return f
}

// Bytes is the file as it is to be written.
func (f File) Bytes() []byte {
	var b []byte
	for _, l := range f.Lines {
		b = append(b, l.Text...)
	}
	return b
}

// tooBig tells that Parse did not look into the file.
func (f File) tooBig() bool { return len(f.Lines) == 1 && len(f.Lines[0].Text) > MaxFile }

// IsEntry tells a line that describes a mount, well or badly, from a comment or a blank line.
func (l Line) IsEntry() bool { return l.Source != "" }

func parseLine(number int, text string) Line {
	l := Line{Number: number, Text: text}
	spans := fieldSpans(text)
	if len(spans) == 0 || text[spans[0].start] == '#' {
		return l
	}
	for i, field := range []*string{&l.Source, &l.Target, &l.Type, &l.Options} {
		if i < len(spans) {
			*field = unescape(text[spans[i].start:spans[i].end])
		}
	}
	switch {
	case len(text) > MaxLine:
		l.Problem = "the line is longer than 8 KiB"
	case strings.Contains(text, "\x00"), strings.Contains(l.Source+l.Target+l.Type+l.Options, "\x00"):
		l.Problem = "the line has a NUL byte"
	case l.Target == "":
		l.Problem = "the line has no directory to mount at"
	case l.Type == "":
		l.Problem = "the line has no file system type"
	}
	return l
}

// lineEnd is what ends the line: "\n", "\r\n" as mount(8) reads it, or nothing on a last line.
func lineEnd(text string) string {
	body := strings.TrimSuffix(text, "\n")
	return text[len(strings.TrimSuffix(body, "\r")):]
}

// span is where a field stands in the text of its line.
type span struct{ start, end int }

// fieldSpans finds the six fields of fstab(5), which spaces and tabs separate. What follows them belongs to nobody.
func fieldSpans(text string) []span {
	const fields = 6
	var spans []span
	end := len(text) - len(lineEnd(text))
	for i := 0; i < end && len(spans) < fields; {
		if blank(text[i]) {
			i++
			continue
		}
		start := i
		for i < end && !blank(text[i]) {
			i++
		}
		spans = append(spans, span{start, i})
	}
	return spans
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// unescape replaces a backslash and three octal digits of one byte, as libmount does; any other backslash stands for itself.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] >= '0' && s[i+1] <= '3' && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }

// Escape writes a string so that it is one field of fstab(5): what would end the field or the line, control characters and
// the backslash become octal. An empty string cannot be a field, and stays empty.
func Escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c > ' ' && c != '\\' && c != 0x7f && (c != '#' || i > 0) {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'\\', '0' + c>>6, '0' + c>>3&7, '0' + c&7})
	}
	return b.String()
}
