package agent

import (
	"slices"
	"strings"
	"testing"

	"lls/agent/api"
	"lls/agent/mount"
)

func TestUmountOfSeveralGoesOnAfterAFailure(t *testing.T) {
	b, k, old := refreshScene(t)
	for _, path := range []string{"/b", "/c"} {
		b.post(b.c1, api.PathMount, api.MountRequest{Name: "mine", Path: path}, "")
	}
	k.busy["/b"] = mount.ErrBusy
	e := api.AsError(b.c1.Post(t.Context(), api.PathUmount, api.UmountRequest{Target: "mine"}, nil))
	want := []string{"mine is not mounted at /c any more", "mine is not mounted at /data any more"}
	if e.Code != api.Busy || e.Message != "cannot unmount mine at /b: it is in use" || !slices.Equal(e.Problems, want) || e.Hint != "end what uses it, then: lls umount mine" {
		t.Errorf("%+v", e)
	}
	if at := k.mounted(b.guest1, old.ID); at != "/b rw,nodev" {
		t.Errorf("it is mounted at %q", at)
	}
}

// A volume of c1's is at /data, another, b, at /data/sub; the table has what else is there.
func TestUmountSaysWhichMountIsInItsWay(t *testing.T) {
	type at struct { // of other programs
		id, parent int
		path       string
	}
	for name, tt := range map[string]struct {
		target  string
		fails   error
		more    []at
		below   bool // b lies on a, not under it
		gone    bool // b's mount, when the unmounting fails
		unread  bool // is the table then
		want    api.Code
		says    string
		hint    string // to c1; to the sysadmin with where it is
		host    string // what that adds
		holders []string
	}{
		"it is hidden": {target: "/data/sub", fails: mount.ErrNotMounted, want: api.Busy, says: "cannot unmount b: /data/sub lies under what is mounted at /data",
			hint: "unmount that first: lls umount /data", host: " --container c1"},
		"it is hidden, by its name": {target: "b", fails: mount.ErrNotMounted, want: api.Busy, says: "cannot unmount b: /data/sub lies under what is mounted at /data",
			hint: "unmount that first: lls umount /data", host: " --container c1"},
		"another program's hides it": {target: "/data/sub", fails: mount.ErrNotMounted, below: true, more: []at{{9, 2, "/data/sub"}}, want: api.Busy,
			says: "cannot unmount b: /data/sub lies under what is mounted at /data/sub", hint: "unmount that first: umount /data/sub", host: ", in c1"},
		"it has gone meanwhile": {target: "/data/sub", fails: mount.ErrNotMounted, gone: true, want: api.NotFound,
			says: "cannot unmount b: it is not mounted at /data/sub any more", hint: "see what is mounted: lls list"},
		"nobody knows why":    {target: "/data/sub", fails: mount.ErrNotMounted, below: true, want: api.Failed, says: "cannot unmount /data/sub: ", hint: ""},
		"nobody can know why": {target: "/data/sub", fails: mount.ErrNotMounted, unread: true, want: api.Failed, says: "cannot unmount /data/sub: ", hint: ""},
		"another volume lies on it": {target: "/data", fails: mount.ErrBusy, below: true, want: api.Busy, says: "cannot unmount a: it is in use",
			hint: "unmount that first: lls umount /data/sub", host: " --container c1", holders: []string{"c1 /data/sub"}},
		"other programs' lie on it": {target: "a", fails: mount.ErrBusy, more: []at{{9, 1, "/data/x"}, {10, 9, "/data/x/y"}, {11, 1, "/data/z"}}, want: api.Busy,
			says: "cannot unmount a: it is in use", hint: "unmount that first: umount /data/x", host: ", in c1", holders: []string{"c1 /data/x", "c1 /data/z"}},
		"nothing lies on it": {target: "/data", fails: mount.ErrBusy, want: api.Busy, says: "cannot unmount a: it is in use", hint: "end what uses it, then: lls umount "},
		"it is not known what does": {target: "/data", fails: mount.ErrBusy, below: true, unread: true, want: api.Busy, says: "cannot unmount a: it is in use",
			hint: "end what uses it, then: lls umount "},
	} {
		for asker, admin := range map[string]bool{"c1": false, "the sysadmin": true} {
			t.Run(name+", to "+asker, func(t *testing.T) {
				b := newBench(t)
				k := newKernel(b)
				b.withTree()
				for _, v := range []string{"a", "b"} {
					b.post(b.c1, api.PathCreate, api.CreateRequest{Name: v, Size: "1G"}, "")
				}
				b.post(b.c1, api.PathMount, api.MountRequest{Name: "a", Path: "/data"}, "")
				b.post(b.c1, api.PathMount, api.MountRequest{Name: "b", Path: "/data/sub"}, "")
				table := k.at[b.guest1.box]
				table[0].ID, table[1].ID = 1, 2
				if tt.below {
					table[1].Parent = 1
				}
				for _, m := range tt.more {
					table = append(table, mount.Point{ID: m.id, Parent: m.parent, Path: m.path, Root: "/", Major: 8, Minor: 77})
				}
				k.at[b.guest1.box] = table
				path := map[string]string{"a": "/data", "b": "/data/sub"}[tt.target]
				if path == "" {
					path = tt.target
				}
				k.busy[path] = tt.fails
				points := b.agent.points
				failed := false
				k.seen = func(string) { failed = true }
				b.agent.points = func(g *guest, keep mount.Keep) ([]mount.Point, error) {
					all, err := points(g, keep)
					k.mu.Lock()
					defer k.mu.Unlock()
					switch {
					case failed && tt.unread:
						return nil, mount.ErrMounts
					case failed && tt.gone:
						return slices.DeleteFunc(all, func(p mount.Point) bool { return p.ID == 2 }), err
					}
					return all, err
				}
				client, in, says, hint := b.c1, api.UmountRequest{Target: tt.target}, tt.says, tt.hint
				if admin {
					client, in.Container, hint = b.admin, "c1", tt.hint+tt.host
					for _, v := range []string{"a", "b"} {
						says = strings.Replace(says, "unmount "+v+":", "unmount c1/"+v+":", 1)
					}
					if tt.target == "a" || tt.target == "b" {
						in.Target = "c1/" + tt.target
					}
				}
				e := api.AsError(client.Post(t.Context(), api.PathUmount, in, nil))
				var holders []string
				for _, h := range e.Holders {
					holders = append(holders, h.Container+" "+h.Path)
				}
				if e.Code != tt.want || !strings.HasPrefix(e.Message, says) || !strings.HasPrefix(e.Hint, hint) || !slices.Equal(holders, tt.holders) {
					t.Errorf("%s: %v; hint: %s; holders %q", e.Code, e, e.Hint, holders)
				}
			})
		}
	}
}

func TestTheHintOfWhatIsInUseUnmountsItWhereItIsMounted(t *testing.T) {
	b, _, _ := refreshScene(t)
	e := api.AsError(b.admin.Post(t.Context(), api.PathDelete, api.NameRequest{Name: "c1/mine"}, nil))
	if e.Hint != "end what uses it, then: lls umount c1/mine --container c1" {
		t.Errorf("%v; %s", e, e.Hint)
	}
	b.post(b.admin, api.PathUmount, api.UmountRequest{Target: "c1/mine", Container: "c1"}, "") // as it says
	b.post(b.admin, api.PathMount, api.MountRequest{Name: "c1/mine", Path: "/mnt"}, "")
	e = api.AsError(b.admin.Post(t.Context(), api.PathDelete, api.NameRequest{Name: "c1/mine"}, nil))
	if e.Hint != "end what uses it, then: lls umount c1/mine" {
		t.Errorf("%v; %s", e, e.Hint)
	}
}

func TestWhatFailsOnTheHostSaysWhatWasToBeDone(t *testing.T) {
	b := newBench(t)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	b.dev.makeErr = mount.ErrStuck
	for _, tt := range []struct {
		client     *api.Client
		name, want string
	}{
		{b.c1, "b", "cannot create b: something failed on the host"},
		{b.admin, "b", "cannot create b: "},
	} {
		err := tt.client.Post(t.Context(), api.PathCreate, api.CreateRequest{Name: tt.name, Size: "1G"}, nil)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
	b.dev.growErr = mount.ErrStuck
	err := b.c1.Post(t.Context(), api.PathResize, api.ResizeRequest{Name: "a", Size: "2G"}, nil)
	if err == nil || err.Error() != "cannot resize a: something failed on the host" {
		t.Error(err)
	}
}
