package cli

import (
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"
	"unsafe"
)

// columns gives the width of the terminal that f is, or 0 if it is none. A terminal that does not know has 80.
func columns(f *os.File) int {
	var size struct{ rows, cols, x, y uint16 } // struct winsize of ioctl_tty(2)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	switch {
	case errno != 0:
		return 0
	case size.cols == 0:
		return 80
	}
	return int(size.cols)
}

// progress is one line on a terminal, written again and again. Without a terminal (width 0) it is silent.
type progress struct {
	w     io.Writer
	width int
	shown bool
}

func (p *progress) show(text string) {
	if p.width == 0 {
		return
	}
	line := []rune(Clean(text))
	if len(line) >= p.width { // a line that wraps could not be taken back
		line = line[:p.width-1]
	}
	p.shown = true
	_, _ = io.WriteString(p.w, "\r\x1b[K"+string(line))
}

func (p *progress) clear() {
	if p.shown {
		p.shown = false
		_, _ = io.WriteString(p.w, "\r\x1b[K")
	}
}

// Clean makes one harmless line of a text: what does not print is written as an escape, because names of processes and
// paths come from containers, and a terminal obeys what it is sent.
func Clean(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i])|0x100, 16)[1:])
		case r == ' ' || strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// Quote makes s one word for a shell, unchanged where it is one already.
func Quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-+./:@%,=#", r)
	}
	if s != "" && s[0] != '#' && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
