package agent

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/filesystem"
	"lls/agent/mount"
	"lls/lvm"
)

func TestADatasetIsSnapshotUnderTheSameNameByEveryContainer(t *testing.T) {
	b := newBench(t)
	made := b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "genomes", Size: "2G"}, "")
	if made.Kind != api.KindDataset || made.State != api.StateLive || made.Access != api.AccessRO || made.Size != 2<<30 {
		t.Errorf("made %+v", made)
	}
	if got := b.volumes()[0]; got.Active || len(b.dev.made) != 1 {
		t.Errorf("a new volume that nobody mounts stays active: %+v, file systems made: %v", got, b.dev.made)
	}
	snap := b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "genomes", Name: "genomes", Mount: "/data"}, "")
	if snap.Name != "genomes" || snap.Owner != "c1" || snap.Origin != "host/genomes" || len(snap.Mounts) != 1 || snap.LV != "" {
		t.Errorf("snapshot %+v", snap)
	}
	if r := b.mounts.last(); r.Target != "/data" || r.ReadOnly || r.Type != filesystem.Ext4 {
		t.Errorf("mounted %+v", r)
	}
	if got := b.names(b.c1, false); got != "genomes=live host/genomes=live" {
		t.Errorf("c1 sees %q", got)
	}
	if got := b.names(b.admin, false); got != "genomes=live c1/genomes=live" {
		t.Errorf("the sysadmin sees %q", got)
	}
}

func TestAVolumeThatCannotBeMountedIsTakenBack(t *testing.T) {
	b := newBench(t)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	b.mounts.fail["/nope"] = &mount.ErrTarget{Path: "/nope", Why: "no such directory", Kind: mount.Missing}
	b.mounts.fail["/taken"] = &mount.ErrOccupied{Path: "/taken"}
	b.mounts.fail["/fuse"] = mount.ErrStuck
	for path, code := range map[string]api.Code{"/nope": api.BadPath, "/taken": api.Busy, "/fuse": api.Busy, "relative": api.BadPath} {
		b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "x", Mount: path}, code)
		b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "x", Size: "1G", Mount: path}, code)
	}
	if got := b.volumes(); len(got) != 1 {
		t.Errorf("left over: %v", got)
	}
}

func TestAVolumeWhoseFileSystemFailsIsTakenBack(t *testing.T) {
	b := newBench(t)
	b.dev.makeErr = errors.New("mkfs says /dev/vg/secret is odd")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "x", Size: "1G"}, api.Failed)
	if got := b.volumes(); len(got) != 0 {
		t.Errorf("left over: %v", got)
	}
	err := b.c1.Post(t.Context(), api.PathCreate, api.CreateRequest{Name: "x", Size: "1G"}, nil)
	if err == nil || strings.Contains(err.Error(), "/dev") {
		t.Errorf("a container is told %v", err)
	}
	err = b.admin.Post(t.Context(), api.PathCreate, api.CreateRequest{Name: "x", Size: "1G"}, nil)
	if err == nil || !strings.Contains(err.Error(), "mkfs says") {
		t.Errorf("the sysadmin is told %v", err)
	}
}

func TestBadInputIsRefusedByCodeAndLeavesNothing(t *testing.T) {
	b := newBench(t)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	hidden := false
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "hid", Size: "1G", Visible: &hidden}, "")
	calls := b.lvm.Calls("CreateThin") + b.lvm.Calls("Snapshot")
	for _, name := range []string{"", "a b", "-x", "..", "a..b", strings.Repeat("x", 200), "snapshot1", "x_tmeta", "a/b/c", "ü"} {
		b.post(b.c1, api.PathCreate, api.CreateRequest{Name: name, Size: "1G"}, api.Malformed)
		b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: name + "!"}, api.Malformed)
		b.post(b.c1, api.PathMount, api.MountRequest{Name: name, Path: "/data"}, api.Malformed)
	}
	for _, size := range []string{"", "0", "-1G", "1E", "10 G", "G", "1e9", "99999999T"} {
		b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "x", Size: size}, api.Malformed)
		b.post(b.admin, api.PathResize, api.ResizeRequest{Name: "d", Size: size}, api.Malformed)
	}
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "x", Size: "1G", FS: "ntfs"}, api.Malformed)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "x", Size: "1M"}, api.Malformed)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "x", Size: "1G", Pool: "nope"}, api.NotFound)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "x", Size: "1G", Owner: "c2"}, api.Denied)
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "hid", Name: "x"}, api.NotFound)
	b.post(b.c1, api.PathMount, api.MountRequest{Name: "d", Path: "/x", Container: "c2"}, api.Denied)
	b.post(b.c1, api.PathUmount, api.UmountRequest{Target: "d"}, api.NotFound)
	b.post(b.c1, api.PathUmount, api.UmountRequest{}, api.Malformed)
	b.post(b.c1, api.PathSet, api.SetRequest{Name: "d", Visibility: "hidden"}, api.Denied)
	b.post(b.admin, api.PathSet, api.SetRequest{Name: "d", Visibility: "maybe"}, api.Malformed)
	b.post(b.admin, api.PathSet, api.SetRequest{Name: "d"}, api.Malformed)
	b.post(b.admin, api.PathResize, api.ResizeRequest{Name: "d", Size: "512M"}, api.Malformed)
	b.post(b.admin, api.PathGive, api.GiveRequest{From: "nobody", To: "c1"}, api.NotFound)
	b.post(b.c1, api.PathCreate, map[string]string{"name": "x", "shell": "true"}, api.Malformed)
	if now := b.lvm.Calls("CreateThin") + b.lvm.Calls("Snapshot"); now != calls {
		t.Errorf("LVM was asked %d times", now-calls)
	}
}

func TestAContainerCannotReachTheSysadminsRequests(t *testing.T) {
	b := newBench(t)
	admin := 0
	for _, e := range b.agent.endpoints {
		if !e.admin {
			continue
		}
		admin++
		var err error
		if e.method == "GET" {
			err = b.c1.Get(t.Context(), e.path, nil, &struct{}{})
		} else {
			err = b.c1.Post(t.Context(), e.path, api.Empty{}, nil)
		}
		if !api.Malformed.Is(err) {
			t.Errorf("%s: %v", e.path, err)
		}
	}
	if admin < 5 {
		t.Errorf("only %d requests are the sysadmin's", admin)
	}
}

func TestOnlyTheContainersRootIsHeard(t *testing.T) {
	b := newBench(t)
	c := b.socket(t.TempDir()+"/s", b.strange())
	b.post(c, api.PathCreate, api.CreateRequest{Name: "x", Size: "1G"}, api.Denied)
	if err := c.Get(t.Context(), api.PathVolumes, nil, &[]api.Volume{}); !api.Denied.Is(err) {
		t.Errorf("list: %v", err)
	}
}

func TestQuotasHoldAtTheirEdgeUnderConcurrency(t *testing.T) {
	b := newBench(t)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := map[api.Code]int{}
	for i := range 20 {
		wg.Go(func() {
			err := b.c1.Post(t.Context(), api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: fmt.Sprintf("s%d", i)}, nil)
			code := api.Code("")
			if err != nil {
				code = api.AsError(err).Code
			}
			mu.Lock()
			done[code]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if done[""] != 3 || done[api.Full] != 17 || len(b.volumes()) != 4 {
		t.Errorf("answers %v, volumes %d", done, len(b.volumes()))
	}
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "17G"}, "")
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "a", Size: "+1G"}, api.Full)
	b.lvm.SetFill(testVG, testPool, 96, 0)
	time.Sleep(listAge + 100*time.Millisecond)
	b.list(b.c1, false)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "more", Size: "1G"}, api.Full)
}

func TestOneOfManyGetsAName(t *testing.T) {
	b := newBench(t)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 10 {
		wg.Go(func() {
			err := b.c1.Post(t.Context(), api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "s"}, nil)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !api.Exists.Is(err) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 || len(b.volumes()) != 2 {
		t.Errorf("%d won, %d volumes", won, len(b.volumes()))
	}
}

func TestDeleteIsUndoneByUndelete(t *testing.T) {
	b := newBench(t)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	first := b.volumes()[0]
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "a"}, "")
	if got := b.names(b.c1, true); got != "a=trash" {
		t.Errorf("after delete: %q", got)
	}
	b.post(b.c1, api.PathMount, api.MountRequest{Name: "a", Path: "/x"}, api.NotFound)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "a"}, api.Exists)
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "a", As: "old"}, "")
	if got := b.names(b.c1, true); got != "a=live old=live" {
		t.Errorf("after undelete: %q", got)
	}
	if got := b.volumes()[0]; got.UUID != first.UUID || got.Name != first.Name {
		t.Errorf("the volume was renamed: %+v", got)
	}
	b.destroy(b.c1, "old")
	if got := b.names(b.c1, true); got != "a=live" {
		t.Errorf("after purge: %q", got)
	}
	var info api.Volume
	if err := b.c1.Get(t.Context(), api.PathVolume, url.Values{"name": {"a"}}, &info); err != nil || info.Name != "a" {
		t.Errorf("info: %+v, %v", info, err)
	}
}

func TestPurgeNeverTakesALiveVolume(t *testing.T) {
	b := newBench(t)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	for _, c := range []struct {
		client     *api.Client
		path, name string
		want       api.Code
		message    string
		hint       string
	}{
		{b.c1, api.PathPurge, "mine", api.NotFound, "cannot purge mine: it is not in the trash", "lls delete mine puts it there"},
		{b.admin, api.PathPurge, "c1/mine", api.NotFound, "cannot purge c1/mine: it is not in the trash", "lls delete c1/mine puts it there"},
		{b.admin, api.PathPurge, "d", api.NotFound, "cannot purge d: it is not in the trash", "lls delete d puts it there"},
		{b.c1, api.PathPurge, "d", api.Denied, "cannot purge d: it belongs to host", "take your own copy: lls snapshot d NAME"},
		{b.c1, api.PathPurge, "no", api.NotFound, "cannot purge no: there is no such volume in the trash", api.NotFound.Hint()},
		{b.c1, api.PathUndelete, "mine", api.NotFound, "cannot undelete mine: it is not in the trash", "see it: lls info mine"},
		{b.c1, api.PathUndelete, "d", api.Denied, "cannot undelete d: it belongs to host", "take your own copy: lls snapshot d NAME"},
	} {
		err := c.client.Post(t.Context(), c.path, api.NameRequest{Name: c.name}, nil)
		if !c.want.Is(err) || err.Error() != c.message || api.AsError(err).Hint != c.hint {
			t.Errorf("%s %s: %v; %s", c.path, c.name, err, api.AsError(err).Hint)
		}
	}
	if got := b.names(b.admin, true); got != "d=live c1/mine=live" && got != "c1/mine=live d=live" {
		t.Errorf("there is %q", got)
	}
}

func TestOneOfSeveralInTheTrashIsNamedByItsNameInLVM(t *testing.T) {
	b := newBench(t)
	var ids []string
	for range 3 {
		b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
		ids = append(ids, b.post(b.c1, api.PathDelete, api.NameRequest{Name: "a"}, "").ID)
	}
	if v := b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "a." + ids[0]}, ""); v.ID != ids[0] || v.Name != "a" {
		t.Errorf("undelete brought %+v", v)
	}
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "a." + ids[0], As: "b"}, api.NotFound) // it lives
	b.post(b.admin, api.PathUndelete, api.UndeleteRequest{Name: "a." + ids[1], As: "b"}, "")
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "a." + ids[0]}, api.NotFound)
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "a." + ids[2]}, "")
	if got := b.names(b.c1, true); got != "a=live b=live" {
		t.Errorf("there is %q", got)
	}
}

func TestPurgeRefusesWhatOthersDependOnOrUse(t *testing.T) {
	b := newBench(t)
	v := b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	name := lvm.Name(filepath.Base(v.LV))
	b.lvm.AddClassic(testVG, name, "by-hand")
	b.post(b.admin, api.PathDelete, api.NameRequest{Name: "a"}, "")
	b.post(b.admin, api.PathPurge, api.NameRequest{Name: "a"}, api.Busy)
	w := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "b", Size: "1G"}, "")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "b"}, "")
	b.lvm.SetOpen(testVG, lvm.Name("b."+w.ID), true)
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "b"}, api.Busy)
	if got := len(b.volumes()); got != 2 {
		t.Errorf("%d volumes are left", got)
	}
}

// The view of a moment ago does not know what the sysadmin has just done by hand.
func TestPurgeTakesNothingThatWasJustRescuedByHand(t *testing.T) {
	b := newBench(t)
	v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "a"}, "")
	name := lvm.Name("a." + v.ID)
	if err := b.lvm.Write(t.Context(), testVG, func(w lvm.Writer) error {
		g, err := w.Report(t.Context())
		if err != nil {
			return err
		}
		now, _ := g.Volume(name)
		r, err := catalog.FromVolume(now)
		if err != nil {
			return err
		}
		rescued := *r
		rescued.State, rescued.Deleted = catalog.Live, time.Time{}
		add, del := r.Changes(&rescued)
		return w.Retag(t.Context(), name, add, del)
	}); err != nil {
		t.Fatal(err)
	}
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "a"}, api.NotFound)
	if got := b.names(b.admin, true); got != "c1/a=live" {
		t.Errorf("after it: %q", got)
	}
}

func TestAnInterruptedStepIsFinishedOrUndoneAtTheStart(t *testing.T) {
	b := newBench(t)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "grow", Size: "1G"}, "")
	b.dev.growErr = errors.New("killed in between")
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "grow", Size: "2G"}, api.Failed)
	half := catalog.Record{ID: catalog.NewID(), Name: "half", Owner: b.guest1.Owner, State: catalog.Making, Access: "ro"}
	err := b.lvm.Write(t.Context(), testVG, func(w lvm.Writer) error {
		return w.CreateThin(t.Context(), lvm.CreateThin{Pool: testPool, Name: half.LVName(), Size: 1 << 30, Tags: half.Tags()})
	})
	if err != nil {
		t.Fatal(err)
	}
	b.dev.growErr = nil
	b.agent.recover(t.Context())
	b.agent.growAll(t.Context())
	if got := b.names(b.admin, true); got != "c1/grow=live" {
		t.Errorf("after recovery: %q", got)
	}
	if len(b.dev.grown) != 2 || len(b.volumes()) != 1 || catalog.New([]lvm.Group{{Volumes: b.volumes()}}).Records[0].Growing {
		t.Errorf("grown %v, volumes %+v", b.dev.grown, b.volumes())
	}
}

func TestChangesBehindOurBackAreSeen(t *testing.T) {
	b := newBench(t)
	v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	b.lvm.Edit(testVG, lvm.Name("a."+v.ID), func(v *lvm.Volume) {
		for i, tag := range v.Tags {
			v.Tags[i] = lvm.Tag(strings.Replace(string(tag), "lls.v=h", "lls.v=v", 1))
		}
	})
	time.Sleep(listAge + 100*time.Millisecond)
	if got := b.list(b.c1, false); len(got) != 1 || got[0].Visibility != api.Visible {
		t.Errorf("%+v", got)
	}
}

func TestALongRequestHoldsUpNobodyElse(t *testing.T) {
	b := newBench(t)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	b.mounts.mu.Lock()
	b.mounts.wait = make(chan struct{})
	b.mounts.mu.Unlock()
	slow := make(chan error, 1)
	go func() {
		slow <- b.c1.Post(t.Context(), api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "slow", Mount: "/x"}, nil)
	}()
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "quick"}, "")
	b.list(b.admin, false)
	select {
	case err := <-slow:
		t.Fatalf("the slow one ended: %v", err)
	default:
	}
	close(b.mounts.wait)
	if err := <-slow; err != nil {
		t.Error(err)
	}
}

func TestABadConfigurationLeavesTheOldInForce(t *testing.T) {
	b := newBench(t)
	b.write("default_fs = \"ntfs\"\n")
	b.post(b.admin, api.PathReload, api.Empty{}, api.Malformed)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	b.write(strings.Replace(testConfig, "volumes = 5", "volumes = 1", 1))
	b.post(b.admin, api.PathReload, api.Empty{}, "")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "b", Size: "1G"}, api.Full)
}

func TestGiveHandsOverAllOrNothing(t *testing.T) {
	b := newBench(t)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "b", Size: "1G"}, "")
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "b", Size: "1G", Owner: "c2"}, "")
	b.post(b.admin, api.PathGive, api.GiveRequest{From: "c1", To: "c2"}, api.Exists)
	if got := b.names(b.c1, true); got != "a=live b=live" {
		t.Errorf("after a refusal c1 has %q", got)
	}
	b.destroy(b.admin, "c2/b")
	b.post(b.admin, api.PathGive, api.GiveRequest{From: "c1", To: "c2"}, "")
	if got := b.names(b.admin, true); got != "c2/a=live c2/b=live" {
		t.Errorf("after give: %q", got)
	}
}

func TestAnUntaggedPoolIsNeverUsed(t *testing.T) {
	b := newBench(t)
	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.Tags = nil })
	b.agent.store.setPools(b.agent.config().Pools)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, api.NeedsAdmin)
	if got := b.volumes(); len(got) != 0 {
		t.Errorf("made %v", got)
	}
}

func TestHostGIDFollowsTheMap(t *testing.T) {
	got, ok := hostGID(os.Getpid(), 5)
	if !ok || got != 5 {
		t.Errorf("in our own namespace 5 is %d, %v", got, ok)
	}
}

func TestWatchersSeeWhatTheyMayKnow(t *testing.T) {
	b := newBench(t)
	b.follow()
	admin, c1 := b.agent.feed.join(), b.agent.feed.join()
	hidden := false
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "hid", Size: "1G", Visible: &hidden}, "")
	b.told(1)
	b.post(b.admin, api.PathSet, api.SetRequest{Name: "hid", Visibility: "visible"}, "")
	b.told(2)
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "hid", Name: "s", Mount: "/x"}, "")
	b.told(4)
	b.post(b.admin, api.PathSet, api.SetRequest{Name: "hid", Visibility: "hidden"}, "")
	b.told(5)
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "s"}, "")
	b.told(6)
	asAdmin := &call{agent: b.agent, asker: catalog.Asker{Owner: catalog.Host(), Admin: true}}
	asC1 := &call{agent: b.agent, asker: b.guest1.asker(), guest: b.guest1}
	for _, tt := range []struct {
		c    *call
		w    chan change
		want string
	}{
		{asAdmin, admin, "created hid, changed hid, created c1/s, mounted c1/s, changed hid, deleted c1/s"},
		{asC1, c1, "created hid, created s, mounted s, purged hid, deleted s"},
	} {
		b.agent.feed.leave(tt.w)
		var got []string
		for ch := range tt.w {
			if e, ok := tt.c.event(ch); ok {
				got = append(got, e.What+" "+e.Name)
			}
		}
		// A mount is told at once, a change of the group when it has been read: which comes first is open.
		all := strings.Join(got, ", ")
		swapped := strings.Replace(tt.want, "created c1/s, mounted c1/s", "mounted c1/s, created c1/s", 1)
		swapped = strings.Replace(swapped, "created s, mounted s", "mounted s, created s", 1)
		if all != tt.want && all != swapped {
			t.Errorf("%v saw %q, want %q", tt.c.asker.Owner, all, tt.want)
		}
	}
}

func TestAWatcherGetsAStream(t *testing.T) {
	b := newBench(t)
	b.follow()
	conn, err := net.Dial("unix", filepath.Join(filepath.Dir(b.config), "c"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("GET /1.0/watch HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	within(t, "somebody watches", func() bool {
		b.agent.feed.mu.Lock()
		defer b.agent.feed.mu.Unlock()
		return len(b.agent.feed.watchers) == 1
	})
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	text := make([]byte, 4096)
	for n := 0; !strings.Contains(string(text[:n]), `"what":"created","name":"a"`); {
		m, err := conn.Read(text[n:])
		if err != nil {
			t.Fatalf("%v after %q", err, text[:n])
		}
		n += m
	}
}
