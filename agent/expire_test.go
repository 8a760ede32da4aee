package agent

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/mount"
	"lls/policy"
)

// due has snapshots of c1 unused until all of them are to be announced, or, once they were, to go to the trash, and does nothing yet.
// The result is the view of that look, and the verdict on each.
func (b *bench) due(action policy.Action, ids ...catalog.ID) (*View, facts, map[catalog.ID]policy.Verdict) {
	b.t.Helper()
	a := b.agent
	for range 100 {
		v, err := a.store.current(b.t.Context(), 0)
		if err != nil {
			b.t.Fatal(err)
		}
		f, now := a.gather(b.t.Context(), v), a.opts.Now().Add(policy.MaxStep)
		a.opts.Now = func() time.Time { return now }
		all, ready := map[catalog.ID]policy.Verdict{}, true
		for _, id := range ids {
			r := v.Catalog.ByID(id)
			e, s := a.expiry(v, r), a.subject(v, f, r)
			age := e.Observe(a.past.age(id), s, policy.MaxStep, now)
			a.past.history.Ages[string(id)] = age
			all[id] = e.Judge(s, age, now)
			if all[id].Action == policy.Announce && action != policy.Announce {
				a.carryOut(b.t.Context(), v, f, r, all[id])
			}
			ready = ready && all[id].Action == action
		}
		if ready {
			return v, f, all
		}
	}
	b.t.Fatalf("they do not come to %s", action)
	return nil, facts{}, nil
}

// Many may be due at once, and each takes its time.
func TestWhatIsUsedWhileOthersExpireStays(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(b *bench)
		stays  bool
	}{
		{"nobody does anything", func(*bench) {}, false},
		{"it is mounted, and unmounted again", func(b *bench) {
			b.post(b.c1, api.PathMount, api.MountRequest{Name: "mine", Path: "/data"}, "") // which no list of mounts shows here
		}, true},
		{"it is in the fstab by now", func(b *bench) { b.mounts.fstab = "lls:mine /data lls noauto,x-lls.auto 0 0\n" }, true},
		{"its container stops", func(b *bench) { delete(b.agent.guests.all, b.guest1.Key()) }, true},
		{"it is leased", func(b *bench) { b.post(b.c1, api.PathKeep, api.KeepRequest{Name: "mine", For: "1d"}, "") }, true},
		{"it is visible", func(b *bench) {
			b.post(b.c1, api.PathSet, api.SetRequest{Name: "mine", Visibility: api.Visible}, "")
		}, true},
		{"the policy lets it live longer", func(b *bench) {
			delete(b.agent.guests.all, b.guest1.Key()) // which has no tree to be told in
			b.reload(testConfig + "[expiry]\nunused = \"1h\"\n")
			b.agent.guests.all[b.guest1.Key()] = b.guest1
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.reload(testConfig + quietMail + "[expiry]\nunused = \"10m\"\nnotice = \"10m\"\n")
			b.agent.points = func(*guest, mount.Keep) ([]mount.Point, error) { return nil, nil }
			b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
			b.agent.guests.all[b.guest1.Key()] = b.guest1
			id := catalog.ID(b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "mine"}, "").ID)
			v, f, all := b.due(policy.Trash, id)
			tt.change(b)
			b.agent.carryOut(context.WithoutCancel(t.Context()), v, f, v.Catalog.ByID(id), all[id])
			if r := b.fresh(id); (r.State == catalog.Live) != tt.stays {
				t.Errorf("it is %s", r.State)
			}
		})
	}
}

func TestAnAnnouncementSaysWhenItGoes(t *testing.T) {
	for notice, words := range map[string]string{
		"10m": "c1/mine is unused, and goes to the trash in 10m",
		"0":   "c1/mine is unused, and goes to the trash at once",
	} {
		b := newBench(t)
		b.reload(testConfig + quietMail + "[expiry]\nunused = \"10m\"\nnotice = \"" + notice + "\"\n")
		b.agent.guests.all[b.guest1.Key()] = b.guest1
		b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
		id := catalog.ID(b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "mine"}, "").ID)
		v, f, all := b.due(policy.Announce, id)
		looked := b.agent.opts.Now()
		b.agent.past.facts, b.agent.past.factsAt = &f, looked
		w := b.agent.feed.join()
		b.agent.carryOut(t.Context(), v, f, v.Catalog.ByID(id), all[id])
		b.agent.feed.leave(w)
		wantLines(t, b.news(), words)
		rest, err := policy.ParseDuration(notice)
		if err != nil {
			t.Fatal(err)
		}
		owner := &call{agent: b.agent, asker: b.guest1.asker(), guest: b.guest1}
		heard := 0
		for ch := range w {
			heard++
			e, ok := owner.event(ch)
			if !ok || e.What != api.EventExpiring || e.Name != "mine" || e.Expires == nil || !e.Expires.Equal(looked.Add(rest)) {
				t.Errorf("the owner hears %+v, %v", e, ok)
			}
		}
		if heard != 1 {
			t.Errorf("it was told %d times", heard)
		}
	}
}

func TestWhatIsUsedWhileOthersAreAnnouncedIsNot(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail + "[expiry]\nunused = \"10m\"\nnotice = \"10m\"\n")
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	b.agent.guests.all[b.guest1.Key()] = b.guest1
	one := catalog.ID(b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "one"}, "").ID)
	two := catalog.ID(b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "two"}, "").ID)
	v, f, all := b.due(policy.Announce, one, two)
	b.post(b.c1, api.PathMount, api.MountRequest{Name: "two", Path: "/data"}, "")
	for _, id := range []catalog.ID{one, two} {
		b.agent.carryOut(t.Context(), v, f, v.Catalog.ByID(id), all[id])
	}
	wantLines(t, b.news(), "c1/one is unused")
	if b.agent.past.age(two).Announced {
		t.Error("what was used a moment ago is announced")
	}
}

// A lease is inherited with the running time that is left of it, so that no clock that is wrong by then can end it.
func TestARefreshKeepsALeaseWhateverTheClockSays(t *testing.T) {
	b := newBench(t)
	b.agent.guests.all[b.guest1.Key()] = b.guest1
	now := b.agent.opts.Now()
	b.agent.opts.Now = func() time.Time { return now }
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "mine"}, "")
	b.post(b.c1, api.PathKeep, api.KeepRequest{Name: "mine", For: "5d"}, "")
	look := func() {
		now = now.Add(policy.MaxStep)
		b.agent.tend(t.Context(), policy.MaxStep)
	}
	look()
	look()
	now = now.AddDate(10, 0, 0)
	b.post(b.c1, api.PathRefresh, api.NameRequest{Name: "mine"}, "")
	look()
	var e api.Explanation
	if err := b.admin.Get(t.Context(), api.PathExplain, url.Values{"name": {"c1/mine"}}, &e); err != nil {
		t.Fatal(err)
	}
	if why := strings.Join(e.Reasons, "; "); !strings.Contains(why, "both the date and 4d 23h of running time must pass") {
		t.Errorf("%+v", e)
	}
}

// What was used or leased since the agent last looked is known to the next agent, and to a clock that jumps, as well.
func TestAUseAndALeaseAreKnownAtOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		want func(b *bench)
		jump int // years
		kill bool
	}{
		"a use, and a kill":        {want: func(b *bench) { b.post(b.c1, api.PathMount, api.MountRequest{Name: "mine", Path: "/x"}, "") }, kill: true},
		"a lease, and a clock":     {want: func(b *bench) { b.post(b.c1, api.PathKeep, api.KeepRequest{Name: "mine", For: "90d"}, "") }, jump: 10},
		"a lease, a kill, a clock": {want: func(b *bench) { b.post(b.c1, api.PathKeep, api.KeepRequest{Name: "mine", For: "90d"}, "") }, jump: 10, kill: true},
		"a lease that is taken back": {want: func(b *bench) {
			b.post(b.c1, api.PathKeep, api.KeepRequest{Name: "mine", For: "90d"}, "")
			b.post(b.c1, api.PathKeep, api.KeepRequest{Name: "mine", For: "1d"}, "")
		}, jump: 10},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.reload(testConfig + quietMail + "[expiry]\nunused = \"1h\"\nnotice = \"30m\"\n")
			now := b.agent.opts.Now()
			b.agent.opts.Now = func() time.Time { return now }
			b.agent.points = func(*guest, mount.Keep) ([]mount.Point, error) { return nil, nil } // a mount that went again before anybody looked
			b.agent.guests.all[b.guest1.Key()] = b.guest1
			b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
			id := catalog.ID(b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "mine"}, "").ID)
			look := func(a *Agent) {
				now = now.Add(policy.MaxStep)
				a.tend(t.Context(), policy.MaxStep)
			}
			for n := 0; b.agent.past.age(id).SinceAnnounced < 25*time.Minute; n++ {
				if look(b.agent); n > 100 {
					t.Fatalf("it is not announced: %+v", b.agent.past.age(id))
				}
			}
			tt.want(b)
			a := b.agent
			if tt.kill {
				a = b.next(t)
			}
			now = now.AddDate(tt.jump, 0, 0)
			for range 4 {
				look(a)
			}
			v, err := a.store.current(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			if r := v.Catalog.ByID(id); r.State != catalog.Live {
				t.Errorf("it is %s; %+v", r.State, a.past.age(id))
			}
		})
	}
}

// next is the agent that comes after this one, which was killed.
func (b *bench) next(t *testing.T) *Agent {
	t.Helper()
	old := b.agent
	a, err := New(old.opts, b.parts(old.containers))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.points, a.guests.all = old.points, old.guests.all
	return a
}
