package e2e

import (
	"testing"
	"time"

	"lls/test/kit"
)

// othersSnapshot wants that others are served as fast as ever.
func othersSnapshot(t *testing.T, w *world) {
	t.Helper()
	start := time.Now()
	w.alice.Do(t, "snapshot", dataset, "meanwhile")
	w.alice.Do(t, "delete", "meanwhile")
	w.alice.Do(t, "purge", "meanwhile", "--yes")
	kit.Agent(t, "list").Want(t, 0)
	if took := time.Since(start); took > time.Minute { // a translated processor takes 20 s
		t.Errorf("others waited %v", took)
	}
}

// Whoever has his file system frozen can have it saved or, where the kernel suspends nothing that is frozen, is told so; and keeps nobody
// waiting.
func TestASnapshotOfAFrozenFileSystem(t *testing.T) {
	w := lab(t)
	dirs(t, w.root, "/ice")
	own(t, w.root, "ice", "--mount", "/ice")
	purgeAfter(t, w.root, "cube", "after")
	purgeAfter(t, w.alice, "meanwhile")
	w.root.Must(t, "sh", "-c", "echo cold >/ice/file")
	w.root.Must(t, "fsfreeze", "--freeze", "/ice")
	thaw := true
	t.Cleanup(func() {
		if thaw {
			w.root.Must(t, "fsfreeze", "--unfreeze", "/ice")
		}
	})
	start := time.Now()
	r := w.root.LLS(t, "snapshot", "ice", "cube")
	t.Logf("frozen, after %v: %v", time.Since(start), r)
	if r.Exit != 0 {
		r.WantError(t, 11, "frozen")
	}
	othersSnapshot(t, w)
	w.root.Must(t, "fsfreeze", "--unfreeze", "/ice")
	thaw = false
	w.root.Do(t, "snapshot", "ice", "after")
}

// What was written to an origin is on its disk before the group's writer is taken: where that does not end, he alone waits who asked.
func TestASnapshotWaitsForTheDiskAlone(t *testing.T) {
	w := lab(t)
	dirs(t, w.root, "/wet")
	own(t, w.root, "wet", "--mount", "/wet")
	purgeAfter(t, w.root, "dry")
	purgeAfter(t, w.alice, "meanwhile")
	w.root.Do(t, "snapshot", "wet", "dry")
	w.root.Do(t, "delete", "dry")
	w.root.Do(t, "purge", "dry", "--yes")
	v := kit.FindLV(t, "root", "wet")
	w.root.Must(t, "dd", "if=/dev/zero", "of=/wet/file", "bs=1M", "count=8")
	kit.Must(t, "dmsetup", "suspend", "--noflush", "--nolockfs", "-j", v.Major, "-m", v.Minor) // a disk that does not get on
	stopped := true
	resume := func() {
		if stopped {
			kit.Must(t, "dmsetup", "resume", "-j", v.Major, "-m", v.Minor)
		}
		stopped = false
	}
	t.Cleanup(resume)
	impatient := w.root.Exec(t, "timeout", "5", "lls", "snapshot", "wet", "dry")
	t.Logf("while its disk does not get on: %v", impatient)
	if impatient.Exit == 0 || impatient.Took < 4*time.Second {
		t.Errorf("it did not wait")
	}
	othersSnapshot(t, w)
	start := time.Now()
	w.root.LLS(t, "snapshot", "wet", "dry").WantError(t, 11, "not on disk yet")
	w.root.LLS(t, "snapshot", "wet", "dry").WantError(t, 11, "not on disk yet")
	if took := time.Since(start); took > time.Minute {
		t.Errorf("it waited %v again", took)
	}
	if left := kit.FindLVs(t, "root", "dry"); len(left) > 0 {
		t.Errorf("there is %+v", left)
	}
	resume()
	kit.Eventually(t, "it can be saved again", func() bool { return w.root.LLS(t, "snapshot", "wet", "dry").Exit == 0 })
	w.root.Do(t, "umount", "wet")
}
