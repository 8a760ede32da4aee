package policy

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// anyCase draws a policy, a volume and an age that are mostly near a decision.
func anyCase(r *rand.Rand) (Expiry, Subject, Age) {
	span := func() time.Duration { return time.Duration(r.Int64N(int64(12 * time.Hour))).Truncate(time.Second) }
	mostly := func() Fact {
		if r.IntN(12) > 0 {
			return No
		}
		return pick(r, Unknown, Yes)
	}
	e := Expiry{Unused: span(), Notice: span(), Trash: span(), IdleMax: pick(r, 0, span())}
	if r.IntN(20) == 0 {
		e = Expiry{Unused: pick(r, 0, span()), Notice: pick(r, 0, span()), Trash: pick(r, 0, span())}
	}
	s := Subject{ID: "id", Owner: "c#t", State: pick(r, StateLive, StateLive, StateTrash), Snapshot: r.IntN(20) > 0, Visible: r.IntN(20) == 0,
		Mounted: mostly(), Open: mostly(), OwnerGone: mostly(), Depended: mostly(),
		InFstab: pick(r, No, No, Yes, mostly()), OwnerStopped: pick(r, No, No, Yes, mostly()), Forever: r.IntN(30) == 0}
	if r.IntN(3) == 0 {
		s.Lease = noon.Add(span() - 4*time.Hour)
	}
	if s.State == StateTrash {
		s.Deleted = noon.Add(4*time.Hour - span())
	}
	age := Age{Owner: pick(r, "c#t", "c#t", "c#t", "", "d#t"), Counting: pick(r, s.counting(), s.counting(), CountingNothing, CountingUnused, CountingIdle),
		Unused: pick(r, 0, span()), Idle: pick(r, 0, span()), Announced: r.IntN(2) == 0, SinceAnnounced: pick(r, 0, span()), Trash: pick(r, 0, span())}
	if r.IntN(4) > 0 {
		age.Deleted, age.Lease = unix(s.Deleted), unix(s.Lease)
		age.LeaseLength, age.LeaseSeen = span(), span()
	}
	return e, s, age
}

// stepped is what Project promises to tell: it does what the agent does, tick by tick.
func stepped(e Expiry, s Subject, age Age, now time.Time, horizon, tick time.Duration) (out []Happening) {
	for after := tick; after <= horizon; after += tick {
		now = now.Add(tick)
		age = e.Observe(age, s, tick, now)
		v := e.Judge(s, age, now)
		if v.Action == Keep {
			continue
		}
		out = append(out, Happening{after, v.Action})
		switch v.Action {
		case Announce:
			age = age.Announce()
		case Trash:
			s.State, s.Deleted = StateTrash, now
		case Purge:
			return out
		}
	}
	return out
}

func TestProjectTellsWhatThenHappens(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	counts := map[Action]int{}
	for i := range 500 {
		e, s, age := anyCase(r)
		tick := pick(r, MaxStep, MaxStep, time.Minute*3, 97*time.Second)
		got := e.Project(s, age, noon, 2*day, tick)
		want := stepped(e, s, age, noon, 2*day, tick)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("case %d, tick %v\n%+v\n%+v\n%+v\ntold     %v\nhappened %v", i, tick, e, s, age, got, want)
		}
		for _, h := range got {
			counts[h.Action]++
		}
	}
	for _, a := range []Action{Announce, Trash, Purge} {
		if counts[a] < 60 {
			t.Errorf("only %d times %v: the cases say little", counts[a], a)
		}
	}
}

func TestTwoStepsAreOneThatIsAsLong(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		e, s, age := anyCase(r)
		age = e.Observe(age, s, 0, noon) // steps count between ends that are alike
		a, b := time.Duration(r.Int64N(int64(2*day))), time.Duration(r.Int64N(int64(2*day)))
		twice := e.observe(e.observe(age, s, a, noon.Add(a)), s, b, noon.Add(a+b))
		once := e.observe(age, s, a+b, noon.Add(a+b))
		if twice != once {
			t.Fatalf("%+v\n%+v\n%+v\n%v and %v: %+v\nat once: %+v", e, s, age, a, b, twice, once)
		}
	}
}

func TestPressureTakesTheOldestTrashAndNoMore(t *testing.T) {
	item := func(id string, seen time.Duration, frees int64, change func(*Trashed)) Trashed {
		deleted := noon.Add(-seen)
		d := Trashed{month, with(func(s *Subject) {
			s.ID, s.State, s.Deleted, s.Exclusive, s.ExclusiveKnown = id, StateTrash, deleted, frees, frees >= 0
		}), Age{Owner: "c1#tok", Deleted: deleted.Unix(), Trash: seen}}
		if change != nil {
			change(&d)
		}
		return d
	}
	trash := []Trashed{
		item("young", 2*time.Hour, 50, nil),
		item("fresh", 59*time.Minute, 1000, nil),
		item("mounted", 6*day, 1000, func(d *Trashed) { d.Subject.Mounted = Yes }),
		item("open", 6*day, 1000, func(d *Trashed) { d.Subject.Open = Unknown }),
		item("live", 6*day, 1000, func(d *Trashed) { d.Subject.State = StateLive }),
		item("leased", 6*day, 1000, func(d *Trashed) { d.Subject.Lease = noon.Add(day) }),
		item("orphan", 6*day, 1000, func(d *Trashed) { d.Subject.OwnerGone = Yes }),
		item("forgotten", 6*day, 1000, func(d *Trashed) { d.Age = Age{} }),
		item("kept", 6*day, 1000, func(d *Trashed) { d.Expiry.Trash = 0 }),
		item("old", 5*day, 10, nil),
		item("older", 5*day+time.Hour, 10, nil),
	}
	tests := []struct {
		need int64
		want []string
	}{
		{0, nil}, {-5, nil}, {1, []string{"older"}}, {10, []string{"older"}}, {11, []string{"older", "old"}}, {1e6, []string{"older", "old", "young"}},
	}
	ids := func(chosen []Trashed) (out []string) {
		for _, c := range chosen {
			out = append(out, c.Subject.ID)
		}
		return out
	}
	for _, tt := range tests {
		if got := ids(Pressure(trash, Shortage{Data: tt.need}, noon)); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("for %d bytes: %v, want %v", tt.need, got, tt.want)
		}
	}
	useless := append(slices.Clone(trash), item("same", 6*day, 0, nil), item("equal", 6*day+time.Hour, 0, nil))
	if got := ids(Pressure(useless, Shortage{Data: 11}, noon)); !reflect.DeepEqual(got, []string{"older", "old"}) {
		t.Errorf("with some that give nothing back: %v", got)
	}
	if got := ids(Pressure(useless, Shortage{Data: 1e6}, noon)); !reflect.DeepEqual(got, []string{"older", "old", "young", "equal"}) {
		t.Errorf("with some that give nothing back, and too few others: %v", got)
	}
	if got := ids(Pressure(useless, Shortage{Metadata: true}, noon)); !reflect.DeepEqual(got, []string{"equal"}) {
		t.Errorf("each has metadata of its own: %v", got)
	}
	trash = append(trash, item("unmeasured", 5*day+30*time.Minute, -1, nil))
	if got := ids(Pressure(trash, Shortage{Data: 1e6}, noon)); !reflect.DeepEqual(got, []string{"older", "unmeasured"}) {
		t.Errorf("with one that nobody measured: %v", got)
	}
	if got := ids(Pressure(trash, Shortage{Data: 1e6, Metadata: true}, noon)); !reflect.DeepEqual(got, []string{"older"}) {
		t.Errorf("for metadata, of which nobody knows what gives back how much: %v", got)
	}
	if trash[0].Subject.ID != "young" {
		t.Error("the caller's list was sorted")
	}
	_, why := trash[1].Pressed(noon)
	if len(why) != 1 || why[0] != "kept: not even a full pool takes what is in the trash for so short: 59m of 1h" {
		t.Errorf("%q", why)
	}
}
