package cli

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"lls/agent/api"
)

func TestSize(t *testing.T) {
	const k = 1 << 10
	for bytes, want := range map[int64]string{
		0: "0B", 1: "1B", 1023: "1023B", k: "1K", k + k/2: "1.5K", 100*k + k/2: "100.5K", 1023 * k: "1023K", k*k - 1: "1M",
		k * k: "1M", 20 << 30: "20G", 1<<40 - 1: "1T", 2 << 40: "2T", 1700 << 30: "1.66T", 1 << 60: "1024P", math.MaxInt64: "8192P", -1: "-", math.MinInt64: "-",
		99*k + 999: "99.98K", 10*k + 5: "10K", 10*k + 6: "10.01K", 100 * k: "100K",
	} {
		if got := Size(bytes); got != want {
			t.Errorf("%d is %q, want %q", bytes, got, want)
		}
	}
}

func FuzzSize(f *testing.F) {
	for _, n := range []int64{0, 1, 1023, 1 << 20, 1<<20 - 1, math.MaxInt64} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n int64) {
		s := Size(n)
		if n < 0 {
			return
		}
		v, err := strconv.ParseFloat(s[:len(s)-1], 64)
		unit := strings.Index("BKMGTP", s[len(s)-1:])
		if err != nil || unit < 0 || v >= 1024 && unit < 5 || len(s) > 8 || v < 1 && n > 0 {
			t.Fatalf("%d is %q", n, s)
		}
		if back := v * math.Pow(1024, float64(unit)); math.Abs(back-float64(n)) > float64(n)*0.0051 {
			t.Errorf("%d is %q, which is %.0f", n, s, back)
		}
	})
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		-time.Hour: "now", 0: "now", 999 * time.Millisecond: "now", time.Second: "1s ago", 20 * time.Second: "20s ago", time.Minute - 1: "59s ago",
		time.Minute: "1m ago", 3 * time.Hour: "3h ago", 48 * time.Hour: "2d ago",
	} {
		if got := ago(now.Add(-d), now); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func FuzzUntil(f *testing.F) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, s := range []int64{0, -1, 59, 60, 3599, 3600, 172799, 172800, math.MaxInt64, math.MinInt64} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, seconds int64) {
		then := time.Unix(now.Unix()+seconds%(1<<40), 0)
		got := until(&then, now)
		if late := !then.After(now.Add(time.Minute - time.Nanosecond)); late != (got == "now") || got != "now" && !strings.HasPrefix(got, "in ") {
			t.Errorf("%v is %q", then, got)
		}
		if dateIn(then, now) == "" {
			t.Error("no date")
		}
	})
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"plain", "a b", "é", "\x1b[2J", "\xff", "\ufffd", "\u202e", "\n", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if !utf8.ValidString(got) {
			t.Errorf("%q becomes %q, which is not UTF-8", s, got)
		}
		for _, r := range got {
			if !strconv.IsPrint(r) {
				t.Errorf("%q becomes %q", s, got)
			}
		}
		if Clean(got) != got {
			t.Errorf("%q is not left alone", got)
		}
	})
}

// Unquoting by the rules of sh gives back what was quoted.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "mine", "a b", "it's", "$(x)", "#", "a#b", "~", "a\nb", "-x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := Quote(s)
		if q == s {
			if s == "" || strings.ContainsAny(s, " \t\n'\"\\$`;&|<>()*?[]{}!~") || s[0] == '#' {
				t.Errorf("%q needs quotes", s)
			}
			return
		}
		back, ok := "", len(q) >= 2 && q[0] == '\'' && q[len(q)-1] == '\''
		if ok {
			back = strings.ReplaceAll(q[1:len(q)-1], `'\''`, "'")
		}
		if back != s {
			t.Errorf("%q is quoted %q", s, q)
		}
	})
}

func TestWhatHappensIsALine(t *testing.T) {
	now := time.Date(2026, 11, 22, 14, 3, 5, 0, time.UTC)
	week, none := now.Add(7*24*time.Hour), now
	for _, tt := range []struct {
		event api.Event
		want  string
	}{
		{api.Event{What: api.EventCreated, Name: "mine"}, "14:03:05 created mine"},
		{api.Event{What: api.EventMounted, Name: "mine", Container: "c1", Path: "/x"}, "14:03:05 mounted mine at /x in c1"},
		{api.Event{What: api.EventFull, Name: "mine", Why: "99% full"}, "14:03:05 full mine: 99% full"},
		{api.Event{What: api.EventExpiring, Name: "mine", Expires: &week},
			"14:03:05 expiring mine: nobody uses it, and it goes to the trash on 2026-11-29 14:03 (in 7d); to keep it: lls keep mine --for 7d"},
		{api.Event{What: api.EventExpiring, Name: "mine", Expires: &none},
			"14:03:05 expiring mine: nobody uses it, and it goes to the trash on 2026-11-22 14:03 (now); to keep it: lls keep mine --for 7d"},
		{api.Event{What: api.EventExpiring, Name: "mine"}, "14:03:05 expiring mine"}, // from an older agent
	} {
		tt.event.Time = now
		if got := happened(tt.event, now, "lls keep mine --for 7d"); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestTableAlignsByCharacter(t *testing.T) {
	table := Table{Head: []string{"NAME", ">SIZE", "X"}}
	table.Add("é", "1G", "")
	table.Add("longer", "1000G")
	table.Add("a\x1bb", "2G", "y")
	got := strings.Join(table.Lines(), "\n")
	want := "NAME     SIZE  X\né          1G  -\nlonger  1000G  -\na\\x1bb     2G  y"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
