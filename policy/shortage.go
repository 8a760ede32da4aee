package policy

import "fmt"

// Shortage is what a pool has to be given back because it is too full and cannot grow. The zero value is nothing.
type Shortage struct {
	Data     int64    // bytes
	Metadata bool     // some, it is not known which volume gives back how much
	Why      []string // for people; there may be one why nothing has to be given back although the pool is too full
}

// Any says whether the pool has to be given anything back.
func (s Shortage) Any() bool { return s.Data > 0 || s.Metadata }

// Shortage decides whether a pool is above a level from which nothing new is made, and cannot grow. What is only not full enough to grow
// yet is not short of anything.
func (p PoolRules) Shortage(fill Fill) (short Shortage) {
	above := func(part Part, rule Growth, percent, level float64) bool {
		if !fill.Known || level <= 0 || percent < level {
			return false
		}
		d := rule.Decide(p.State(part, fill))
		if d.Blocked.Lasting() {
			short.Why = append(short.Why, fmt.Sprintf("the pool's %s is %s full and cannot grow: %s", part, FormatPercent(percent), d.Why))
		}
		return d.Blocked.Lasting()
	}
	if above(PartData, p.Data, fill.DataPercent, p.DataPercent) {
		short.Data = bytes(float64(fill.Size)/100*(fill.DataPercent-p.DataPercent)) + 1
	}
	short.Metadata = above(PartMetadata, p.Metadata, fill.MetadataPercent, p.MetadataPercent)
	if short.Any() && fill.Held {
		short.Data, short.Metadata = 0, false
		short.Why = append(short.Why, "a snapshot of the pool's metadata is held, by a reading of LLS's or by somebody's dmsetup: nothing that is purged becomes free before it is released, so nothing is")
	}
	return short
}
