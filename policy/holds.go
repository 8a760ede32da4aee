package policy

import (
	"fmt"
	"time"
)

// hold is something that keeps a volume: until wait has passed, or Never for as long as it is so.
type hold struct {
	kind holdKind
	wait time.Duration
}

type holdKind int

const (
	holdOdd holdKind = iota
	holdMaking
	holdVisible
	holdNoSnapshot
	holdPolicy
	holdTrashPolicy
	holdUndated
	holdHost
	holdOrphan
	holdOwnerUnknown
	holdMounted
	holdMountedUnknown
	holdOpen
	holdOpenUnknown
	holdDepended
	holdDependedUnknown
	holdForever
	holdLease
	holdStopped
	holdFstab
	holdStoppedUnknown
	holdFstabUnknown
	holdGrace // of Pressure alone
)

// holdWords is each kind in words, and what takes it away, for people. An empty change is one that nobody can make at will.
var holdWords = map[holdKind]struct{ words, change string }{
	holdOdd:             {"its state is not known", "lls-agent status says what is odd about it"},
	holdMaking:          {"it is still being made", ""},
	holdVisible:         {"it is a dataset: what is visible never expires", "hiding it starts its time"},
	holdNoSnapshot:      {"it is no snapshot, and nothing else expires", "deleting it"},
	holdPolicy:          {"the policy lets no snapshot of this kind expire", "the policy in lls.toml"},
	holdTrashPolicy:     {"the policy leaves the trash alone until somebody purges it", "the policy in lls.toml, or purging it"},
	holdUndated:         {"it is not known when it was deleted", "purging it"},
	holdHost:            {"it is the sysadmin's, and none of those expires", "deleting it"},
	holdOrphan:          {"its container is gone: it is the sysadmin's", "lls-agent give, delete or purge"},
	holdOwnerUnknown:    {"it is not known whether its container still exists", ""},
	holdMounted:         {"mounted", "unmounting it starts its time"},
	holdMountedUnknown:  {"it is not known whether it is mounted", ""},
	holdOpen:            {"held open", "when nobody holds it, its time starts"},
	holdOpenUnknown:     {"it is not known whether it is held open", ""},
	holdDepended:        {"other volumes depend on it", "purging those"},
	holdDependedUnknown: {"it is not known whether other volumes depend on it", ""},
	holdForever:         {"leased without an end", "giving it a lease with an end"},
	holdLease:           {"leased", "another lease"},
	holdStopped:         {"its container is stopped", "starting the container"},
	holdFstab:           {"its container's fstab names it", "taking the line out of the fstab"},
	holdStoppedUnknown:  {"it is not known whether its container runs", ""},
	holdFstabUnknown:    {"it is not known whether its container's fstab names it", "a fstab that can be read and names volumes as lls:NAME"},
	holdGrace:           {"not even a full pool takes what is in the trash for so short", ""},
}

// tell says in words what keeps a volume.
func (e Expiry) tell(h hold, s Subject, age Age, now time.Time) string {
	text := holdWords[h.kind].words
	switch h.kind {
	case holdMounted:
		if s.Places > 1 {
			return fmt.Sprintf("mounted in %d containers", s.Places)
		}
	case holdLease:
		until := asDate(s.Lease, now)
		if seen := unix(s.Lease) == age.Lease; seen && age.LeaseLength > age.LeaseSeen {
			return fmt.Sprintf("leased until %s (both the date and %s of running time must pass)", until, FormatSpan(age.LeaseLength-age.LeaseSeen))
		}
		return "leased until " + until
	case holdStopped, holdFstab, holdFstabUnknown:
		if h.kind == holdFstabUnknown && s.FstabUnknown != "" {
			text += " (" + s.FstabUnknown + ")"
		}
		if e.IdleMax > 0 {
			return fmt.Sprintf("%s, which counts for %s of %s", text, FormatSpan(min(age.Idle, e.IdleMax)), FormatSpan(e.IdleMax))
		}
	case holdGrace:
		return fmt.Sprintf("%s: %s of %s", text, FormatSpan(age.trashOf(s)), FormatSpan(PressureGrace))
	}
	return text
}
