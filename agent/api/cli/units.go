package cli

import (
	"strconv"
	"strings"
	"time"

	"lls/agent/api"
)

// Size writes bytes as the agent does in what it says: with LVM's letters, powers of 1024 and at most two decimals, "1.66T".
func Size(bytes int64) string {
	if bytes < 0 {
		return "-" // no volume has less than nothing: the figure is not to be had
	}
	const letters = "BKMGTP"
	unit, v := 0, float64(bytes)
	for v >= 1023.995 && unit < len(letters)-1 { // what would round to 1024.00 is one of the next unit
		v /= 1024
		unit++
	}
	n := strconv.FormatFloat(v, 'f', 2, 64)
	return strings.TrimSuffix(strings.TrimRight(n, "0"), ".") + letters[unit:unit+1]
}

// sizeOrDash is for figures that are not always known.
func sizeOrDash(bytes *int64) string {
	if bytes == nil {
		return "-"
	}
	return Size(*bytes)
}

// until says how far off a time is: "in 3d", "in 5h", "now". No time is a dash.
func until(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	switch d := t.Sub(now); {
	case d >= 48*time.Hour:
		return "in " + strconv.Itoa(int(d/(24*time.Hour))) + "d"
	case d >= time.Hour:
		return "in " + strconv.Itoa(int(d/time.Hour)) + "h"
	case d >= time.Minute:
		return "in " + strconv.Itoa(int(d/time.Minute)) + "m"
	}
	return "now"
}

// ago says how long ago a time was: "3d ago", "5h ago", "20s ago", "now".
func ago(t, now time.Time) string {
	if d := now.Sub(t); d >= time.Second && d < time.Minute {
		return strconv.Itoa(int(d/time.Second)) + "s ago"
	}
	then := now.Add(now.Sub(t))
	if text, ok := strings.CutPrefix(until(&then, now), "in "); ok {
		return text + " ago"
	}
	return "now"
}

// date writes a time as the clock that shows now would.
func date(t, now time.Time) string { return t.In(now.Location()).Format("2006-01-02 15:04") }

// holder says who keeps a volume busy: "bash (pid 123) in web1, at /data", or only "another container".
func holder(h api.Holder) string {
	who := h.Command
	if h.PID != 0 {
		who = strings.TrimSpace(who + " (pid " + strconv.Itoa(h.PID) + ")")
	}
	switch {
	case who == "":
		who = h.Container
	case h.Container != "":
		who += " in " + h.Container
	}
	if h.Path != "" {
		who += ", at " + h.Path
	}
	return who
}
