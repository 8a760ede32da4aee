package agent

import (
	"lls/agent/catalog"
	"lls/agent/container"
	"lls/policy"
)

// defined is which owners have a container. nil knows of none.
type defined struct {
	owners  map[catalog.Owner]bool
	unclear map[string]bool // names of containers whose token cannot be read: nobody can tell which of those called so they are
}

func definedBy(all []container.Container) *defined {
	d := &defined{map[catalog.Owner]bool{}, map[string]bool{}}
	for _, c := range all {
		if c.Err != nil {
			d.unclear[c.Owner.Name] = true
		} else {
			d.owners[c.Owner] = true
		}
	}
	return d
}

// has says whether the owner has a container, running or not.
func (d *defined) has(o catalog.Owner) policy.Fact {
	switch {
	case d == nil:
		return policy.Unknown
	case d.owners[o]:
		return policy.Yes
	case d.unclear[o.Name]:
		return policy.Unknown
	}
	return policy.No
}
