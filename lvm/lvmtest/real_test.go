package lvmtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/internal/run"
	"lls/lvm"
)

// real is LVM on the lab's empty disk: one group, made once, and a pool for
// each case.
type real struct {
	run   *run.Runner
	vg    lvm.VG
	cases int
}

const realVG = lvm.VG("lls-contract.vg")

var theDisk = sync.OnceValues(func() (string, error) {
	disk := os.Getenv("LLS_LAB_DISK")
	if disk == "" {
		return "", fmt.Errorf("LLS_LAB=1 but LLS_LAB_DISK names no disk")
	}
	r := run.New()
	h := lvm.NewHost(r, lvm.Options{})
	return disk, h.CreateGroup(context.Background(), realVG, disk, 0)
})

// lab skips a test outside of the lab. Inside, a missing disk is a failure.
func lab(t *testing.T) *real {
	t.Helper()
	if os.Getenv("LLS_LAB") != "1" {
		t.Skip("needs real LVM and a disk to erase: runs in the lab, with LLS_LAB=1 and LLS_LAB_DISK")
	}
	if _, err := theDisk(); err != nil {
		t.Fatal(err)
	}
	return &real{run: run.New(), vg: realVG}
}

// lvm runs LVM as a sysadmin would.
func (r *real) lvm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.run.Run(context.Background(), run.Cmd{Name: "lvm", Args: args, NoKill: true})
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out.Stdout)
}

// env makes the environment of a case, and removes all that is left of it.
func (r *real) env(t *testing.T) Env {
	t.Helper()
	r.cases++
	pool := lvm.Name(fmt.Sprintf("pool-%d", r.cases))
	h := lvm.NewHost(r.run, lvm.Options{BackupDir: t.TempDir(), Managed: Managed})
	err := h.CreatePool(t.Context(), lvm.CreatePool{VG: r.vg, Name: pool, Size: 512 * lvm.MiB})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.clean(t, h) })
	path := func(name lvm.Name) string { return string(r.vg) + "/" + string(name) }
	return Env{
		Host: h, VG: r.vg, Pool: pool,
		Open: func(t *testing.T, name lvm.Name) func() {
			f, err := os.Open(h.Device(r.vg, name))
			if err != nil {
				t.Fatal(err)
			}
			return func() { _ = f.Close() } // only read
		},
		Plain: func(t *testing.T, name lvm.Name) {
			r.lvm(t, "lvcreate", "-y", "-L", "8m", "-n", string(name), string(r.vg))
		},
		Classic: func(t *testing.T, origin, name lvm.Name) {
			r.lvm(t, "lvcreate", "-y", "-s", "-L", "4m", "-n", string(name), path(origin))
		},
		External: func(t *testing.T, origin, name lvm.Name) {
			r.lvm(t, "lvchange", "-an", path(origin))
			r.lvm(t, "lvchange", "-pr", path(origin))
			r.lvm(t, "lvcreate", "-y", "-s", "--thinpool", string(pool), "-n", string(name), path(origin))
		},
		Profile: func(t *testing.T, name string) {
			if name == "" {
				r.lvm(t, "lvchange", "--detachprofile", path(pool))
				return
			}
			r.lvm(t, "lvchange", "--metadataprofile", name, path(pool))
		},
	}
}

// clean removes everything from the group: whatever is left would spoil the
// next case.
func (r *real) clean(t *testing.T, h *lvm.Host) {
	groups, err := h.Report(context.Background(), r.vg)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range append(groups[0].Volumes, groups[0].Others...) {
		if v.Suspended {
			t.Errorf("volume %s is left suspended", v.Name)
		}
	}
	r.lvm(t, "lvremove", "-y", string(r.vg))
}

func TestRealLVMKeepsTheContract(t *testing.T) {
	r := lab(t)
	Suite(t, r.env)
}

// Remove looks before it leaps, and LVM once more under its own lock. This is
// what happens when dependents appear or tags change in between: the selection
// of Remove, run without the look.
func TestRealLVMRemovesNoVolumeWithDependents(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	e.Plain(t, "plain")
	e.Classic(t, "plain", "classic")
	e.Plain(t, "plain2")
	e.External(t, "plain2", "ext")
	r.lvm(t, "lvchange", "-an", string(r.vg)+"/plain")
	remove := func(name lvm.Name, seen ...lvm.Tag) lvm.Group {
		groups, err := e.Host.Report(t.Context(), r.vg)
		if err != nil {
			t.Fatal(err)
		}
		v, ok := groups[0].Volume(name)
		if !ok {
			t.Fatalf("volume %s is not there", name)
		}
		v.Tags = seen
		r.lvm(t, "lvremove", "-y", "--select", lvm.RemoveSelection(v), "--", string(r.vg)+"/"+string(name))
		groups, err = e.Host.Report(t.Context(), r.vg)
		if err != nil {
			t.Fatal(err)
		}
		return groups[0]
	}
	remove("plain")
	g := remove("plain2")
	for _, name := range []lvm.Name{"plain", "classic", "plain2", "ext"} {
		if v, ok := g.Volume(name); !ok {
			t.Errorf("volume %s is gone", name)
		} else {
			t.Logf("%s has the roles %v", name, v.Role)
		}
	}
	remove("classic")
	r.lvm(t, "lvchange", "--addtag", "one", "--addtag", "two", string(r.vg)+"/plain")
	for _, seen := range [][]lvm.Tag{{"one"}, {"one", "two", "three"}, {"one", "other"}, nil} {
		if _, ok := remove("plain", seen...).Volume("plain"); !ok {
			t.Fatalf("a volume is gone that had the tags %v by then", seen)
		}
	}
	if _, ok := remove("plain", "two", "one").Volume("plain"); ok {
		t.Error("a volume without dependents stays")
	}
}

// What has to be inactive at boot is so; LVM calls it auto-activation.
func TestRealVolumesStayInactiveAtBoot(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	err := e.Host.Write(t.Context(), r.vg, func(w lvm.Writer) error {
		if err := w.CreateThin(t.Context(), lvm.CreateThin{Pool: e.Pool, Name: "a", Size: lvm.GiB, Tags: []lvm.Tag{Mark}, Activate: true}); err != nil {
			return err
		}
		if err := w.Snapshot(t.Context(), lvm.Snapshot{Origin: "a", Name: "s", Tags: []lvm.Tag{Mark}, Activate: true}); err != nil {
			return err
		}
		return w.Deactivate(t.Context(), "a", "s")
	})
	if err != nil {
		t.Fatal(err)
	}
	r.lvm(t, "vgchange", "-aay", string(r.vg))
	groups, err := e.Host.Report(t.Context(), r.vg)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range groups[0].Volumes {
		if v.Active {
			t.Errorf("volume %s is active", v.Name)
		}
	}
}

func TestRealGroupIsNotMadeOnWhatHoldsAnything(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	e.Plain(t, "plain")
	dev := e.Host.Device(r.vg, "plain")
	disk, _ := theDisk()
	for _, c := range []struct {
		name   string
		device string
		write  string
		at     int64
	}{
		{"the physical volume of a group", disk, "", 0},
		{"a missing device", "/dev/nosuchdevice", "", 0},
		{"a character device", "/dev/null", "", 0},
		{"a file", "/etc/passwd", "", 0},
		{"unknown data at the start", dev, "x", 4711},
		{"unknown data at the end", dev, "x", 8<<20 - 1},
		{"an ext4 signature", dev, "\x53\xef", 1080},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.write != "" {
				overwrite(t, dev, c.write, c.at)
				defer overwrite(t, dev, strings.Repeat("\x00", len(c.write)), c.at)
			}
			err := e.Host.CreateGroup(t.Context(), "lls-other", c.device, 0)
			if err == nil {
				t.Error("a group was made")
			}
			t.Log(err)
		})
	}
	if err := e.Host.CreateGroup(t.Context(), r.vg, dev, 0); err == nil {
		t.Error("a second group of the same name was made")
	}
}

func overwrite(t *testing.T, path, text string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // synced below
	if _, err := f.WriteAt([]byte(text), at); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func TestRealBackupRotates(t *testing.T) {
	r := lab(t)
	dir := t.TempDir()
	h := lvm.NewHost(r.run, lvm.Options{BackupDir: dir})
	for range 13 {
		if err := h.Backup(t.Context(), r.vg); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir + "/" + string(r.vg))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 10 {
		t.Errorf("%d copies are kept, want 10", len(files))
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
			t.Errorf("%s: %v, %v", f.Name(), info, err)
		}
	}
}

// LVM's own copies of the metadata are a file for each change, and two
// commands that renew them at once may never end.
func TestRealLVMKeepsNoCopiesOfItsOwn(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	const others = "lvm2-lvmdbusd.service" // whose reports keep them
	if _, err := r.run.Run(t.Context(), run.Cmd{Name: "systemctl", Args: []string{"mask", "--runtime", "--now", "--", others}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := r.run.Run(context.Background(), run.Cmd{Name: "systemctl", Args: []string{"unmask", "--runtime", "--", others}}); err != nil {
			t.Error(err)
		}
	})
	r.lvm(t, "vgs") // the group is as it is in the copies
	before := copies(t)
	for i := range 3 {
		err := e.Host.Write(t.Context(), r.vg, func(w lvm.Writer) error {
			name := lvm.Name(fmt.Sprintf("a%d", i))
			if err := w.CreateThin(t.Context(), lvm.CreateThin{Pool: e.Pool, Name: name, Size: lvm.GiB, Tags: []lvm.Tag{Mark}, Activate: true}); err != nil {
				return err
			}
			return w.Remove(t.Context(), name, func(lvm.Volume) bool { return true })
		})
		if err == nil {
			_, err = e.Host.Report(t.Context(), r.vg)
		}
		if err == nil {
			err = e.Host.Backup(t.Context(), r.vg)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if after := copies(t); !maps.Equal(after, before) {
		t.Errorf("before: %v\nafter: %v", before, after)
	}
	r.lvm(t, "vgs")
	if after := copies(t); maps.Equal(after, before) {
		t.Error("a report as it is typed keeps no copies either: this test sees nothing")
	}
}

// copies are the files that LVM keeps of its metadata, and when they were written.
func copies(t *testing.T) map[string]time.Time {
	t.Helper()
	all := map[string]time.Time{}
	for _, dir := range []string{"/etc/lvm/archive", "/etc/lvm/backup"} {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				t.Fatal(err)
			}
			all[dir+"/"+f.Name()] = info.ModTime()
		}
	}
	return all
}

// A context that ends during a change must leave neither a suspended device nor
// a wrong answer.
func TestRealChangeSurvivesTheEndOfItsContext(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	err := e.Host.Write(t.Context(), r.vg, func(w lvm.Writer) error {
		return w.CreateThin(t.Context(), lvm.CreateThin{Pool: e.Pool, Name: "a", Size: lvm.GiB, Tags: []lvm.Tag{Mark}, Activate: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for i := range 20 {
		name := lvm.Name(fmt.Sprintf("s%d", i))
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*12*time.Millisecond)
		err := e.Host.Write(ctx, r.vg, func(w lvm.Writer) error {
			return w.Snapshot(ctx, lvm.Snapshot{Origin: "a", Name: name, Tags: []lvm.Tag{Mark}, Activate: true})
		})
		cancel()
		groups, reportErr := e.Host.Report(t.Context(), r.vg)
		if reportErr != nil {
			t.Fatal(reportErr)
		}
		s, there := groups[0].Volume(name)
		if there != (err == nil) || there && !s.Active {
			t.Errorf("%v after %d ms, but the volume is there: %v, %+v", err, i*12, there, s)
		}
		if a, _ := groups[0].Volume("a"); a.Suspended {
			t.Errorf("the origin is suspended after %d ms", i*12)
		}
		if there {
			made++
		}
	}
	t.Logf("%d of 20 were made", made)
}

// The hot path against what a sysadmin would type.
func TestRealSnapshotIsAsFastAsTyping(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	const rounds = 15
	var ours, typed, report []time.Duration
	err := e.Host.Write(t.Context(), r.vg, func(w lvm.Writer) error {
		if err := w.CreateThin(t.Context(), lvm.CreateThin{Pool: e.Pool, Name: "a", Size: lvm.GiB, Tags: []lvm.Tag{Mark}, Activate: true}); err != nil {
			return err
		}
		for i := range rounds {
			start := time.Now()
			if err := w.Snapshot(t.Context(), lvm.Snapshot{Origin: "a", Name: lvm.Name(fmt.Sprintf("o%d", i)), Tags: []lvm.Tag{Mark}, Activate: true}); err != nil {
				return err
			}
			ours = append(ours, time.Since(start))
			start = time.Now()
			r.lvm(t, "lvcreate", "-s", "-kn", "-ay", "-n", fmt.Sprintf("t%d", i), string(r.vg)+"/a")
			typed = append(typed, time.Since(start))
			start = time.Now()
			if _, err := w.Report(t.Context()); err != nil {
				return err
			}
			report = append(report, time.Since(start))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	median := func(d []time.Duration) time.Duration {
		slices.Sort(d)
		return d[len(d)/2]
	}
	t.Logf("a snapshot takes %v, typed %v, a report %v", median(ours), median(typed), median(report))
	if us, them := slices.Min(ours), slices.Min(typed); float64(us) > 1.3*float64(them) { // a neighbour only ever adds
		t.Errorf("a snapshot takes %v at the least, typed %v", us, them)
	}
}

// LVM makes nothing new in a pool above the threshold at which it would grow.
func TestRealPoolAboveItsThresholdIsFull(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	h := lvm.NewHost(r.run, lvm.Options{ConfigExtra: "activation{thin_pool_autoextend_threshold=50 monitoring=0}"})
	create := func(name lvm.Name) error {
		return h.Write(t.Context(), r.vg, func(w lvm.Writer) error {
			return w.CreateThin(t.Context(), lvm.CreateThin{Pool: e.Pool, Name: name, Size: lvm.GiB, Tags: []lvm.Tag{Mark}, Activate: true})
		})
	}
	if err := create("a"); err != nil {
		t.Fatal(err)
	}
	overwrite(t, h.Device(r.vg, "a"), strings.Repeat("x", 290<<20), 0)
	if err := create("b"); !errors.Is(err, lvm.ErrPoolFull) {
		t.Errorf("creating gives %v, want %v", err, lvm.ErrPoolFull)
	}
	err := h.Write(t.Context(), r.vg, func(w lvm.Writer) error {
		return w.Snapshot(t.Context(), lvm.Snapshot{Origin: "a", Name: "s", Tags: []lvm.Tag{Mark}})
	})
	var failure *run.Error
	if !errors.Is(err, lvm.ErrPoolFull) || !errors.As(err, &failure) || failure.ExitStatus == 0 || failure.Stderr == "" {
		t.Errorf("a snapshot gives %v, want %v", err, lvm.ErrPoolFull)
	}
	t.Log(err)
}

// A pool that takes all of the group leaves no room by mistake.
func TestRealPoolOfAllFreeSpace(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	if err := e.Host.CreatePool(t.Context(), lvm.CreatePool{VG: r.vg, Name: "all", Percent: 100, Tags: []lvm.Tag{"lls.pool"}}); err != nil {
		t.Fatal(err)
	}
	groups, err := e.Host.Report(t.Context(), r.vg)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := groups[0].Pool("all")
	if !ok || !p.Zero || !p.HasTag("lls.pool") || groups[0].Free > 300*lvm.MiB {
		t.Errorf("pool is %+v, %s are free", p, groups[0].Free)
	}
}
