package lvm

import "math"

// MetadataFor is how much metadata the pool has once its data has this size:
// growing data makes LVM extend the metadata, too, to 64 bytes a chunk at least
// (seen with 2.03.16 and 2.03.31).
func (p Pool) MetadataFor(data Size) Size {
	if p.ChunkSize <= 0 || data <= p.Size {
		return p.MetadataSize
	}
	return max(p.MetadataSize, min(data/p.ChunkSize*64, MaxPoolMetadata))
}

// DataFor is the largest data with which growing it leaves the pool's metadata at
// this size, or at what it has when that is more. Where any does it is the
// largest Size that there is.
func (p Pool) DataFor(metadata Size) Size {
	metadata = max(metadata, p.MetadataSize)
	if p.ChunkSize <= 0 || metadata >= MaxPoolMetadata {
		return math.MaxInt64
	}
	return max(p.Size, metadata/64*p.ChunkSize)
}

// MetadataCost is how much of the group's free space it takes to make a pool's
// metadata so large: LVM keeps a spare, for repairs, as large as the largest
// metadata in the group. It extends the metadata also when there is no room
// left for the spare. A pool that is not there costs what a new one would.
func (g Group) MetadataCost(pool Name, size Size) Size {
	var was, spare Size
	for _, p := range g.Pools {
		spare = max(spare, p.MetadataSize)
		if p.Name == pool {
			was = p.MetadataSize
		}
	}
	size = size.RoundUp(g.ExtentSize)
	return max(0, size-was) + max(0, size-spare)
}

// ExtendCost is how much of the group's free space ExtendPool takes, all that
// LVM extends along with it included.
func (g Group) ExtendCost(pool Name, data, metadata Size) Size {
	p, ok := g.Pool(pool)
	if !ok {
		return 0
	}
	return max(0, data.RoundUp(g.ExtentSize)-p.Size) + g.MetadataCost(pool, max(metadata, p.MetadataFor(data)))
}
