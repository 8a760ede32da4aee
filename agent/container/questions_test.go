package container

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhoIsSilentIsAskedOnceAndSilencesNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := questions{late: map[string]int{}}
		speak := make(chan struct{})
		var asked atomic.Int32
		hangs := func(key string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return q.wait(ctx, key, func() error {
				asked.Add(1)
				<-speak
				return nil
			})
		}
		for range 100 {
			if err := hangs("silent"); !errors.Is(err, ErrSilent) {
				t.Fatal(err)
			}
		}
		if asked.Load() != 1 {
			t.Errorf("it was asked %d times", asked.Load())
		}
		fails := errors.New("an answer")
		if err := q.wait(t.Context(), "other", func() error { return fails }); err != fails {
			t.Errorf("another gives %v", err)
		}
		for n := range 2 * maxLate {
			if err := hangs(fmt.Sprint(n)); !errors.Is(err, ErrSilent) {
				t.Fatal(err)
			}
		}
		if asked.Load() != maxLate {
			t.Errorf("%d calls hang, %d may", asked.Load(), maxLate)
		}
		close(speak)
		synctest.Wait()
		if len(q.late) != 0 {
			t.Errorf("left: %v", q.late)
		}
		if err := q.wait(t.Context(), "silent", func() error { return nil }); err != nil {
			t.Errorf("after it has answered: %v", err)
		}
	})
}
