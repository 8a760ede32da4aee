package lvm

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Size is a number of bytes.
type Size int64

// Units of Size. All are binary, as in LVM's own lower-case units.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
	PiB Size = 1 << 50
)

// MaxSize is the largest size that ParseSize takes: more is a slip of the
// keyboard.
const MaxSize = PiB

// ErrBadSize is wrapped by every refusal of a size.
var ErrBadSize = errors.New("not a valid size")

var units = []struct {
	letter byte
	size   Size
}{{'P', PiB}, {'T', TiB}, {'G', GiB}, {'M', MiB}, {'K', KiB}}

// ParseSize reads a size as people write it: 10G, 512m, 1.5T, 100GiB, 4096B.
// Units are binary whatever follows the letter. A bare number is bytes, and
// below 1 MiB it is taken for a forgotten unit and refused.
func ParseSize(s string) (Size, error) {
	bad := func(why string) (Size, error) {
		return 0, fmt.Errorf("cannot read size %q: %s: %w", s, why, ErrBadSize)
	}
	digits := len(s) - len(strings.TrimLeft(s, "0123456789."))
	number, suffix := s[:digits], s[digits:]
	whole, fraction, dotted := strings.Cut(number, ".")
	if whole == "" || dotted && fraction == "" || strings.Contains(fraction, ".") {
		return bad("write a number and a unit, like 10G or 1.5T")
	}
	unit, ok := parseUnit(suffix)
	if !ok {
		return bad("the units are K, M, G, T and P, or B for bytes")
	}
	if dotted && unit == 1 {
		return bad("there is no part of a byte")
	}
	if len(fraction) > 9 {
		return bad("too many decimals")
	}
	w, err := strconv.ParseUint(whole, 10, 64)
	if err != nil {
		return bad("too large")
	}
	high, total := bits.Mul64(w, uint64(unit))
	if high != 0 || total > uint64(MaxSize) {
		return bad("more than " + MaxSize.String())
	}
	if dotted {
		f, err := strconv.ParseUint(fraction, 10, 64)
		if err != nil {
			return bad("the decimals are no number")
		}
		scale := uint64(1)
		for range fraction {
			scale *= 10
		}
		fh, fl := bits.Mul64(f, uint64(unit))
		part, _ := bits.Div64(fh, fl, scale) // f < scale, so fh < scale
		total += part
	}
	switch {
	case total > uint64(MaxSize):
		return bad("more than " + MaxSize.String())
	case total == 0:
		return bad("nothing")
	case suffix == "" && Size(total) < MiB:
		return bad("its unit is missing")
	}
	return Size(total), nil
}

// parseUnit takes "", "B", and K, KB, KiB and so on in any case.
func parseUnit(s string) (Size, bool) {
	s = strings.ToUpper(s)
	if s == "" || s == "B" {
		return 1, true
	}
	for _, u := range units {
		if s[0] == u.letter {
			rest := s[1:]
			return u.size, rest == "" || rest == "B" || rest == "IB"
		}
	}
	return 0, false
}

// String prints a size for people, with two decimals at most: 10G, 1.5G, 512B.
// What it prints ParseSize reads, to within half a percent.
func (s Size) String() string {
	if s < 0 {
		return "-" + (-max(s, -1<<62)).String()
	}
	for i, u := range units {
		if s < u.size {
			continue
		}
		text := strconv.FormatFloat(float64(s)/float64(u.size), 'f', 2, 64)
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
		if text == "1024" && i > 0 {
			return "1" + string(units[i-1].letter)
		}
		return text + string(u.letter)
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// RoundUp gives the next multiple of a unit, as LVM rounds sizes up to whole
// extents.
func (s Size) RoundUp(unit Size) Size {
	if unit <= 0 || s%unit == 0 {
		return s
	}
	return s - s%unit + unit
}
