package agent

import (
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/history"
	"lls/policy"
)

// What a volume's owner does about its end shows at once, in the answer and in every list, and not only when the agent looks again.
func TestWhatAnOwnerIsToldOfExpiryIsOfNow(t *testing.T) {
	const notice, trash = 10 * time.Minute, 7 * 24 * time.Hour
	keep := func(lease string) func(b *bench) api.Volume {
		return func(b *bench) api.Volume {
			return b.post(b.c1, api.PathKeep, api.KeepRequest{Name: "mine", For: lease}, "")
		}
	}
	remove := func(b *bench) api.Volume {
		return b.post(b.c1, api.PathDelete, api.NameRequest{Name: "mine"}, "")
	}
	for name, tt := range map[string]struct {
		do   func(b *bench) api.Volume
		want time.Duration // from now; 0: it does not expire
	}{
		"nothing is done": {func(b *bench) api.Volume {
			for _, v := range b.list(b.c1, false) {
				if v.Name == "mine" {
					return v
				}
			}
			return api.Volume{}
		}, notice},
		"it is kept":               {keep("90d"), 0},
		"it is kept no longer":     {keep("0"), notice},
		"it is deleted":            {remove, trash},
		"it is kept, then deleted": {func(b *bench) api.Volume { keep("90d")(b); return remove(b) }, 90 * 24 * time.Hour},
		"it is unmounted, then deleted": {func(b *bench) api.Volume {
			b.post(b.c1, api.PathMount, api.MountRequest{Name: "mine", Path: "/data"}, "")
			f := b.agent.gather(b.t.Context(), b.agent.store.latest()) // which sees it mounted
			b.agent.past.with(func(*history.History) { b.agent.past.facts = &f })
			b.post(b.c1, api.PathUmount, api.UmountRequest{Target: "mine"}, "")
			return remove(b)
		}, trash},
		"it is made, then deleted": {func(b *bench) api.Volume {
			b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "new"}, "")
			return b.post(b.c1, api.PathDelete, api.NameRequest{Name: "new"}, "")
		}, trash},
		"it is deleted, and brought back": {func(b *bench) api.Volume {
			remove(b)
			return b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "mine"}, "")
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.reload(testConfig + quietMail + "[expiry]\nunused = \"10m\"\nnotice = \"10m\"\ntrash = \"7d\"\n")
			now := b.agent.opts.Now().Truncate(time.Second) // as the tags have it
			b.agent.opts.Now = func() time.Time { return now }
			newKernel(b)
			b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
			id := catalog.ID(b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "mine"}, "").ID)
			for n := 0; !b.agent.past.age(id).Announced; n++ {
				if n > 100 {
					t.Fatalf("it is not announced: %+v", b.agent.past.age(id))
				}
				now = now.Add(policy.MaxStep)
				b.agent.tend(t.Context(), policy.MaxStep)
			}
			v := tt.do(b)
			told := map[string]*time.Time{"the answer": v.Expires}
			for _, one := range b.list(b.c1, true) {
				if one.ID == v.ID {
					told["the list"] = one.Expires
				}
			}
			if len(told) != 2 {
				t.Fatalf("%+v is in no list", v)
			}
			for where, at := range told {
				if (at == nil) != (tt.want == 0) || at != nil && !at.Equal(now.Add(tt.want)) {
					t.Errorf("%s says that it expires at %v; want %v after %v", where, at, tt.want, now)
				}
			}
		})
	}
}

// The next agent knows what expires before the first time that volumes age.
func TestWhatExpiresIsKnownFromTheStart(t *testing.T) {
	b := newBench(t)
	newKernel(b)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	b.agent.firstLook(t.Context())
	if v := b.post(b.admin, api.PathDelete, api.NameRequest{Name: "d"}, ""); v.Expires == nil {
		t.Errorf("%+v", v)
	}
}
