package policy

import (
	"strconv"
	"time"
)

const day = 24 * time.Hour

// FormatSpan writes a time that passes, in its two largest units and rounded down: "2d 4h", "30d", "90s" is "1m 30s". Years are 365 days.
func FormatSpan(d time.Duration) string {
	if d < time.Second {
		return "0s"
	}
	units := []struct {
		letter string
		length time.Duration
	}{{"y", 365 * day}, {"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.length {
			continue
		}
		text := strconv.FormatInt(int64(d/u.length), 10) + u.letter
		if i+1 < len(units) {
			next := units[i+1]
			if n := d % u.length / next.length; n > 0 {
				text += " " + strconv.FormatInt(int64(n), 10) + next.letter
			}
		}
		return text
	}
	return "0s"
}

// asDate writes a time of the wall clock as a clock in now's zone shows it.
func asDate(t, now time.Time) string { return t.In(now.Location()).Format("2006-01-02 15:04") }

// plus adds two times of at least 0 and stays at Never, where the sum would pass it.
func plus(a, b time.Duration) time.Duration {
	if a > Never-b {
		return Never
	}
	return a + b
}
