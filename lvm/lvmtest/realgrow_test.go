package lvmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/internal/run"
	"lls/lvm"
)

// block is the n-th of what filling writes: zeros would do for LVM, but not for who reads them back.
func block(n int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%07d\n", n), 1<<20/8)
}

// fill writes blocks of 1 MiB to a device, from one to before another, past the page cache.
func fill(device string, from, to int) error {
	f, err := os.OpenFile(device, os.O_WRONLY|unix.O_SYNC, 0)
	if err != nil {
		return err
	}
	for n := from; n < to && err == nil; n++ {
		_, err = f.WriteAt(block(n), int64(n)<<20)
	}
	return errors.Join(err, f.Close())
}

// filled reads them back, from the device.
func filled(t *testing.T, device string, from, to int) {
	t.Helper()
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // read only
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for n := from; n < to; n++ {
		if _, err := f.ReadAt(buf, int64(n)<<20); err != nil || !bytes.Equal(buf, block(n)) {
			t.Fatalf("block %d is not what was written (%v)", n, err)
		}
	}
}

// big makes an active volume of 4 GiB.
func (r *real) big(t *testing.T, e Env) string {
	t.Helper()
	err := e.Host.Write(t.Context(), r.vg, func(w lvm.Writer) error {
		return w.CreateThin(t.Context(), lvm.CreateThin{Pool: e.Pool, Name: "a", Size: 4 * lvm.GiB, Tags: []lvm.Tag{Mark}, Activate: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	return e.Host.Device(r.vg, "a")
}

func (r *real) pool(t *testing.T, e Env) lvm.Pool {
	t.Helper()
	groups, err := e.Host.Report(t.Context(), r.vg)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := groups[0].Pool(e.Pool)
	if !ok {
		t.Fatal("the pool is not reported")
	}
	return p
}

// The pool begins with half the room that is written, and is full all the time.
func TestRealPoolGrowsUnderWrites(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	device := r.big(t, e)
	const blocks = 750
	done := make(chan error, 1)
	go func() { done <- fill(device, 0, blocks) }()
	steps := 0
	for growing := true; growing; {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("writing: %v", err)
			}
			growing = false
		case <-time.After(100 * time.Millisecond):
			p := r.pool(t, e)
			if p.DataPercent < 80 {
				continue
			}
			steps++
			err := e.Host.Write(t.Context(), r.vg, func(w lvm.Writer) error {
				return w.ExtendPool(t.Context(), e.Pool, p.Size+128*lvm.MiB, p.MetadataSize+4*lvm.MiB)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	p := r.pool(t, e)
	t.Logf("%d steps, to %s with %s of metadata", steps, p.Size, p.MetadataSize)
	if steps < 2 || p.Size < blocks*lvm.MiB || p.Health != "" {
		t.Errorf("pool is %+v", p)
	}
	filled(t, device, 0, blocks)
}

// table is the pool's line in the kernel; its sixth word is the low-water mark.
func (r *real) table(t *testing.T, e Env) string {
	t.Helper()
	return r.program(t, "dmsetup", "table", "--", lvm.DMName(r.vg, e.Pool)+"-tpool")
}

func (r *real) fallback(t *testing.T, e Env, f lvm.Fallback) {
	t.Helper()
	err := e.Host.Write(t.Context(), r.vg, func(w lvm.Writer) error { return w.SetFallback(t.Context(), e.Pool, f) })
	if err != nil {
		t.Fatal(err)
	}
}

// Nobody but dmeventd is there to grow the pool.
func TestRealPoolGrowsByItsFallback(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	device := r.big(t, e)
	f := lvm.Fallback{Threshold: 70, Percent: 20}
	r.fallback(t, e, f)
	before := r.pool(t, e)
	chunks := int64(before.Size / before.ChunkSize)
	if words := strings.Fields(r.table(t, e)); len(words) < 7 || words[6] != fmt.Sprint(chunks*3/10) {
		t.Errorf("the low-water mark of %d chunks is not at 70 percent: %s", chunks, r.table(t, e))
	}
	blocks := 750
	if err := fill(device, 0, blocks); err != nil {
		t.Fatalf("writing: %v", err)
	}
	p := r.pool(t, e)
	if p.Size < lvm.Size(blocks)*lvm.MiB || p.Health != "" {
		t.Errorf("pool is %+v", p)
	}
	filled(t, device, 0, blocks)

	// Without it, the pool stays as it is, and what was attached is gone. It is settled first: under the threshold.
	// dmeventd acts when the pool fills further.
	waitFor(t, "the pool is under its threshold", func() bool {
		if r.pool(t, e).DataPercent <= 70 {
			return true
		}
		if err := fill(device, blocks, blocks+10); err != nil {
			t.Fatalf("writing: %v", err)
		}
		blocks += 10
		time.Sleep(time.Second)
		return false
	})
	r.fallback(t, e, lvm.Fallback{})
	p = r.pool(t, e)
	room := int(p.Size*99/100/lvm.MiB) - blocks
	if err := fill(device, blocks, blocks+room); err != nil {
		t.Fatalf("writing: %v", err)
	}
	time.Sleep(12 * time.Second) // dmeventd looks every 10
	if now := r.pool(t, e); now.Size != p.Size || now.DataPercent < 95 {
		t.Errorf("without a fallback the pool went from %+v to %+v", p, now)
	}
	// Attached above its threshold, it does not grow before it fills further, from 99 to 100 percent.
	r.fallback(t, e, f)
	if err := fill(device, blocks+room, blocks+room+100); err != nil {
		t.Fatalf("writing: %v", err)
	}
	if now := r.pool(t, e); now.Size <= p.Size {
		t.Errorf("with a fallback again the pool went from %+v to %+v", p, now)
	}
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// An agent and dmeventd that both grow a pool do no harm to each other.
func TestRealTwoWhoGrowAPool(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	device := r.big(t, e)
	r.fallback(t, e, lvm.Fallback{Threshold: 60, Percent: 10})
	const blocks = 900
	done := make(chan error, 1)
	go func() { done <- fill(device, 0, blocks) }()
	steps, late := 0, 0
	for growing := true; growing; {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("writing: %v", err)
			}
			growing = false
		default:
			p := r.pool(t, e)
			err := e.Host.Write(t.Context(), r.vg, func(w lvm.Writer) error {
				return w.ExtendPool(t.Context(), e.Pool, p.Size+20*lvm.MiB, 0)
			})
			switch {
			case errors.Is(err, lvm.ErrShrink):
				late++
			case err != nil:
				t.Fatal(err)
			default:
				steps++
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	p := r.pool(t, e)
	t.Logf("%d steps of ours, %d came too late, to %s", steps, late, p.Size)
	if steps == 0 || p.Size < blocks*lvm.MiB || p.Health != "" {
		t.Errorf("pool is %+v", p)
	}
	filled(t, device, 0, blocks)
}

// Above the threshold LVM makes nothing new.
func TestRealPoolAboveItsFallbackIsFull(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	r.big(t, e)
	// The group has no room for the pool to grow.
	groups, err := e.Host.Report(t.Context(), r.vg)
	if err != nil {
		t.Fatal(err)
	}
	r.lvm(t, "lvcreate", "-y", "-q", "-l", "100%FREE", "-n", "plug", string(r.vg))
	r.fallback(t, e, lvm.Fallback{Threshold: 50, Percent: 20})
	if err := fill(e.Host.Device(r.vg, "a"), 0, 300); err != nil {
		t.Fatal(err)
	}
	err = e.Host.Write(t.Context(), r.vg, func(w lvm.Writer) error {
		return w.Snapshot(t.Context(), lvm.Snapshot{Origin: "a", Name: "s", Tags: []lvm.Tag{Mark}})
	})
	if !errors.Is(err, lvm.ErrThreshold) {
		t.Errorf("a snapshot gives %v, want %v", err, lvm.ErrThreshold)
	}
	err = e.Host.Write(t.Context(), r.vg, func(w lvm.Writer) error {
		return w.ExtendPool(t.Context(), e.Pool, groups[0].Pools[0].Size+4*lvm.MiB, 0)
	})
	if !errors.Is(err, lvm.ErrNoSpace) {
		t.Errorf("growing gives %v, want %v", err, lvm.ErrNoSpace)
	}
	if p := r.pool(t, e); p.Size != groups[0].Pools[0].Size {
		t.Errorf("pool is %+v", p)
	}
}

// Whose profile's file is lost loses the fallback, and nothing else.
func TestRealProfileWithoutItsFile(t *testing.T) {
	r := lab(t)
	e := r.env(t)
	f := lvm.Fallback{Threshold: 77, Percent: 7}
	r.fallback(t, e, f)
	if err := os.Remove(lvm.DefaultProfileDir + "/" + f.Profile() + ".profile"); err != nil {
		t.Fatal(err)
	}
	device := r.big(t, e)
	p := r.pool(t, e)
	err := e.Host.Write(t.Context(), r.vg, func(w lvm.Writer) error {
		return errors.Join(
			w.ExtendPool(t.Context(), e.Pool, p.Size+8*lvm.MiB, 0),
			w.Snapshot(t.Context(), lvm.Snapshot{Origin: "a", Name: "s", Tags: []lvm.Tag{Mark}, Activate: true}),
			w.Deactivate(t.Context(), "s"), w.Remove(t.Context(), "s", nil))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := fill(device, 0, 10); err != nil {
		t.Error(err)
	}
	// Set again, it is written again; taken away, no file is needed.
	r.fallback(t, e, f)
	if _, err := os.Stat(lvm.DefaultProfileDir + "/" + f.Profile() + ".profile"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(lvm.DefaultProfileDir + "/" + f.Profile() + ".profile"); err != nil {
		t.Fatal(err)
	}
	r.fallback(t, e, lvm.Fallback{})
}

// program runs a program as a sysadmin would.
func (r *real) program(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.run.Run(context.Background(), run.Cmd{Name: args[0], Args: args[1:], NoKill: true})
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out.Stdout)
}
