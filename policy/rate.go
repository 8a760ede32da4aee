package policy

import (
	"fmt"
	"slices"
	"time"
)

// rateWindow is the minute of the limits with per_minute in their names.
const rateWindow = time.Minute

// Rate remembers what was admitted within the last minute, so that there is never more than so much of it in any minute. The zero
// value is ready; whoever has it guards it.
type Rate struct {
	admitted []time.Time // the oldest first
}

// Admit counts one more at a time, unless that would be more than most within a minute; 0 is no limit. limit is the key in lls.toml,
// for the refusal, which says how long to wait. What is refused does not count.
func (r *Rate) Admit(limit string, most int, now time.Time) *Refusal {
	r.forget(now)
	if n := len(r.admitted); most > 0 && n >= most {
		wait := rateWindow - now.Sub(r.admitted[n-most])
		return &Refusal{
			Limit: limit, Wait: wait,
			Why:  fmt.Sprintf("%s allows %d within a minute", limit, most),
			Hint: fmt.Sprintf("try again in %s", FormatDuration((wait + time.Second - 1).Truncate(time.Second))),
		}
	}
	if most > 0 {
		r.admitted = append(r.admitted, now)
	}
	return nil
}

// Idle says that nothing is left to remember.
func (r *Rate) Idle(now time.Time) bool {
	r.forget(now)
	return len(r.admitted) == 0
}

// forget drops what is a minute old or older. What seems to lie ahead is of a clock that was set back, and could stand in the way for
// long.
func (r *Rate) forget(now time.Time) {
	r.admitted = slices.DeleteFunc(r.admitted, func(at time.Time) bool {
		age := now.Sub(at)
		return age >= rateWindow || age < 0
	})
}
