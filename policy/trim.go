package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// TrimLeast is how much running time passes between two trims of one volume however full its pool is: a trim reads the whole map of
// its free space, and what was given back a short time ago is given back already.
const TrimLeast = time.Hour

// Trimmed is a volume that may be trimmed.
type Trimmed struct {
	ID       string
	Trim     Trim          // what is decided for it
	Mounted  Fact          // what is not mounted cannot be trimmed
	ReadOnly bool          // nor can what is mounted read-only only
	Before   bool          // it was trimmed, as far as is remembered
	Since    time.Duration // running time since then, or else since it was first seen mounted
}

// TrimTurn is a volume whose turn it is, and why.
type TrimTurn struct {
	ID  string
	Why string
}

// TrimDue gives the mounted volumes of one pool that are to be trimmed now, in the order in which the caller does so, one after the
// other: those that waited longest first. By the clock they are due every Trim.Every, and from Trim.Pressure on all at once, but none more
// often than every TrimLeast.
func TrimDue(volumes []Trimmed, fill Fill) []TrimTurn {
	volumes = slices.Clone(volumes)
	slices.SortStableFunc(volumes, func(a, b Trimmed) int {
		first := func(v Trimmed) int { // under pressure, what was never trimmed has most to give
			if v.Before {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(b.Since, a.Since), cmp.Compare(a.ID, b.ID))
	})
	var due []TrimTurn
	for _, v := range volumes {
		if why, ok := v.due(fill); ok {
			due = append(due, TrimTurn{v.ID, why})
		}
	}
	return due
}

func (v Trimmed) due(fill Fill) (why string, ok bool) {
	if v.Mounted != Yes || v.ReadOnly || v.Before && v.Since < TrimLeast {
		return "", false
	}
	switch {
	case v.Trim.Pressure > 0 && fill.Known && fill.DataPercent >= v.Trim.Pressure:
		return fmt.Sprintf("its pool is %s full, and volumes are trimmed from %s on", FormatPercent(fill.DataPercent), FormatPercent(v.Trim.Pressure)), true
	case v.Trim.Every > 0 && v.Since >= v.Trim.Every:
		if !v.Before {
			return fmt.Sprintf("mounted for %s, and trimmed every %s", FormatSpan(v.Since), FormatSpan(v.Trim.Every)), true
		}
		return fmt.Sprintf("last trimmed %s ago of %s", FormatSpan(v.Since), FormatSpan(v.Trim.Every)), true
	}
	return "", false
}
