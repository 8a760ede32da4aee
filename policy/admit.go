package policy

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits bound what one container may have in one pool, its trash included. 0 is no limit.
type Limits struct {
	Volumes   int   // all of them, snapshots included
	Snapshots int   // of anything
	Size      int64 // bytes: sum of the virtual sizes
	Exclusive int64 // bytes that only its own volumes map. Nobody can keep it from writing more, but it gets nothing new then

	OperationsPerMinute int // requests that change something, in whatever pool
	SnapshotsPerMinute  int // of one origin

	// These hold for a pool as a whole, and for everybody: fill levels from which on nothing new is made, and how many times the pool's
	// size its volumes may have together.
	DataPercent, MetadataPercent, Overcommit float64
}

// Use is what one container has in one pool already. The zero value is nothing; Add counts a volume. Sizes are bytes.
type Use struct {
	Volumes, Snapshots int
	Size               int64
	Exclusive          int64         // 0 while it is not known
	ExclusiveAge       time.Duration // how long ago that was so, and what each of the volumes frees
	Trash              int           // how many of the volumes are in the trash
	held               []Held
}

// Held is one volume that counts. Name is as its owner types it.
type Held struct {
	Name            string
	Size            int64
	Snapshot, Trash bool
	Ref             string // what to type to mean this one and no other; Name where it is empty
	Frees           int64  // bytes of Exclusive that purging it alone gives back; 0 while that is not known
	Uncounted       bool   // it counts for nothing but its data
	Behind          string // the Ref of an uncounted one that counts in its place once this is purged; "" if there is none
}

// Add counts one volume.
func (u *Use) Add(h Held) {
	if h.Uncounted {
		u.held = append(u.held, h)
		return
	}
	u.Volumes++
	u.Size += h.Size
	if h.Snapshot {
		u.Snapshots++
	}
	if h.Trash {
		u.Trash++
	}
	u.held = append(u.held, h)
}

// named is how many volumes a refusal names.
const named = 3

// counted is how large a volume is for all limits but limits.exclusive.
func counted(h Held) int64 { return h.Size }

// frees is how large it is for that one.
func frees(h Held) int64 { return h.Frees }

// largest are those of the volumes that one can name, the largest first, and how many there are in all.
func (u Use) largest(size func(Held) int64, which func(Held) bool) (few []Held, all int) {
	for _, h := range u.held {
		if which(h) {
			few = append(few, h)
		}
	}
	slices.SortStableFunc(few, func(a, b Held) int { return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.Name, b.Name)) })
	return few[:min(named, len(few))], len(few)
}

// Ask is something new: one more volume, or growth. Size is the bytes it adds to the sum of virtual sizes.
type Ask struct {
	Volume, Snapshot bool
	Size             int64
}

// Refusal says which limit stands against it. It is an error.
type Refusal struct {
	Limit string // as the key in lls.toml, with its section
	Why   string
	Hint  string
	Wait  time.Duration // when this is over by itself, until then; else 0
}

func (r *Refusal) Error() string { return r.Why }

// Admit decides whether a container that uses use may have ask. It returns nil or the first limit that says no.
func (l Limits) Admit(use Use, ask Ask) *Refusal {
	anything := func(h Held) bool { return !h.Uncounted }
	switch {
	case ask.Volume && l.Volumes > 0 && use.Volumes >= l.Volumes:
		return use.refuse("limits.volumes", strconv.Itoa(l.Volumes), "used up by "+use.told("volume", anything), anything)
	case ask.Snapshot && l.Snapshots > 0 && use.Snapshots >= l.Snapshots:
		snapshots := func(h Held) bool { return h.Snapshot && !h.Uncounted }
		return use.refuse("limits.snapshots", strconv.Itoa(l.Snapshots), "used up by "+use.told("snapshot", snapshots), snapshots)
	case ask.Size > 0 && l.Size > 0 && ask.Size > l.Size-use.Size:
		why := fmt.Sprintf("%s is in use by %s, and this needs %s more", FormatSize(use.Size), use.told("volume", anything), FormatSize(ask.Size))
		return use.refuse("limits.size", FormatSize(l.Size), why, anything)
	case ask != Ask{} && l.Exclusive > 0 && use.Exclusive >= l.Exclusive:
		return use.refuseExclusive(l.Exclusive)
	}
	return nil
}

// refuseExclusive says what to type to free data that is in no other's volumes. What one volume frees by itself is less than all where its
// data is in several.
func (u Use) refuseExclusive(allowed int64) *Refusal {
	r := &Refusal{Limit: "limits.exclusive", Why: fmt.Sprintf("limits.exclusive allows %s: %s of data was in no volume but these %s, %s ago",
		FormatSize(allowed), FormatSize(u.Exclusive), u.told("volume", func(Held) bool { return false }), FormatSpan(u.ExclusiveAge))}
	trash, _ := u.largest(frees, func(h Held) bool { return h.Trash && h.Frees > 0 })
	live, _ := u.largest(frees, func(h Held) bool { return !h.Trash && h.Frees > 0 })
	switch {
	case len(trash) > 0:
		r.Hint = fmt.Sprintf("lls purge %s --yes frees %s for good; what each frees: lls list --all", cmp.Or(trash[0].Ref, trash[0].Name), FormatSize(trash[0].Frees))
	case len(live) > 0:
		r.Hint = fmt.Sprintf("make room: lls delete NAME, then lls purge NAME --yes; what frees most: %s", listed(frees, live))
	default:
		r.Hint = "make room: delete files, then lls trim; or delete and purge several volumes, as each shares its data with others of yours: lls list --all"
	}
	return r
}

// told says how many there are: "12 volumes, 3 of them in the trash (big 10G, old 1G, mine 512M)".
func (u Use) told(what string, which func(Held) bool) string {
	all, trash := u.Volumes, u.Trash
	few, n := u.largest(counted, func(h Held) bool { return h.Trash && which(h) })
	if what == "snapshot" {
		all, trash = u.Snapshots, n
	}
	text := fmt.Sprintf("%d %s", all, what)
	if all != 1 {
		text += "s"
	}
	switch {
	case trash == 0:
		return text
	case trash > len(few) && len(few) > 0:
		return fmt.Sprintf("%s, %d of them in the trash (the largest are %s)", text, trash, listed(counted, few))
	case len(few) > 0:
		return fmt.Sprintf("%s, %d of them in the trash (%s)", text, trash, listed(counted, few))
	}
	return fmt.Sprintf("%s, %d of them in the trash", text, trash)
}

func listed(size func(Held) int64, few []Held) string {
	var all []string
	for _, h := range few {
		all = append(all, h.Name+" "+FormatSize(size(h)))
	}
	return strings.Join(all, ", ")
}

// refuse says what to type: to purge the largest of those in the trash, or to delete one that is not.
func (u Use) refuse(limit, allowed, why string, which func(Held) bool) *Refusal {
	r := &Refusal{Limit: limit, Why: fmt.Sprintf("%s allows %s: %s", limit, allowed, why)}
	trash, _ := u.largest(counted, func(h Held) bool { return h.Trash && which(h) })
	live, _ := u.largest(counted, func(h Held) bool { return !h.Trash && which(h) })
	switch {
	case len(trash) > 0:
		purged := strings.TrimSpace(cmp.Or(trash[0].Ref, trash[0].Name) + " " + trash[0].Behind)
		r.Hint = fmt.Sprintf("lls purge %s --yes frees %s for good; all that counts: lls list --all", purged, freed(limit, trash[0]))
	case len(live) > 0:
		r.Hint = fmt.Sprintf("make room: lls delete NAME, then lls purge NAME --yes; the largest: %s", listed(counted, live))
	default:
		r.Hint = "make room: lls delete NAME, then lls purge NAME --yes; lls usage shows what counts"
	}
	return r
}

// freed is what a purge frees of a limit.
func freed(limit string, h Held) string {
	switch limit {
	case "limits.volumes":
		return "one volume"
	case "limits.snapshots":
		return "one snapshot"
	}
	return FormatSize(h.Size)
}

// Fill is how full a pool is, and what it can still become. Sizes are bytes.
type Fill struct {
	DataPercent, MetadataPercent float64
	Known                        bool  // the two percentages are; not while the pool is inactive, and then nothing is refused for them
	Size, MetadataSize           int64 // of the pool
	Virtual                      int64 // sum of the sizes of the volumes in it
	GroupSize, GroupFree         int64 // of its volume group
	Extent                       int64 // of its volume group; 0: any size
	ForMetadata                  int64 // what of GroupFree the metadata would take, were data to have all the rest
	Held                         bool  // a snapshot of the metadata is held: nothing that is deleted becomes free before it is released

	// DataFor is the largest data with which LVM leaves the metadata at a size, or at what it has when that is more: it extends both when
	// data grows. nil: any data does.
	DataFor func(metadata int64) int64
}

// State is what a fill says of one part of the pool, but for when that last grew.
func (p PoolRules) State(part Part, f Fill) GrowthState {
	s := GrowthState{Size: f.Size, Percent: f.DataPercent, PercentKnown: f.Known, Extent: f.Extent, FromGroup: true, GroupSize: f.GroupSize}
	s.GroupFree = max(0, f.GroupFree-f.ForMetadata)
	if part == PartMetadata {
		s.Size, s.Percent, s.GroupFree = f.MetadataSize, f.MetadataPercent, f.GroupFree/2 // LVM keeps a spare as large
		return s
	}
	if most := p.Metadata.Cap; most > 0 && f.DataFor != nil {
		s.Most, s.MetadataCap = f.DataFor(most-most%max(f.Extent, 1)), most
	}
	return s
}

// Admit decides whether a pool takes something new. It holds for the sysadmin as well.
func (p PoolRules) Admit(fill Fill, ask Ask) *Refusal {
	switch {
	case ask == Ask{}:
		return nil
	case fill.Known && fill.DataPercent >= p.DataPercent:
		return tooFull("data", fill.DataPercent, p.DataPercent, p.Data.hope("growth.data", p.State(PartData, fill)))
	case fill.Known && fill.MetadataPercent >= p.MetadataPercent:
		return tooFull("metadata", fill.MetadataPercent, p.MetadataPercent, p.Metadata.hope("growth.metadata", p.State(PartMetadata, fill)))
	}
	if most := p.Overcommit * float64(fill.Size); p.Overcommit > 0 && most < math.MaxInt64 && ask.Size > 0 && ask.Size > int64(most)-fill.Virtual {
		return &Refusal{
			Limit: "limits.overcommit",
			Why: fmt.Sprintf("limits.overcommit allows volumes of %s in all in a pool of %s: %s is given away, and this needs %s more",
				FormatSize(int64(most)), FormatSize(fill.Size), FormatSize(fill.Virtual), FormatSize(ask.Size)),
			Hint: "make room: lls delete NAME, then lls purge NAME --yes; or it takes a larger pool, or a higher limits.overcommit in lls.toml",
		}
	}
	return nil
}

func tooFull(what string, percent, most float64, hope string) *Refusal {
	limit := "limits." + what + "_percent"
	return &Refusal{
		Limit: limit,
		Why:   fmt.Sprintf("the pool's %s is %s full, and nothing new is made from %s on (%s)", what, FormatPercent(percent), strconv.FormatFloat(most, 'f', -1, 64)+"%", limit),
		Hint:  "make room: lls delete NAME, then lls purge NAME --yes; " + hope,
	}
}

// hope is what would make what is full larger. section is its name in lls.toml.
func (g Growth) hope(section string, s GrowthState) string {
	d := g.Decide(s)
	switch {
	case d.Blocked == BlockedOff:
		return fmt.Sprintf("it does not grow by itself (%s.threshold is 0): the sysadmin can grow it", section)
	case d.AtCap:
		return fmt.Sprintf("it has grown to its cap (%s.cap is %s), which the sysadmin can raise", section, FormatSize(g.Cap))
	case d.Blocked == BlockedMetadata:
		return fmt.Sprintf("more data would take more metadata than growth.metadata.cap (%s) allows, which the sysadmin can raise", FormatSize(s.MetadataCap))
	case d.Blocked == BlockedReserve:
		return fmt.Sprintf("its volume group has no more room than %s.reserve keeps: it takes another disk", section)
	case d.Blocked == BlockedGroup:
		return "its volume group has no more room: it takes another disk"
	case s.Percent < g.Threshold:
		return fmt.Sprintf("it grows by itself, but only from %s on (%s.threshold), which the sysadmin can lower", FormatPercent(g.Threshold), section)
	}
	return "it grows by itself, so try again in a moment"
}

// FormatPercent writes a percentage with one decimal at most, which is never rounded up: 95%, 89.9%.
func FormatPercent(p float64) string {
	return strconv.FormatFloat(math.Floor(p*10+1e-9)/10, 'f', -1, 64) + "%"
}
