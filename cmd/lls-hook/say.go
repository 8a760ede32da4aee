package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// How much the hook says, whatever the container's fstab has. LXC reads a hook's output ten times and then waits for its end without
// reading: one that says more than a pipe holds would never end, and the container, with all that asks LXC about it, would wait for ever.
// Everything together stays below 4096 bytes, which LXC reads at once.
const (
	mostLines = 10
	mostBytes = 300 // of a line
)

// brief are the first few lines, none of them long, and how many others there are.
func brief(lines []string) []string {
	var out []string
	for i, l := range lines {
		if i == mostLines {
			return append(out, fmt.Sprintf("and %d lines more", len(lines)-i))
		}
		out = append(out, fit(l))
	}
	return out
}

// fit is the text as one line that can be shown, cut where it is too long, but within no character and no escape of fstab(5).
func fit(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > mostBytes {
			cut := b.String()
			if i := strings.LastIndexByte(cut, '\\'); i >= 0 && i > len(cut)-len(`\000`) {
				cut = cut[:i]
			}
			return cut + "..."
		}
		b.WriteRune(r)
	}
	return b.String()
}

// words are what LXC is told, and puts into the container's log.
func words(missing []string, err error) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintln(&b, "lls-hook:", fit(err.Error()))
	}
	for _, m := range brief(missing) {
		fmt.Fprintln(&b, "lls-hook: the container does not start:", m)
	}
	return b.String()
}

// tellJournal writes to the host's system log, where the sysadmin looks: LXC keeps what a hook says at its log level DEBUG only. It waits
// for nobody.
func tellJournal(name string, missing []string) {
	conn, err := net.DialTimeout("unixgram", "/dev/log", time.Second)
	if err != nil {
		return // stderr has it
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // for all of them
	for _, m := range brief(missing) {
		if _, err := fmt.Fprintf(conn, "<27>lls-hook[%d]: container %s does not start: %s", os.Getpid(), fit(name), m); err != nil { // 27 is an error of a daemon's, syslog(3)
			return
		}
	}
}
