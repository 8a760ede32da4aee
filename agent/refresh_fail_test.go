package agent

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/mount"
	"lls/lvm"
)

func TestACrashInARefreshIsUndoneOrFinished(t *testing.T) {
	stop := errors.New("killed")
	for _, tt := range []struct {
		name  string
		steps int // tag changes of the swap that were made
		want  string
	}{
		{"before the exchange", 0, "mine=live"},
		{"in the middle of it", 1, "mine=live mine=trash"},
		{"after it", 2, "mine=live mine=trash"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, _, old := refreshScene(t)
			was := b.record(old.ID)
			next := catalog.Record{ID: catalog.NewID(), Name: was.Name, Owner: was.Owner, State: catalog.Making, Access: was.Access, Origin: was.Origin, FS: was.FS}
			err := b.lvm.Write(t.Context(), testVG, func(w lvm.Writer) error {
				err := w.Snapshot(t.Context(), lvm.Snapshot{Origin: b.record(string(was.Origin)).LV.Name, Name: next.LVName(), Tags: next.Tags(), Activate: true})
				gone, live := retired(was, next.ID, b.agent.opts.Now()), next
				live.State = catalog.Live
				for _, x := range [][2]*catalog.Record{{was, &gone}, {&next, &live}}[:tt.steps] {
					add, del := x[0].Changes(x[1])
					x[1].LV.Name = x[1].LVName()
					err = errors.Join(err, w.Retag(t.Context(), x[1].LV.Name, add, del))
				}
				return errors.Join(err, stop)
			})
			if err.Error() != stop.Error() {
				t.Fatal(err)
			}
			b.agent.recover(t.Context())
			if got := strings.TrimSuffix(b.names(b.c1, true), " "); strings.Replace(got, "d=live ", "", 1) != tt.want && strings.Replace(got, " d=live", "", 1) != tt.want {
				t.Errorf("after the start there is %s", got)
			}
			if tt.steps == 0 && (b.record(old.ID).State != catalog.Live || len(b.volumes()) != 2) {
				t.Errorf("LVM has %+v", b.volumes())
			}
			if tt.steps > 0 && b.record(string(next.ID)).State != catalog.Live {
				t.Errorf("LVM has %+v", b.volumes())
			}
		})
	}
}

func TestLVMThatFailsInARefreshLosesNothing(t *testing.T) {
	no := errors.New("no luck")
	for _, tt := range []struct {
		steps []string // that fail
		want  api.Code
	}{
		{[]string{"Snapshot"}, api.Failed}, {[]string{"Snapshot.after"}, api.Failed}, {[]string{"Deactivate"}, api.Failed},
		{[]string{"Deactivate.after"}, api.Failed}, {[]string{"Retag"}, api.Failed}, {[]string{"Retag.after"}, ""},
		{[]string{"Retag.after", "Retag"}, api.Failed},
	} {
		t.Run(strings.Join(tt.steps, " "), func(t *testing.T) {
			b, k, old := refreshScene(t)
			for _, s := range tt.steps {
				b.lvm.Fail(s, no)
			}
			err := b.c1.Post(t.Context(), api.PathRefresh, api.NameRequest{Name: "mine"}, nil)
			if tt.want == "" && err != nil || tt.want != "" && !tt.want.Is(err) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			b.agent.undoMaking(t.Context())
			live := 0
			for _, r := range catalog.New([]lvm.Group{{Volumes: b.volumes()}}).Records {
				switch {
				case r.State == catalog.Making:
					t.Errorf("half made: %+v", r)
				case r.State == catalog.Live && r.Name == "mine":
					live++
					if at := k.mounted(b.guest1, string(r.ID)); at != "/data rw,nodev" && len(tt.steps) == 1 {
						t.Errorf("it is mounted at %q", at)
					}
				}
			}
			if live != 1 || b.record(old.ID) == nil {
				t.Errorf("%d are live: %+v", live, b.volumes())
			}
		})
	}
}

func TestAMountThatFailsAfterARefreshIsTold(t *testing.T) {
	b, k, old := refreshScene(t)
	b.post(b.c1, api.PathMount, api.MountRequest{Name: "mine", Path: "/b"}, "")
	b.mounts.fail["/data"] = &mount.ErrTarget{Path: "/data", Why: "no such directory", Kind: mount.Missing}
	e := b.refused(b.c1, "mine", api.BadPath)
	if !strings.Contains(e.Message, "mine is refreshed, and not mounted at /data any more") || !strings.Contains(e.Hint, "lls mount mine /data") {
		t.Errorf("%s; %s", e.Message, e.Hint)
	}
	next := string(b.record(old.ID).NextID)
	if at := k.mounted(b.guest1, next); at != "/b rw,nodev" || b.record(next).State != catalog.Live {
		t.Errorf("it is mounted at %s", at)
	}
}

func TestAMountThatCannotBePutBackIsTold(t *testing.T) {
	b, k, old := refreshScene(t)
	b.post(b.c1, api.PathMount, api.MountRequest{Name: "mine", Path: "/b"}, "")
	k.busy["/data"] = mount.ErrBusy
	b.mounts.fail["/b"] = mount.ErrStuck
	e := b.refused(b.c1, "mine", api.Busy)
	if !strings.Contains(e.Message, "not mounted at /b any more") || !strings.Contains(e.Hint, "lls mount mine /b") || k.mounted(b.guest1, old.ID) != "/data rw,nodev" {
		t.Errorf("%s; %s", e.Message, e.Hint)
	}
}

func TestTwoRefreshesAtOnceAreOne(t *testing.T) {
	b, _, _ := refreshScene(t)
	var begun, wait = make(chan struct{}), make(chan struct{})
	k := b.agent.mounts.(*kernel)
	var once sync.Once
	k.seen = func(string) { once.Do(func() { close(begun); <-wait }) }
	first := make(chan error, 1)
	go func() { first <- b.c1.Post(t.Context(), api.PathRefresh, api.NameRequest{Name: "mine"}, nil) }()
	<-begun
	b.agent.undoMaking(t.Context()) // leaves it alone
	b.refused(b.c1, "mine", api.Busy)
	close(wait)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if got := b.names(b.c1, true); got != "mine=live d=live mine=trash" {
		t.Errorf("there is %s", got)
	}
}

func TestARefreshIsToldAsOneGoingAndOneComing(t *testing.T) {
	b, _, old := refreshScene(t)
	for range 8 { // ids are random, and so is their order
		was, err := b.agent.store.current(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		got := b.refresh(b.c1, "mine")
		now, err := b.agent.store.current(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, ch := range differences(was, now) {
			told = append(told, ch.what+" "+string(ch.now.ID))
		}
		if want := "deleted " + old.ID + ", created " + got.Volume.ID; strings.Join(told, ", ") != want {
			t.Errorf("told were %s, want %s", told, want)
		}
		old = got.Volume
		b.post(b.c1, api.PathPurge, api.NameRequest{Name: "mine"}, "")
	}
}

func TestWhatIsSetDuringARefreshHolds(t *testing.T) {
	b, k, old := refreshScene(t)
	k.seen = func(step string) {
		if step != "umount /data" {
			return
		}
		_, err := b.agent.retag(t.Context(), b.record(old.ID), false, func(to *catalog.Record, _ *View) error {
			to.Access, to.GrowTo = api.AccessNone, 5<<30
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if v := b.refresh(b.c1, "mine").Volume; v.Access != api.AccessNone || v.GrowTo != 5<<30 {
		t.Errorf("%+v", v)
	}
}

func TestAVolumeDeletedDuringItsRefreshStaysDeleted(t *testing.T) {
	b, k, old := refreshScene(t)
	k.seen = func(step string) {
		if step != "umount /data" {
			return
		}
		_, err := b.agent.retag(t.Context(), b.record(old.ID), false, func(to *catalog.Record, _ *View) error {
			to.State, to.Deleted = catalog.Trash, time.Now()
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	b.refused(b.c1, "mine", api.NotFound)
	if got := b.names(b.c1, true); got != "d=live mine=trash" || b.record(old.ID).NextID != "" || len(b.volumes()) != 2 {
		t.Errorf("there is %s", got)
	}
}

func TestWhatReplacedAnotherIsNotTakenAwayOnAStaleView(t *testing.T) {
	b, _, old := refreshScene(t)
	b.post(b.c1, api.PathUmount, api.UmountRequest{Target: "mine"}, "")
	next := b.record(b.refresh(b.c1, "mine").Volume.ID)
	half, err := b.agent.retag(t.Context(), next, false, func(to *catalog.Record, _ *View) error {
		to.State = catalog.Making // as in the middle of the exchange
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.agent.discard(t.Context(), half, b.agent.unfinished); err == nil || b.record(string(next.ID)) == nil {
		t.Errorf("%v, %+v", err, b.volumes())
	}
	b.agent.undoMaking(t.Context())
	if b.record(string(next.ID)).State != catalog.Live || b.record(old.ID).NextID != next.ID {
		t.Errorf("%+v", b.volumes())
	}
}
