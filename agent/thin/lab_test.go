package thin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/internal/run"
	"lls/lvm"
)

const (
	labVG   = lvm.VG("lls-thin.vg")
	labPool = lvm.Name("po-ol")
	labName = "lls--thin.vg-po--ol"
)

// lab makes a volume group with a pool on a file, so that the lab's disk is left to others.
func lab(t *testing.T) *Reader {
	t.Helper()
	if os.Getenv("LLS_LAB") != "1" {
		t.Skip("needs real LVM: runs in the lab, with LLS_LAB=1")
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 4<<30); err != nil {
		t.Fatal(err)
	}
	loop := strings.TrimSpace(do(t, "losetup", "-f", "--show", file))
	t.Cleanup(func() { do(t, "losetup", "-d", loop) })
	do(t, "vgcreate", "--setautoactivation", "n", string(labVG), loop) // by udev, in its own time
	t.Cleanup(func() {
		do(t, "vgremove", "-ff", "-y", string(labVG))
		do(t, "pvremove", "-ff", "-y", loop)
	})
	do(t, "lvcreate", "-y", "--type", "thin-pool", "-L", "512m", "--poolmetadatasize", "16m", "--chunksize", "64k", "-n", string(labPool), string(labVG))
	return NewReader(run.New(), filepath.Join(t.TempDir(), "thin"))
}

func do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return string(out)
}

func create(t *testing.T, name string) {
	t.Helper()
	do(t, "lvcreate", "-V", "1g", "-n", name, "--thinpool", string(labPool), string(labVG))
}

func snapshot(t *testing.T, origin, name string) {
	t.Helper()
	do(t, "lvcreate", "-s", "-kn", "-ay", "-n", name, string(labVG)+"/"+origin)
}

// write writes chunks here and there.
func write(t *testing.T, rnd *rand.Rand, name string, chunks, within int) {
	t.Helper()
	f, err := os.OpenFile(lvm.Device(labVG, lvm.Name(name)), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range chunks {
		if _, err := f.WriteAt(make([]byte, 64<<10), int64(rnd.IntN(within))<<16); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// free wants that nobody holds the metadata snapshot, and that nothing is written down.
func (r *Reader) free(t *testing.T) {
	t.Helper()
	s, err := r.status(t.Context(), labName+layer)
	if err != nil || s.held || len(r.marks(t)) > 0 {
		t.Errorf("%+v, %v, %v", s, err, r.marks(t))
	}
}

// ids gives the volumes' names by thin id.
func ids(t *testing.T) map[int]string {
	t.Helper()
	groups, err := lvm.NewHost(run.New(), lvm.Options{}).Report(t.Context(), labVG)
	if err != nil {
		t.Fatal(err)
	}
	names := map[int]string{}
	for _, v := range groups[0].Volumes {
		names[v.ThinID] = string(v.Name)
	}
	return names
}

// used is how many bytes of the pool are.
func used(t *testing.T) lvm.Size {
	t.Helper()
	words := strings.Fields(do(t, "dmsetup", "status", labName+layer))
	n, _, err := ratio(words[5])
	if err != nil {
		t.Fatal(err)
	}
	return lvm.Size(n) * 64 * lvm.KiB
}

func TestRealUsageIsWhatThinLsSaysAndWhatDeletingFrees(t *testing.T) {
	r := lab(t)
	if _, err := r.Measure(t.Context(), labVG, labPool, each(nil)); !errors.Is(err, ErrNoDevice) {
		t.Errorf("a pool without volumes: %v", err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	create(t, "data")
	create(t, "empty")
	write(t, rnd, "data", 1000, 2000)
	for _, s := range []string{"a.1", "a.2", "b.1"} {
		snapshot(t, "data", s)
		write(t, rnd, s, 100, 2000)
		write(t, rnd, "data", 50, 2000)
	}
	snapshot(t, "a.1", "a.3") // shares with a.1 what nobody else has
	write(t, rnd, "a.3", 10, 2000)
	names := ids(t)
	owner := func(id int) string { return strings.Split(names[id], ".")[0] }
	u, err := r.Measure(t.Context(), labVG, labPool, owner)
	if err != nil {
		t.Fatal(err)
	}
	r.free(t)
	t.Logf("%+v of %v", u, names)

	do(t, "dmsetup", "message", labName+layer, "0", "reserve_metadata_snap")
	table := do(t, "thin_ls", "-m", "--no-headers", "-o", "DEV,MAPPED_BYTES,EXCLUSIVE_BYTES", "/dev/mapper/"+labName+"_tmeta")
	if _, err := r.Measure(t.Context(), labVG, labPool, owner); !errors.Is(err, ErrHeld) {
		t.Errorf("with a sysadmin's snapshot: %v", err)
	}
	do(t, "dmsetup", "message", labName+layer, "0", "release_metadata_snap")
	lines := 0
	for line := range strings.Lines(table) {
		var id int
		var v Volume
		if _, err := fmt.Sscan(line, &id, &v.Mapped, &v.Exclusive); err != nil {
			continue // what it says about its progress
		}
		lines++
		if got := u.Volumes[id]; got.Mapped != v.Mapped || got.Exclusive != v.Exclusive || got.Own > got.Exclusive {
			t.Errorf("volume %d is %+v, to thin_ls %+v", id, u.Volumes[id], v)
		}
	}
	if lines != 6 || len(u.Volumes) != 6 {
		t.Errorf("%d volumes, to thin_ls %d", len(u.Volumes), lines)
	}
	if u.Owners["a"] <= u.Volumes[idOf(t, names, "a.1")].Exclusive+u.Volumes[idOf(t, names, "a.2")].Exclusive+u.Volumes[idOf(t, names, "a.3")].Exclusive {
		t.Errorf("what a's volumes share is missing: %+v", u)
	}

	// And now to the proof.
	before := used(t)
	do(t, "lvremove", "-y", string(labVG)+"/b.1")
	if freed := before - used(t); freed != u.Owners["b"] {
		t.Errorf("b's volume freed %s, said to free %s", freed, u.Owners["b"])
	}
	if u, err = r.Measure(t.Context(), labVG, labPool, owner); err != nil {
		t.Fatal(err)
	}
	before = used(t)
	for _, v := range []string{"a.1", "a.2", "a.3"} {
		do(t, "lvremove", "-y", string(labVG)+"/"+v)
	}
	if freed := before - used(t); freed != u.Owners["a"] {
		t.Errorf("a's volumes freed %s, said to free %s", freed, u.Owners["a"])
	}
	if u, err = r.Measure(t.Context(), labVG, labPool, owner); err != nil || u.Owners["data"] != used(t) || u.Owners["empty"] != 0 {
		t.Errorf("%+v, %v, but %s are used", u, err, used(t))
	}
}

func idOf(t *testing.T, names map[int]string, name string) int {
	t.Helper()
	for id, n := range names {
		if n == name {
			return id
		}
	}
	t.Fatalf("no volume %s", name)
	return 0
}

// Blocks that take the place of shared ones are whose writing made them, though they free those of the other.
func TestRealOwnBlocksAreThoseThatAVolumeWrote(t *testing.T) {
	r := lab(t)
	rnd := rand.New(rand.NewPCG(7, 8))
	measure := func() (Usage, map[int]string) {
		u, err := r.Measure(t.Context(), labVG, labPool, each(nil))
		if err != nil {
			t.Fatal(err)
		}
		return u, ids(t)
	}
	create(t, "data")
	write(t, rnd, "data", 500, 1000)
	if u, names := measure(); u.Volumes[idOf(t, names, "data")].Own != used(t) {
		t.Errorf("all is data's own: %+v", u)
	}
	snapshot(t, "data", "s")
	was, names := measure()
	data, s := idOf(t, names, "data"), idOf(t, names, "s")
	if was.Volumes[data].Own != 0 || was.Volumes[s].Own != 0 || was.Volumes[s].Since > was.Time {
		t.Errorf("nobody wrote: %+v", was)
	}
	before := used(t)
	write(t, rnd, "s", 300, 1000)
	wrote := used(t) - before
	is, _ := measure()
	if got := is.Volumes[s].Own; got != wrote || is.Volumes[data].Own != 0 || is.Volumes[data].Exclusive == 0 {
		t.Errorf("s wrote %s: %+v", wrote, is)
	}
	snapshot(t, "s", "later") // by which s begins anew
	before = used(t)
	write(t, rnd, "s", 50, 1000)
	write(t, rnd, "later", 40, 1000)
	wrote = used(t) - before
	u, names := measure()
	later := u.Volumes[idOf(t, names, "later")]
	if got := u.Volumes[s]; got.Own+later.Own != wrote || got.Own == 0 || later.Own == 0 || got.Since <= is.Time || later.Since <= is.Time {
		t.Errorf("s and later wrote %s: %+v", wrote, u)
	}
}

// A snapshot of the metadata outlives the pool's devices, as it does a restart of the machine.
func TestRealLeftoverIsReleased(t *testing.T) {
	r := lab(t)
	create(t, "data")
	write(t, rand.New(rand.NewPCG(1, 2)), "data", 100, 200)
	if _, err := r.reserve(t.Context(), labName+layer); err != nil {
		t.Fatal(err)
	}
	do(t, "vgchange", "-an", string(labVG))
	again := NewReader(run.New(), r.dir)
	if err := again.ReleaseLeftovers(t.Context()); err != nil || len(r.marks(t)) != 1 {
		t.Errorf("of an inactive pool: %v, %v", err, r.marks(t))
	}
	do(t, "vgchange", "-ay", string(labVG))
	if s, err := r.status(t.Context(), labName+layer); err != nil || !s.held {
		t.Errorf("it is gone: %+v, %v", s, err)
	}
	if err := again.ReleaseLeftovers(t.Context()); err != nil {
		t.Error(err)
	}
	r.free(t)
	// Somebody else's stays.
	do(t, "dmsetup", "message", labName+layer, "0", "reserve_metadata_snap")
	if err := again.ReleaseLeftovers(t.Context()); err != nil {
		t.Error(err)
	}
	if s, err := r.status(t.Context(), labName+layer); err != nil || !s.held {
		t.Errorf("a sysadmin's is gone: %+v, %v", s, err)
	}
	do(t, "dmsetup", "message", labName+layer, "0", "release_metadata_snap")
}

// Reading and changing a pool are in nobody's way.
func TestRealReadingWhileThePoolChanges(t *testing.T) {
	r := lab(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	create(t, "data")
	write(t, rnd, "data", 2000, 4000)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wait sync.WaitGroup
	readings := 0
	wait.Go(func() {
		for ctx.Err() == nil {
			// With the whole of the test's time: it is to finish what it began.
			u, err := r.Measure(t.Context(), labVG, labPool, each(nil))
			if err != nil || u.Owners[""] < 1000*u.Chunk {
				t.Errorf("reading %d: %+v, %v", readings, u.Owners, err)
				return
			}
			readings++
		}
	})
	for i := range 6 {
		name := fmt.Sprintf("s%d", i)
		snapshot(t, "data", name)
		write(t, rnd, "data", 100, 4000)
		write(t, rnd, name, 100, 4000)
		do(t, "lvextend", "-L", "+32m", string(labVG)+"/"+string(labPool))
		do(t, "lvextend", "--poolmetadatasize", "+4m", string(labVG)+"/"+string(labPool))
		if i%2 == 1 {
			do(t, "lvremove", "-y", string(labVG)+"/"+name)
		}
	}
	stop()
	wait.Wait()
	t.Logf("%d readings", readings)
	if readings == 0 {
		t.Error("nothing was read")
	}
	r.free(t)
	// A suspended pool is read, too: LVM suspends it for an instant with each change.
	do(t, "dmsetup", "suspend", labName+layer)
	u, err := r.Measure(t.Context(), labVG, labPool, each(nil))
	do(t, "dmsetup", "resume", labName+layer)
	if err != nil || u.Owners[""] != used(t) {
		t.Errorf("suspended: %+v, %v", u.Owners, err)
	}
	r.free(t)
	// LVM checks the metadata when it activates the pool.
	do(t, "vgchange", "-an", string(labVG))
	do(t, "vgchange", "-ay", string(labVG))
}

// Whenever the context ends, nothing stays behind.
func TestRealReadingEndsWithItsContext(t *testing.T) {
	r := lab(t)
	rnd := rand.New(rand.NewPCG(5, 6))
	create(t, "data")
	write(t, rnd, "data", 3000, 8000)
	began := time.Now()
	if _, err := r.Measure(t.Context(), labVG, labPool, each(nil)); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(began)
	ended := 0
	for i := range 50 {
		d := time.Duration(i) * 2 * whole / 50
		ctx, cancel := context.WithTimeout(t.Context(), d)
		_, err := r.Measure(ctx, labVG, labPool, each(nil))
		cancel()
		if err != nil {
			ended++
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("after %v: %v", d, err)
			}
		}
		r.free(t)
	}
	t.Logf("%d of 50 did not finish", ended)
	if ended == 0 {
		t.Error("none was cut short")
	}
	if _, err := r.Measure(t.Context(), labVG, labPool, each(nil)); err != nil {
		t.Errorf("after all that: %v", err)
	}
}
