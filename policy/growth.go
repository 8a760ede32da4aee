package policy

import (
	"fmt"
	"math"
	"time"
)

// NearlyFull is the percent from which on a growth does not wait for its cool-down: writes that fail cost more than a growth too many.
const NearlyFull = 95

// sizeMost is larger than any size that is true, and small enough to compute with.
const sizeMost = 1 << 60

// GrowthState is what is known of something that may grow: a pool's data, its metadata, or a volume.
type GrowthState struct {
	Size         int64   // bytes
	Percent      float64 // of it in use; of a volume, of its file system
	PercentKnown bool    // false while it is inactive or could not be read: then it does not grow
	Extent       int64   // bytes: it grows by whole ones; 0: it may have any size

	// FromGroup is true for what takes its bytes from the volume group: pools, but not thin volumes. GroupFree and GroupSize are the
	// group's, in bytes. For a pool's metadata the caller gives half of what is free: LVM keeps a spare that is as large.
	FromGroup            bool
	GroupFree, GroupSize int64

	// Most is the size, in bytes, up to which a pool's data leaves its metadata within the cap that is that one's own; 0: any size does.
	Most, MetadataCap int64

	Grown      bool          // it grew by itself before, as far as is remembered
	SinceGrown time.Duration // running time since then
}

// Block is what stands against a growth.
type Block string

// Values of Block.
const (
	BlockedNot      Block = ""             // it grows, or need not
	BlockedOff      Block = "off"          // the policy lets it not grow by itself
	BlockedUnknown  Block = "unknown"      // how full it is, is not known
	BlockedCool     Block = "cool-down"    // it grew a short time ago
	BlockedCap      Block = "cap"          // it has the size that it may have
	BlockedMetadata Block = "metadata cap" // of a pool's data: it would take its metadata beyond the size that that may have
	BlockedReserve  Block = "reserve"      // what the volume group has left is to be left free
	BlockedGroup    Block = "group full"   // the volume group has nothing left
)

// Lasting says that what stands against a growth stays until somebody changes the policy, or gives the volume group more: time does not
// end it. What is below its threshold, or cools down, or is not known, may well grow.
func (b Block) Lasting() bool {
	return b == BlockedOff || b == BlockedCap || b == BlockedMetadata || b == BlockedReserve || b == BlockedGroup
}

// GrowthVerdict is whether something grows now, and why.
type GrowthVerdict struct {
	To      int64         // bytes that it grows to; 0: it does not grow now
	Why     string        // for people
	Blocked Block         // what stands against it, where it should grow
	Partial Block         // what made To smaller than it should be: BlockedCap, BlockedMetadata, BlockedReserve, BlockedGroup, or nothing
	AtCap   bool          // it has, or To gives it, all that the cap allows
	Wait    time.Duration // running time until a cool-down is over
}

// Decide says whether and how far something grows. One step at a time, in whole extents and at least one; more where one step would
// leave it above the threshold, but then no further than to twice its size. What is left up to a cap or the reserve is taken when
// it is less than that.
func (g Growth) Decide(s GrowthState) GrowthVerdict {
	extent := max(s.Extent, 1)
	limit := g.Cap - g.Cap%extent
	v := GrowthVerdict{AtCap: g.Cap > 0 && limit <= s.Size}
	full := FormatPercent(s.Percent) + " full"
	switch {
	case g.Threshold <= 0 || g.Step.Percent <= 0 && g.Step.Bytes <= 0:
		v.Blocked, v.Why = BlockedOff, "it does not grow by itself: the policy says so"
		return v
	case !s.PercentKnown || s.Size <= 0 || s.Size > sizeMost || math.IsNaN(s.Percent):
		v.Blocked, v.Why = BlockedUnknown, "it does not grow: it is not known how full or how large it is"
		return v
	case s.Percent < g.Threshold:
		v.Why = fmt.Sprintf("%s; it grows from %s on", full, FormatPercent(g.Threshold))
		return v
	case v.AtCap:
		v.Blocked, v.Why = BlockedCap, fmt.Sprintf("%s, but it is %s large and does not grow by itself beyond %s", full, FormatSize(s.Size), FormatSize(g.Cap))
		return v
	case s.Grown && s.SinceGrown < g.CoolDown && s.Percent < NearlyFull:
		v.Blocked, v.Wait = BlockedCool, g.CoolDown-max(s.SinceGrown, 0)
		v.Why = fmt.Sprintf("%s, but it grew %s ago, and %s must pass between two growths", full, FormatSpan(s.SinceGrown), FormatSpan(g.CoolDown))
		return v
	}
	to, why := g.wanted(s, extent)
	if g.Cap > 0 && to > limit {
		to, v.Partial = limit, BlockedCap
	}
	if most := s.Most - s.Most%extent; s.Most > 0 && to > most {
		to, v.Partial = most, BlockedMetadata
	}
	if s.FromGroup {
		if most, block := g.most(s, extent); to > most {
			to, v.Partial = most, block
		}
	}
	if to <= s.Size {
		v.Blocked, v.Partial = v.Partial, BlockedNot
		switch v.Why = fmt.Sprintf("%s, but the volume group has %s free", full, FormatSize(s.GroupFree)); v.Blocked {
		case BlockedMetadata:
			v.Why = fmt.Sprintf("%s, but LVM extends the metadata along with it, and growth.metadata.cap allows no more than %s of that: raise it", full, FormatSize(s.MetadataCap))
		case BlockedReserve:
			v.Why += fmt.Sprintf(", and %s of it are to stay free", FormatSize(g.Reserve.inBytes(s.GroupSize)))
		}
		return v
	}
	v.To, v.AtCap = to, g.Cap > 0 && to == limit
	v.Why = fmt.Sprintf("%s, and it grows from %s on: from %s to %s by %s, %s", full, FormatPercent(g.Threshold), FormatSize(s.Size), FormatSize(to), FormatSize(to-s.Size), why)
	switch v.Partial {
	case BlockedCap:
		v.Why += fmt.Sprintf(", but not beyond its cap of %s", FormatSize(g.Cap))
	case BlockedMetadata:
		v.Why += fmt.Sprintf(", but only as far as the metadata, which LVM extends along with it, stays within growth.metadata.cap, %s", FormatSize(s.MetadataCap))
	case BlockedReserve:
		v.Why += fmt.Sprintf(", but no more than leaves %s of the volume group free", FormatSize(g.Reserve.inBytes(s.GroupSize)))
	case BlockedGroup:
		v.Why += ", but the volume group has no more"
	}
	return v
}

// wanted is the size that it should get, were there no cap and no reserve.
func (g Growth) wanted(s GrowthState, extent int64) (to int64, why string) {
	to, why = roundUp(add(s.Size, max(g.Step.inBytes(s.Size), 1)), extent), "one step"
	need := bytes(float64(s.Size) / 100 * s.Percent / g.Threshold * 100) // where it is just as full as the threshold
	if need < to {
		return to, why
	}
	// It was filled faster than it grows: a single step would leave it where it must grow again at once, and may not.
	more := roundUp(add(need, max(g.Step.inBytes(s.Size), 1)), extent)
	if twice := roundUp(add(s.Size, s.Size), extent); more > twice {
		more = twice
	}
	if more <= to {
		return to, why
	}
	return more, "more than a step, because one step would leave it above that"
}

// most is the largest size that the volume group has room for, and what bounds it.
func (g Growth) most(s GrowthState, extent int64) (int64, Block) {
	free := max(s.GroupFree, 0)
	usable := max(free-g.Reserve.inBytes(s.GroupSize), 0)
	block := BlockedReserve
	if free < extent || usable == free {
		block = BlockedGroup
	}
	most := add(s.Size, usable)
	return most - most%extent, block
}

// Spared is how many bytes of a volume group that has so many are left free.
func (g Growth) Spared(groupSize int64) int64 { return g.Reserve.inBytes(groupSize) }

// inBytes is the step of something that is so large.
func (s Step) inBytes(size int64) int64 {
	if s.Bytes > 0 {
		return s.Bytes
	}
	return bytes(float64(max(size, 0)) / 100 * max(s.Percent, 0))
}

// Left is how many bytes may still be written before the threshold is reached; less than 0 beyond it. It is the most that there is
// when nothing grows by itself.
func (g Growth) Left(s GrowthState) int64 {
	if g.Threshold <= 0 || !s.PercentKnown {
		return math.MaxInt64
	}
	return bytes(float64(s.Size) / 100 * (g.Threshold - s.Percent))
}

// Bounds of PollAfter.
const (
	PollMin = time.Second
	PollMax = time.Minute
)

// pollShare is the part of the time until the threshold after which to look again: a writer may become several times faster meanwhile.
const pollShare = 4

// PollAfter says when to look again at something that has left bytes until its threshold and fills by rate bytes a second.
func PollAfter(left int64, rate float64) time.Duration {
	switch {
	case left <= 0:
		return PollMin
	case !(rate > 0):
		return PollMax
	}
	seconds := float64(left) / rate / pollShare
	if seconds >= PollMax.Seconds() {
		return PollMax
	}
	return max(PollMin, time.Duration(seconds*float64(time.Second)))
}

// bytes makes a whole number of what was computed, within what an int64 holds.
func bytes(v float64) int64 {
	switch {
	case math.IsNaN(v):
		return 0
	case v >= math.MaxInt64:
		return math.MaxInt64
	case v <= math.MinInt64:
		return math.MinInt64
	}
	return int64(v)
}

// add is a+b for two sizes of at least 0, and the largest where that would pass it.
func add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// roundUp gives the next multiple of an extent, or the last that there is.
func roundUp(size, extent int64) int64 {
	if rest := size % extent; rest != 0 {
		return add(size-rest, extent) - add(size-rest, extent)%extent
	}
	return size
}
