package catalog

import "lls/agent/api"

// Asker is who a request comes from, as its socket says.
type Asker struct {
	Owner      Owner
	Admin      bool // on the sysadmin's socket
	Privileged bool // a container whose root is the host's root: no flag of a mount can be locked there
}

// Action is something that rights are asked for.
type Action int

// The actions of the table in README.md.
const (
	See      Action = iota
	Snapshot        // the snapshot is the asker's
	Mount           // read-write, or read-only where MountsReadOnly says so
	Change          // set, resize, trim, keep, refresh, delete, undelete, purge
)

// Known tells whether the volume exists for asker. The trash is its owner's business, and so is what is being made.
func (r *Record) Known(asker Asker) bool {
	return asker.Admin || r.Owner == asker.Owner || r.Visible && r.State == Live
}

// May says whether asker may do it: nil, or the refusal with its hint. It is the only place that knows the table of rights; verb
// and shown, the volume's name in the asker's words, are for the refusal: "cannot VERB SHOWN: why".
func (r *Record) May(asker Asker, action Action, verb, shown string) *api.Error {
	if !r.Known(asker) {
		return api.Errorf(api.NotFound, "cannot %s %s: %v", verb, shown, ErrNotFound)
	}
	if asker.Admin {
		return nil
	}
	own := r.Owner == asker.Owner
	snapshot := "take your own copy: lls snapshot " + shown + " NAME"
	switch action {
	case See, Snapshot:
		return nil
	case Mount:
		if own || r.Access == api.AccessRW {
			return nil
		}
		if r.Access == api.AccessNone {
			return api.Errorf(api.Denied, "cannot %s %s: its owner lets nobody else mount it", verb, shown).WithHint("%s", snapshot)
		}
		if asker.Privileged && !r.LV.ReadOnly {
			return api.Errorf(api.Denied, "cannot %s %s: others may mount it read-only, which cannot be enforced in a privileged container", verb, shown).
				WithHint("%s", snapshot)
		}
		return nil
	case Change:
		if own {
			return nil
		}
	}
	return api.Errorf(api.Denied, "cannot %s %s: it belongs to %s", verb, shown, r.Owner.Name).WithHint("%s", snapshot)
}

// MountsReadOnly says whether asker's mount of it must be read-only whatever was asked for.
func (r *Record) MountsReadOnly(asker Asker) bool {
	return r.LV.ReadOnly || !asker.Admin && r.Owner != asker.Owner && r.Access != api.AccessRW
}
