package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// onePage is what LXC reads of a hook's output at once, less the NUL byte that it adds.
const onePage = 4095

func TestTheHookSaysLittleWhateverTheFstabHas(t *testing.T) {
	nobody := t.TempDir() + "/nobody"
	for name, one := range map[string]string{
		"long names, refused": "lls:" + strings.Repeat("a", 3000) + "%d /m%[1]d lls suid,x-lls.required 0 0\n",
		"long paths":          "lls:a /" + strings.Repeat("p/", 1500) + "%d lls x-lls.required 0 0\n",
		"characters of four":  "lls:" + strings.Repeat("\U0001F40C", 700) + "%d /m%[1]d lls suid,x-lls.required 0 0\n",
		"escapes":             "lls:" + strings.Repeat(`\040`, 700) + "%d /m%[1]d lls suid,x-lls.required 0 0\n",
		"short":               "lls:a /m%d lls x-lls.required 0 0\n",
	} {
		var text strings.Builder
		for i := range 80 {
			fmt.Fprintf(&text, one, i)
		}
		missing, err := hooked(t, nobody, text.String())
		said := words(missing, err)
		if len(missing) < 80 || err == nil {
			t.Fatalf("%s: %d missing, %v", name, len(missing), err)
		}
		if len(said) > onePage || !utf8.ValidString(said) {
			t.Errorf("%s: it says %d bytes:\n%s", name, len(said), said)
		}
		for _, want := range []string{"does not answer", "line 1", "line 10", fmt.Sprintf("and %d lines more\n", len(missing)-mostLines)} {
			if !strings.Contains(said, want) {
				t.Errorf("%s: it does not say %q:\n%s", name, want, said)
			}
		}
	}
}

func TestWhatTheAgentSaysIsCutToo(t *testing.T) {
	missing := make([]string, 5000)
	for i := range missing {
		missing[i] = strings.Repeat("\x1b[2J\n\u00e4\\040", 1000)
	}
	said := words(missing, errors.New(strings.Repeat("x", 1<<20)))
	if len(said) > onePage || strings.ContainsRune(said, '\x1b') || strings.Count(said, "\n") != mostLines+2 {
		t.Errorf("%d bytes in %d lines: %.500q", len(said), strings.Count(said, "\n"), said)
	}
}

func TestALineIsCutInNoCharacterAndNoEscape(t *testing.T) {
	for text, want := range map[string]string{
		"short":                                          "short",
		strings.Repeat("x", mostBytes):                   strings.Repeat("x", mostBytes),
		strings.Repeat("x", mostBytes+1):                 strings.Repeat("x", mostBytes) + "...",
		strings.Repeat("x", mostBytes-1) + "\u00e4":      strings.Repeat("x", mostBytes-1) + "...",
		strings.Repeat("x", mostBytes-3) + `\040y`:       strings.Repeat("x", mostBytes-3) + "...",
		strings.Repeat("x", mostBytes-4) + `\040y`:       strings.Repeat("x", mostBytes-4) + `\040...`,
		"a\x00b\xffc\u202ed\x1b[m":                       "a?b?c?d?[m",
		strings.Repeat("\U0001F40C", mostBytes/4) + "yz": strings.Repeat("\U0001F40C", mostBytes/4) + "...",
	} {
		if got := fit(text); got != want {
			t.Errorf("%.20q...: got %q, want %q", text, got, want)
		}
	}
	if got := words(nil, nil); got != "" {
		t.Errorf("with nothing to say it says %q", got)
	}
}
