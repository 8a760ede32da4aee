package policy

import (
	"strings"
	"testing"
	"time"
)

const someRules = `
[limits]
volumes = 10
overcommit = 3
[growth.data]
cap = "1T"
[pools.main]
vg = "a"
lv = "b"
raw.privileged = "ro"
[pools.fast]
vg = "a"
lv = "c"
[[rules]]
pool = "fast"
limits.volumes = 5
limits.overcommit = 2.0
growth.data.cap = "2T"
trim.pressure = 60
trim.discard = true
[[rules]]
container = "ci-*"
limits.volumes = 3
expiry.unused = "1d"
raw.privileged = "none"
[[rules]]
container = "ci-7"
pool = "f*"
limits.volumes = 2
[[rules]]
volume = "keep-?"
expiry.unused = "0"
growth.volume.threshold = 0
raw.unprivileged = "rw"
[[rules]]
container = "*"
volume = "*"
expiry.trash = "1h"
[[rules]]
pool = "none*"
limits.size = "1G"
`

func TestLaterRulesWinKeyByKey(t *testing.T) {
	c := parsed(t, someRules)
	const day = 24 * time.Hour
	for _, tt := range []struct {
		pool, container, volume string
		volumes                 int
		unused, trash           time.Duration
		raw                     Raw
	}{
		{"main", "web", "", 10, 30 * day, 7 * day, Raw{RawRead, RawNone}},
		{"fast", "web", "", 5, 30 * day, 7 * day, Raw{RawNone, RawNone}},
		{"main", "ci-7", "", 3, day, 7 * day, Raw{RawNone, RawNone}},
		{"fast", "ci-7", "", 2, day, 7 * day, Raw{RawNone, RawNone}},
		{"fast", "ci-8", "", 3, day, 7 * day, Raw{RawNone, RawNone}},
		{"main", "web", "x", 10, 30 * day, time.Hour, Raw{RawRead, RawNone}},
		{"main", "web", "keep-1", 10, 0, time.Hour, Raw{RawRead, RawWrite}},
		{"main", "ci-7", "keep-1", 3, 0, time.Hour, Raw{RawNone, RawWrite}},
		{"main", "host", "keep-12", 10, 30 * day, time.Hour, Raw{RawRead, RawNone}},
		{"", "ci-7", "", 3, day, 7 * day, Raw{RawNone, RawNone}},
		{"", "", "", 10, 30 * day, 7 * day, Raw{RawNone, RawNone}},
	} {
		r := c.Rules(tt.pool, tt.container, tt.volume)
		if r.Limits.Volumes != tt.volumes || r.Expiry.Unused != tt.unused || r.Expiry.Trash != tt.trash || r.Raw != tt.raw {
			t.Errorf("%s, %s, %s: %+v", tt.pool, tt.container, tt.volume, r)
		}
	}
	if got := c.Rules("main", "web", "keep-1").Growth.Threshold; got != 0 {
		t.Errorf("the growth of keep-1 begins at %v", got)
	}
	main, fast := c.PoolRules("main"), c.PoolRules("fast")
	if main.Overcommit != 3 || fast.Overcommit != 2 || main.Data.Cap != 1<<40 || fast.Data.Cap != 2<<40 || main.Metadata != fast.Metadata ||
		main.Trim.Pressure != 80 || fast.Trim.Pressure != 60 || main.Trim.Discard || !fast.Trim.Discard || fast.DataPercent != 95 {
		t.Errorf("pools: %+v, %+v", main, fast)
	}
	if again := c.Rules("main", "web", ""); again != c.Rules("main", "web", "") || again.Limits.Volumes != 10 {
		t.Errorf("asking changed the rules: %+v", again)
	}
}

func TestPatternsAreThoseOfAShell(t *testing.T) {
	for _, tt := range []struct {
		pattern, matched, not string
	}{
		{"[!w]*", "ci1", "web1"},
		{"[^w]*", "ci1", "web1"},
		{"[!a-v]*", "web1", "ci1"},
		{"web-[0-9!]", "web-!", "web-a"},
		{`\[!w]`, "[!w]", "x"},
		{`a\{b`, "a{b", "a"},
		{"a[{]b", "a{b", "a"},
		{"?", "é", "ab"},
	} {
		c := parsed(t, "[[rules]]\ncontainer = '"+tt.pattern+"'\nlimits.volumes = 3\n")
		for name, want := range map[string]bool{tt.matched: true, tt.not: false} {
			if got := c.Rules("main", name, "").Limits.Volumes == 3; got != want {
				t.Errorf("%s matches %s: %v", tt.pattern, name, got)
			}
		}
	}
	for pattern, why := range map[string]string{
		"[[:alpha:]]*": "a class of characters",
		"{web,ci}-*":   "braces",
		"[a":           "no pattern",
		"[!]":          "no pattern",
	} {
		_, err := Parse("f", []byte("[[rules]]\ncontainer = '"+pattern+"'\nlimits.volumes = 3\n"), size)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}
