package policy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A month on a host: containers, their volumes, and an agent that observes every five minutes and judges every hour. Meanwhile the
// agent is stopped, forgets, the host sleeps, and the clock jumps ten years and back. An oracle keeps its own log of each volume by true
// time, knows nothing of Age, and objects to whatever should have been kept and to whatever happened otherwise than it was told before.
const (
	simTick       = 5 * time.Minute
	simDays       = 30
	simHour       = int(time.Hour / simTick)
	simDay        = 24 * simHour
	simContainers = 40
	simVolumes    = 400
)

type simVolume struct {
	Subject
	container int
	log       []byte // of each interval since it was born
	born      int    // ticks; as the next ones
	told      int    // when its owner was told, or -1
	forgotten int    // the agent knows nothing from before
	deleted   int
	leaseFrom int
	leaseFor  int // -1: none
	leaseOdd  bool
	busy      bool // somebody works with it now and then
	expect    *simExpectation
}

// simExpectation is what a verdict said that comes next, and at which tick.
type simExpectation struct {
	next  Action
	due   int
	never bool
	made  int
}

type simWorld struct {
	t       *testing.T
	r       *rand.Rand
	tick    int
	skew    time.Duration // of the wall clock
	running bool          // the agent
	blind   bool          // it has not observed since its start
	slept   bool          // the host did, since its last observation
	stopped [simContainers]bool
	volumes []*simVolume
	ages    map[string]Age
	made    int
	counts  map[string]int
}

func (w *simWorld) now() time.Time {
	return noon.Add(time.Duration(w.tick) * simTick).Add(w.skew)
}

func (w *simWorld) expiry(container int) Expiry {
	e := Expiry{Unused: 5 * day, Notice: day, Trash: 2 * day}
	if container >= 30 {
		e.IdleMax = 6 * day
	}
	return e
}

func (w *simWorld) add() {
	w.made++
	c := w.r.IntN(simContainers)
	v := &simVolume{container: c, born: w.tick, told: -1, leaseFor: -1, busy: w.r.IntN(4) == 0}
	v.Subject = Subject{ID: fmt.Sprint("v", w.made), Name: "x", Owner: fmt.Sprint("c", c), State: StateLive, Snapshot: w.r.IntN(10) > 0,
		Visible: w.r.IntN(15) == 0, Mounted: Known(w.r.IntN(3) == 0), Open: No, InFstab: Known(w.r.IntN(5) == 0), OwnerStopped: Known(w.stopped[c]),
		OwnerGone: No, Depended: No, ExclusiveKnown: w.r.IntN(5) > 0, Exclusive: w.r.Int64N(100)}
	w.volumes = append(w.volumes, v)
}

// events are what people and machines do between two ticks.
func (w *simWorld) events() {
	r := w.r
	for range r.IntN(3) {
		v := w.volumes[r.IntN(len(w.volumes))]
		if v.State == StateTrash {
			if r.IntN(8) == 0 && w.running { // undelete is the agent's to do, and it notes that somebody wants it
				v.State, v.Deleted, v.told = StateLive, time.Time{}, -1
				v.expect = nil
				wanted := v.Subject
				wanted.Mounted = Yes
				w.ages[v.ID] = w.expiry(v.container).Observe(w.ages[v.ID], wanted, 0, w.now())
			}
			continue
		}
		if v.busy || r.IntN(12) == 0 {
			w.use(v)
		}
	}
	if r.IntN(60) == 0 {
		c := r.IntN(simContainers)
		w.stopped[c] = !w.stopped[c]
		for _, v := range w.volumes {
			if v.container == c {
				v.OwnerStopped, v.expect = Known(w.stopped[c]), nil
				if w.stopped[c] {
					v.Mounted, v.Open = No, No
				}
			}
		}
	}
	switch {
	case w.running && r.IntN(400) == 0:
		w.running = false
	case !w.running && r.IntN(40) == 0:
		w.restart()
	case w.running && r.IntN(500) == 0: // the host sleeps, and the agent believes that it looked
		w.tick += r.IntN(simDay)
		w.slept = true
		w.untell()
	case r.IntN(700) == 0:
		w.skew = pick(r, 0, 10*365*day, -10*365*day)
		w.untell()
	}
}

func (w *simWorld) use(v *simVolume) {
	r := w.r
	v.expect = nil
	switch r.IntN(12) {
	case 0, 1, 2:
		if !w.stopped[v.container] {
			v.Mounted = Yes
		}
	case 3, 4, 5:
		v.Mounted, v.Open = No, No
	case 6:
		v.Open = pick(r, Unknown, No, No, Yes)
	case 7:
		v.InFstab = pick(r, Unknown, No, No, Yes)
	case 8:
		v.Visible = r.IntN(6) == 0
	case 9:
		if w.running { // a lease is the agent's to give, and it looks at once
			length := r.IntN(9 * simDay)
			v.Lease = w.now().Add(time.Duration(length) * simTick)
			v.leaseFrom, v.leaseFor, v.leaseOdd = w.tick, length, w.skew != 0
			w.ages[v.ID] = w.expiry(v.container).Observe(w.ages[v.ID], v.Subject, 0, w.now())
		}
	case 10:
		v.Forever = r.IntN(3) == 0
	case 11:
		v.State, v.Deleted, v.deleted = StateTrash, w.now().Truncate(time.Second), w.tick
		v.Mounted, v.Open = No, pick(r, No, No, No, Unknown)
	}
}

// restart brings the agent back, with what it had on disk or, rarely, without.
func (w *simWorld) restart() {
	w.running, w.blind = true, true
	w.untell()
	if w.r.IntN(3) == 0 && w.skew == 0 {
		w.counts["forgot"]++
		w.ages = map[string]Age{}
		for _, v := range w.volumes {
			v.forgotten, v.told = w.tick, -1
			if v.leaseOdd {
				v.leaseFor = -1 // its date was written by a wrong clock, and what would tell is lost
			}
		}
		return
	}
	data, err := json.Marshal(w.ages)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ages = map[string]Age{}
	if err := json.Unmarshal(data, &w.ages); err != nil {
		w.t.Fatal(err)
	}
}

func (w *simWorld) untell() {
	for _, v := range w.volumes {
		v.expect = nil
	}
}

// agrees objects to a verdict that is not what an earlier one said, with nothing changed since, and remembers what this one says.
func (w *simWorld) agrees(v *simVolume, got Verdict) {
	if x := v.expect; x != nil {
		due := !x.never && w.tick >= x.due
		switch {
		case due && got.Action != x.next, !due && got.Action != Keep:
			w.t.Errorf("tick %d: %s: %v because %q; at %d it was said: %+v", w.tick, v.ID, got.Action, got.Reasons, x.made, *x)
		case due:
			w.counts["foretold"]++
		}
	}
	if got.Action != Keep {
		v.expect = nil
	} else if v.expect == nil {
		v.expect = &simExpectation{next: got.Next, never: got.Next == Keep, made: w.tick, due: w.tick + int((got.Wait-1)/simTick) + 1}
	}
}

func (w *simWorld) observe() {
	for _, v := range w.volumes {
		w.record(v)
		if !w.running {
			continue
		}
		step := simTick
		switch {
		case w.blind:
			step = 0 // a new run has seen no step yet
		case w.slept:
			step = 12 * time.Hour // a clock may count on while the host sleeps
		}
		w.ages[v.ID] = w.expiry(v.container).Observe(w.ages[v.ID], v.Subject, step, w.now())
	}
	w.blind, w.slept = w.blind && !w.running, false
}

func (w *simWorld) judge() {
	w.volumes = slices.DeleteFunc(w.volumes, func(v *simVolume) bool {
		e := w.expiry(v.container)
		got := e.Judge(v.Subject, w.ages[v.ID], w.now())
		w.agrees(v, got)
		w.counts[got.Action.String()]++
		switch got.Action {
		case Announce:
			v.told = w.tick
			w.ages[v.ID] = w.ages[v.ID].Announce()
		case Trash:
			w.mayTrash(v, e)
			v.State, v.Deleted, v.deleted = StateTrash, w.now().Truncate(time.Second), w.tick
		case Purge:
			w.mayPurge(v, e.Trash)
			delete(w.ages, v.ID)
		}
		return got.Action == Purge
	})
}

// press has a full pool take trash early.
func (w *simWorld) press() {
	var trash []Trashed
	for _, v := range w.volumes {
		trash = append(trash, Trashed{w.expiry(v.container), v.Subject, w.ages[v.ID]})
	}
	chosen := map[string]bool{}
	youngest := Never
	for _, c := range Pressure(trash, Shortage{Data: w.r.Int64N(120), Metadata: w.r.IntN(10) == 0}, w.now()) {
		chosen[c.Subject.ID] = true
		youngest = min(youngest, c.Age.Trash)
	}
	for _, c := range trash {
		if ok, _ := c.Pressed(w.now()); ok && !chosen[c.Subject.ID] && len(chosen) > 0 && c.Age.Trash > youngest {
			w.t.Errorf("tick %d: older trash stayed: %+v", w.tick, c)
		}
	}
	w.volumes = slices.DeleteFunc(w.volumes, func(v *simVolume) bool {
		if chosen[v.ID] {
			w.counts["pressed"]++
			w.mayPurge(v, PressureGrace)
			delete(w.ages, v.ID)
		}
		return chosen[v.ID]
	})
}

func TestAMonthOnAHostLosesNothingThatAnybodyWants(t *testing.T) {
	w := &simWorld{t: t, r: rand.New(rand.NewPCG(0, 7)), running: true, ages: map[string]Age{}, counts: map[string]int{}}
	for range simVolumes {
		w.add()
	}
	for w.tick < simDays*simDay && !t.Failed() {
		w.events()
		w.tick++
		w.observe()
		if w.running && w.tick%simHour == 0 {
			w.judge()
			if w.tick/simDay%10 == 9 {
				w.press()
			}
		}
		if len(w.volumes) < simVolumes && w.r.IntN(6) == 0 {
			w.add()
		}
	}
	t.Logf("%v, %d volumes made", w.counts, w.made)
	for what, least := range map[string]int{"announce": 100, "trash": 50, "purge": 20, "pressed": 20, "foretold": 100, "forgot": 1} {
		if w.counts[what] < least {
			t.Errorf("only %d times %s: the month says little", w.counts[what], what)
		}
	}
}
