package policy

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

// noon is when these tests begin.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// month is an expiry that does everything.
var month = Expiry{Unused: 30 * day, Notice: 7 * day, Trash: 7 * day}

// idleSnapshot is a volume that nothing keeps but its age.
func idleSnapshot() Subject {
	return Subject{ID: "id", Name: "mine", Owner: "c1#tok", Pool: "main", State: StateLive, Snapshot: true,
		Mounted: No, Open: No, InFstab: No, OwnerStopped: No, OwnerGone: No, Depended: No}
}

// old is the age of a volume that is unused for d.
func old(d time.Duration) Age { return Age{Owner: "c1#tok", Counting: CountingUnused, Unused: d} }

func with(change func(*Subject)) Subject {
	s := idleSnapshot()
	change(&s)
	return s
}

func TestJudgeKeepsWhatAnythingSpeaksFor(t *testing.T) {
	ready := old(60 * day).Announce()
	ready.SinceAnnounced = 30 * day
	if v := month.Judge(idleSnapshot(), ready, noon); v.Action != Trash {
		t.Fatalf("without a reason to keep it: %+v", v)
	}
	tests := []struct {
		name string
		s    Subject
		want string
	}{
		{"nothing known", Subject{}, "its state is not known"},
		{"odd state", with(func(s *Subject) { s.State = "gone" }), "its state is not known"},
		{"making", with(func(s *Subject) { s.State = StateMaking }), "still being made"},
		{"dataset", with(func(s *Subject) { s.Visible = true }), "a dataset"},
		{"no snapshot", with(func(s *Subject) { s.Snapshot = false }), "no snapshot"},
		{"orphan", with(func(s *Subject) { s.OwnerGone = Yes }), "its container is gone"},
		{"unknown owner", with(func(s *Subject) { s.OwnerGone = Unknown }), "not known whether its container still exists"},
		{"mounted", with(func(s *Subject) { s.Mounted, s.Open, s.Places = Yes, Yes, 2 }), "mounted in 2 containers"},
		{"unknown mounts", with(func(s *Subject) { s.Mounted = Unknown }), "not known whether it is mounted"},
		{"open", with(func(s *Subject) { s.Open = Yes }), "held open"},
		{"unknown open", with(func(s *Subject) { s.Open = Unknown }), "not known whether it is held open"},
		{"a fact that is none", with(func(s *Subject) { s.Open = 7 }), "not known whether it is held open"},
		{"depended on", with(func(s *Subject) { s.Depended = Yes }), "other volumes depend on it"},
		{"unknown dependents", with(func(s *Subject) { s.Depended = Unknown }), "not known whether other volumes"},
		{"never", with(func(s *Subject) { s.Forever = true }), "leased without an end"},
		{"leased", with(func(s *Subject) { s.Lease = noon.Add(day) }), "leased until 2026-11-23 12:00"},
		{"fstab", with(func(s *Subject) { s.InFstab = Yes }), "fstab names it"},
		{"unknown fstab", with(func(s *Subject) { s.InFstab = Unknown }), "not known whether its container's fstab"},
		{"stopped", with(func(s *Subject) { s.OwnerStopped = Yes }), "its container is stopped"},
		{"unknown container state", with(func(s *Subject) { s.OwnerStopped = Unknown }), "not known whether its container runs"},
		{"another owner's age", with(func(s *Subject) { s.Owner = "c2#tok" }), "unused for 0s of 30d"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := month.Judge(tt.s, ready, noon)
			if v.Action != Keep || !strings.Contains(strings.Join(v.Reasons, "\n"), tt.want) {
				t.Errorf("%v, because %q; want it kept because %q", v.Action, v.Reasons, tt.want)
			}
			age := month.Observe(ready, tt.s, MaxStep, noon)
			if v := month.Judge(tt.s, age, noon); v.Action != Keep {
				t.Errorf("%v once observed", v.Action)
			}
		})
	}
	for _, e := range []Expiry{{}, {Notice: day, Trash: day}} {
		if v := e.Judge(idleSnapshot(), ready, noon); v.Action != Keep || v.Next != Keep {
			t.Errorf("%+v: %+v", e, v)
		}
	}
}

func TestJudgeKeepsTrashThatAnythingSpeaksFor(t *testing.T) {
	deleted := func(change func(*Subject)) Subject {
		return with(func(s *Subject) {
			s.State, s.Deleted = StateTrash, noon.Add(-8*day)
			change(s)
		})
	}
	age := Age{Owner: "c1#tok", Deleted: noon.Add(-8 * day).Unix(), Trash: 8 * day}
	tests := []struct {
		name   string
		e      Expiry
		s      Subject
		age    Age
		purged bool
		want   string
	}{
		{"its time is over", month, deleted(func(s *Subject) {}), age, true, "in the trash for 8d of 7d, since 2026-11-14 12:00"},
		{"its time is over, and it was a dataset", month, deleted(func(s *Subject) { s.Visible, s.Snapshot = true, false }), age, true, ""},
		{"not observed long enough", month, deleted(func(s *Subject) {}), Age{Owner: "c1#tok", Deleted: age.Deleted, Trash: 7*day - 1}, false, "in the trash for 6d 23h of 7d"},
		{"nothing remembered", month, deleted(func(s *Subject) {}), Age{}, false, "in the trash for 0s of 7d"},
		{"deleted anew", month, deleted(func(s *Subject) { s.Deleted = noon.Add(-7*day - time.Hour) }), age, false, "for 0s of 7d"},
		{"deleted in the future", month, deleted(func(s *Subject) { s.Deleted = noon.Add(day) }), Age{Owner: "c1#tok", Deleted: noon.Add(day).Unix(), Trash: 8 * day}, false, "its date must be 7d old, which it is on 2026-11-30 12:00"},
		{"undated", month, deleted(func(s *Subject) { s.Deleted = time.Time{} }), Age{Trash: 8 * day}, false, "when it was deleted"},
		{"policy", Expiry{Unused: day}, deleted(func(s *Subject) {}), age, false, "leaves the trash alone"},
		{"mounted", month, deleted(func(s *Subject) { s.Mounted, s.Places = Yes, 1 }), age, false, "kept: mounted"},
		{"unknown mounts", month, deleted(func(s *Subject) { s.Mounted = Unknown }), age, false, "whether it is mounted"},
		{"open", month, deleted(func(s *Subject) { s.Open = Yes }), age, false, "held open"},
		{"unknown open", month, deleted(func(s *Subject) { s.Open = Unknown }), age, false, "held open"},
		{"depended on", month, deleted(func(s *Subject) { s.Depended = Yes }), age, false, "depend on it"},
		{"unknown dependents", month, deleted(func(s *Subject) { s.Depended = Unknown }), age, false, "depend on it"},
		{"orphan", month, deleted(func(s *Subject) { s.OwnerGone = Yes }), age, false, "container is gone"},
		{"unknown owner", month, deleted(func(s *Subject) { s.OwnerGone = Unknown }), age, false, "still exists"},
		{"leased", month, deleted(func(s *Subject) { s.Lease = noon.Add(day) }), age, false, "leased until"},
		{"never", month, deleted(func(s *Subject) { s.Forever = true }), age, false, "leased without an end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.e.Judge(tt.s, tt.age, noon)
			if (v.Action == Purge) != tt.purged || v.Action != Keep && v.Action != Purge || !strings.Contains(strings.Join(v.Reasons, "\n"), tt.want) {
				t.Errorf("%v, because %q; want purged %v and a word of %q", v.Action, v.Reasons, tt.purged, tt.want)
			}
			late, _ := Trashed{tt.e, tt.s, tt.age}.Pressed(noon)
			if !tt.purged && late && !strings.Contains(tt.name, "observed") && !strings.Contains(tt.name, "future") {
				t.Error("a full pool would take it")
			}
		})
	}
}

func TestALeaseEndsWhenItsDateAndItsTimeHavePassed(t *testing.T) {
	s := with(func(s *Subject) { s.Lease = noon.Add(time.Hour) })
	start := month.Observe(old(40*day).Announce(), s, 0, noon)
	if start.Announced {
		t.Error("the lease did not withdraw the announcement")
	}
	tests := []struct {
		name   string
		jump   time.Duration // of the wall clock, after the lease was seen
		passed time.Duration // running time
		ends   bool
	}{
		{"before its end", 0, 55 * time.Minute, false},
		{"at its end", 0, time.Hour, true},
		{"the clock jumped ahead", 10 * 365 * day, 55 * time.Minute, false},
		{"the clock jumped ahead, and its time passed", 10 * 365 * day, time.Hour, true},
		{"the clock jumped back", -10 * 365 * day, 2 * time.Hour, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			age, now := start, noon.Add(tt.jump)
			for range int(tt.passed / MaxStep) {
				now = now.Add(MaxStep)
				age = month.Observe(age, s, MaxStep, now)
			}
			v := month.Judge(s, age, now)
			if ended := v.Action == Announce; ended != tt.ends {
				t.Errorf("%v, because %q", v.Action, v.Reasons)
			}
		})
	}
	longer := s
	longer.Lease = noon.Add(3 * time.Hour)
	age := start
	age.LeaseSeen = time.Hour
	age = month.Observe(age, longer, MaxStep, noon.Add(time.Hour))
	if age.LeaseLength != 2*time.Hour || age.LeaseSeen != 0 {
		t.Errorf("another lease starts with %+v", age)
	}
	want := "kept: leased until 2026-11-22 15:00 (both the date and 2h of running time must pass)"
	if v := month.Judge(longer, age, noon); v.Reasons[0] != want {
		t.Errorf("%q", v.Reasons)
	}
}

func TestObserveCountsOnlyWhatWasSeen(t *testing.T) {
	mounted := with(func(s *Subject) { s.Mounted = Yes })
	fstab := with(func(s *Subject) { s.InFstab = Yes })
	unknown := with(func(s *Subject) { s.Open = Unknown })
	trash := with(func(s *Subject) { s.State, s.Deleted = StateTrash, noon })
	told := old(30 * day).Announce()
	told.SinceAnnounced = day
	capped := Expiry{Unused: 30 * day, IdleMax: 90 * day}
	idle := func(d time.Duration) Age {
		a := old(day)
		a.Counting, a.Idle = CountingIdle, d
		return a
	}
	m := time.Minute
	tests := []struct {
		name string
		e    Expiry
		age  Age
		s    Subject
		step time.Duration
		want Age
	}{
		{"a step", month, old(day), idleSnapshot(), m, old(day + m)},
		{"the first look", month, Age{}, idleSnapshot(), m, old(0)},
		{"a step too long", month, old(day), idleSnapshot(), 8 * time.Hour, old(day + MaxStep)},
		{"a step back", month, old(day), idleSnapshot(), -m, old(day)},
		{"use", month, told, mounted, m, Age{Owner: "c1#tok", Counting: CountingUse}},
		{"after use", month, Age{Owner: "c1#tok", Counting: CountingUse}, idleSnapshot(), m, old(0)},
		{"the notice", month, told, idleSnapshot(), m, Age{Owner: "c1#tok", Counting: CountingUnused, Unused: 30*day + m, Announced: true, SinceAnnounced: day + m}},
		{"the notice, while something is not known", month, told, unknown, m, Age{Owner: "c1#tok", Unused: 30 * day, Announced: true, SinceAnnounced: day}},
		{"a policy that became longer", Expiry{Unused: 31 * day}, told, idleSnapshot(), m, old(30*day + m)},
		{"fstab, first seen", month, old(day), fstab, m, idle(0)},
		{"fstab", month, idle(day), fstab, m, idle(day + m)},
		{"fstab, to the cap", capped, idle(90*day - m), fstab, 3 * m, Age{Owner: "c1#tok", Counting: CountingIdle, Unused: day + 2*m, Idle: 90 * day}},
		{"fstab, and the cap is new", capped, idle(300 * day), fstab, 3 * m, Age{Owner: "c1#tok", Counting: CountingIdle, Unused: day + 3*m, Idle: 90 * day}},
		{"a fstab that is not known counts as one that names it", capped, idle(90*day - m), with(func(s *Subject) { s.InFstab = Unknown }), 3 * m, Age{Owner: "c1#tok", Counting: CountingIdle, Unused: day + 2*m, Idle: 90 * day}},
		{"out of the fstab", month, idle(day), idleSnapshot(), m, old(day)},
		{"deleted", month, told, trash, m, Age{Owner: "c1#tok", Deleted: noon.Unix()}},
		{"in the trash", month, Age{Owner: "c1#tok", Deleted: noon.Unix(), Trash: day}, trash, m, Age{Owner: "c1#tok", Deleted: noon.Unix(), Trash: day + m}},
		{"undeleted", month, Age{Owner: "c1#tok", Counting: CountingUnused, Unused: day, Deleted: noon.Unix(), Trash: day}, idleSnapshot(), 0, old(0)},
		{"given away", month, told, with(func(s *Subject) { s.Owner = "c2#tok" }), m, Age{Owner: "c2#tok", Counting: CountingUnused}},
		{"rubbish from the disk", month, Age{Owner: "c1#tok", Counting: CountingUnused, Unused: -day, Idle: -1, SinceAnnounced: -1, Trash: -1}, idleSnapshot(), m, old(m)},
		{"as long as there is", month, old(math.MaxInt64), idleSnapshot(), m, old(math.MaxInt64)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.e.Observe(tt.age, tt.s, tt.step, noon); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestAgesComeBackFromTheDiskAsTheyWere(t *testing.T) {
	age := month.Observe(old(day), with(func(s *Subject) { s.Lease = time.Unix(1<<55, 0) }), MaxStep, noon)
	data, err := json.Marshal(age)
	if err != nil {
		t.Fatal(err)
	}
	var back Age
	if err := json.Unmarshal(data, &back); err != nil || back != age {
		t.Errorf("%s: got %+v, %v; want %+v", data, back, err, age)
	}
}

func TestAClockThatJumpsTakesNothing(t *testing.T) {
	for _, jump := range []time.Duration{10 * 365 * day, -10 * 365 * day} {
		subjects := []Subject{idleSnapshot(), with(func(s *Subject) { s.Lease = noon.Add(day) }),
			with(func(s *Subject) { s.State, s.Deleted = StateTrash, noon })}
		for _, s := range subjects {
			age := month.Observe(Age{}, s, MaxStep, noon)
			for range 3 {
				age = month.Observe(age, s, MaxStep, noon.Add(jump))
			}
			if v := month.Judge(s, age, noon.Add(jump)); v.Action != Keep {
				t.Errorf("%+v: %v after a jump of %v", s, v.Action, jump)
			}
		}
	}
}

func TestVerdictsAreTold(t *testing.T) {
	told := old(30 * day).Announce()
	told.SinceAnnounced = 2 * day
	fstab := old(day)
	fstab.Counting, fstab.Idle = CountingIdle, 10*day
	capped := month
	capped.IdleMax = 90 * day
	atOnce := month
	atOnce.Notice = 0
	trash := with(func(s *Subject) { s.State, s.Deleted = StateTrash, noon.Add(-2*day) })
	late := with(func(s *Subject) { s.State, s.Deleted = StateTrash, noon.Add(-7*day) })
	overdue := told
	overdue.SinceAnnounced = 7 * day
	hasty, hoards := month, month
	hasty.Notice, hoards.Trash = 0, 0
	tests := []struct {
		name    string
		e       Expiry
		s       Subject
		age     Age
		reasons []string
		outlook string
		change  string
	}{
		{"young", month, idleSnapshot(), old(12 * day), []string{"unused for 12d of 30d"}, "in 18d of running time its owner is told that it will go", "lls-agent keep mine --for 7d"},
		{"due", month, idleSnapshot(), old(30 * day), []string{"unused for 30d of 30d"}, "now its owner is told that it will go; in 7d of running time it goes to the trash", "mounting it"},
		{"due, without a notice", hasty, idleSnapshot(), old(30 * day), []string{"unused for 30d of 30d"}, "now its owner is told that it will go; then it goes to the trash", "mounting it"},
		{"due for the trash", month, idleSnapshot(), overdue, []string{"unused for 30d of 30d", "its owner was told 7d ago, of 7d"}, "now it goes to the trash; in 7d of running time it is purged", "mounting it"},
		{"due for a trash that stays", hoards, idleSnapshot(), overdue, []string{"unused for 30d of 30d", "its owner was told 7d ago, of 7d"}, "now it goes to the trash; nothing happens to it there by itself", "mounting it"},
		{"due for the purge", month, late, Age{Owner: "c1#tok", Deleted: late.Deleted.Unix(), Trash: 7 * day}, []string{"in the trash for 7d of 7d, since 2026-11-15 12:00"}, "now it is purged", "lls-agent undelete mine"},
		{"told", month, idleSnapshot(), told, []string{"unused for 30d of 30d", "its owner was told 2d ago, of 7d"}, "in 5d of running time it goes to the trash", "mounting it"},
		{"told, without a notice", atOnce, idleSnapshot(), told, []string{"unused for 30d of 30d", "its owner was told 2d ago"}, "now it goes to the trash; in 7d of running time it is purged", "mounting it"},
		{"fstab", month, with(func(s *Subject) { s.InFstab = Yes }), fstab, []string{"kept: its container's fstab names it", "unused for 1d of 30d"}, "nothing happens to it by itself", "the line out of the fstab"},
		{"unknown fstab", month, with(func(s *Subject) { s.InFstab, s.FstabUnknown = Unknown, "line 3 is odd" }), fstab, []string{"kept: it is not known whether its container's fstab names it (line 3 is odd)", "unused for 1d of 30d"}, "nothing happens to it by itself", "names volumes as lls:NAME"},
		{"unknown fstab with a cap", capped, with(func(s *Subject) { s.InFstab, s.FstabUnknown = Unknown, "it cannot be read" }), fstab, []string{"kept: it is not known whether its container's fstab names it (it cannot be read), which counts for 10d of 90d", "unused for 1d of 30d"}, "in 109d of running time its owner is told that it will go", "fstab"},
		{"fstab with a cap", capped, with(func(s *Subject) { s.InFstab = Yes }), fstab, []string{"kept: its container's fstab names it, which counts for 10d of 90d", "unused for 1d of 30d"}, "in 109d of running time its owner is told that it will go", "fstab"},
		{"trash", month, trash, Age{Owner: "c1#tok", Deleted: trash.Deleted.Unix(), Trash: day}, []string{"in the trash for 1d of 7d, since 2026-11-20 12:00"}, "in 6d of running time it is purged", "lls-agent undelete mine"},
		{"mounted", month, with(func(s *Subject) { s.Mounted = Yes }), Age{}, []string{"kept: mounted", "unused for 0s of 30d"}, "nothing happens to it by itself", "unmounting it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.e.Judge(tt.s, tt.age, noon)
			if !reflect.DeepEqual(v.Reasons, tt.reasons) {
				t.Errorf("reasons %q, want %q", v.Reasons, tt.reasons)
			}
			if got := v.Outlook(); got != tt.outlook {
				t.Errorf("outlook %q, want %q", got, tt.outlook)
			}
			if !strings.Contains(strings.Join(v.Change, "; "), tt.change) {
				t.Errorf("change %q, want a word of %q", v.Change, tt.change)
			}
		})
	}
	for kind := holdOdd; kind <= holdGrace; kind++ {
		if holdWords[kind].words == "" {
			t.Errorf("kind %d has no words", kind)
		}
	}
}

// pick draws one of several values.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }
