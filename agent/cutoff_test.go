package agent

import (
	"context"
	"errors"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/mount"
	"lls/lvm"
)

// tables is an LVM that has the kernel load tables as the real one does: what makes a device anew, or suspends it, ends that it is cut off.
type tables struct {
	LVM
	dev *fakeDevices
}

type tablesWriter struct {
	lvm.Writer
	dev *fakeDevices
}

func (s tables) Write(ctx context.Context, vg lvm.VG, fn func(w lvm.Writer) error) error {
	return s.LVM.Write(ctx, vg, func(w lvm.Writer) error { return fn(tablesWriter{w, s.dev}) })
}

func (w tablesWriter) Deactivate(ctx context.Context, names ...lvm.Name) error {
	err := w.Writer.Deactivate(ctx, names...)
	if err == nil {
		for _, n := range names {
			w.dev.setCutOff(n, false)
		}
	}
	return err
}

func (w tablesWriter) Snapshot(ctx context.Context, s lvm.Snapshot) error {
	w.dev.setCutOff(s.Origin, false)
	return w.Writer.Snapshot(ctx, s)
}

func (w tablesWriter) Extend(ctx context.Context, name lvm.Name, size lvm.Size) error {
	w.dev.setCutOff(name, false)
	return w.Writer.Extend(ctx, name, size)
}

// see has the agent see a volume as it is now, active and perhaps open.
func (b *bench) see(id string, open bool) *catalog.Record {
	b.t.Helper()
	name := b.record(id).LV.Name
	if err := b.lvm.Write(b.t.Context(), testVG, func(w lvm.Writer) error { return w.Activate(b.t.Context(), name) }); err != nil {
		b.t.Fatal(err)
	}
	b.lvm.SetOpen(testVG, name, open)
	v, err := b.agent.store.current(b.t.Context(), 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return v.Catalog.ByID(catalog.ID(id))
}

// cut cuts a volume off that somebody has open.
func (b *bench) cut(id string) *catalog.Record {
	b.t.Helper()
	b.agent.store.lvm = tables{b.lvm, b.dev}
	if err := b.agent.cutOff(b.t.Context(), b.see(id, true)); err != nil {
		b.t.Fatal(err)
	}
	return b.isCut(id, true)
}

// isCut wants a volume to be cut off, or not.
func (b *bench) isCut(id string, want bool) *catalog.Record {
	b.t.Helper()
	r := b.record(id)
	if got, _ := b.dev.IsCutOff(testVG, r.LV.Name); got != want {
		b.t.Errorf("%s is cut off: %v, want %v", r.Name, got, want)
	}
	return r
}

func TestWhoWasCutOffStaysSoWhateverIsAskedOfTheVolume(t *testing.T) {
	b := newBench(t)
	d := b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "s"}, "")
	if !b.cut(d.ID).Raw {
		t.Error("its device would not be made anew before it is mounted")
	}
	calls := func() int { return b.lvm.Calls("Snapshot") + b.lvm.Calls("Extend") }
	before := calls()
	refused := func(c *api.Client, path string, in any) {
		t.Helper()
		err := c.Post(t.Context(), path, in, nil)
		if e := api.AsError(err); e.Code != api.Busy || !strings.Contains(e.Message, "cut off") || !strings.Contains(e.Hint, "lls info d") {
			t.Errorf("%s: %v (%s; %s)", path, err, e.Code, e.Hint)
		}
		b.isCut(d.ID, true)
	}
	refused(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "mine"})
	refused(b.c1, api.PathRefresh, api.NameRequest{Name: "s"})
	refused(b.admin, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "theirs"}) // by its owner too
	refused(b.admin, api.PathResize, api.ResizeRequest{Name: "d", Size: "+1G"})
	if _, err := b.agent.swell(t.Context(), b.record(d.ID), 2<<30); err != nil { // nobody wants it to grow
		t.Error(err)
	}
	b.post(b.admin, api.PathSet, api.SetRequest{Name: "d", GrowTo: "4G"}, "")
	if _, err := b.agent.swell(t.Context(), b.record(d.ID), 2<<30); !errors.Is(err, errCutOff) {
		t.Errorf("it grows by itself: %v", err)
	}
	b.post(b.c1, api.PathMount, api.MountRequest{Name: "d", Path: "/x"}, api.Busy)
	b.isCut(d.ID, true)
	shown := func(want bool) {
		t.Helper()
		var one api.Volume
		if err := b.c1.Get(t.Context(), api.PathVolume, url.Values{"name": {"d"}}, &one); err != nil {
			t.Fatal(err)
		}
		if all := b.list(b.c1, false); one.CutOff != want || all[slices.IndexFunc(all, func(v api.Volume) bool { return v.Name == "d" })].CutOff != want {
			t.Errorf("cut off should be shown as %v: %+v, %+v", want, one, all)
		}
	}
	shown(true)
	if n := calls() - before; n != 0 {
		t.Errorf("LVM was told %d times to suspend it", n)
	}

	b.lvm.SetOpen(testVG, b.record(d.ID).LV.Name, false) // whoever had it open has ended
	made := b.lvm.Calls("Deactivate")
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "mine"}, "")
	if b.lvm.Calls("Deactivate") == made {
		t.Error("it was not made anew")
	}
	if r := b.agent.store.latest().Catalog.ByID(catalog.ID(d.ID)); !r.LV.Active || r.LV.Major != 499 {
		t.Errorf("the view has %+v", r.LV)
	}
	shown(false)
	b.post(b.admin, api.PathResize, api.ResizeRequest{Name: "d", Size: "+1G"}, "")
}

// What was cut off, and is open no more, LVM deactivates, but does not remove.
func TestWhatWasCutOffCanBePurged(t *testing.T) {
	b := newBench(t)
	d := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	name := b.cut(d.ID).LV.Name
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "d"}, "")
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "d"}, api.Busy)
	b.lvm.SetOpen(testVG, name, false)
	before := b.lvm.Calls("Deactivate")
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "d"}, "")
	if b.lvm.Calls("Deactivate") == before || len(b.volumes()) != 0 {
		t.Error("it was not deactivated first, or is still there")
	}
}

func TestWhatWasCutOffIsGrantedWhenItIsMadeAnew(t *testing.T) {
	b := newBench(t)
	b.write(testConfig + "[pools.main.raw]\nunprivileged = \"rw\"\n")
	if err := b.agent.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1, 0)
	b.agent.growers.now = func() time.Time { return now }
	d := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	b.cut(d.ID)
	wants := func(open bool) wanted {
		t.Helper()
		b.see(d.ID, open)
		return b.agent.wantedGrants(b.agent.store.latest(), b.guest1)
	}
	w := wants(true)
	if len(w.grants) != 0 || !w.withheld || len(w.cutOff) != 1 {
		t.Fatalf("while it is open: %+v", w)
	}
	before, reports := b.lvm.Calls("Deactivate"), b.lvm.Calls("Report")
	b.agent.restore(t.Context(), w.cutOff)
	if n := b.lvm.Calls("Report") - reports; n != 0 {
		t.Errorf("LVM was asked %d times of what is known to be open", n)
	}
	stale := w.cutOff[0]
	stale.LV.Open = false // it was opened since LVM was asked
	for range 2 {         // the second time is too soon
		b.agent.restore(t.Context(), []*catalog.Record{stale})
	}
	if n := b.lvm.Calls("Deactivate") - before; n != 0 || b.lvm.Calls("Report")-reports != 1 {
		t.Errorf("LVM was asked %d times to take away what is open, and looked %d times", n, b.lvm.Calls("Report")-reports)
	}
	b.isCut(d.ID, true)
	w = wants(false)
	now = now.Add(restoreEvery)
	b.agent.restore(t.Context(), w.cutOff)
	b.isCut(d.ID, false)
	w = wants(false)
	if len(w.grants) != 1 || len(w.cutOff) != 0 || w.withheld {
		t.Errorf("when it was made anew: %+v", w)
	}

	// It may be cut off between the look at what may be granted and the grant.
	b.dev.setCutOff(b.record(d.ID).LV.Name, true)
	if err := b.agent.hold(b.agent.store.latest(), b.guest1, w.grants); err != nil || len(w.grants) != 0 || len(b.agent.raw.of(func(grant) bool { return true })) != 0 {
		t.Errorf("granted: %+v, %v", w.grants, err)
	}
}

// heldBy are the holders of every device.
type heldBy []mount.Holder

func (h heldBy) Holders(context.Context, uint32, uint32) ([]mount.Holder, error) { return h, nil }

func TestForceCutsOffOthersUnlessOneWhoMayHasItOpen(t *testing.T) {
	b := newBench(t)
	b.write(testConfig + "[pools.main.raw]\nunprivileged = \"rw\"\n")
	if err := b.agent.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.agent.store.lvm = tables{b.lvm, b.dev}
	process := func() int {
		cmd := exec.Command("sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		return cmd.Process.Pid
	}
	b.guest1.box.PID = process()
	g2, _ := b.second()
	g2.box.PID = process()
	b.agent.guests.mu.Lock()
	b.agent.guests.all[b.guest1.Key()], b.agent.guests.all[g2.Key()] = b.guest1, g2
	b.agent.guests.mu.Unlock()
	owner := mount.Holder{PID: b.guest1.box.PID, Kind: mount.HeldDevice, Command: "owner"}
	other := mount.Holder{PID: g2.box.PID, Kind: mount.HeldDevice, Command: "other"}
	d := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	b.post(b.c1, api.PathSet, api.SetRequest{Name: "d", Visibility: "visible", Access: "none"}, "")
	force := func(want api.Code, holders ...mount.Holder) *api.Error {
		t.Helper()
		b.see(d.ID, len(holders) > 0)
		b.agent.holds = heldBy(holders).Holders
		var out api.Volume
		err := b.admin.Post(t.Context(), api.PathRevoke, api.RevokeRequest{Name: "c1/d", Force: true}, &out)
		if want == "" {
			if err != nil || len(out.Holders) != 0 && (len(out.Holders) != 1 || out.Holders[0].Command != "other") {
				t.Errorf("%v (%v), %+v", err, errors.Unwrap(err), out.Holders)
			}
			return nil
		}
		if !want.Is(err) {
			t.Fatalf("%v, want %s", err, want)
		}
		return api.AsError(err)
	}
	force("") // nobody has it open
	force("", owner)
	b.isCut(d.ID, false)
	if e := force(api.Denied, other, owner); !strings.Contains(e.Message, "container c1 has it open too") || !strings.Contains(e.Hint, `raw.unprivileged = "none"`) {
		t.Errorf("%s; %s", e.Message, e.Hint)
	}
	b.isCut(d.ID, false)
	force("", other) // though its owner may open it
	b.isCut(d.ID, true)

	b.agent.holds = heldBy{}.Holders
	b.see(d.ID, false)
	b.post(b.c1, api.PathSet, api.SetRequest{Name: "d", Access: "rw"}, "")
	stranger := mount.Holder{PID: 1 << 30, Kind: mount.HeldDevice, Command: "other"}
	if e := force(api.Denied, stranger, other); !strings.Contains(e.Message, "container c2") || !strings.Contains(e.Hint, "set c1/d --access none") {
		t.Errorf("%s; %s", e.Message, e.Hint)
	}
}

func TestAVolumeThatIsOpenRawGrowsAndItsFileSystemLater(t *testing.T) {
	b := newBench(t)
	v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	b.agent.mark(t.Context(), []*catalog.Record{b.record(v.ID)})
	b.see(v.ID, true)
	b.agent.holds = heldBy{{PID: 1 << 30, Kind: mount.HeldDevice, Command: "who"}}.Holders
	err := b.c1.Post(t.Context(), api.PathResize, api.ResizeRequest{Name: "a", Size: "1025M"}, nil)
	e := api.AsError(err)
	if e.Code != api.Busy || !strings.Contains(e.Message, "it has grown to 1G, but its file system has not") ||
		!slices.Equal(e.Holders, []api.Holder{{Container: api.AnotherContainer}}) {
		t.Errorf("%v (%s), %+v", err, e.Code, e.Holders)
	}
	command := e.Hint[strings.LastIndex(e.Hint, "lls resize"):]
	size := strings.TrimPrefix(command, "lls resize a ")
	if r := b.record(v.ID); !r.Growing || r.LV.Size < 1025<<20 || len(b.dev.grown) != 0 {
		t.Errorf("%+v, grown %v", r, b.dev.grown)
	}
	b.agent.holds = heldBy{}.Holders
	b.see(v.ID, false)
	was := b.record(v.ID).LV.Size
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "a", Size: size}, "") // as the hint says
	if r := b.record(v.ID); r.Growing || r.LV.Size != was || len(b.dev.grown) != 1 {
		t.Errorf("%+v, grown %v", r, b.dev.grown)
	}
}
