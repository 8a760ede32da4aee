package lvmtest

import (
	"errors"
	"testing"

	"lls/lvm"
)

func TestTheFakeKeepsTheContract(t *testing.T) {
	Suite(t, func(t *testing.T) Env {
		const vg, pool = lvm.VG("vg-0"), lvm.Name("pool")
		f := NewFake(lvm.Options{Managed: Managed})
		f.AddDevice("/dev/x", 8*lvm.GiB)
		if err := f.CreateGroup(t.Context(), vg, "/dev/x", 0); err != nil {
			t.Fatal(err)
		}
		if err := f.CreatePool(t.Context(), lvm.CreatePool{VG: vg, Name: pool, Size: 512 * lvm.MiB}); err != nil {
			t.Fatal(err)
		}
		return Env{
			Host: f, VG: vg, Pool: pool,
			Open: func(_ *testing.T, name lvm.Name) func() {
				f.SetOpen(vg, name, true)
				return func() { f.SetOpen(vg, name, false) }
			},
			Plain:    func(_ *testing.T, name lvm.Name) { f.AddPlain(vg, name, 8*lvm.MiB) },
			Classic:  func(_ *testing.T, origin, name lvm.Name) { f.AddClassic(vg, origin, name) },
			External: func(_ *testing.T, origin, name lvm.Name) { f.AddExternal(vg, pool, origin, name) },
			Profile: func(_ *testing.T, name string) {
				f.EditPool(vg, pool, func(p *lvm.Pool) { p.Profile = name })
			},
		}
	})
}

func TestTheFakeFailsWhereItIsTold(t *testing.T) {
	ctx := t.Context()
	f := NewFake(lvm.Options{})
	f.AddGroup("vg", lvm.GiB)
	if err := f.CreatePool(ctx, lvm.CreatePool{VG: "vg", Name: "p", Percent: 90}); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	f.Fail("CreateThin", boom)
	f.Fail("CreateThin.after", boom)
	err := f.Write(ctx, "vg", func(w lvm.Writer) error {
		for _, want := range []struct {
			err   error
			there bool
		}{{boom, false}, {boom, true}} {
			err := w.CreateThin(ctx, lvm.CreateThin{Pool: "p", Name: "a", Size: lvm.GiB})
			g, _ := w.Report(ctx)
			if _, there := g.Volume("a"); !errors.Is(err, want.err) || there != want.there {
				t.Errorf("error %v, volume there %v, want %v and %v", err, there, want.err, want.there)
			}
		}
		f.SetFill("vg", "p", 100, 1)
		return w.Snapshot(ctx, lvm.Snapshot{Origin: "a", Name: "s"})
	})
	if !errors.Is(err, lvm.ErrPoolFull) {
		t.Errorf("error is %v, want %v", err, lvm.ErrPoolFull)
	}
}
