package policy

import (
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// asSize writes bytes as people write sizes, in LVM's letters, powers of 1024 and at most one decimal: "38G", "1.5T".
func asSize(bytes int64) string {
	const letters = "BKMGTPE"
	sign, v := "", float64(bytes)
	if v < 0 {
		sign, v = "-", -v
	}
	unit := 0
	for v >= 1023.95 && unit < len(letters)-1 { // what would round to 1024.0 is one of the next unit
		v /= 1024
		unit++
	}
	return sign + trimmed(v) + letters[unit:unit+1]
}

// asPercent writes a share with at most one decimal, never rounded up: what has not reached 80% does not read like it. "80%", "72.5%".
func asPercent(p float64) string { return trimmed(math.Floor(p*10+1e-9)/10) + "%" }

func trimmed(v float64) string { return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") }

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
