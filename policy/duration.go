package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// unitsOfTime are what durations are written in, the longest first.
var unitsOfTime = []struct {
	letter byte
	long   time.Duration
}{{'w', 7 * 24 * time.Hour}, {'d', 24 * time.Hour}, {'h', time.Hour}, {'m', time.Minute}, {'s', time.Second}}

// ParseDuration reads a duration as people write it: 30d, 12h, 90m, 1w, 1d12h, 0. The units are w, d, h, m and s, each at most
// once and the longest first; a day has 24 hours.
func ParseDuration(s string) (time.Duration, error) {
	bad := func(why string) (time.Duration, error) {
		return 0, fmt.Errorf("%q is no duration: %s", s, why)
	}
	const how = "write it like 30d, 12h, 90m or 1d12h"
	if s == "0" {
		return 0, nil
	}
	total, next, rest := time.Duration(0), 0, s
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if digits == 0 || digits == len(rest) {
			return bad(how)
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil {
			return bad("it is too long")
		}
		for next < len(unitsOfTime) && unitsOfTime[next].letter != rest[digits] {
			next++
		}
		if next == len(unitsOfTime) {
			return bad(how)
		}
		unit := unitsOfTime[next].long
		next++
		if n > int64((math.MaxInt64-total)/unit) {
			return bad("it is too long")
		}
		total += time.Duration(n) * unit
		rest = rest[digits+1:]
	}
	if s == "" {
		return bad(how)
	}
	return total, nil
}

// FormatDuration writes a duration as ParseDuration reads it, in days and less: 30d, 1d12h, 1h30m, 0. Parts of a second are left out.
func FormatDuration(d time.Duration) string {
	if d < 0 {
		return "-" + FormatDuration(-max(d, -math.MaxInt64))
	}
	var b strings.Builder
	for _, u := range unitsOfTime[1:] {
		if n := d / u.long; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10))
			b.WriteByte(u.letter)
			d %= u.long
		}
	}
	if b.Len() == 0 {
		return "0"
	}
	return b.String()
}

// sizeUnits are the letters of sizes, powers of 1024.
const sizeUnits = "PTGMK"

// FormatSize writes bytes as LVM's sizes are written everywhere in LLS, with two decimals at most: 100G, 1.5T, 512B.
func FormatSize(bytes int64) string {
	if bytes < 0 {
		return "-" + FormatSize(-max(bytes, -math.MaxInt64))
	}
	for i := range len(sizeUnits) {
		unit := int64(1) << (10 * (len(sizeUnits) - i))
		if bytes < unit {
			continue
		}
		text := strconv.FormatFloat(float64(bytes)/float64(unit), 'f', 2, 64)
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
		if text == "1024" && i > 0 {
			return "1" + sizeUnits[i-1:i]
		}
		return text + sizeUnits[i:i+1]
	}
	return strconv.FormatInt(bytes, 10) + "B"
}
