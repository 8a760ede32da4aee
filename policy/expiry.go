package policy

import (
	"math"
	"time"
)

// MaxStep is the most that one observation adds to any counter. An agent that was stopped, swapped out or suspended between two
// observations did not see what happened meanwhile, so all that is more does not count.
const MaxStep = 5 * time.Minute

// Never is a time that does not come.
const Never time.Duration = math.MaxInt64

// A Fact is a yes or no that may not be known. Its zero value is not known, and what is not known keeps a volume.
type Fact uint8

// Values of Fact.
const (
	Unknown Fact = iota
	No
	Yes
)

// Known is the fact that something is so, or is not.
func Known(yes bool) Fact {
	if yes {
		return Yes
	}
	return No
}

// State is where a volume is in its life, in the words of its tag. Any other value is odd, and keeps the volume.
type State string

// Values of State.
const (
	StateMaking State = "new"
	StateLive   State = "live"
	StateTrash  State = "trash"
)

// Subject is what is known of a volume at one moment. The zero value is kept.
type Subject struct {
	ID    string // never used again for another volume
	Name  string
	Owner string // with its token: another owner's time does not count for this one
	Pool  string

	State    State
	Snapshot bool // of another volume; nothing else expires
	Visible  bool // a dataset

	Mounted      Fact   // anywhere, in any container or on the host
	Places       int    // in how many containers, when that is known
	Open         Fact   // its device is held, mounted or not
	InFstab      Fact   // its container's fstab names it
	FstabUnknown string // why that is not known, for people
	OwnerStopped Fact   // its container exists and does not run
	OwnerHost    bool   // the sysadmin's own: never expires
	OwnerGone    Fact   // no container has the owner's token: an orphan
	Depended     Fact   // other volumes read through to it: classic snapshots, thin volumes of an external origin

	Lease   time.Time // date on the wall clock until which it is kept; zero: none. Whole seconds, as its tag
	Forever bool      // a lease without an end
	Deleted time.Time // when it came into the trash, by the wall clock

	Exclusive      int64 // bytes that purging it gives back to the pool
	ExclusiveKnown bool
}

// Age is what was observed of a volume: counters of running time that the agent keeps on disk. They are hints. The zero value is
// right for a volume that was never seen, so that losing them can only keep a volume longer.
type Age struct {
	Owner          string        `json:"owner,omitempty"`           // whose time it is
	Counting       Counting      `json:"counting,omitempty"`        // what the last observation found
	Unused         time.Duration `json:"unused,omitempty"`          // since it was last used, without what does not count
	Idle           time.Duration `json:"idle,omitempty"`            // unused, but for an fstab or a stopped container; not more than IdleMax
	Announced      bool          `json:"announced,omitempty"`       // its owner was told that it will go
	SinceAnnounced time.Duration `json:"since_announced,omitempty"` // as Unused counts
	Deleted        int64         `json:"deleted,omitempty"`         // Unix seconds of the deletion that Trash is of; 0: none
	Trash          time.Duration `json:"trash,omitempty"`           // since it was first seen in the trash
	Lease          int64         `json:"lease,omitempty"`           // Unix seconds: the end of the lease that the next two are of; 0: none
	LeaseLength    time.Duration `json:"lease_length,omitempty"`    // how far off that end was when the lease was first seen
	LeaseSeen      time.Duration `json:"lease_seen,omitempty"`      // since then
}

// Counting is what a volume's time counts as. A step counts only where both of its ends were the same.
type Counting string

// Values of Counting.
const (
	CountingNothing Counting = ""       // something is not known, or the volume is none that ages: the counters stand still
	CountingUse     Counting = "used"   // mounted, open or visible: the counters start anew
	CountingUnused  Counting = "unused" // nobody uses it
	CountingIdle    Counting = "idle"   // nobody uses it, but its fstab names it or may do so, or its container is stopped
)

// counting decides what the present time of a volume that is not in the trash counts as.
func (s Subject) counting() Counting {
	switch {
	case s.Mounted == Yes || s.Open == Yes || s.Visible || !s.Snapshot || s.OwnerGone == Yes || s.OwnerHost:
		return CountingUse // whoever an orphan is given to, or who hides a dataset, has all the time from there on
	case s.State != StateLive, s.Mounted != No, s.Open != No, s.OwnerGone != No, s.Depended != No:
		return CountingNothing
	case s.InFstab == Yes || s.OwnerStopped == Yes:
		return CountingIdle
	case s.OwnerStopped != No:
		return CountingNothing
	case s.InFstab != No:
		return CountingIdle // it is its container's root who can make it unknown, and get no more from that than from a line that names it
	}
	return CountingUnused
}

// Observe adds step of running time (of a monotonic clock, since the last observation of this volume) to the age of a volume that is
// found as s, at the time now of the wall clock. No more than MaxStep is added, and nothing of a step at whose ends the volume was
// not found alike. A step of 0 is right for a volume whose mounts, state or lease just changed: it makes the change known at once.
func (e Expiry) Observe(age Age, s Subject, step time.Duration, now time.Time) Age {
	return e.observe(age, s, min(max(step, 0), MaxStep), now)
}

// observe is Observe without the cap. While s stays as it is, two steps are the same as one that is as long as both.
func (e Expiry) observe(age Age, s Subject, step time.Duration, now time.Time) Age {
	age = age.of(s).lease(s, step, now)
	if s.State == StateTrash {
		return age.trash(s, step)
	}
	if age.Deleted != 0 && s.State == StateLive { // it was taken out again, so somebody wants it
		age.restart()
		age.Deleted, age.Trash = 0, 0
	}
	before := age.Counting
	age.Counting = s.counting()
	switch {
	case age.Counting == CountingUse:
		age.restart()
	case age.Counting == CountingUnused:
		age.Idle = 0
		if before == CountingUnused {
			age.count(step)
		}
	case age.Counting == CountingIdle && before == CountingIdle:
		age.Idle = plus(age.Idle, step)
		if over := age.Idle - e.IdleMax; e.IdleMax > 0 && over > 0 {
			age.Idle = e.IdleMax
			age.count(min(over, step)) // not more, should the policy have become shorter
		}
	}
	if leased, _ := age.leased(s, now); leased || age.Unused < e.Unused || e.Unused <= 0 {
		age.withdraw()
	}
	return age
}

// Announce is the age of a volume whose owner was just told that it will go.
func (age Age) Announce() Age {
	age.Announced, age.SinceAnnounced = true, 0
	return age
}

// Keep is the age of a volume that was given this lease at the time now of the wall clock; none for the zero time. Of a lease that is not
// noted so, the part before it is first observed does not count.
func (age Age) Keep(lease, now time.Time) Age { return age.lease(Subject{Lease: lease}, 0, now) }

// Heir is the age of a volume that takes the place of another with its lease, of which a part has passed.
func (age Age) Heir() Age {
	return Age{Lease: age.Lease, LeaseLength: age.LeaseLength, LeaseSeen: age.LeaseSeen}
}

func (age *Age) withdraw() { age.Announced, age.SinceAnnounced = false, 0 }

func (age *Age) restart() {
	age.Unused, age.Idle = 0, 0
	age.withdraw()
}

func (age *Age) count(step time.Duration) {
	age.Unused = plus(age.Unused, step)
	if age.Announced {
		age.SinceAnnounced = plus(age.SinceAnnounced, step)
	}
}

func (age Age) trash(s Subject, step time.Duration) Age {
	age.restart()
	age.Counting = CountingNothing
	switch deleted := unix(s.Deleted); {
	case deleted == 0 || deleted != age.Deleted:
		age.Deleted, age.Trash = deleted, 0
	case s.Mounted == No && s.Open == No: // who still has it mounted keeps it, and has all the time from when he lets go
		age.Trash = plus(age.Trash, step)
	}
	return age
}

// of is what of an age as it was read counts for s: nothing but the lease when it was observed of another owner, and no counter that no
// observation can have written.
func (age Age) of(s Subject) Age {
	if age.Owner != s.Owner {
		age = age.Heir()
		age.Owner = s.Owner
	}
	for _, counter := range []*time.Duration{&age.Unused, &age.Idle, &age.SinceAnnounced, &age.Trash, &age.LeaseLength, &age.LeaseSeen} {
		*counter = max(*counter, 0)
	}
	return age
}

// lease counts the time of the lease. One with another date is another lease.
func (age Age) lease(s Subject, step time.Duration, now time.Time) Age {
	switch end := unix(s.Lease); {
	case end != age.Lease:
		age.Lease, age.LeaseLength, age.LeaseSeen = end, 0, 0
		if end != 0 {
			age.LeaseLength = max(s.Lease.Sub(now), 0)
		}
	case end != 0:
		age.LeaseSeen = plus(age.LeaseSeen, step)
	}
	return age
}

// leased says whether a lease is in force, and what is left of it: it ends when its date has come and as much running time has passed
// as lay before that date when it was first seen. So no clock that jumps can end it, and it does not end while nobody looks.
func (age Age) leased(s Subject, now time.Time) (bool, time.Duration) {
	switch {
	case s.Forever:
		return true, Never
	case s.Lease.IsZero():
		return false, 0
	case unix(s.Lease) != age.Lease: // not observed yet
		return true, max(s.Lease.Sub(now), MaxStep)
	}
	rest := max(s.Lease.Sub(now), age.LeaseLength-age.LeaseSeen)
	return rest > 0, max(rest, 0)
}

// unix is a time as Age keeps it: a number, because not every date that a tag may hold can be written as one.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
