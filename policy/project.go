package policy

import (
	"cmp"
	"slices"
	"time"
)

// A Happening is what is done to a volume, and after how much more running time.
type Happening struct {
	After  time.Duration
	Action Action
}

// Project tells what would happen to a volume within horizon if nothing but time changed: what a caller does that observes and judges
// it every tick from now on, does what the verdict says and notes it. tick is at most MaxStep, and MaxStep where it is 0 or less.
func (e Expiry) Project(s Subject, age Age, now time.Time, horizon, tick time.Duration) (out []Happening) {
	if tick <= 0 || tick > MaxStep {
		tick = MaxStep
	}
	left := int64(max(horizon, 0) / tick)
	changed := true // since the last observation: so the next one must be seen by itself, as a step between unlike ends does not count
	for after := time.Duration(0); left > 0; {
		ticks := int64(1)
		if !changed {
			next, wait, _ := e.plan(s, age, now)
			if next == Keep {
				return out
			}
			ticks = max(1, int64(wait/tick)) // or one less than it takes: then one more follows
		}
		if ticks > left {
			return out
		}
		step := time.Duration(ticks) * tick
		left, after, now, changed = left-ticks, after+step, now.Add(step), false
		age = e.observe(age, s, step, now)
		next, wait, _ := e.plan(s, age, now)
		if next == Keep || wait > 0 {
			continue
		}
		out, changed = append(out, Happening{after, next}), true
		switch next {
		case Announce:
			age = age.Announce()
		case Trash:
			s.State, s.Deleted = StateTrash, now
		case Purge:
			return out
		}
	}
	return out
}

// PressureGrace is how much running time a volume is in the trash before a full pool can take it: as long as it takes to notice a
// deletion that was a slip of the hand, and not so long that a pool which fills by the hour gets nothing.
const PressureGrace = time.Hour

// Trashed is a volume in the trash, with what is decided for it and observed of it.
type Trashed struct {
	Expiry  Expiry
	Subject Subject
	Age     Age
}

// Pressed says whether a pool that is too full may take a volume before its time, and what keeps it if not. What keeps a volume in the
// trash for ever keeps it here as well: only its time does not.
func (t Trashed) Pressed(now time.Time) (ok bool, reasons []string) {
	s, age := t.Subject, t.Age.of(t.Subject)
	if s.State != StateTrash {
		return false, []string{"kept: a full pool takes nothing but trash"}
	}
	found := s.holds(age, now)
	if t.Expiry.Trash <= 0 {
		found = append(found, hold{holdTrashPolicy, Never})
	}
	if rest := PressureGrace - age.trashOf(s); rest > 0 {
		found = append(found, hold{holdGrace, rest})
	}
	for _, h := range found {
		reasons = append(reasons, "kept: "+t.Expiry.tell(h, s, age, now))
	}
	return len(found) == 0, reasons
}

// Pressure chooses what of a pool's trash is purged before its time to give back what the pool is short of: the oldest first, by the time
// that it was seen in the trash and then by its date, and no more than is needed. What was known to give no data back comes after all
// others, where data is short. Where it is not known what one gives back, as it never is of metadata, and not of what gave nothing back
// before the others went, that is the last one: the caller purges, looks, and asks again. Nothing but trash is ever chosen.
func Pressure(trash []Trashed, short Shortage, now time.Time) (chosen []Trashed) {
	need := short.Data
	trash = slices.Clone(trash)
	useless := func(t Trashed) int {
		if !short.Metadata && t.Subject.ExclusiveKnown && t.Subject.Exclusive <= 0 {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(trash, func(a, b Trashed) int {
		return cmp.Or(
			cmp.Compare(useless(a), useless(b)),
			cmp.Compare(b.Age.of(b.Subject).trashOf(b.Subject), a.Age.of(a.Subject).trashOf(a.Subject)),
			a.Subject.Deleted.Compare(b.Subject.Deleted),
			cmp.Compare(a.Subject.ID, b.Subject.ID))
	})
	for _, t := range trash {
		if need <= 0 && !short.Metadata {
			return chosen
		}
		if ok, _ := t.Pressed(now); !ok {
			continue
		}
		chosen = append(chosen, t)
		if !t.Subject.ExclusiveKnown || short.Metadata || useless(t) > 0 {
			return chosen
		}
		need -= max(t.Subject.Exclusive, 0)
	}
	return chosen
}
