package agent

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestARateHoldsWhateverTheOrder has many ask at once, whose turn does not come in the order in which they began.
func TestARateHoldsWhateverTheOrder(t *testing.T) {
	clock := func() time.Time {
		now := time.Now()
		time.Sleep(rand.N(100 * time.Microsecond)) // time for another to be quicker
		return now
	}
	for range 20 {
		var r rates
		var wg sync.WaitGroup
		var mu sync.Mutex
		admitted := 0
		for range 16 {
			wg.Go(func() {
				if r.admit("k", "limit", 5, clock) == nil {
					mu.Lock()
					admitted++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if admitted != 5 {
			t.Fatalf("admitted were %d, want 5", admitted)
		}
	}
}
