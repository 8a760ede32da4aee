package agent

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/container"
	"lls/agent/mount"
	"lls/lvm"
	"lls/policy"
)

// refreshScene is a dataset d of the host and c1's snapshot of it, mine.
func refreshScene(t *testing.T) (*bench, *kernel, api.Volume) {
	t.Helper()
	b := newBench(t)
	k := newKernel(b)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G", FS: "xfs"}, "")
	return b, k, b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "mine", Mount: "/data"}, "")
}

func (b *bench) refresh(c *api.Client, name string) api.Refreshed {
	b.t.Helper()
	var out api.Refreshed
	if err := c.Post(b.t.Context(), api.PathRefresh, api.NameRequest{Name: name}, &out); err != nil {
		b.t.Fatalf("refresh %s: %v (%v)", name, err, errors.Unwrap(err))
	}
	return out
}

func (b *bench) refused(c *api.Client, name string, want api.Code) *api.Error {
	b.t.Helper()
	err := c.Post(b.t.Context(), api.PathRefresh, api.NameRequest{Name: name}, nil)
	if !want.Is(err) || api.AsError(err).Hint == "" {
		b.t.Fatalf("refresh %s: %v (%v), want %s and a hint", name, err, api.AsError(errors.Join(err)).Code, want)
	}
	return api.AsError(err)
}

// record is a volume as its tags in LVM say.
func (b *bench) record(id string) *catalog.Record {
	b.t.Helper()
	c := catalog.New([]lvm.Group{{Volumes: b.volumes()}})
	if len(c.Odd) > 0 {
		b.t.Fatal(c.Odd)
	}
	return c.ByID(catalog.ID(id))
}

// second is another container that runs.
func (b *bench) second() (*guest, *api.Client) {
	g := &guest{
		Container: container.Container{Dir: "/var/lib/lxc", Base: "c2", Owner: catalog.Owner{Name: "c2", Token: "t2"}},
		box:       &mount.Box{PID: os.Getpid(), RootUID: uint32(os.Getuid()), Mapped: true},
	}
	b.agent.guests.mu.Lock()
	b.agent.guests.all[g.Key()] = g
	b.agent.guests.mu.Unlock()
	return g, b.socket(b.t.TempDir()+"/c2", g)
}

func TestARefreshPutsANewSnapshotInTheSamePlace(t *testing.T) {
	b, k, old := refreshScene(t)
	b.post(b.c1, api.PathMount, api.MountRequest{Name: "mine", Path: "/b", ReadOnly: true, NoAtime: true}, "")
	b.post(b.c1, api.PathMount, api.MountRequest{Name: "mine", Path: "/c", Discard: true}, "")
	b.post(b.c1, api.PathSet, api.SetRequest{Name: "mine", Visibility: "visible", Access: "rw"}, "")
	b.post(b.c1, api.PathKeep, api.KeepRequest{Name: "mine", For: "30d"}, "")
	var steps []string
	k.seen = func(s string) { steps = append(steps, s) }
	got := b.refresh(b.c1, "mine")
	if v := got.Volume; v.Name != "mine" || v.ID == old.ID || v.Origin != "d" || v.State != api.StateLive || v.Visibility != "visible" || v.Access != "rw" || v.Lease == nil || v.FS != "xfs" || len(v.Mounts) != 3 {
		t.Errorf("the new one: %+v", v)
	}
	if v := got.Old; v.ID != old.ID || v.State != api.StateTrash || v.Lease != nil || v.Expires == nil {
		t.Errorf("the old one: %+v", v)
	}
	if at := k.mounted(b.guest1, got.Volume.ID); at != "/data rw,nodev /b ro,nodev,noatime /c rw,nodev,discard" {
		t.Errorf("the new one is mounted at %s", at)
	}
	if at := k.mounted(b.guest1, old.ID); at != "" {
		t.Errorf("the old one is mounted at %s", at)
	}
	if s := strings.Join(steps, ", "); s != "umount /c, umount /b, umount /data, mount /data, mount /b, mount /c" {
		t.Errorf("the steps were %s", s)
	}
	was, now := b.record(old.ID), b.record(got.Volume.ID)
	if was.NextID != now.ID || !was.Lease.IsZero() || now.Lease.IsZero() || was.LV.Active || now.LV.Origin != b.record(string(now.Origin)).LV.Name {
		t.Errorf("LVM has\n%+v\n%+v", was, now)
	}
	back := b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "mine", As: "mine-old"}, "")
	if back.ID != old.ID || b.record(old.ID).NextID != "" || b.names(b.c1, true) != "mine=live mine-old=live d=live" {
		t.Errorf("back is %+v of %s", b.record(old.ID), b.names(b.c1, true))
	}
}

// What was written since the pool was read is edits as well, so whoever is told how much they are is told of when.
func TestARefreshSaysWhenItsFigureWasRead(t *testing.T) {
	b, _, old := refreshScene(t)
	read := b.agent.opts.Now().Add(-20 * time.Second)
	b.agent.measured.put(b.agent.config().Pools[0], &figures{at: read, volumes: map[catalog.ID]figure{catalog.ID(old.ID): {frees: 64 << 10}}})
	if got := b.refresh(b.c1, "mine"); got.Edits == nil || *got.Edits != 64<<10 || got.EditsAt == nil || !got.EditsAt.Equal(read) {
		t.Errorf("%v as of %v, want 64K as of %v", got.Edits, got.EditsAt, read)
	}
	if got := b.refresh(b.c1, "mine"); got.Edits != nil || got.EditsAt != nil {
		t.Errorf("of what was never read: %v as of %v", got.Edits, got.EditsAt)
	}
}

func TestARefreshKeepsReadOnlyAndTheRawMarkOfItsOrigin(t *testing.T) {
	b, k, _ := refreshScene(t)
	ro := b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "ro", ReadOnly: true, Mount: "/ro"}, "")
	_, err := b.agent.retag(t.Context(), b.record(string(b.record(ro.ID).Origin)), false, func(to *catalog.Record, _ *View) error {
		to.Raw = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got := b.refresh(b.c1, "ro")
	if now := b.record(got.Volume.ID); !now.LV.ReadOnly || !now.Raw || b.record(ro.ID).Raw {
		t.Errorf("%+v", now)
	}
	if at := k.mounted(b.guest1, got.Volume.ID); at != "/ro ro,nodev" {
		t.Errorf("it is mounted at %s", at)
	}
}

func TestABusyMountLeavesAllAsItWas(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(b *bench, k *kernel, old api.Volume)
	}{
		{"a mount in use", func(_ *bench, k *kernel, _ api.Volume) { k.busy["/data"] = mount.ErrBusy }},
		{"a container that does not answer", func(_ *bench, k *kernel, _ api.Volume) { k.busy["/data"] = mount.ErrStuck }},
		{"somebody unknown", func(b *bench, _ *kernel, _ api.Volume) { b.lvm.Fail("Deactivate", lvm.ErrOpen) }},
		{"a mount of a part", func(b *bench, k *kernel, _ api.Volume) {
			part := k.at[b.guest1.box][0]
			part.ID, part.Root, part.Path = 99, "/sub", "/part"
			k.at[b.guest1.box] = append(k.at[b.guest1.box], part)
		}},
		{"a mount below it", func(b *bench, k *kernel, _ api.Volume) {
			k.at[b.guest1.box] = append(k.at[b.guest1.box], mount.Point{ID: 99, Parent: k.at[b.guest1.box][0].ID, Major: 7, Root: "/", Path: "/data/sub"})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, k, old := refreshScene(t)
			b.post(b.c1, api.PathMount, api.MountRequest{Name: "mine", Path: "/b", ReadOnly: true}, "")
			tt.make(b, k, old)
			tags := b.record(old.ID).Tags()
			e := b.refused(b.c1, "mine", api.Busy)
			if at := k.mounted(b.guest1, old.ID); !strings.HasPrefix(at, "/data rw,nodev /b ro,nodev") {
				t.Errorf("it is mounted at %s after %v", at, e)
			}
			if len(b.volumes()) != 2 || !slices.Equal(b.record(old.ID).Tags(), tags) {
				t.Errorf("LVM has %+v", b.volumes())
			}
			if b.agent.isReserved(b.record(old.ID)) || b.agent.raw.isBlocked(catalog.ID(old.ID)) {
				t.Error("its name, or its raw access, is still reserved")
			}
		})
	}
}

func TestAMountOfAnotherContainerIsTheSysadminsToSwap(t *testing.T) {
	b, k, old := refreshScene(t)
	g2, c2 := b.second()
	b.post(b.c1, api.PathSet, api.SetRequest{Name: "mine", Visibility: "visible"}, "")
	b.post(c2, api.PathMount, api.MountRequest{Name: "c1/mine", Path: "/theirs"}, "")
	if e := b.refused(b.c1, "mine", api.Busy); len(e.Holders) != 1 || e.Holders[0] != (api.Holder{Container: api.AnotherContainer}) {
		t.Errorf("holders %+v", e.Holders)
	}
	if e := b.refused(c2, "c1/mine", api.Denied); !strings.Contains(e.Message, "belongs to c1") {
		t.Error(e)
	}
	b.post(b.admin, api.PathMount, api.MountRequest{Name: "c1/mine", Path: "/mnt"}, "")
	got := b.refresh(b.admin, "c1/mine")
	for g, want := range map[*guest]string{b.guest1: "/data rw,nodev", g2: "/theirs ro,nodev", nil: "/mnt rw,nodev"} {
		if at := k.mounted(g, got.Volume.ID); at != want || k.mounted(g, old.ID) != "" {
			t.Errorf("it is mounted at %q, want %q; the old one at %q", at, want, k.mounted(g, old.ID))
		}
	}
}

func TestOnlyASnapshotOfWhatOneMaySnapshotIsRefreshed(t *testing.T) {
	b, k, old := refreshScene(t)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "plain", Size: "64M"}, "")
	b.refused(b.c1, "plain", api.Malformed)
	b.refused(b.c1, "nosuch", api.NotFound)
	b.refused(b.c1, "d", api.Denied)
	b.post(b.admin, api.PathSet, api.SetRequest{Name: "d", Visibility: "hidden"}, "")
	hidden := b.refused(b.c1, "mine", api.NotFound)
	b.refresh(b.admin, "c1/mine") // the sysadmin knows it
	b.post(b.admin, api.PathDelete, api.NameRequest{Name: "d"}, "")
	if trash := b.refused(b.c1, "mine", api.NotFound); trash.Message != hidden.Message {
		t.Errorf("one can tell %q from %q", trash, hidden)
	}
	if e := b.refused(b.admin, "c1/mine", api.NotFound); !strings.Contains(e.Hint, "lls undelete d") {
		t.Error(e.Hint)
	}
	b.post(b.admin, api.PathPurge, api.NameRequest{Name: "d"}, "")
	if gone := b.refused(b.c1, "mine", api.NotFound); gone.Message != hidden.Message || k.mounted(b.guest1, old.ID) != "" {
		t.Errorf("one can tell %q from %q", gone, hidden)
	}
}

func TestARefreshedPairCountsOnceForTheQuota(t *testing.T) {
	b, _, _ := refreshScene(t) // 5 volumes, 3 snapshots, 20G
	for n := range 2 {
		b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: fmt.Sprintf("s%d", n)}, "")
	}
	usage := func() (u []api.Usage) {
		t.Helper()
		if err := b.c1.Get(t.Context(), api.PathUsage, nil, &u); err != nil {
			t.Fatal(err)
		}
		return u
	}
	before := usage()
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "more"}, api.Full)
	b.refresh(b.c1, "mine") // at the edge
	if now := usage(); now[0] != before[0] {
		t.Errorf("usage was %+v and is %+v", before, now)
	}
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "more"}, api.Full)
	e := b.refused(b.c1, "mine", api.Full) // the first old one would count
	if !strings.Contains(e.Message, "limits.snapshots allows 3") || !strings.Contains(e.Hint, "lls purge mine.") {
		t.Errorf("%s; %s", e.Message, e.Hint)
	}
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "mine", As: "mine-old"}, api.Full) // nor can the pair be parted
	if n := len(b.volumes()); n != 5 {
		t.Errorf("%d volumes", n)
	}
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "mine"}, "") // the one in the trash
	b.refresh(b.c1, "mine")
	b.refresh(b.c1, "s0") // each has its own
	b.destroy(b.c1, "s1")
	b.refresh(b.c1, "mine") // below the edge, the first old one counts
	if u := usage()[0]; u.Snapshots != 3 || u.Trash != 1 {
		t.Errorf("usage is %+v", u)
	}
	b.refused(b.c1, "mine", api.Full)
	b.post(b.c1, api.PathUmount, api.UmountRequest{Target: "mine"}, "")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "mine"}, "")
	if u := usage()[0]; u.Snapshots != 3 || u.Trash != 2 { // nobody asked the quota for more
		t.Errorf("usage is %+v", u)
	}
}

func TestAPairOfARefreshIsPartedOnlyWithinTheQuota(t *testing.T) {
	b := newBench(t)
	b.reload(strings.NewReplacer("volumes = 5", "volumes = 2", "snapshots = 3", "snapshots = 1").Replace(testConfig))
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	old := b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "mine"}, "")
	counts := func(when string, volumes, snapshots, trash int) {
		t.Helper()
		var u []api.Usage
		if err := b.c1.Get(t.Context(), api.PathUsage, nil, &u); err != nil {
			t.Fatal(err)
		}
		if u[0].Volumes != volumes || u[0].Snapshots != snapshots || u[0].Trash != trash {
			t.Errorf("%s, usage is %+v", when, u[0])
		}
	}
	undelete := func(name string, as string) *api.Error {
		return api.AsError(b.c1.Post(t.Context(), api.PathUndelete, api.UndeleteRequest{Name: name, As: as}, nil))
	}
	first, next := "mine."+old.ID, ""
	for round := range 3 {
		when := fmt.Sprintf("in round %d", round)
		b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "more"}, api.Full)
		if round == 0 {
			next = "mine." + b.refresh(b.c1, "mine").Volume.ID
		} else {
			b.refused(b.c1, "mine", api.Full)
		}
		counts(when+" refreshed", 1, 1, 0)
		b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: first, As: "a1"}, api.Full)
		b.post(b.c1, api.PathDelete, api.NameRequest{Name: "mine"}, "")
		counts(when+" deleted", 1, 1, 1)
		e := undelete(first, "a1")
		if !api.Full.Is(e) || !strings.Contains(e.Message, "limits.snapshots allows 1: used up by 1 snapshot") || !strings.HasSuffix(e.Hint, "lls purge "+next+" --yes") {
			t.Fatalf("%s: %v; %s", when, e, e.Hint)
		}
		e = api.AsError(b.c1.Post(t.Context(), api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "more"}, nil))
		if !api.Full.Is(e) || !strings.HasPrefix(e.Hint, "lls purge "+next+" "+first+" --yes frees one snapshot") { // one of them frees nothing
			t.Errorf("%s: %v; %s", when, e, e.Hint)
		}
		b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: next, As: "mine"}, "")
		counts(when+" undeleted", 1, 1, 0)
	}
	if n := len(b.volumes()); n != 3 {
		t.Errorf("there are %d volumes", n)
	}

	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "mine"}, "")
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: next}, "") // as the refusal said
	counts("the new one purged", 1, 1, 1)
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: first, As: "a1"}, "")
	b.refresh(b.c1, "a1")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "a1"}, "")
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: first}, "")
	counts("the old one purged", 1, 1, 1)
	b.reload(testConfig)
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "a1"}, "")
	again := "a1." + b.refresh(b.c1, "a1").Old.ID
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "a1"}, "")
	counts("with room", 1, 1, 1)
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: again, As: "a2"}, "")
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "a1"}, "")
	counts("with room for both", 2, 2, 0)
}

// Whatever was refreshed how often, and of whatever sizes: what asks no quota lets no more count than before.
func TestNoDeleteAndNoPurgeMakesMoreCount(t *testing.T) {
	pool := policy.Pool{Name: "main", Group: string(testVG), LV: string(testPool)}
	owner := catalog.Owner{Name: "c1", Token: "t1"}
	for length := 1; length <= 5; length++ {
		for sizes := range 1 << length {
			v := &View{Groups: []lvm.Group{{Name: testVG, Pools: []lvm.Pool{{VG: testVG, Name: testPool, Tags: []lvm.Tag{catalog.PoolTag("main")}}}}}, pools: []policy.Pool{pool}}
			id := func(n int) catalog.ID { return catalog.ID(fmt.Sprintf("aaaaaa%d", n)) }
			at := func(n int, state catalog.State) lvm.Volume {
				r := catalog.Record{ID: id(n), Name: "mine", Owner: owner, State: state, Deleted: time.Unix(int64(n), 0), Access: "ro", Origin: "bbbbbbb"}
				if n+1 < length {
					r.State, r.NextID = catalog.Trash, id(n+1)
				}
				return lvm.Volume{VG: testVG, Name: r.LVName(), Pool: testPool, Thin: true, Size: lvm.Size(1 + 14*(sizes>>n&1)), Tags: r.Tags()}
			}
			for n := range length {
				v = v.edited(testVG, appended(at(n, catalog.Live)))
			}
			live := useOf(v, owner, pool, nil)
			if want := max(1, length-1); live.Volumes != want || live.Snapshots != want {
				t.Fatalf("%d refreshes count %+v, want %d", length-1, live, want)
			}
			deleted := v.edited(testVG, appended(at(length-1, catalog.Trash)))
			trash := useOf(deleted, owner, pool, nil)
			if trash.Volumes != live.Volumes || trash.Snapshots != live.Snapshots || trash.Size != live.Size {
				t.Errorf("sizes %b of %d: %+v counts, and %+v when it is deleted", sizes, length, live, trash)
			}
			for n := range length {
				purged := useOf(deleted.edited(testVG, removed(at(n, catalog.Live).Name)), owner, pool, nil)
				if purged.Volumes > trash.Volumes || purged.Snapshots > trash.Snapshots || purged.Size > trash.Size {
					t.Errorf("sizes %b of %d: %+v counts, and %+v without %d", sizes, length, trash, purged, n)
				}
			}
		}
	}
}

func TestARefreshCannotHideALargeVolumeBehindASmallOne(t *testing.T) {
	b, _, _ := refreshScene(t) // 20G
	b.post(b.c1, api.PathUmount, api.UmountRequest{Target: "mine"}, "")
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "mine", Size: "15G"}, "")
	b.refresh(b.c1, "mine") // 1G, with 15G in the trash
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "x", Size: "6G"}, api.Full)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "x", Size: "4G"}, "")
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "mine", Size: "15G"}, "") // that much counts already
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "mine", Size: "+2G"}, api.Full)
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "x", Size: "5G"}, "")
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "mine", As: "y"}, api.Full)

	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "mine"}, "")
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "z"}, api.Full) // 15G and 5G
	b.destroy(b.c1, "mine")
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "x", Name: "z"}, "")
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "x", Size: "+9G"}, "")
	b.refused(b.c1, "z", api.Full) // it would grow with its origin
}

func TestARefreshHoldsThePoolsLimitsAndTheRates(t *testing.T) {
	b := newBench(t)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	old := b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "mine"}, "")
	b.reload(testConfig + "snapshots_per_minute = 2\n")
	b.refresh(b.c1, "mine")
	b.refused(b.c1, "mine", api.Full)
	b.reload(testConfig)
	b.lvm.SetFill(testVG, testPool, 96, 0)
	if _, err := b.agent.store.current(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	b.refused(b.c1, "mine", api.Full)
	if len(b.volumes()) != 3 || b.record(old.ID) == nil {
		t.Errorf("LVM has %+v", b.volumes())
	}
}
