package mount

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent/filesystem"
)

// sleepers are processes that do nothing.
func sleepers(t *testing.T, n int) (pids map[int]bool) {
	t.Helper()
	pids = map[int]bool{}
	for range n {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
		pids[cmd.Process.Pid] = true
	}
	return pids
}

// silence is a Finder for which the memory maps of some processes cannot be read before the channel is closed. asked counts those reads.
func silence(pids map[int]bool) (f *Finder, asked func() int, speak chan struct{}) {
	var mu sync.Mutex
	n := 0
	speak = make(chan struct{})
	f = &Finder{read: func(pid int) (string, error) {
		if !pids[pid] {
			return readMaps(pid)
		}
		mu.Lock()
		n++
		mu.Unlock()
		<-speak
		return readMaps(pid)
	}}
	return f, func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}, speak
}

func TestAProcessThatDoesNotAnswerIsAskedOnce(t *testing.T) {
	f, asked, speak := silence(sleepers(t, 1))
	f.patience = 10 * mapsPatience // the others answer in that time on a busy machine, too
	var st unix.Stat_t             // of this program, which runs
	if err := unix.Stat("/proc/self/exe", &st); err != nil {
		t.Fatal(err)
	}
	self := func(found []Holder) (mapped bool) {
		for _, h := range found {
			mapped = mapped || h.PID == os.Getpid() && h.Kind == HeldMap
		}
		return mapped
	}
	before := runtime.NumGoroutine()
	for i := range 20 {
		start := time.Now()
		found, err := f.Holders(deadline(t, time.Minute), unix.Major(st.Dev), unix.Minor(st.Dev))
		if i == 0 && !errors.Is(err, errSilent) || i > 0 && err != nil {
			t.Errorf("search %d: %v", i, err)
		}
		if !self(found) {
			t.Errorf("search %d did not find this process by its maps", i)
		}
		if took := time.Since(start); took > 3*f.patience {
			t.Errorf("search %d took %v", i, took)
		}
	}
	if n := asked(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	if now := runtime.NumGoroutine(); now > before+3 {
		t.Errorf("%d goroutines, %d before", now, before)
	}
	close(speak)
	for end := time.Now().Add(10 * time.Second); asked() == 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is not asked again after it has answered")
		}
		if _, err := f.Holders(deadline(t, time.Minute), 1, 1); err != nil {
			t.Error(err)
		}
	}
}

func TestProcessesThatDoNotAnswerHoldFewThreads(t *testing.T) {
	f, asked, speak := silence(sleepers(t, 3*maxSilent))
	defer close(speak)
	f.patience = 10 * mapsPatience // as above
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			for range 5 {
				_, _ = f.Holders(deadline(t, time.Minute), 1, 1)
			}
		})
	}
	wg.Wait()
	if n := asked(); n != maxSilent {
		t.Errorf("%d reads hang, %d may", n, maxSilent)
	}
	start := time.Now()
	if _, err := f.Holders(deadline(t, time.Minute), 1, 1); err != nil || time.Since(start) > 20*f.patience {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestAPidThatIsUsedAgainIsAnotherProcess(t *testing.T) {
	pids := sleepers(t, 1)
	f, asked, speak := silence(pids)
	defer close(speak)
	for pid := range pids {
		f.silent = map[process]bool{{pid, "1"}: true}
		if known, _ := f.isSilent(pid); known {
			t.Error("it is taken for the earlier one")
		}
		if started(pid) == "" || started(pid) == started(1) {
			t.Errorf("started at %q, init at %q", started(pid), started(1))
		}
	}
	if _, err := f.Holders(deadline(t, time.Minute), 1, 1); !errors.Is(err, errSilent) || asked() != 1 {
		t.Errorf("%v, asked %d times", err, asked())
	}
}

func TestMountedAnywhere(t *testing.T) {
	d := newDisk(t, filesystem.Ext4)
	look := func(want bool) {
		t.Helper()
		if got, err := Mounted(deadline(t, 10*time.Second), d.Major, d.Minor); err != nil || got != want {
			t.Errorf("mounted: %v, %v", got, err)
		}
	}
	look(false)
	d.fill(func(string) { look(true) })
	look(false)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := Mounted(ended, d.Major, d.Minor); got || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", got, err)
	}
}
