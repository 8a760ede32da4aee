package event_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/event"
	"lls/agent/event/bus"
	"lls/test/kit"
)

const (
	labVG   = "lls-event.vg"
	labPool = labVG + "/pool"
)

// labDisk makes a volume group with a small thin pool on the lab's empty disk, and takes it away after the test.
func labDisk(t *testing.T) {
	t.Helper()
	kit.Guest(t)
	disk := os.Getenv("LLS_LAB_DISK")
	if disk == "" {
		t.Fatal("LLS_LAB=1 but LLS_LAB_DISK names no disk")
	}
	t.Cleanup(func() {
		do(t, "vgremove", "-ff", "-y", labVG)
		do(t, "pvremove", "-ff", "-y", disk)
	})
	do(t, "vgcreate", "--setautoactivation", "n", labVG, disk) // by udev, in its own time
	do(t, "lvcreate", "-y", "--type", "thin-pool", "-L", "128m", "-n", "pool", labVG)
}

func do(t *testing.T, args ...string) string {
	t.Helper()
	r := kit.Run(t, args...)
	if r.Exit != 0 {
		t.Fatal(r)
	}
	return strings.TrimSpace(r.Stdout)
}

// ear collects events.
type ear struct {
	mu     sync.Mutex
	events []event.Event
}

func (e *ear) add(heard event.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, heard)
}

// since are the events after the first n.
func (e *ear) since(n int) []event.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]event.Event(nil), e.events[n:]...)
}

// listen hears udev and device-mapper until the test ends. also is told too, if it is not nil.
func listen(t *testing.T, also func(event.Event)) *ear {
	t.Helper()
	udev, err := event.OpenUdev()
	if err != nil {
		t.Fatal(err)
	}
	dm, err := event.OpenDeviceMapper()
	if err != nil {
		t.Fatal(err)
	}
	e := &ear{}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, run := range []func(context.Context, func(event.Event)) error{udev.Run, dm.Run} {
		work.Go(func() {
			if err := run(ctx, func(heard event.Event) {
				e.add(heard)
				if also != nil {
					also(heard)
				}
			}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		work.Wait()
		udev.Close()
		if err := dm.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// hears runs a command, and fails when no event that is wanted comes after it. How soon that is, is logged; that it is within a second, by
// the median, a test of the whole shows.
func (e *ear) hears(t *testing.T, what string, wanted func(event.Event) bool, command ...string) {
	t.Helper()
	before := len(e.since(0))
	do(t, command...)
	done := time.Now()
	for {
		heard := e.since(before)
		for _, h := range heard {
			if wanted(h) {
				t.Logf("%s: %+v (%d events, %v after the command)", what, h, len(heard), time.Since(done).Round(time.Millisecond))
				e.quiet(t)
				return
			}
		}
		if time.Since(done) > 20*time.Second {
			t.Errorf("%s: not heard of: %+v", what, heard)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// quiet waits until udev is done with all that happened.
func (e *ear) quiet(t *testing.T) {
	t.Helper()
	do(t, "udevadm", "settle")
	for n := -1; n != len(e.since(0)); time.Sleep(time.Second) {
		n = len(e.since(0))
	}
}

// volume wants the event of a volume by its UUID, with the name it has then.
func volume(uuid, lv string, action event.Action) func(event.Event) bool {
	return func(h event.Event) bool {
		v, ok := h.(event.VolumeChanged)
		return ok && v.UUID == uuid && v.VG == labVG && v.LV == lv && v.Action == action && v.Device.Major != 0
	}
}

func physical(h event.Event) bool {
	p, ok := h.(event.PhysicalChanged)
	return ok && p.Name != "" && p.Action == event.Change
}

func TestLabWhatIsDoneWithLVMIsHeardOf(t *testing.T) {
	labDisk(t)
	e := listen(t, nil)
	created := func(h event.Event) bool {
		v, ok := h.(event.VolumeChanged)
		return ok && v.LV == "data-set.a1" && v.VG == labVG && v.Action == event.Change
	}
	e.hears(t, "a new volume", created, "lvcreate", "-y", "-V", "64m", "--thinpool", labPool, "-n", "data-set.a1")
	lv := labVG + "/data-set.a1"
	uuid := do(t, "lvs", "--noheadings", "-o", "lv_uuid", lv)
	numbers := strings.Fields(do(t, "lvs", "--noheadings", "-o", "lv_kernel_major,lv_kernel_minor", lv))
	for _, h := range e.since(0) {
		if v, ok := h.(event.VolumeChanged); ok && created(h) {
			if got := []string{fmt.Sprint(v.Device.Major), fmt.Sprint(v.Device.Minor)}; v.UUID != uuid || strings.Join(got, " ") != strings.Join(numbers, " ") {
				t.Errorf("heard %+v of volume %s at %v", v, uuid, numbers)
			}
		}
	}
	e.hears(t, "a tag of an active volume", physical, "lvchange", "--addtag", "x", lv)
	e.hears(t, "an inactive snapshot", physical, "lvcreate", "-y", "-s", "-an", "-n", "snap", lv)
	e.hears(t, "a tag of an inactive volume", physical, "lvchange", "--addtag", "x", labVG+"/snap")
	e.hears(t, "a larger volume", volume(uuid, "data-set.a1", event.Change), "lvextend", "-L", "+16m", lv)
	e.hears(t, "another name", volume(uuid, "new-name", event.Change), "lvrename", lv, labVG+"/new-name")
	e.hears(t, "a volume switched off", volume(uuid, "new-name", event.Remove), "lvchange", "-an", labVG+"/new-name")
	e.hears(t, "a volume switched on", volume(uuid, "new-name", event.Change), "lvchange", "-ay", labVG+"/new-name")
	e.hears(t, "a group switched off", volume(uuid, "new-name", event.Remove), "vgchange", "-an", labVG)
	e.hears(t, "a group switched on", volume(uuid, "new-name", event.Change), "vgchange", "-ay", labVG)
	e.hears(t, "an inactive snapshot removed", physical, "lvremove", "-y", labVG+"/snap")
	e.hears(t, "a volume removed", volume(uuid, "new-name", event.Remove), "lvremove", "-y", labVG+"/new-name")

	before := len(e.since(0))
	for range 3 {
		do(t, "lvm", "fullreport", "--reportformat", "json", labVG)
		do(t, "lvs", "-a", labVG)
		do(t, "pvs")
	}
	e.quiet(t)
	if heard := e.since(before); len(heard) > 0 {
		t.Errorf("reading alone made events, so reading on events would never end: %+v", heard)
	}
}

func TestLabAPoolThatFillsIsHeardOf(t *testing.T) {
	labDisk(t)
	do(t, "lvcreate", "-y", "-V", "112m", "--thinpool", labPool, "-n", "filler")
	// every table that is loaded without a threshold has its low-water mark at 0
	do(t, "lvchange", "--refresh", "--config", "activation/thin_pool_autoextend_threshold=50 activation/monitoring=0", labPool)
	e := listen(t, nil)
	e.quiet(t)
	pool := func(h event.Event) bool {
		p, ok := h.(event.PoolChanged)
		return ok && p.Name == "lls--event.vg-pool-tpool"
	}
	e.hears(t, "a pool past its low-water mark", pool,
		"dd", "if=/dev/zero", "of=/dev/"+labVG+"/filler", "bs=1M", "count=100", "oflag=direct", "conv=fsync")
}

func TestLabAStormOfEventsIsFewReads(t *testing.T) {
	labDisk(t)
	for n := range 10 {
		do(t, "lvcreate", "-y", "-V", "8m", "--thinpool", labPool, "-n", fmt.Sprint("v", n))
	}
	c := event.NewCoalescer(event.DefaultTiming())
	e := listen(t, c.Add)
	e.quiet(t)
	var mu sync.Mutex
	var reads, covered, last int
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		c.Run(ctx, func(_ context.Context, b event.Batch) error {
			mu.Lock()
			reads, covered, last = reads+1, covered+b.Events, len(e.since(0))
			mu.Unlock()
			do(t, "lvs", labVG)
			return nil
		})
	})
	devices, err := filepath.Glob("/sys/block/dm-*/uevent")
	if err != nil || len(devices) == 0 {
		t.Fatalf("no devices of device-mapper: %v", err)
	}
	start := time.Now()
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		for _, device := range devices {
			if err := os.WriteFile(device, []byte("change"), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.quiet(t)
	took := time.Since(start)
	kit.Eventually(t, "all was read", func() bool {
		mu.Lock()
		defer mu.Unlock()
		all := len(e.since(0))
		return covered == all && last == all
	})
	cancel()
	work.Wait()
	events := len(e.since(0))
	if most := int(took/event.DefaultTiming().Rest) + 2; reads == 0 || reads > most || covered != events || last != events {
		t.Errorf("%d events in %v made %d reads (at most %d are right), of %d events, the last after %d", events, took, reads, most, covered, last)
	}
	if events < 10*rounds {
		t.Errorf("%d events are no storm", events)
	}
	t.Logf("%d events in %v made %d reads", events, took, reads)
}

func TestLabLogindWaitsAndLvmdbusdHints(t *testing.T) {
	labDisk(t)
	do(t, "systemctl", "stop", "lvm2-lvmdbusd.service") // some Debians start it at boot
	e := &ear{}
	w := bus.NewWatcher(bus.Options{Log: slog.Default()})
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { w.Run(ctx, e.add) })
	defer func() { cancel(); work.Wait() }()
	inhibited := func() bool { return strings.Contains(do(t, "systemd-inhibit", "--list", "--no-pager"), "LLS") }
	kit.Eventually(t, "logind lists our lock", inhibited)
	time.Sleep(2 * time.Second)
	if state := kit.Run(t, "systemctl", "is-active", "lvm2-lvmdbusd.service").Stdout; strings.TrimSpace(state) == "active" || len(e.since(0)) > 0 {
		t.Errorf("lvmdbusd was started by listening: %s; heard %+v", state, e.since(0))
	}
	do(t, "systemctl", "start", "lvm2-lvmdbusd.service")
	defer do(t, "systemctl", "stop", "lvm2-lvmdbusd.service")
	n := 0
	kit.Eventually(t, "lvmdbusd's hint", func() bool {
		n++
		do(t, "lvcreate", "-y", "-V", "8m", "--thinpool", labPool, "-n", fmt.Sprint("b", n))
		time.Sleep(2 * time.Second)
		heard := e.since(0)
		return len(heard) > 0 && heard[0] == event.Hint{Source: "com.redhat.lvmdbus1"}
	})
	w.Release()
	kit.Eventually(t, "logind lists it no more", func() bool { return !inhibited() })
}
