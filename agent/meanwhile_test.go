package agent

import (
	"os"
	"sync"
	"testing"

	"lls/agent/api"
	"lls/agent/catalog"
)

// The look-up finds it live and active; by the time its device is looked for, it is in the trash.
func TestAMountThatADeletionOvertakesIsRefused(t *testing.T) {
	b := newBench(t)
	k := newKernel(b)
	v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G", Mount: "/x"}, "")
	b.post(b.c1, api.PathUmount, api.UmountRequest{Target: "a"}, "") // it stays active for a while
	var once sync.Once
	gone := func() (err error) {
		once.Do(func() {
			b.post(b.c1, api.PathDelete, api.NameRequest{Name: "a"}, "")
			err = os.ErrNotExist
		})
		return err
	}
	b.dev.mu.Lock()
	b.dev.number = gone
	b.dev.mu.Unlock()
	b.post(b.c1, api.PathMount, api.MountRequest{Name: "a", Path: "/data"}, api.NotFound)
	if at, r := k.mounted(b.guest1, v.ID), b.record(v.ID); at != "" || r.State != catalog.Trash || r.LV.Active {
		t.Errorf("mounted at %q; %+v", at, r)
	}
}

// The deletion comes while the mount is being made: it is taken away again, and the device goes with it.
func TestAMountOfWhatWasDeletedMeanwhileIsTakenAway(t *testing.T) {
	b := newBench(t)
	k := newKernel(b)
	v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	k.seen = func(step string) {
		if step != "mount /data" {
			return
		}
		_, err := b.agent.retag(t.Context(), b.record(v.ID), false, func(to *catalog.Record, _ *View) error {
			to.State, to.Deleted = catalog.Trash, b.agent.opts.Now()
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		b.agent.store.forget() // what nobody has looked at since is looked at now
	}
	b.post(b.c1, api.PathMount, api.MountRequest{Name: "a", Path: "/data"}, api.NotFound)
	if at, r := k.mounted(b.guest1, v.ID), b.record(v.ID); at != "" || r.State != catalog.Trash || r.LV.Active {
		t.Errorf("mounted at %q; %+v", at, r)
	}
}

// A volume that was open to raw writing is checked before it is mounted, which takes its time. Rights are what they are after it.
func TestARightThatEndsWhileTheFileSystemIsCheckedIsHonoured(t *testing.T) {
	for _, tt := range []struct {
		name string
		own  bool // the mounter is the owner
		do   func(b *bench)
		want api.Code
	}{
		{"nothing", false, func(*bench) {}, ""},
		{"for nobody", false, func(b *bench) { b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", Access: api.AccessNone}, "") }, api.Denied},
		{"hidden", false, func(b *bench) { b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", Visibility: api.Hidden}, "") }, api.NotFound},
		{"deleted", false, func(b *bench) { b.post(b.c1, api.PathDelete, api.NameRequest{Name: "a"}, "") }, api.NotFound},
		{"deleted, and one's own", true, func(b *bench) { b.post(b.c1, api.PathDelete, api.NameRequest{Name: "a"}, "") }, api.NotFound},
		{"purged", true, func(b *bench) { b.destroy(b.c1, "a") }, api.NotFound},
		{"read-only", false, func(b *bench) { b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", Access: api.AccessRO}, "") }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			k := newKernel(b)
			visible := true
			v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G", Visible: &visible}, "")
			b.post(b.c1, api.PathSet, api.SetRequest{Name: "a", Access: api.AccessRW}, "")
			b.agent.mark(t.Context(), []*catalog.Record{b.record(v.ID)})
			checked := 0
			b.dev.mu.Lock()
			b.dev.check = func() error {
				if checked++; checked == 1 {
					tt.do(b)
				}
				return nil
			}
			b.dev.mu.Unlock()
			g, client := b.second()
			name := "c1/a"
			if tt.own {
				g, client, name = b.guest1, b.c1, "a"
			}
			b.post(client, api.PathMount, api.MountRequest{Name: name, Path: "/data"}, tt.want)
			if checked != 1 {
				t.Errorf("it was checked %d times", checked)
			}
			want := map[string]string{"": "/data rw,nodev"}[string(tt.want)]
			if tt.name == "read-only" {
				want = "/data ro,nodev"
			}
			if at := k.mounted(g, v.ID); at != want {
				t.Errorf("mounted at %q, want %q", at, want)
			}
		})
	}
}
