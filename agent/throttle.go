package agent

import (
	"sync"
	"time"
)

// What one container may write into the journal about requests that were refused, and lines of its fstab: journald drops everybody's lines when a service
// writes too many (RateLimitBurst in journald.conf(5), 10000 in 30 s).
const (
	throttleWindow = 10 * time.Second
	throttleLines  = 50
)

// throttles are those of all owners. They outlive sockets and guests: a container has no more to say for starting anew.
type throttles struct {
	mu  sync.Mutex
	all map[string]*throttle
}

func (t *throttles) of(owner string) *throttle {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[string]*throttle{}
	}
	if t.all[owner] == nil {
		t.all[owner] = &throttle{}
	}
	return t.all[owner]
}

// throttle counts the lines of one owner.
type throttle struct {
	mu      sync.Mutex
	began   time.Time
	lines   int
	dropped int
}

// line says whether one more line may be written, and how many were not since the last that was.
func (t *throttle) line(now time.Time) (dropped int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := now.Sub(t.began); d < 0 || d >= throttleWindow {
		t.began, t.lines = now, 0
	}
	if t.lines++; t.lines > throttleLines {
		t.dropped++
		return 0, false
	}
	dropped = t.dropped
	t.dropped = 0
	return dropped, true
}
