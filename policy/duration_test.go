package policy

import (
	"math"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"0": 0, "30d": 30 * day, "12h": 12 * time.Hour, "90m": 90 * time.Minute, "1w": 7 * day, "1d12h": 36 * time.Hour, "10s": 10 * time.Second,
		"2w3d4h5m6s": 17*day + 4*time.Hour + 5*time.Minute + 6*time.Second, "0d": 0, "007d": 7 * day, "106751d": 106751 * day,
	} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", " ", "d", "7", "-1d", "+1d", "1.5d", "1 d", "1d ", "1D", "1y", "1M", "1h1d", "1d1d", "1d12", "d1", "00", "1ms", "106752d", "99999999999999999999d",
		"15250w2d", "9223372036s1s", "∞",
	} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("%q is taken for %v", s, got)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0", time.Second - 1: "0", 90 * time.Minute: "1h30m", 36 * time.Hour: "1d12h", 7 * 24 * time.Hour: "7d", time.Minute: "1m",
		24*time.Hour + time.Second: "1d1s", -time.Hour: "-1h", math.MaxInt64: "106751d23h47m16s", math.MinInt64: "-106751d23h47m16s",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

func FuzzDuration(f *testing.F) {
	f.Add("1d12h", int64(time.Hour))
	f.Add("1w2d3h4m5s", int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, s string, n int64) {
		if d, err := ParseDuration(s); err == nil {
			if again, err := ParseDuration(FormatDuration(d)); err != nil || again != d || d < 0 {
				t.Errorf("%q is %v, written %q, which is %v, %v", s, d, FormatDuration(d), again, err)
			}
		}
		if d := time.Duration(n).Truncate(time.Second); d >= 0 {
			if again, err := ParseDuration(FormatDuration(d)); err != nil || again != d {
				t.Errorf("%v is written %q, which is %v, %v", d, FormatDuration(d), again, err)
			}
		}
	})
}
