package policy

import (
	"fmt"
	"time"
)

// Action is what is done to a volume.
type Action int

// Values of Action.
const (
	Keep     Action = iota
	Announce        // tell its owner that it will go
	Trash           // move it to the trash
	Purge           // out of the trash, for good
)

func (a Action) String() string {
	switch a {
	case Announce:
		return "announce"
	case Trash:
		return "trash"
	case Purge:
		return "purge"
	}
	return "keep"
}

// Verdict is what is to be done with a volume now, why, and what comes after.
type Verdict struct {
	Action  Action
	Reasons []string      // for people; there is always one
	Next    Action        // what comes after Action if nothing changes; Keep: nothing, ever
	Wait    time.Duration // how much more running time must pass until then; Never when Next is Keep
	Change  []string      // what would change that
}

// Outlook says what happens now, if anything does, and what comes next: "in 18d of running time its owner is told that it will go",
// "now it goes to the trash; in 7d of running time it is purged".
func (v Verdict) Outlook() string {
	when := "in " + FormatSpan(v.Wait) + " of running time "
	if v.Wait <= 0 {
		when = "then "
	}
	next := when + v.Next.happens()
	switch {
	case v.Action == Purge:
		return "now " + v.Action.happens()
	case v.Action != Keep && v.Next == Keep:
		return "now " + v.Action.happens() + "; nothing happens to it there by itself"
	case v.Action != Keep:
		return "now " + v.Action.happens() + "; " + next
	case v.Next == Keep:
		return "nothing happens to it by itself"
	}
	return next
}

// happens is an action in words; Keep is none.
func (a Action) happens() string {
	switch a {
	case Announce:
		return "its owner is told that it will go"
	case Trash:
		return "it goes to the trash"
	case Purge:
		return "it is purged"
	}
	return ""
}

// holds collects what keeps a volume, whatever its age, in the order in which it is told.
func (s Subject) holds(age Age, now time.Time) (found []hold) {
	add := func(when bool, kind holdKind, wait time.Duration) {
		if when {
			found = append(found, hold{kind, wait})
		}
	}
	switch s.State {
	case StateTrash:
		add(s.Deleted.IsZero(), holdUndated, Never)
	case StateLive:
		add(s.Visible, holdVisible, Never)
		add(!s.Snapshot, holdNoSnapshot, Never)
		add(s.OwnerHost, holdHost, Never)
	case StateMaking:
		add(true, holdMaking, Never)
	default:
		add(true, holdOdd, Never)
	}
	fact := func(f Fact, yes, unknown holdKind) {
		add(f == Yes, yes, Never)
		add(f != Yes && f != No, unknown, Never)
	}
	fact(s.OwnerGone, holdOrphan, holdOwnerUnknown)
	fact(s.Mounted, holdMounted, holdMountedUnknown)
	if s.Mounted != Yes { // what is mounted is open
		fact(s.Open, holdOpen, holdOpenUnknown)
	}
	fact(s.Depended, holdDepended, holdDependedUnknown)
	leased, rest := age.leased(s, now)
	add(leased && s.Forever, holdForever, Never)
	add(leased && !s.Forever, holdLease, rest)
	return found
}

// idle adds what makes an unused volume no sign of disuse, and says how much longer it does: at most to IdleMax.
func (e Expiry) idle(s Subject, age Age, found []hold) ([]hold, time.Duration) {
	rest := Never
	if e.IdleMax > 0 {
		rest = max(e.IdleMax-age.Idle, 0)
	}
	named, stopped := s.InFstab == Yes, s.OwnerStopped == Yes
	if named {
		found = append(found, hold{holdFstab, rest})
	}
	if stopped {
		found = append(found, hold{holdStopped, rest})
	}
	if named || stopped { // whatever else is not known would make it idle as well, and no more than that
		return found, rest
	}
	if s.OwnerStopped != No {
		found = append(found, hold{holdStoppedUnknown, Never})
	}
	if s.InFstab != No {
		return append(found, hold{holdFstabUnknown, rest}), rest
	}
	return found, 0
}

// plan is the whole decision: what happens next to a volume that stays as it is, after how much more running time (0: now), and all
// that keeps it until then besides its age.
func (e Expiry) plan(s Subject, age Age, now time.Time) (next Action, wait time.Duration, found []hold) {
	age = age.of(s)
	found = s.holds(age, now)
	if s.State == StateTrash {
		next, wait = Purge, e.inTrash(s, age, now)
		if e.Trash <= 0 {
			found = append(found, hold{holdTrashPolicy, Never})
		}
	} else {
		if e.Unused <= 0 {
			found = append(found, hold{holdPolicy, Never})
		}
		var idle time.Duration
		found, idle = e.idle(s, age, found)
		next, wait = e.inLife(s, age, now)
		wait = plus(wait, idle)
	}
	for _, h := range found {
		wait = max(wait, h.wait)
	}
	if wait == Never {
		return Keep, Never, found
	}
	return next, wait, found
}

// inLife is how much more unused time a live volume has until its next step.
func (e Expiry) inLife(s Subject, age Age, now time.Time) (Action, time.Duration) {
	leased, _ := age.leased(s, now)
	if age.Announced && !leased && age.Unused >= e.Unused {
		return Trash, max(e.Notice-age.SinceAnnounced, 0)
	}
	return Announce, max(e.Unused-age.Unused, 0)
}

// inTrash is how much longer a volume stays in the trash. Its date alone can only make it longer: what counts is the time that it was seen there.
func (e Expiry) inTrash(s Subject, age Age, now time.Time) time.Duration {
	return max(e.Trash-age.trashOf(s), s.Deleted.Add(e.Trash).Sub(now), 0)
}

// trashOf is the time in the trash that counts for s: none when it was observed of an earlier deletion.
func (age Age) trashOf(s Subject) time.Duration {
	if age.Deleted == 0 || age.Deleted != unix(s.Deleted) {
		return 0
	}
	return age.Trash
}

// Next is what of a Verdict is for programs: what happens next to a volume that stays as it is, and after how much more running time; 0 is
// now, and of Keep it is Never.
func (e Expiry) Next(s Subject, age Age, now time.Time) (Action, time.Duration) {
	next, wait, _ := e.plan(s, age, now)
	return next, max(wait, 0)
}

// Judge decides what is to be done with a volume now; age is what Observe made of it. What it says of the time after holds as long as the volume, the policy and the
// pace of the clock stay as they are. The caller acts on Announce and then notes it with Age.Announce, so that no time counts before
// the owner was told.
func (e Expiry) Judge(s Subject, age Age, now time.Time) Verdict {
	age = age.of(s)
	next, wait, found := e.plan(s, age, now)
	v := Verdict{Next: next, Wait: wait}
	if next != Keep && wait <= 0 {
		v.Action, v.Next, v.Wait = next, Keep, Never
		switch {
		case next == Announce:
			v.Next, v.Wait = Trash, e.Notice
		case next == Trash && e.Trash > 0:
			v.Next, v.Wait = Purge, e.Trash
		}
	}
	for _, h := range found {
		if h.wait > 0 {
			v.Reasons = append(v.Reasons, "kept: "+e.tell(h, s, age, now))
		} else {
			v.Reasons = append(v.Reasons, e.tell(h, s, age, now)+", and no longer")
		}
	}
	v.Reasons = append(v.Reasons, e.tellAge(s, age, now)...)
	v.Change = change(v, s, found)
	return v
}

// tellAge is what a volume's own counters say.
func (e Expiry) tellAge(s Subject, age Age, now time.Time) (told []string) {
	switch {
	case s.State == StateTrash && e.Trash > 0 && !s.Deleted.IsZero():
		told = append(told, fmt.Sprintf("in the trash for %s of %s, since %s", FormatSpan(age.trashOf(s)), FormatSpan(e.Trash), asDate(s.Deleted, now)))
		if rest := s.Deleted.Add(e.Trash).Sub(now); rest > e.Trash-age.trashOf(s) && rest > MaxStep {
			told = append(told, fmt.Sprintf("and its date must be %s old, which it is on %s", FormatSpan(e.Trash), asDate(s.Deleted.Add(e.Trash), now)))
		}
	case s.State == StateLive && s.Snapshot && !s.Visible && e.Unused > 0:
		told = append(told, fmt.Sprintf("unused for %s of %s", FormatSpan(age.Unused), FormatSpan(e.Unused)))
		next, _ := e.inLife(s, age, now)
		switch {
		case next == Trash && e.Notice > 0:
			told = append(told, fmt.Sprintf("its owner was told %s ago, of %s", FormatSpan(age.SinceAnnounced), FormatSpan(e.Notice)))
		case next == Trash: // as soon as that was noted
			told = append(told, fmt.Sprintf("its owner was told %s ago", FormatSpan(age.SinceAnnounced)))
		}
	}
	return told
}

// change is what somebody could do about a verdict.
func change(v Verdict, s Subject, found []hold) (told []string) {
	for _, h := range found {
		if text := holdWords[h.kind].change; text != "" {
			told = append(told, text)
		}
	}
	switch {
	case v.Action == Keep && v.Next == Keep:
		return told
	case s.State == StateTrash:
		return append(told, "lls-agent undelete "+s.Name+" takes it out of the trash")
	}
	return append(told, "mounting it starts its time anew, a lease keeps it: lls-agent keep "+s.Name+" --for 7d")
}
