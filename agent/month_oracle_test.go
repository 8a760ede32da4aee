package agent

import (
	"time"

	"lls/agent/catalog"
	"lls/policy"
)

// note is what the observer knows: running time, of the agent's ticks alone.
type note struct {
	unused  time.Duration // since it was last used, or wanted
	trashed time.Duration // in the trash
	byUser  bool          // whoever deleted it
	told    bool
	tags    string // before it went to the trash, without its state

	// A lease holds until its date has come, and until as much running time has passed as it was given for.
	leaseEnd          time.Time
	leaseFor, leaseOf time.Duration // what it was given for, and what of that has passed
}

// leased is what the observer knows of a lease: whether it surely holds, or may hold. The two differ by a tick, and by the second that a
// date has not.
func (m *month) leased(r *catalog.Record, n *note, surely bool) bool {
	slack := monthTick + time.Second
	if !surely {
		slack = -slack
	}
	return r.Forever || m.wall.Before(n.leaseEnd) || n.leaseOf+slack < n.leaseFor
}

// check is the oracle.
func (m *month) check(r *catalog.Record, n *note, did policy.Action) {
	m.acted[did]++
	bad := func(why string) { m.Errorf("%s: %s, but %s", r.LV.Name, did, why) }
	switch did {
	case policy.Keep:
		return
	case policy.Trash, policy.Announce:
		_, mounted := m.mounted[r.ID]
		switch {
		case r.Origin == "":
			bad("it is no snapshot")
		case r.Visible:
			bad("it is a dataset")
		case mounted:
			bad("it is mounted")
		case m.leased(r, n, true):
			bad("it is leased")
		case m.fstab[r.Owner][r.Name]:
			bad("its fstab names it")
		case !m.running[r.Owner]:
			bad("its container is stopped")
		case n.unused+monthTick < monthUnused:
			bad("it is young: unused for " + n.unused.String())
		case did == policy.Trash && !n.told:
			bad("its owner was not told")
		case did == policy.Trash && n.unused+monthTick < monthUnused+monthNotice:
			bad("its owner was told too late: unused for " + n.unused.String())
		}
	case policy.Purge:
		if r.State != catalog.Trash || n.trashed+monthTick < monthTrash {
			bad("it was in the trash for " + n.trashed.String())
		}
	}
}

// age is what the observer notes after a tick.
func (m *month) age(r *catalog.Record, n *note, did policy.Action) {
	_, mounted := m.mounted[r.ID]
	n.leaseOf += monthTick
	switch {
	case did == policy.Announce:
		n.told = true
		n.unused += monthTick
	case did == policy.Trash:
		n.trashed, n.byUser, n.tags = 0, false, tagsOf(r)
	case r.State == catalog.Trash:
		n.trashed += monthTick
	case mounted || r.Visible:
		n.unused = 0
	default:
		n.unused += monthTick
	}
}
