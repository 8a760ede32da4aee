package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lls/lvm"
)

// Errors of Find.
var (
	ErrNotFound  = errors.New("there is no such volume")
	ErrAmbiguous = errors.New("several owners have that name")
)

// Catalog is every volume of ours in one report. It is never changed: a new report makes a new one.
type Catalog struct {
	Records []*Record // sorted by owner and name
	Odd     []error   // volumes with a tag of ours that cannot be read
	byID    map[ID]*Record
}

// New reads the tags of all volumes of the groups.
func New(groups []lvm.Group) *Catalog {
	c := &Catalog{byID: map[ID]*Record{}}
	for _, g := range groups {
		for _, v := range slices.Concat(g.Volumes, g.Others) {
			if !Managed(v) {
				continue
			}
			r, err := FromVolume(v)
			if err != nil {
				c.Odd = append(c.Odd, err)
				continue
			}
			c.Records = append(c.Records, r)
			c.byID[r.ID] = r
		}
	}
	slices.SortFunc(c.Records, func(a, b *Record) int {
		return cmp.Or(strings.Compare(a.Owner.Name, b.Owner.Name), strings.Compare(a.Owner.Token, b.Owner.Token), strings.Compare(string(a.LV.Name), string(b.LV.Name)))
	})
	return c
}

// ByID finds a volume, in whatever state; nil when there is none.
func (c *Catalog) ByID(id ID) *Record { return c.byID[id] }

// Replacement is the volume that a refresh put in r's place, in the trash or not, as long as that is there and r waits in the trash; else
// nil. Of what was refreshed again and again only the last two are such a pair: what was replaced itself has nobody behind it.
func (c *Catalog) Replacement(r *Record) *Record {
	next := c.successor(r)
	if next == nil || c.successor(next) != nil {
		return nil
	}
	return next
}

func (c *Catalog) successor(r *Record) *Record {
	next := c.byID[r.NextID]
	if r.State != Trash || next == nil || next.Owner != r.Owner {
		return nil
	}
	return next
}

// Replaced is the volume in the trash whose place id took; nil when there is none.
func (c *Catalog) Replaced(id ID) *Record {
	for _, r := range c.Records {
		if r.State == Trash && r.NextID == id && id != "" {
			return r
		}
	}
	return nil
}

// Find resolves what asker typed, among the live volumes or, with trash, among the deleted ones (the latest wins). Those that
// the asker may not know are not there. Errors are ErrNotFound and ErrAmbiguous.
func (c *Catalog) Find(asker Asker, ref Ref, trash bool) (*Record, error) {
	for _, owners := range c.candidates(asker, ref) {
		r, err := c.one(asker, owners, ref.Name, trash)
		if r != nil || err != nil {
			return r, err
		}
	}
	return nil, ErrNotFound
}

// candidates are the owners that a reference may mean, in the order they are tried.
func (c *Catalog) candidates(asker Asker, ref Ref) [][]Owner {
	if ref.Owner == "" {
		if asker.Admin {
			return [][]Owner{{Host()}}
		}
		return [][]Owner{{asker.Owner}, {Host()}}
	}
	if !asker.Admin && (ref.Owner == asker.Owner.Name || ref.Owner == asker.Owner.String()) {
		return [][]Owner{{asker.Owner}}
	}
	if ref.Owner == Host().Name {
		return [][]Owner{{Host()}}
	}
	return [][]Owner{c.OwnersCalled(ref.Owner)}
}

// OwnersCalled are the owners of volumes that have this name, or this NAME#TOKEN; the host is one of them only by its word.
func (c *Catalog) OwnersCalled(name string) []Owner {
	var found []Owner
	for _, r := range c.Records {
		if (r.Owner.Name == name || r.Owner.String() == name) && !slices.Contains(found, r.Owner) {
			found = append(found, r.Owner)
		}
	}
	return found
}

func (c *Catalog) one(asker Asker, owners []Owner, name Name, trash bool) (*Record, error) {
	var found *Record
	for _, r := range c.Records {
		if r.Name != name || !slices.Contains(owners, r.Owner) || !r.Known(asker) {
			continue
		}
		if (trash && r.State != Trash) || (!trash && r.State != Live) {
			continue
		}
		if found != nil && found.Owner != r.Owner {
			return nil, fmt.Errorf("%w; say which: NAME#TOKEN/%s", ErrAmbiguous, name)
		}
		if found == nil || r.Deleted.After(found.Deleted) {
			found = r
		}
	}
	return found, nil
}

// DeletedAt is when r goes to the trash if that is now: later than all of that owner and name that are there, whatever the clock says, since
// the latest of them is what its name means.
func (c *Catalog) DeletedAt(r *Record, now time.Time) time.Time {
	at := now.Truncate(time.Second) // as it is written down
	for _, other := range c.Records {
		if other.State == Trash && other.Owner == r.Owner && other.Name == r.Name && other.ID != r.ID && !at.After(other.Deleted) {
			at = other.Deleted.Add(time.Second)
		}
	}
	return at
}

// Taken finds what stands in the way of owner's having a volume called name: a live one, or one being made.
func (c *Catalog) Taken(owner Owner, name Name) *Record {
	for _, r := range c.Records {
		if r.Owner == owner && r.Name == name && r.State != Trash {
			return r
		}
	}
	return nil
}

// Exact is what asker types to mean this volume and no other: Shown, or with its name in LVM, NAME.ID, what is in the trash and would not be
// found so, since one that lives is called so, or one that was deleted later.
func (c *Catalog) Exact(asker Asker, r *Record) string {
	shown := c.Shown(asker, r)
	if r.State != Trash {
		return shown
	}
	ref, err := ParseRef(shown)
	if err == nil {
		if live, _ := c.Find(asker, ref, false); live == nil {
			if found, _ := c.Find(asker, ref, true); found == r {
				return shown
			}
		}
	}
	return strings.TrimSuffix(shown, string(r.Name)) + string(r.LV.Name)
}

// Shown is how asker names the volume: what Find resolves to it, as long as it lives.
func (c *Catalog) Shown(asker Asker, r *Record) string {
	name := string(r.Name)
	switch {
	case asker.Admin && r.Owner.IsHost():
		return name
	case !asker.Admin && r.Owner == asker.Owner:
		return name
	case r.Owner.IsHost():
		if c.Taken(asker.Owner, r.Name) != nil {
			return Host().Name + "/" + name
		}
		return name
	case len(c.OwnersCalled(r.Owner.Name)) > 1 || r.Owner.Name == Host().Name:
		return r.Owner.String() + "/" + name
	}
	return r.Owner.Name + "/" + name
}
