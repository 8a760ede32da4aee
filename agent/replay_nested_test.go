package agent

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/mount"
	"lls/lvm"
)

// nested is a bench whose container c1 has a volume mine, and the clock of its agent.
func nested(t *testing.T) (*bench, *time.Time) {
	b := newBench(t)
	b.withTree()
	now := time.Now()
	b.agent.opts.Now = func() time.Time { return now }
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
	return b, &now
}

func TestALineWaitsForTheLineAboveItThatIsTriedAgain(t *testing.T) {
	passes, missing := errors.New("no luck"), &mount.ErrTarget{Kind: mount.Missing}
	type round struct {
		fails       map[string]error
		said, tried string
	}
	for name, tt := range map[string]struct {
		fstab  []string
		rounds []round
	}{
		"the parent is mounted late": {
			[]string{"lls:mine /data lls", "lls:mine /data/sub lls"},
			[]round{
				{map[string]error{"/data": passes, "/data/sub": missing}, "1? 2?", "/data"},
				{map[string]error{"/data": passes}, "1? 2?", "/data"},
				{nil, "1+ 2+", "/data /data/sub"},
				{nil, "1+ 2+", ""},
			},
		},
		"the child stands above the parent in the file": {
			[]string{"lls:mine /data/sub lls", "lls:mine /data lls"},
			[]round{{map[string]error{"/data": passes}, "2? 1?", "/data"}, {nil, "2+ 1+", "/data /data/sub"}},
		},
		"the child fails by itself under a late parent": {
			[]string{"lls:mine /data lls", "lls:mine /data/sub lls"},
			[]round{
				{map[string]error{"/data": passes}, "1? 2?", "/data"},
				{map[string]error{"/data/sub": passes}, "1+ 2?", "/data /data/sub"},
				{map[string]error{"/data/sub": missing}, "1+ 2-", "/data/sub"},
			},
		},
		"the parent turns out to be for nothing": {
			[]string{"lls:mine /data lls", "lls:mine /data/sub lls"},
			[]round{
				{map[string]error{"/data": passes}, "1? 2?", "/data"},
				{map[string]error{"/data": missing, "/data/sub": missing}, "1- 2-", "/data /data/sub"},
			},
		},
		"a parent that is decided holds nobody up": {
			[]string{"lls:mine /data lls", "lls:mine /data/sub lls"},
			[]round{{map[string]error{"/data": missing}, "1- 2+", "/data /data/sub"}},
		},
		"three of them": {
			[]string{"lls:mine /a lls", "lls:mine /a/b lls", "lls:mine /a/b/c/d lls"},
			[]round{
				{map[string]error{"/a": passes}, "1? 2? 3?", "/a"},
				{map[string]error{"/a/b": passes}, "1+ 2? 3?", "/a /a/b"},
				{nil, "1+ 2+ 3+", "/a/b /a/b/c/d"},
			},
		},
		"words of a path count whole": {
			[]string{"lls:mine /data lls", "lls:mine /database lls", "lls:mine /data2/data lls", "lls:mine /data//sub/../sub/ lls", "lls:mine /srv/data lls"},
			[]round{{map[string]error{"/data": passes}, "1? 2+ 3+ 4? 5+", "/data /database /data2/data /srv/data"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := nested(t)
			b.setFstab(tt.fstab...)
			for i, r := range tt.rounds {
				b.mounts.mu.Lock()
				b.mounts.fail = maps.Clone(r.fails)
				b.mounts.mu.Unlock()
				if got := b.late(false); got != r.said {
					t.Errorf("round %d: %q, want %q", i, got, r.said)
				}
				if got := b.targets(); got != r.tried {
					t.Errorf("round %d: tried %q, want %q", i, got, r.tried)
				}
			}
		})
	}
}

func TestALineThatWaitsSaysForWhichAndIsMissingWhenRequired(t *testing.T) {
	b, _ := nested(t)
	b.setFstab("lls:mine /data lls", "lls:mine /data/sub lls x-lls.required", "lls:mine /data/sub/sub lls")
	b.failAt("/data", errors.New("no luck"))
	lines := b.replayed()
	is(t, "first", said(lines), "1? 2? 3?")
	if want := "cannot mount mine at /data/sub before line 1 is mounted at /data"; lines[1].Problem != want || !lines[1].Required {
		t.Errorf("%+v, want %q and that it is required", lines[1], want)
	}
	if want := "cannot mount mine at /data/sub/sub before line 1 is mounted at /data"; lines[2].Problem != want {
		t.Errorf("%q, want %q", lines[2].Problem, want)
	}
	b.failAt("/data", nil)
	b.setFstab("", "lls:mine /data lls", "lls:mine /data/sub lls x-lls.required")
	is(t, "in a file that was edited", b.late(false), "2+ 3+")
	if b.late(false); !b.guest1.fstab()[1].Required {
		t.Error("the line is not required any more")
	}
}

func TestALineIsTriedOnceWhenThatAboveItIsGivenUp(t *testing.T) {
	passes := errors.New("no luck")
	for name, tt := range map[string]struct {
		before, after func(b *bench)
		rounds        []string
		tried         string
	}{
		"it can be mounted": {rounds: []string{"1- 2+ 3+"}, tried: "/a/b /a/b/c"},
		"it cannot":         {before: func(b *bench) { b.failAt("/a/b", &mount.ErrTarget{Kind: mount.Missing}) }, rounds: []string{"1- 2- 3+"}, tried: "/a/b /a/b/c"},
		"it could be later": {before: func(b *bench) { b.failAt("/a/b", passes) }, rounds: []string{"1- 2? 3?", "1- 2- 3+"}, tried: "/a/b /a/b/c"},
		"its line moved":    {before: func(b *bench) { b.setFstab("lls:mine /a lls", "", "lls:mine /a/b lls") }, rounds: []string{"1- 3+"}, tried: "/a/b"},
		"its line went":     {before: func(b *bench) { b.setFstab("lls:mine /a lls") }, rounds: []string{"1-"}},
		"the file is dark":  {before: func(b *bench) { b.mounts.dark = mount.ErrStuck }, rounds: []string{"1- 2? 3?", "1- 2- 3-"}},
		"the agent stops":   {before: func(b *bench) { close(b.agent.stopping) }, rounds: []string{"1? 2? 3?", "1? 2? 3?"}},
		"another one does it": {before: func(b *bench) {
			b.failAt("/a/b", passes)
			b.late(false)
			b.failAt("/a/b", nil)
			b.guest1.setMemory(nil)
		}, rounds: []string{"1- 2+ 3+"}, tried: "/a/b /a/b /a/b/c"},
	} {
		t.Run(name, func(t *testing.T) {
			b, now := nested(t)
			b.setFstab("lls:mine /a lls", "lls:mine /a/b lls", "lls:mine /a/b/c lls")
			b.failAt("/a", passes)
			is(t, "first", b.late(false)+" "+b.targets(), "1? 2? 3? /a")
			*now = now.Add(retryFor)
			if tt.before != nil {
				tt.before(b)
			}
			var rounds []string
			for range tt.rounds {
				rounds = append(rounds, b.late(false))
			}
			if !slices.Equal(rounds, tt.rounds) {
				t.Errorf("%q, want %q", rounds, tt.rounds)
			}
			is(t, "tried", b.targets(), tt.tried)
			is(t, "at the end", b.late(false)+b.targets(), tt.rounds[len(tt.rounds)-1])
		})
	}
}

func TestALineWaitsForALabelAboveItThatCannotBeLookedForYet(t *testing.T) {
	b, _ := nested(t)
	b.write(testConfig + "[pools.late]\nvg = \"late\"\nlv = \"pool\"\n")
	if err := b.agent.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	deep := "/deep" + strings.Repeat("/directory", 20) // longer than a notice shows
	b.setFstab("UUID=uuid-of-tagged "+deep+"/./ ext4 x-lls.auto", "lls:mine "+deep+"/sub lls", "lls:mine "+deep+"-sub lls")
	is(t, "before", b.late(false), "1? 3+ 2?")
	is(t, "before", b.targets(), deep+"-sub")
	b.lvm.AddGroup("late", 100<<30)
	if err := b.lvm.CreatePool(t.Context(), lvm.CreatePool{VG: "late", Name: "pool", Size: 50 << 30, Tags: []lvm.Tag{catalog.PoolTag("late")}}); err != nil {
		t.Fatal(err)
	}
	b.agent.store.forget() // an event
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "tagged", Size: "1G", Pool: "late"}, "")
	is(t, "then", b.late(false), "3+ 1+ 2+")
	is(t, "then", b.targets(), deep+" "+deep+"/sub")
}

func TestAnotherAgentKnowsWhichLinesWaited(t *testing.T) {
	b, now := nested(t)
	b.setFstab("lls:mine /a lls", "lls:mine /a/b lls")
	b.failAt("/a", errors.New("no luck"))
	b.late(false)
	*now = now.Add(retryFor)
	is(t, "it tries once more", b.late(true), "1? 2?")
	b.guest1.setMemory(nil)
	if b.agent.remembered(b.guest1) == nil {
		t.Fatal("nothing is remembered")
	}
	is(t, "and gives up", b.late(false), "1- 2+")
	is(t, "in all", b.targets(), "/a /a /a/b")
}
