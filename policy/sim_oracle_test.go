package policy

import (
	"fmt"
	"time"
)

// What an interval between two ticks was for a volume.
const (
	simObserved byte = 1 << iota // the agent saw both of its ends
	simUsed                      // mounted, open, visible, or anything else than a hidden snapshot of a container that exists
	simOdd                       // something was not known
	simIdle                      // its fstab, which may not be known, or its stopped container speaks for it
	simLeased                    // by true time
	simTrashed
)

// record writes the oracle's log of the interval that ends now.
func (w *simWorld) record(v *simVolume) {
	var f byte
	set := func(when bool, flag byte) {
		if when {
			f |= flag
		}
	}
	set(w.running && !w.blind, simObserved)
	set(v.Mounted == Yes || v.Open == Yes || v.Visible || !v.Snapshot, simUsed)
	set(v.Mounted == Unknown || v.Open == Unknown, simOdd)
	set(v.InFstab != No || w.stopped[v.container], simIdle)
	set(v.Forever || v.leaseFor >= 0 && w.tick < v.leaseFrom+v.leaseFor, simLeased)
	set(v.State == StateTrash, simTrashed)
	for len(v.log) < w.tick-v.born-1 { // while the host slept
		v.log = append(v.log, f&^simObserved)
	}
	v.log = append(v.log, f)
}

// sinceTick gives the log from a tick on.
func (v *simVolume) sinceTick(tick int) []byte {
	return v.log[min(max(tick-v.born, 0), len(v.log)):]
}

// aged is the oracle's idea of how long a volume is unused, by what was observed from a tick on.
func (v *simVolume) aged(from int, e Expiry) (ticks int) {
	idle := 0
	for _, f := range v.sinceTick(max(from, v.forgotten)) {
		switch {
		case f&(simUsed|simTrashed) != 0:
			ticks, idle = 0, 0
		case f&simObserved == 0 || f&simOdd != 0:
		case f&simIdle == 0:
			ticks, idle = ticks+1, 0
		default:
			if idle++; e.IdleMax > 0 && idle > int(e.IdleMax/simTick) {
				ticks++
			}
		}
	}
	return ticks
}

func (v *simVolume) observedSince(tick int) (n int) {
	for _, f := range v.sinceTick(tick) {
		n += int(f & simObserved)
	}
	return n
}

// mayTrash objects to a volume that goes to the trash.
func (w *simWorld) mayTrash(v *simVolume, e Expiry) {
	last := v.log[len(v.log)-1]
	bad := func(format string, args ...any) {
		w.t.Helper()
		w.t.Errorf("tick %d: %s was trashed: %s\n%+v\n%+v", w.tick, v.ID, fmt.Sprintf(format, args...), v.Subject, w.ages[v.ID])
	}
	switch {
	case last&simUsed != 0:
		bad("it is in use, a dataset, or no snapshot")
	case last&simOdd != 0:
		bad("something is not known")
	case last&simLeased != 0 || v.Forever:
		bad("it is leased")
	case v.leaseFor >= 0 && v.forgotten <= v.leaseFrom && v.observedSince(v.leaseFrom) < v.leaseFor:
		bad("its lease was not observed to its end")
	case last&simIdle != 0 && e.IdleMax == 0:
		bad("its fstab or its stopped container speaks for it")
	case v.told < 0:
		bad("nobody was told")
	case v.aged(v.born, e) < int((e.Unused+e.Notice)/simTick):
		bad("it is unused for %d ticks only", v.aged(v.born, e))
	}
	for _, f := range v.sinceTick(v.told) {
		if f&(simLeased|simUsed) != 0 {
			bad("it was used or leased after its owner was told")
			break
		}
	}
	before := *v
	before.log = v.log[:len(v.log)-len(v.sinceTick(v.told))]
	ticks := v.aged(v.born, e) - before.aged(v.born, e)
	if ticks < int(e.Notice/simTick) {
		bad("its owner was told %d ticks ago", ticks)
	}
}

// mayPurge objects to a volume that is purged.
func (w *simWorld) mayPurge(v *simVolume, least time.Duration) {
	ticks := int(least / simTick)
	if v.State != StateTrash || v.Mounted != No || v.Open != No || v.Forever || v.log[len(v.log)-1]&simLeased != 0 ||
		w.tick-v.deleted < ticks || v.observedSince(max(v.deleted, v.forgotten)) < ticks {
		w.t.Errorf("tick %d: %s was purged: deleted at %d, observed %d\n%+v", w.tick, v.ID, v.deleted, v.observedSince(v.deleted), v.Subject)
	}
}
