package thin

import (
	"fmt"

	"lls/lvm"
)

// tally counts who maps which blocks. Of each it keeps one word: nobody, a volume, an owner, of whom several volumes map it, or several
// owners.
type tally struct {
	owner   func(thinID int) string
	words   []uint32
	volumes []volume
	owners  map[string]uint32
	names   []string
	chunk   lvm.Size
	time    uint32
}

type volume struct {
	id     int
	owner  uint32
	since  uint32
	mapped uint64
	own    uint64
}

// The words: 0, the index of a volume plus 1, the index of an owner with ofOwner, or shared.
const (
	ofOwner uint32 = 1 << 31
	shared  uint32 = 1<<32 - 1
)

// Bounds of what is kept in memory: 4 GiB for blocks, and about 1 GiB for mappings that several volumes share.
const (
	maxBlocks  = 1 << 30
	maxSpans   = 1 << 25
	maxDefs    = 1 << 22
	maxVolumes = 1 << 24 // thin ids have 24 bits
)

func newTally(owner func(int) string) *tally {
	return &tally{owner: owner, owners: map[string]uint32{}}
}

// begin starts a volume that is its own since a time; what is marked from now on is its.
func (t *tally) begin(id int, since uint32) error {
	if len(t.volumes) >= maxVolumes {
		return fmt.Errorf("%w: more than %d volumes", ErrTooBig, maxVolumes)
	}
	name := t.owner(id)
	o, ok := t.owners[name]
	if !ok {
		o = uint32(len(t.names))
		t.owners[name] = o
		t.names = append(t.names, name)
	}
	t.volumes = append(t.volumes, volume{id: id, owner: o, since: since})
	return nil
}

// mark says that the volume maps a span of blocks.
func (t *tally) mark(s span) error {
	if s.end() > maxBlocks {
		return fmt.Errorf("%w: more than %d blocks", ErrTooBig, maxBlocks)
	}
	if more := int(s.end()) - len(t.words); more > 0 {
		t.words = append(t.words, make([]uint32, more)...)
	}
	last := len(t.volumes) - 1
	v := &t.volumes[last]
	v.mapped += s.length
	if s.time >= v.since { // as the kernel tells what is not shared (__snapshotted_since in drivers/md/dm-thin-metadata.c)
		v.own += s.length
	}
	me, mine := uint32(last+1), ofOwner|v.owner
	words := t.words[s.begin:s.end()]
	for i, w := range words {
		switch {
		case w == 0:
			words[i] = me
		case w == me, w == mine, w == shared:
		case w&ofOwner == 0 && t.volumes[w-1].owner == v.owner:
			words[i] = mine
		default:
			words[i] = shared
		}
	}
	return nil
}

func (t *tally) usage() (Usage, error) {
	u := Usage{Chunk: t.chunk, Time: t.time, Volumes: map[int]Volume{}, Owners: map[string]lvm.Size{}}
	alone, ours := make([]uint64, len(t.volumes)), make([]uint64, len(t.names))
	for _, w := range t.words {
		switch {
		case w == 0 || w == shared:
		case w&ofOwner != 0:
			ours[w&^ofOwner]++
		default:
			alone[w-1]++
			ours[t.volumes[w-1].owner]++
		}
	}
	for i, v := range t.volumes {
		if _, twice := u.Volumes[v.id]; twice {
			return Usage{}, fmt.Errorf("%w: volume %d is there twice", errDump, v.id)
		}
		u.Volumes[v.id] = Volume{Mapped: t.bytes(v.mapped), Exclusive: t.bytes(alone[i]), Own: t.bytes(v.own), Since: v.since}
	}
	for i, name := range t.names {
		u.Owners[name] = t.bytes(ours[i])
	}
	return u, nil
}

func (t *tally) bytes(blocks uint64) lvm.Size { return lvm.Size(blocks) * t.chunk }
