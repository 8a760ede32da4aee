package lvm

import (
	"slices"
	"time"
)

// Group is a volume group as one report saw it.
type Group struct {
	Name       VG
	UUID       string
	Size, Free Size
	ExtentSize Size
	Pools      []Pool
	Volumes    []Volume // thin volumes
	Others     []Volume // all other visible volumes: linear, classic snapshots, raid, …
}

// Pool is a thin pool.
type Pool struct {
	VG                            VG
	Name                          Name
	UUID                          string
	Size, MetadataSize, ChunkSize Size
	DataPercent, MetadataPercent  float64
	Known                         bool   // whether the two percentages are known
	Zero                          bool   // whether new chunks are zeroed
	WhenFull                      string // "queue" or "error"
	Tags                          []Tag
	Active                        bool
	CheckNeeded                   bool
	Profile                       string // LVM's metadata profile, empty for none; ours is a Fallback
	Health                        string // empty when healthy, else LVM's lv_health_status
}

// Volume is a logical volume that is not a pool.
type Volume struct {
	VG         VG
	Name       Name
	UUID       string
	Size       Size
	Pool       Name // empty for a volume that is not thin
	Origin     Name // live origin in the same group, or empty
	OriginUUID string
	Tags       []Tag

	Active, Open, ReadOnly, Suspended, SkipActivation, Thin bool

	UsedPercent float64
	UsedKnown   bool

	Major, Minor uint32 // of the active device, 0 when inactive
	ThinID       int    // 0 for a volume that is not thin
	Created      time.Time

	// Layout and Role are LVM's lv_layout and lv_role.
	Layout, Role []string
}

// HasTag says whether the volume carries a tag.
func (v Volume) HasTag(t Tag) bool { return slices.Contains(v.Tags, t) }

// HasTag says whether the pool carries a tag.
func (p Pool) HasTag(t Tag) bool { return slices.Contains(p.Tags, t) }

// Volume finds a volume, thin or not, by name.
func (g Group) Volume(name Name) (Volume, bool) {
	for _, list := range [][]Volume{g.Volumes, g.Others} {
		for _, v := range list {
			if v.Name == name {
				return v, true
			}
		}
	}
	return Volume{}, false
}

// Pool finds a pool by name.
func (g Group) Pool(name Name) (Pool, bool) {
	for _, p := range g.Pools {
		if p.Name == name {
			return p, true
		}
	}
	return Pool{}, false
}

// Dependents are the volumes that "lvremove -y" of one would take along: its
// classic snapshots, and the thin volumes that read through to it as their
// external origin, their own snapshots included. A thin snapshot of a thin
// volume in the same pool is independent.
func (g Group) Dependents(name Name) []Volume {
	origin, ok := g.Volume(name)
	if !ok {
		return nil
	}
	var found []Volume
	external := map[Name]bool{} // thin volumes that read through to the origin
	for _, v := range g.Others {
		if v.Origin == name {
			found = append(found, v)
		}
	}
	for again := true; again; {
		again = false
		for _, v := range g.Volumes {
			direct := v.Origin == name && v.Pool != origin.Pool
			if !external[v.Name] && (direct || external[v.Origin]) {
				external[v.Name], again = true, true
				found = append(found, v)
			}
		}
	}
	return found
}
