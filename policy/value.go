package policy

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// written is a value of the file as an error shows it.
func written(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case map[string]any:
		return "a table"
	case []any, []map[string]any:
		return "a list"
	}
	return fmt.Sprint(v)
}

func text(v any) (string, error) {
	s, ok := v.(string)
	switch {
	case !ok:
		return "", fmt.Errorf("%s is no text in quotes", written(v))
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", fmt.Errorf("%q has control characters", s)
	}
	return s, nil
}

// textWhere is a text that a check has nothing against.
func textWhere(check func(string) error) func(any) (string, error) {
	return func(v any) (string, error) {
		s, err := text(v)
		if err == nil {
			err = check(s)
		}
		return s, err
	}
}

func oneOf(words ...string) func(any) (string, error) {
	return textWhere(func(s string) error {
		if slices.Contains(words, s) {
			return nil
		}
		return fmt.Errorf("%q is none of %q", s, words)
	})
}

func boolean(v any) (bool, error) {
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("%s is neither true nor false", written(v))
	}
	return b, nil
}

// count is a number of things; 0 mostly stands for no limit.
func count(v any) (int, error) {
	n, ok := v.(int64)
	if !ok || n < 0 || n > math.MaxInt32 {
		return 0, fmt.Errorf("%s is no whole number from 0 to %d", written(v), math.MaxInt32)
	}
	return int(n), nil
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	}
	return 0, false
}

// admission is a fill level from which on nothing new is made. It cannot be switched off: a pool that runs full breaks what is in it.
func admission(v any) (float64, error) {
	f, ok := number(v)
	if !ok || !(f > 0 && f <= 100) {
		return 0, fmt.Errorf("%s is no percentage above 0 and at most 100", written(v))
	}
	return f, nil
}

// threshold is 0, or a fill level that LVM can watch: thin_pool_autoextend_threshold is at least 50 (lvm.conf(5)).
func threshold(v any) (float64, error) {
	f, ok := number(v)
	if !ok || f != 0 && !(f >= 50 && f <= 100) {
		return 0, fmt.Errorf("%s is neither 0, which is never, nor a percentage from 50 to 100", written(v))
	}
	return f, nil
}

// level is 0, or any fill level.
func level(v any) (float64, error) {
	f, ok := number(v)
	if !ok || !(f >= 0 && f <= 100) {
		return 0, fmt.Errorf("%s is no percentage from 0 to 100", written(v))
	}
	return f, nil
}

// ratio is how many times as much; 0 is no limit.
func ratio(v any) (float64, error) {
	f, ok := number(v)
	if !ok || !(f >= 0) || math.IsInf(f, 0) {
		return 0, fmt.Errorf("%s is no number from 0", written(v))
	}
	return f, nil
}

func duration(v any) (time.Duration, error) {
	s, ok := v.(string)
	if !ok {
		return 0, fmt.Errorf("%s is no duration: write it like \"30d\", \"12h\" or \"0\"", written(v))
	}
	return ParseDuration(s)
}

// bytes is a size; "0" mostly stands for no limit.
func (p *parser) bytes(v any) (int64, error) {
	s, ok := v.(string)
	switch {
	case !ok:
		return 0, fmt.Errorf("%s is no size: write it like \"10G\", or \"0\"", written(v))
	case s == "0":
		return 0, nil
	}
	n, err := p.size(s)
	if err == nil && n <= 0 {
		err = fmt.Errorf("%q is no size", s)
	}
	return n, err
}

// maxMetadata is what the kernel can use of a pool's metadata, 15.81 GiB (lvmthin(7)).
const maxMetadata = 1581 << 30 / 100

func (p *parser) metadataCap(v any) (int64, error) {
	n, err := p.bytes(v)
	if err == nil && n > maxMetadata {
		return 0, fmt.Errorf("%q is more than the %s that the kernel can use of a pool's metadata", v, FormatSize(maxMetadata))
	}
	return n, err
}

// share is a step: a percentage or a size. "0" is none of either.
func (p *parser) share(v any) (Step, error) {
	s, ok := v.(string)
	if !ok {
		return Step{}, fmt.Errorf("%s is neither a share such as \"20%%\" nor a size such as \"10G\"", written(v))
	}
	bad := fmt.Errorf("%q is neither a share such as 20%% nor a size such as 10G", s)
	if number, ok := strings.CutSuffix(s, "%"); ok {
		f, err := strconv.ParseFloat(number, 64)
		if err != nil || strings.Trim(number, "0123456789.") != "" || f > 1000 {
			return Step{}, bad
		}
		return Step{Percent: f}, nil
	}
	n, err := p.bytes(s)
	if err != nil {
		return Step{}, bad
	}
	return Step{Bytes: n}, nil
}

func (p *parser) step(v any) (Step, error) {
	s, err := p.share(v)
	if err == nil && s == (Step{}) {
		err = fmt.Errorf("%q is no step: to have nothing grow, set threshold = 0", v)
	}
	return s, err
}

func (p *parser) reserve(v any) (Step, error) {
	s, err := p.share(v)
	if err == nil && s.Percent >= 100 {
		err = fmt.Errorf("%q leaves nothing to grow into: to have nothing grow, set threshold = 0", v)
	}
	return s, err
}
