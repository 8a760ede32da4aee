package cli

import (
	"strconv"
	"time"

	"lls/agent/api"
)

// Size writes bytes as people read them, with LVM's letters, powers of 1024 and at most one decimal: "1.5G".
func Size(bytes int64) string {
	if bytes < 0 {
		return "-" // no volume has less than nothing: the figure is not to be had
	}
	const letters = "BKMGTPE"
	unit, v := 0, float64(bytes)
	for v >= 1023.95 && unit < len(letters)-1 { // what would round to 1024.0 is one of the next unit
		v /= 1024
		unit++
	}
	if v >= 100 || unit == 0 {
		n := strconv.FormatFloat(v, 'f', 0, 64)
		if n == "1024" {
			return "1" + letters[unit+1:unit+2]
		}
		return n + letters[unit:unit+1]
	}
	n := strconv.FormatFloat(v, 'f', 1, 64)
	if n[len(n)-2:] == ".0" {
		n = n[:len(n)-2]
	}
	return n + letters[unit:unit+1]
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

// date writes a time as a person's clock shows it.
func date(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

// holder says who keeps a volume busy: "bash, pid 123, in /data".
func holder(h api.Holder) string {
	s := h.Command
	if h.PID != 0 {
		if s != "" {
			s += ", "
		}
		s += "pid " + strconv.Itoa(h.PID)
	}
	if h.Container != "" {
		if s != "" {
			s += ", "
		}
		s += h.Container
	}
	if h.Path != "" {
		s += ", at " + h.Path
	}
	return s
}
