package thin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lls/internal/run"
	"lls/lvm"
)

const device = "vg--x-pool-tpool"

// kernel is a pool that understands dmsetup and thin_dump.
type kernel struct {
	mapper   string
	held     bool
	metadata string
	mode     string
	uuid     string
	dump     func(ctx context.Context, out *os.File) error // instead of a good one
	fail     map[string]error                              // by message, after it took effect
	busy     bool                                          // somebody takes a snapshot before us
	reserved int
}

func newKernel(t *testing.T) (*kernel, *Reader) {
	t.Helper()
	k := &kernel{mapper: t.TempDir() + "/", metadata: "218/2048", mode: "rw", uuid: "LVM-1-tpool", fail: map[string]error{}}
	if err := os.WriteFile(k.mapper+device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := NewReader(k, filepath.Join(t.TempDir(), "thin"))
	r.mapper = k.mapper
	return k, r
}

func (k *kernel) Run(ctx context.Context, c run.Cmd) (run.Result, error) {
	argv := append([]string{c.Name}, c.Args...)
	failed := func(err error) (run.Result, error) {
		status := 1
		if err != nil {
			status = -1
		}
		return run.Result{}, &run.Error{Argv: argv, ExitStatus: status, Err: err}
	}
	if err := ctx.Err(); err != nil {
		return failed(err)
	}
	switch line := strings.Join(argv, " "); line {
	case "dmsetup status --noflush --target thin-pool -- " + device:
		held := "-"
		if k.held {
			held = "42"
		}
		return run.Result{Stdout: fmt.Appendf(nil, "0 1048576 thin-pool 3 %s 325/8192 %s %s no_discard_passdown queue_if_no_space - 512 \n", k.metadata, held, k.mode)}, nil
	case "dmsetup info -c --noheadings -o uuid -- " + device:
		if k.busy {
			k.held = true
		}
		return run.Result{Stdout: []byte(k.uuid + "\n")}, nil
	case "dmsetup message -- " + device + " 0 reserve_metadata_snap":
		if k.held {
			return failed(nil)
		}
		k.held = true
		k.reserved++
		if err := k.fail["reserve"]; err != nil {
			return failed(err)
		}
	case "dmsetup message -- " + device + " 0 release_metadata_snap":
		if !k.held || k.fail["release"] != nil {
			return failed(k.fail["release"])
		}
		k.held = false
	case "thin_dump -m -o /dev/fd/3 -- " + k.mapper + "vg--x-pool_tmeta":
		if k.dump != nil {
			return run.Result{}, k.dump(ctx, c.ExtraFiles[0])
		}
		_, err := c.ExtraFiles[0].WriteString(dumpNew)
		return run.Result{}, err
	default:
		panic("unexpected: " + line)
	}
	return run.Result{}, nil
}

func (r *Reader) marks(t *testing.T) []string {
	t.Helper()
	all, err := os.ReadDir(r.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, m := range all {
		names = append(names, m.Name())
	}
	return names
}

func TestTheSnapshotIsAlwaysReleased(t *testing.T) {
	stuck := &run.Error{ExitStatus: -1, Err: run.ErrStuck}
	for name, c := range map[string]struct {
		set  func(k *kernel, cancel func())
		want error // nil: any
	}{
		"when thin_dump fails": {func(k *kernel, _ func()) {
			k.dump = func(context.Context, *os.File) error { return &run.Error{ExitStatus: 1, Err: os.ErrPermission} }
		}, os.ErrPermission},
		"when it does not end": {func(k *kernel, _ func()) {
			k.dump = func(context.Context, *os.File) error { return stuck }
		}, run.ErrStuck},
		"when it writes rubbish": {func(k *kernel, _ func()) {
			k.dump = func(_ context.Context, out *os.File) error {
				var err error
				for err == nil { // until nobody reads
					_, err = out.WriteString("rubbish\n")
				}
				return err
			}
		}, errDump},
		"when the context ends meanwhile": {func(k *kernel, cancel func()) {
			k.dump = func(ctx context.Context, out *os.File) error {
				cancel()
				return &run.Error{ExitStatus: -1, Err: ctx.Err()}
			}
		}, context.Canceled},
		"when the context ends while it is taken": {func(k *kernel, _ func()) { k.fail["reserve"] = context.Canceled }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			k, r := newKernel(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c.set(k, cancel)
			if u, err := r.Measure(ctx, "vg-x", "pool", each(nil)); !errors.Is(err, c.want) {
				t.Errorf("%+v, %v", u, err)
			}
			if k.reserved != 1 || k.held || len(r.marks(t)) > 0 {
				t.Errorf("%+v, %v", k, r.marks(t))
			}
			k.dump, k.fail = nil, nil
			if u, err := r.Measure(t.Context(), "vg-x", "pool", each(nil)); err != nil || u.Owners[""] != 326*64*lvm.KiB {
				t.Errorf("%+v, %v", u, err)
			}
			if k.held || len(r.marks(t)) > 0 {
				t.Errorf("%+v, %v", k, r.marks(t))
			}
		})
	}
}

func TestWhatCannotBeReleasedIsReleasedLater(t *testing.T) {
	k, r := newKernel(t)
	k.fail["release"] = run.ErrStuck
	if _, err := r.Measure(t.Context(), "vg-x", "pool", each(nil)); !errors.Is(err, run.ErrStuck) {
		t.Error(err)
	}
	if !k.held || len(r.marks(t)) != 1 {
		t.Fatalf("%+v, %v", k, r.marks(t))
	}
	if err := r.ReleaseLeftovers(t.Context()); !errors.Is(err, run.ErrStuck) || len(r.marks(t)) != 1 {
		t.Errorf("%v, %v", err, r.marks(t))
	}
	delete(k.fail, "release")
	// An inactive pool waits.
	if err := os.Rename(k.mapper+device, k.mapper+"away"); err != nil {
		t.Fatal(err)
	}
	if err := r.ReleaseLeftovers(t.Context()); err != nil || !k.held || len(r.marks(t)) != 1 {
		t.Errorf("%v, %+v, %v", err, k, r.marks(t))
	}
	if _, err := r.Measure(t.Context(), "vg-x", "pool", each(nil)); !errors.Is(err, ErrNoDevice) {
		t.Error(err)
	}
	if err := os.Rename(k.mapper+"away", k.mapper+device); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Measure(t.Context(), "vg-x", "pool", each(nil)); err != nil || k.held || len(r.marks(t)) != 0 || k.reserved != 2 {
		t.Errorf("%v, %+v, %v", err, k, r.marks(t))
	}
}

func TestSomebodyElsesSnapshotStays(t *testing.T) {
	k, r := newKernel(t)
	k.held = true
	if _, err := r.Measure(t.Context(), "vg-x", "pool", each(nil)); !errors.Is(err, ErrHeld) {
		t.Error(err)
	}
	// A mark of another pool, which had the name before.
	if err := r.mark(device, "LVM-2-tpool"); err != nil {
		t.Fatal(err)
	}
	if err := r.ReleaseLeftovers(t.Context()); err != nil || !k.held || len(r.marks(t)) > 0 {
		t.Errorf("%v, %+v, %v", err, k, r.marks(t))
	}
	// They come in between.
	k.held, k.busy = false, true
	if _, err := r.Measure(t.Context(), "vg-x", "pool", each(nil)); !errors.Is(err, ErrHeld) || !k.held || len(r.marks(t)) > 0 {
		t.Errorf("%v, %+v, %v", err, k, r.marks(t))
	}
	// They release ours: what was read is worth nothing.
	k.held, k.busy = false, false
	k.dump = func(_ context.Context, out *os.File) error {
		k.held = false
		_, err := out.WriteString(dumpNew)
		return err
	}
	if u, err := r.Measure(t.Context(), "vg-x", "pool", each(nil)); !errors.Is(err, errLost) || u.Volumes != nil || len(r.marks(t)) > 0 {
		t.Errorf("%+v, %v, %v", u, err, r.marks(t))
	}
}

func TestLeftoversOfACrashAreReleased(t *testing.T) {
	k, r := newKernel(t)
	if err := r.ReleaseLeftovers(t.Context()); err != nil { // no folder yet
		t.Fatal(err)
	}
	if err := r.mark(device, k.uuid); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, held := range []bool{true, false} { // after the mark, before and after the snapshot
		k.held = held
		if err := r.mark(device, k.uuid); err != nil {
			t.Fatal(err)
		}
		if err := r.ReleaseLeftovers(t.Context()); err != nil || k.held || len(r.marks(t)) > 0 {
			t.Errorf("%v, %+v, %v", err, k, r.marks(t))
		}
	}
}

func TestAPoolWithoutRoomIsNotRead(t *testing.T) {
	for _, set := range []func(k *kernel){
		func(k *kernel) { k.metadata = "1537/2048" },
		func(k *kernel) { k.mode = "ro" },
	} {
		k, r := newKernel(t)
		set(k)
		if _, err := r.Measure(t.Context(), "vg-x", "pool", each(nil)); !errors.Is(err, ErrNoRoom) || k.reserved != 0 {
			t.Errorf("%v, %+v", err, k)
		}
	}
	_, r := newKernel(t)
	for _, pool := range []lvm.Name{"", "-x", "../pool", "a b"} {
		if _, err := r.Measure(t.Context(), "vg-x", pool, each(nil)); !errors.Is(err, lvm.ErrBadName) {
			t.Errorf("%q: %v", pool, err)
		}
	}
}

func TestOneReadingAtATime(t *testing.T) {
	_, r := newKernel(t)
	if err := r.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Measure(ctx, "vg-x", "pool", each(nil)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := r.ReleaseLeftovers(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r.leave()
}
