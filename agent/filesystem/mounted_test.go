package filesystem

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/internal/run"
	"lls/lvm"
)

// thinVolume makes a thin volume of 1 GiB, with a file system, in a pool on a file.
func thinVolume(t *testing.T, kind Type) (device string) {
	t.Helper()
	if os.Getenv("LLS_LAB") != "1" {
		t.Skip("needs device-mapper: runs in the lab, with LLS_LAB=1")
	}
	_, disk := loop(t, 3<<30)
	const vg = "lls-filesystem.vg"
	command(t, "vgcreate", "-q", "--setautoactivation", "n", vg, disk) // by udev, in its own time
	t.Cleanup(func() {
		command(t, "vgremove", "-q", "-ff", "-y", vg)
		command(t, "pvremove", "-q", "-ff", "-y", disk)
	})
	command(t, "lvcreate", "-q", "-y", "--type", "thin-pool", "-L", "1g", "--chunksize", "64k", "-n", "pool", vg)
	command(t, "lvcreate", "-q", "-V", "1g", "-n", "a", "--thinpool", "pool", vg)
	device = lvm.Device(vg, "a")
	if err := Make(t.Context(), run.New(), device, kind, MakeOptions{}); err != nil {
		t.Fatal(err)
	}
	return device
}

// mapped is how much of the pool the volume uses.
func mapped(t *testing.T) lvm.Size {
	t.Helper()
	out, err := run.New().Run(t.Context(), run.Cmd{Name: "dmsetup", Args: []string{"status", "--", "lls--filesystem.vg-a"}})
	words := strings.Fields(string(out.Stdout))
	if err != nil || len(words) < 4 {
		t.Fatalf("%q, %v", words, err)
	}
	n, err := strconv.ParseInt(words[3], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return lvm.Size(n) * 512
}

// place mounts a device as Mount makes it.
func place(t *testing.T, device string, kind Type, readOnly bool, more ...Option) string {
	t.Helper()
	dir := t.TempDir()
	m, err := Mount(t.Context(), device, kind, readOnly, more, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.MoveMount(int(m.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // it may be gone
	return dir
}

// litter writes a file of 200 MiB and deletes it. xfs frees its blocks some time after, behind everybody's back.
func litter(t *testing.T, dir string) {
	t.Helper()
	free := func() uint64 {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		return st.Bfree * uint64(st.Bsize)
	}
	before := free()
	f, err := os.Create(filepath.Join(dir, "litter"))
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Remove(f.Name())); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); free()+8<<20 < before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the file is removed, and its space is not free: %d bytes are, %d were", free(), before)
		}
	}
	syncAll(t, dir)
}

func syncAll(t *testing.T, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() // read only
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		t.Fatal(err)
	}
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
}

// unused wants that nobody holds the device.
func unused(t *testing.T, device string) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Errorf("still in use: %v", err)
		return
	}
	_ = f.Close() // read only
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestTrimGivesDeletedFilesBackToThePool(t *testing.T) {
	for _, kind := range []Type{Ext4, XFS} {
		t.Run(string(kind), func(t *testing.T) {
			device := thinVolume(t, kind)
			dir := place(t, device, kind, false)
			before := mapped(t)
			for _, slice := range []lvm.Size{0, 100 * lvm.MiB} {
				litter(t, dir)
				full := mapped(t)
				if full < before+150*lvm.MiB {
					t.Fatalf("the file took from %s to %s", before, full)
				}
				m := newMounted()
				did, err := m.Trim(within(t, time.Minute), device, kind, Trim{Slice: slice, Pause: time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				after := mapped(t)
				t.Logf("trimmed %s in slices of %s: from %s to %s", did, slice, full, after)
				if after > before+16*lvm.MiB || did < full-after {
					t.Errorf("trimmed %s, %s are left of %s, which were %s before the file", did, after, full, before)
				}
			}
			// The file system may be smaller than its device.
			command(t, "lvextend", "-q", "-L", "2g", device)
			m := newMounted()
			if _, err := m.Trim(within(t, time.Minute), device, kind, Trim{Slice: 100 * lvm.MiB}); err != nil {
				t.Error(err)
			}
			unmount(t, dir)
			unused(t, device)
		})
	}
}

func TestDiscardGivesDeletedFilesBackByItself(t *testing.T) {
	for _, kind := range []Type{Ext4, XFS} {
		t.Run(string(kind), func(t *testing.T) {
			device := thinVolume(t, kind)
			dir := place(t, device, kind, false, Option{Name: "discard"})
			before := mapped(t)
			litter(t, dir)
			for end := time.Now().Add(45 * time.Second); mapped(t) > before+16*lvm.MiB; time.Sleep(200 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("it uses %s, and used %s", mapped(t), before)
				}
				syncAll(t, dir)
			}
		})
	}
}

func TestUsageIsThatOfTheMount(t *testing.T) {
	for _, kind := range []Type{Ext4, XFS} {
		t.Run(string(kind), func(t *testing.T) {
			_, device := loop(t, 512<<20)
			if err := Make(t.Context(), run.New(), device, kind, MakeOptions{}); err != nil {
				t.Fatal(err)
			}
			m := newMounted()
			// Nobody is the first to mount it.
			if s, err := m.Usage(t.Context(), device, kind); !errors.Is(err, ErrNotMounted) {
				t.Errorf("%+v, %v", s, err)
			}
			if n, err := m.Trim(t.Context(), device, kind, Trim{}); !errors.Is(err, ErrNotMounted) {
				t.Errorf("%s, %v", n, err)
			}
			for _, readOnly := range []bool{false, true} {
				dir := place(t, device, kind, readOnly)
				var st unix.Statfs_t
				if err := unix.Statfs(dir, &st); err != nil {
					t.Fatal(err)
				}
				want := Space{Size: lvm.Size(st.Blocks) * lvm.Size(st.Bsize), Free: lvm.Size(st.Bavail) * lvm.Size(st.Bsize)}
				if s, err := m.Usage(t.Context(), device, kind); err != nil || s != want || s.Free <= 0 || s.Size < s.Free {
					t.Errorf("%+v, %v, want %+v", s, err, want)
				}
				_, err := m.Trim(t.Context(), device, kind, Trim{})
				if readOnly && !errors.Is(err, ErrReadOnly) || !readOnly && err != nil && !errors.Is(err, ErrNoDiscard) {
					t.Errorf("trimming, read-only %v: %v", readOnly, err)
				}
				unmount(t, dir)
				unused(t, device)
			}
		})
	}
}

func TestSyncWritesWhatIsMounted(t *testing.T) {
	for _, kind := range []Type{Ext4, XFS} {
		t.Run(string(kind), func(t *testing.T) {
			file, device := loop(t, 512<<20)
			if err := Make(t.Context(), run.New(), device, kind, MakeOptions{}); err != nil {
				t.Fatal(err)
			}
			m := newMounted()
			if err := m.Sync(t.Context(), device, kind); !errors.Is(err, ErrNotMounted) {
				t.Error(err)
			}
			dir := place(t, device, kind, false)
			const text = "what is not on disk yet, a moment after it was written"
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte(strings.Repeat(text, 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := m.Sync(t.Context(), device, kind); err != nil {
				t.Error(err)
			}
			if disk, err := os.ReadFile(file); err != nil || !bytes.Contains(disk, []byte(text)) {
				t.Errorf("it is not on disk (%v)", err)
			}
			start := time.Now()
			for range 20 { // what is clean costs nothing to speak of
				if err := m.Sync(t.Context(), device, kind); err != nil {
					t.Error(err)
				}
			}
			t.Logf("20 times in %v", time.Since(start))
			unmount(t, dir)
			unused(t, device)
			dir = place(t, device, kind, true)
			if err := m.Sync(t.Context(), device, kind); err != nil {
				t.Errorf("read-only: %v", err)
			}
			unmount(t, dir)
			unused(t, device)
		})
	}
}

func TestMountedRefusesWhatIsNoMountedDevice(t *testing.T) {
	m := newMounted()
	for device, want := range map[string]error{filepath.Join(t.TempDir(), "missing"): os.ErrNotExist, "/dev/null": nil, t.TempDir(): nil} {
		if s, err := m.Usage(t.Context(), device, Ext4); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %+v, %v", device, s, err)
		}
		if n, err := m.Trim(t.Context(), device, Ext4, Trim{}); err == nil {
			t.Errorf("%s: %s", device, n)
		}
		if err := m.Sync(t.Context(), device, Ext4); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", device, err)
		}
	}
	if _, err := m.Usage(t.Context(), "/dev/null", "vfat"); !errors.Is(err, ErrType) {
		t.Error(err)
	}
}

func TestTrimStopsBetweenSlices(t *testing.T) {
	for _, kind := range []Type{Ext4, XFS} {
		t.Run(string(kind), func(t *testing.T) {
			device := thinVolume(t, kind)
			dir := place(t, device, kind, false)
			m := newMounted()
			how := Trim{Slice: lvm.MiB, Pause: time.Hour}
			start := time.Now()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if n, err := m.Trim(ctx, device, kind, how); !errors.Is(err, context.Canceled) || time.Since(start) > 20*time.Second {
				t.Errorf("%s, %v after %v", n, err, time.Since(start))
			}
			// In a pause the device is not held: whoever uses it may go.
			how.Pause = 10 * time.Second
			time.AfterFunc(5*time.Second, func() {
				if err := unix.Unmount(dir, 0); err != nil {
					t.Error(err)
				}
				unused(t, device)
			})
			if n, err := m.Trim(within(t, time.Minute), device, kind, how); !errors.Is(err, ErrNotMounted) {
				t.Errorf("%s, %v", n, err)
			}
		})
	}
}

// A file system that is frozen, and a device that does not answer, cost a call its time and no more.
func TestNobodyWaitsForADeviceForEver(t *testing.T) {
	for _, kind := range []Type{Ext4, XFS} {
		t.Run(string(kind), func(t *testing.T) {
			device := thinVolume(t, kind)
			dir := place(t, device, kind, false)
			litter(t, dir)
			m := newMounted()
			command(t, "fsfreeze", "-f", dir)
			start := time.Now()
			s, err := m.Usage(within(t, 5*time.Second), device, kind)
			t.Logf("frozen: %+v, %v after %v", s, err, time.Since(start))
			if err != nil && !errors.Is(err, ErrSlow) {
				t.Error(err)
			}
			n, err := m.Trim(within(t, 5*time.Second), device, kind, Trim{})
			t.Logf("frozen: trimmed %s, %v after %v", n, err, time.Since(start))
			if err != nil && !errors.Is(err, ErrSlow) || time.Since(start) > 15*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			// Who freezes writes all first, so there is nothing to wait for.
			if err := newMounted().Sync(within(t, 5*time.Second), device, kind); err != nil {
				t.Errorf("frozen: %v", err)
			}
			command(t, "fsfreeze", "-u", dir)
			answers(t, m, device, kind)

			litter(t, dir)
			// xfs waits for its log, of which this leaves something to write, but not for the discards themselves.
			if err := os.WriteFile(filepath.Join(dir, "unwritten"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			command(t, "dmsetup", "suspend", "--noflush", "--nolockfs", "lls--filesystem.vg-a")
			start = time.Now()
			n, err = m.Trim(within(t, time.Second), device, kind, Trim{})
			t.Logf("suspended: trimmed %s, %v after %v", n, err, time.Since(start))
			if !errors.Is(err, ErrSlow) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 10*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			start = time.Now()
			if _, err := m.Usage(t.Context(), device, kind); !errors.Is(err, ErrSlow) || time.Since(start) > time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if err := m.Sync(t.Context(), device, kind); !errors.Is(err, ErrSlow) || time.Since(start) > 2*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			command(t, "dmsetup", "resume", "lls--filesystem.vg-a")
			answers(t, m, device, kind)
			slowSync(t, m, device, dir, kind)
			unmount(t, dir)
			unused(t, device)
		})
	}
}

// slowSync wants that a file system that cannot be written costs who waits for that his time and no more.
func slowSync(t *testing.T, m *Mounted, device, dir string, kind Type) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "dirty"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "dmsetup", "suspend", "--noflush", "--nolockfs", "lls--filesystem.vg-a")
	start := time.Now()
	if err := m.Sync(within(t, time.Second), device, kind); !errors.Is(err, ErrSlow) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	start = time.Now()
	if err := m.Sync(t.Context(), device, kind); !errors.Is(err, ErrSlow) || time.Since(start) > time.Second {
		t.Errorf("again: %v after %v", err, time.Since(start))
	}
	command(t, "dmsetup", "resume", "lls--filesystem.vg-a")
	answers(t, m, device, kind)
	if err := m.Sync(within(t, time.Minute), device, kind); err != nil {
		t.Error(err)
	}
}

// answers waits until a device can be asked again.
func answers(t *testing.T, m *Mounted, device string, kind Type) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for {
		_, err := m.Usage(t.Context(), device, kind)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrSlow) || time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := m.Trim(within(t, time.Minute), device, kind, Trim{}); err != nil {
		t.Error(err)
	}
}
