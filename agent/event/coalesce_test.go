package event

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The tests run in synctest's bubbles, whose clock goes on only when everybody waits: they are exact, whatever the machine's load.

var testTiming = Timing{Settle: 60 * time.Millisecond, Rest: 250 * time.Millisecond, MaxRest: 700 * time.Millisecond, Retry: time.Second}

// reads runs a coalescer while feed goes on and for a minute more, and records the reads.
func reads(t *testing.T, read func(n int) error, feed func(c *Coalescer)) (batches []Batch, at []time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := NewCoalescer(testTiming)
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		var work sync.WaitGroup
		work.Go(func() {
			c.Run(ctx, func(_ context.Context, b Batch) error {
				batches, at = append(batches, b), append(at, time.Since(start))
				return read(len(batches))
			})
		})
		feed(c)
		time.Sleep(time.Minute)
		cancel()
		work.Wait()
	})
	return batches, at
}

func quick(int) error { return nil }

func slow(int) error {
	time.Sleep(40 * time.Millisecond)
	return nil
}

func TestOneEventIsReadSoon(t *testing.T) {
	batches, at := reads(t, quick, func(c *Coalescer) { c.Add(VolumeChanged{}) })
	if len(batches) != 1 || batches[0].Events != 1 || at[0] != testTiming.Settle {
		t.Errorf("reads %+v at %v, want one of 1 event at %v", batches, at, testTiming.Settle)
	}
}

func TestABurstIsOneRead(t *testing.T) {
	batches, _ := reads(t, slow, func(c *Coalescer) {
		for range 500 {
			c.Add(VolumeChanged{})
		}
	})
	if len(batches) != 1 || batches[0].Events != 500 {
		t.Errorf("reads %+v, want one of 500 events", batches)
	}
}

func TestAStormIsReadFourTimesASecondAndToItsEnd(t *testing.T) {
	const events, every = 500, 10 * time.Millisecond // 5 s
	var last time.Duration
	batches, at := reads(t, slow, func(c *Coalescer) {
		start := time.Now()
		for range events {
			c.Add(VolumeChanged{})
			last = time.Since(start)
			time.Sleep(every)
		}
	})
	total := 0
	for i, b := range batches {
		total += b.Events
		if i > 0 && at[i]-at[i-1] < testTiming.Rest {
			t.Errorf("read %d came %v after the one before", i, at[i]-at[i-1])
		}
	}
	if most := int(events*every/testTiming.Rest) + 2; len(batches) > most || len(batches) < 3 {
		t.Errorf("%d reads of %d events, want 3 to %d", len(batches), events, most)
	}
	if total != events || at[len(at)-1] < last {
		t.Errorf("%d of %d events were read, the last at %v came at %v", total, events, at[len(at)-1], last)
	}
	if latest := last + testTiming.Rest + 40*time.Millisecond; at[len(at)-1] > latest {
		t.Errorf("the last read began at %v, want it by %v", at[len(at)-1], latest)
	}
}

func TestSlowReadsAreRestedFromLonger(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		50 * time.Millisecond: 250 * time.Millisecond, 100 * time.Millisecond: 400 * time.Millisecond, time.Second: 700 * time.Millisecond,
	} {
		_, at := reads(t, func(int) error { time.Sleep(took); return nil }, func(c *Coalescer) {
			for range 300 {
				c.Add(VolumeChanged{})
				time.Sleep(10 * time.Millisecond)
			}
		})
		if len(at) < 2 || at[1]-at[0] != took+want {
			t.Errorf("reads of %v began at %v, want a rest of %v", took, at, want)
		}
	}
}

func TestAnEventDuringAReadIsReadAgain(t *testing.T) {
	var c *Coalescer
	batches, at := reads(t, func(n int) error {
		if n == 1 {
			c.Add(PoolChanged{})
		}
		return nil
	}, func(made *Coalescer) {
		c = made
		c.Add(VolumeChanged{})
	})
	if len(batches) != 2 || at[1] != testTiming.Settle+testTiming.Rest {
		t.Errorf("reads %+v at %v, want a second one at %v", batches, at, testTiming.Settle+testTiming.Rest)
	}
}

func TestALoneEventAfterARestIsReadSoon(t *testing.T) {
	_, at := reads(t, quick, func(c *Coalescer) {
		c.Add(VolumeChanged{})
		time.Sleep(time.Second)
		c.Add(VolumeChanged{})
	})
	if len(at) != 2 || at[1] != time.Second+testTiming.Settle {
		t.Errorf("reads at %v, want the second at %v", at, time.Second+testTiming.Settle)
	}
}

func TestAFailedReadIsTriedAgainWithAllItsEvents(t *testing.T) {
	batches, at := reads(t, func(n int) error {
		if n < 3 {
			return errors.New("lvs failed")
		}
		return nil
	}, func(c *Coalescer) {
		c.Add(Resync{Why: "lost"})
		time.Sleep(testTiming.Settle + time.Millisecond)
		c.Add(VolumeChanged{})
	})
	if len(batches) != 3 {
		t.Fatalf("reads %+v, want three", batches)
	}
	if got := batches[2]; got.Events != 2 || got.Resync != "lost" {
		t.Errorf("the read that succeeded was for %+v, want both events and the reason to resync", got)
	}
	if wait := at[2] - at[1]; wait != testTiming.Retry {
		t.Errorf("tried again after %v, want %v", wait, testTiming.Retry)
	}
}

func TestNoEventNoRead(t *testing.T) {
	if batches, _ := reads(t, quick, func(*Coalescer) {}); len(batches) != 0 {
		t.Errorf("reads %+v of nothing", batches)
	}
}
