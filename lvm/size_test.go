package lvm

import (
	"errors"
	"testing"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]Size{
		"10G": 10 * GiB, "10g": 10 * GiB, "512M": 512 * MiB, "1.5T": TiB + 512*GiB, "100GiB": 100 * GiB, "100gb": 100 * GiB,
		"4096B": 4096, "1b": 1, "1048576": MiB, "4194304": 4 * MiB, "64k": 64 * KiB, "1P": PiB, "1024T": PiB, "0.5K": 512,
		"007M": 7 * MiB, "0.001G": 1073741, "1125899906842624": PiB, "2.000000000M": 2 * MiB,
	} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) is %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "0", "0G", "0.0T", "-1G", "+1G", "1E", "1e9", "0x10", "10 G", " 10G", "10G ", "10G\n", "10GG", "10iB", "G", ".5G", "5.G", "1.2.3G",
		"1,5G", "nan", "NaN", "inf", "Inf", "infinityG", "10Gi", "10%", "1_000M", "100", "1023", "1025T", "2P", "1.1P", "99999999999999999999G",
		"18446744073709551616", "16777216T", "0.5B", "0.5", "0.0000000001P", "1.5", "10г", "١G", "10G;rm", "10G\x00",
	} {
		if got, err := ParseSize(text); !errors.Is(err, ErrBadSize) {
			t.Errorf("ParseSize(%q) is %d, %v, want a refusal", text, got, err)
		}
	}
}

func TestSizePrints(t *testing.T) {
	for want, size := range map[string]Size{
		"10G": 10 * GiB, "1.5G": GiB + GiB/2, "512B": 512, "0B": 0, "1K": KiB, "1.27T": TiB + 300*GiB - 23*GiB, "1M": MiB - 1, "1P": PiB,
		"100M": 100 * MiB, "-2G": -2 * GiB, "1023B": 1023, "2048P": 2048 * PiB,
	} {
		if got := size.String(); got != want {
			t.Errorf("%d prints %s, want %s", int64(size), got, want)
		}
	}
	_ = Size(-1 << 63).String() // has no positive counterpart
}

func TestRoundUp(t *testing.T) {
	for _, c := range []struct{ size, unit, want Size }{
		{1, 512, 512}, {512, 512, 512}, {513, 512, 1024}, {0, 512, 0}, {7, 0, 7}, {9*MiB + 1, 4 * MiB, 12 * MiB},
	} {
		if got := c.size.RoundUp(c.unit); got != c.want {
			t.Errorf("%d rounded up to %d is %d, want %d", c.size, c.unit, got, c.want)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"10G", "1.5T", "0.000000001P", "1048576", "64KiB", "-1", "1e3", "999999999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		size, err := ParseSize(s)
		if err != nil {
			return
		}
		if size <= 0 || size > MaxSize {
			t.Fatalf("ParseSize(%q) is %d", s, size)
		}
		again, err := ParseSize(size.String())
		if err != nil {
			t.Fatalf("%d prints %s: %v", size, size, err)
		}
		if off := float64(again-size) / float64(size); off > 0.005 || off < -0.005 {
			t.Fatalf("%d prints %s, which is %d", size, size, again)
		}
	})
}
