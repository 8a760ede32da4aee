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
