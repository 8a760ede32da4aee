package agent

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/lvm"
	"lls/policy"
)

// TestAPoolThatIsTooFullTakesTheOldestTrashFirst shows what goes before its time, and what does not.
func TestAPoolThatIsTooFullTakesTheOldestTrashFirst(t *testing.T) {
	b := newBench(t)
	var made []api.Volume
	for _, name := range []string{"oldest", "old", "young", "live"} {
		made = append(made, b.post(b.c1, api.PathCreate, api.CreateRequest{Name: name, Size: "1G"}, ""))
	}
	now := b.agent.opts.Now()
	b.agent.opts.Now = func() time.Time { return now }
	for _, v := range made[:3] {
		b.post(b.c1, api.PathDelete, api.NameRequest{Name: v.Name}, "")
		now = now.Add(time.Second)
	}
	look := func(step time.Duration, times int) {
		for range times {
			now = now.Add(step)
			b.agent.tend(t.Context(), step)
		}
	}
	look(policy.MaxStep, 13) // a little over an hour
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "young"}, "")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "young"}, "")
	look(time.Second, 2)
	if got := b.names(b.c1, true); got != "live=live oldest=trash old=trash young=trash" && got != "live=live old=trash oldest=trash young=trash" {
		t.Fatalf("before the pool is full: %s", got)
	}
	b.write(testConfig + "data_percent = 90.0\n[growth.data]\nthreshold = 0.0\n")
	if err := b.agent.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.lvm.SetFill(testVG, testPool, 91, 1)
	for _, want := range []string{"live=live old=trash young=trash", "live=live young=trash", "live=live young=trash"} {
		look(time.Second, 1)
		if got := b.names(b.c1, true); got != want {
			t.Errorf("%s is left, want %s", got, want)
		}
	}
	b.lvm.SetFill(testVG, testPool, 50, 1)
	look(time.Second, 2)
	if r := b.fresh(catalog.ID(made[2].ID)); r == nil || r.State != catalog.Trash {
		t.Errorf("what was deleted a moment ago is %+v", r)
	}
}

func (b *bench) group() lvm.Group {
	b.t.Helper()
	groups, err := b.lvm.Report(b.t.Context(), testVG)
	if err != nil {
		b.t.Fatal(err)
	}
	return groups[0]
}

// oldTrash deletes volumes and lets a little more than an hour pass.
func (b *bench) oldTrash(names ...string) {
	b.t.Helper()
	now := b.agent.opts.Now()
	b.agent.opts.Now = func() time.Time { return now }
	b.make(names...)
	for _, n := range names {
		b.post(b.c1, api.PathDelete, api.NameRequest{Name: n}, "")
		now = now.Add(time.Second)
	}
	for range 14 {
		now = now.Add(policy.MaxStep)
		b.agent.tend(b.t.Context(), policy.MaxStep)
	}
}

// TestTrashGoesEarlyExactlyWhereThePoolDoesNotGrow holds what makes room in a pool against what has it grow.
func TestTrashGoesEarlyExactlyWhereThePoolDoesNotGrow(t *testing.T) {
	for _, tt := range []struct {
		name       string
		rules      string
		change     func(b *bench)
		data, meta float64
		goes       bool
	}{
		{"data grows", "", func(*bench) {}, 96, 1, false},
		{"data at its cap", "[growth.data]\ncap = \"52G\"\n", func(*bench) {}, 96, 1, true},
		{"data must not grow", "[growth.data]\nthreshold = 0\n", func(*bench) {}, 96, 1, true},
		{"data would take more metadata than there is room for", "[growth.data]\nreserve = \"0\"\n", func(b *bench) {
			b.lvm.AddPlain(testVG, "others", b.group().Free-8*lvm.MiB)
		}, 96, 1, true},
		{"there is room for a part of it", "[growth.data]\nreserve = \"0\"\n", func(b *bench) {
			b.lvm.AddPlain(testVG, "others", b.group().Free-500*lvm.MiB)
		}, 96, 1, false},
		{"metadata grows", "", func(*bench) {}, 10, 99, false},
		{"metadata must not grow", "[growth.metadata]\nthreshold = 0\n", func(*bench) {}, 10, 99, true},
		{"metadata has no room for its spare", "", func(b *bench) {
			b.lvm.AddPlain(testVG, "others", b.group().Free-4*lvm.MiB)
		}, 10, 99, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.reload(testConfig + quietMail + tt.rules)
			b.oldTrash("a", "b")
			b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.Size, p.MetadataSize = 52*lvm.GiB, 52*lvm.MiB }) // the least that LVM gives it, in whole extents
			tt.change(b)
			b.fill(tt.data, tt.meta)
			b.agent.store.forget()
			b.agent.tend(t.Context(), time.Second)
			left := b.names(b.c1, true)
			was := b.pool()
			b.growClock()
			b.grower().step(t.Context())
			is := b.pool()
			if grew := is.Size > was.Size || is.MetadataSize > was.MetadataSize; grew == tt.goes {
				t.Errorf("the pool grew: %v, from %+v to %+v", grew, was, is)
			}
			if want := map[bool]string{false: "a=trash b=trash", true: "b=trash"}[tt.goes]; left != want { // one at a time, as nobody measured them
				t.Errorf("%q is left, want %q", left, want)
			}
			if news := b.news(); tt.goes && !slices.Contains(news, "c1/a was purged before its time, because pool main is too full") {
				t.Errorf("the mail says %q", news)
			}
		})
	}
}

// Whatever dry-run tells of, explain and info find by the name that it has there.
func TestWhatARefreshReplacedIsToldOfByItsNameInLVM(t *testing.T) {
	b, _, old := refreshScene(t)
	b.refresh(b.c1, "mine")
	b.post(b.c1, api.PathUmount, api.UmountRequest{Target: "mine"}, "")
	var all []api.Prospect
	if err := b.admin.Get(t.Context(), api.PathDryRun, nil, &all); err != nil {
		t.Fatal(err)
	}
	id := "mine." + old.ID
	names := map[string]bool{}
	for _, p := range all {
		if p.ID != "" {
			names[p.Name] = true
		}
	}
	if !names["c1/"+id] || len(names) != 1 {
		t.Errorf("dry-run tells of %v", names)
	}
	for name, state := range map[string]string{"c1/mine": api.StateLive, "c1/" + id: api.StateTrash, id: api.StateTrash, "c1#t1/" + id: api.StateTrash} {
		var e api.Explanation
		if err := b.admin.Get(t.Context(), api.PathExplain, url.Values{"name": {name}}, &e); err != nil || e.State != state {
			t.Errorf("explain %s: %+v, %v", name, e, err)
		}
		if state == api.StateTrash && (e.Name != "c1/"+id || !slices.Contains(e.Change, "lls-agent undelete c1/"+id+" takes it out of the trash")) {
			t.Errorf("explain %s: %+v", name, e)
		}
	}
	_, second := b.second()
	for _, tt := range []struct {
		client *api.Client
		name   string
		want   api.Code
	}{
		{b.c1, id, ""}, {b.c1, "c1/" + id, ""}, {b.admin, id, ""}, {b.admin, "c1/" + id, ""},
		{b.admin, "c2/" + id, api.NotFound}, {second, id, api.NotFound}, {second, "c1/" + id, api.NotFound},
	} {
		var v api.Volume
		err := tt.client.Get(t.Context(), api.PathVolume, url.Values{"name": {tt.name}}, &v)
		if tt.want == "" && (err != nil || v.ID != old.ID) || tt.want != "" && !tt.want.Is(err) {
			t.Errorf("info %s: %+v, %v", tt.name, v, err)
		}
	}
	b.post(b.admin, api.PathUndelete, api.UndeleteRequest{Name: "c1/" + id, As: "was"}, "")
}

func TestExplainAndDryRunTellWhatAFullPoolTakes(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail + "[growth.data]\nthreshold = 0\n")
	b.oldTrash("a", "b")
	b.make("new")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "new"}, "")
	b.fill(97, 1)
	b.agent.store.forget()
	var all []api.Prospect
	if err := b.admin.Get(t.Context(), api.PathDryRun, nil, &all); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range all {
		got = append(got, p.When+": "+p.Action+" "+p.Name)
	}
	want := []string{"now: stay main", "now: purge c1/a", "in 6d 22h: purge c1/b", "in 7d: purge c1/new", "at 90% of pool main: stay main"}
	if !slices.Equal(got, want) {
		t.Errorf("dry-run tells %q, want %q", got, want)
	}
	if why := strings.Join(all[0].Why, "; "); !strings.Contains(why, "data is 97% full and cannot grow: it does not grow by itself") {
		t.Errorf("why: %q", why)
	}
	for _, tt := range []struct{ name, action, reason, next string }{
		{"a", "purge", "97% full and cannot grow", "it is purged before its time, in a moment"},
		{"b", "keep", "what was longer in the trash goes first", "in 6d 22h of running time it is purged, or before its time if that is not enough"},
		{"new", "keep", "not even a full pool takes", "in 7d of running time it is purged"},
	} {
		var e api.Explanation
		if err := b.admin.Get(t.Context(), api.PathExplain, url.Values{"name": {"c1/" + tt.name}}, &e); err != nil {
			t.Fatal(err)
		}
		if e.Action != tt.action || !strings.Contains(strings.Join(e.Reasons, "; "), tt.reason) || e.Next != tt.next {
			t.Errorf("%s: %+v", tt.name, e)
		}
	}
	b.agent.tend(t.Context(), time.Second)
	if got := b.names(b.c1, true); got != "b=trash new=trash" {
		t.Errorf("then %q is left", got)
	}
	b.fill(50, 1)
	b.agent.store.forget()
	if err := b.admin.Get(t.Context(), api.PathDryRun, nil, &all); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(all, func(p api.Prospect) bool { return p.When == "now" }) {
		t.Errorf("with room again: %+v", all)
	}
}

// While a snapshot of the pool's metadata is held, nothing becomes free: all trash would go, and the pool would stay as full as it is.
func TestNothingGoesEarlyWhileNothingWouldBecomeFree(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail + "[growth.data]\nthreshold = 0\n")
	b.oldTrash("a", "b")
	b.fill(97, 1)
	tend := func() string {
		b.agent.store.forget()
		b.agent.tend(t.Context(), time.Second)
		return b.names(b.c1, true)
	}
	b.dev.held = true
	if got := tend(); got != "a=trash b=trash" {
		t.Errorf("%q is left", got)
	}
	var e api.Explanation
	if err := b.admin.Get(t.Context(), api.PathExplain, url.Values{"name": {"c1/a"}}, &e); err != nil {
		t.Fatal(err)
	}
	if e.Action != "keep" || !strings.Contains(strings.Join(e.Reasons, "; "), "a snapshot of the pool's metadata is held") {
		t.Errorf("explain: %+v", e)
	}
	var all []api.Prospect
	if err := b.admin.Get(t.Context(), api.PathDryRun, nil, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 || all[0].When != "now" || all[0].Action != "stay" || slices.ContainsFunc(all[1:], func(p api.Prospect) bool { return p.When == "now" }) {
		t.Errorf("dry-run: %+v", all)
	}
	b.dev.held = false
	if got := tend(); got != "b=trash" {
		t.Errorf("after its release %q is left", got)
	}
}

// Writers of a pool that is full wait for a minute at most: its trash goes as soon as it is seen that it cannot grow.
func TestTrashMakesRoomAsSoonAsAPoolCannotGrow(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + "data_percent = 90.0\n" + quietMail + "[growth.data]\ncap = \"50G\"\n")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "old", Size: "1G"}, "")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "old"}, "")
	now := b.agent.opts.Now()
	b.agent.opts.Now = func() time.Time { return now }
	for range 13 { // over an hour
		now = now.Add(policy.MaxStep)
		b.agent.tend(t.Context(), policy.MaxStep)
	}
	ctx, stop := context.WithCancel(t.Context())
	var ageing sync.WaitGroup
	ageing.Go(func() { b.agent.ageing(ctx) })
	defer ageing.Wait()
	defer stop()
	b.fill(96, 1)
	b.grower().step(t.Context())
	within(t, "what is in the trash goes", func() bool { return len(b.volumes()) == 0 })
}
