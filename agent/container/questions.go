package container

import (
	"context"
	"fmt"
	"sync"
)

// Each call into liblxc that does not return holds a thread, for as long as the container's monitor hangs. So who is late is asked nothing
// more until it has answered, and its silence is nobody else's; maxLate bounds the threads all the same.
const maxLate = 256

// questions are the calls into liblxc whose callers have given up.
type questions struct {
	mu   sync.Mutex
	late map[string]int // by the container's key
}

// wait asks about a container. A call that outlives ctx is ErrSilent, and so is each that comes before that one has returned.
func (q *questions) wait(ctx context.Context, key string, ask func() error) error {
	q.mu.Lock()
	mine, all := q.late[key], len(q.late)
	q.mu.Unlock()
	switch {
	case mine > 0:
		return fmt.Errorf("an earlier question hangs: %w", ErrSilent)
	case all >= maxLate:
		return fmt.Errorf("questions about %d containers hang: %w", all, ErrSilent)
	}
	done := make(chan error, 1)
	go func() { done <- ask() }() // owned by the next one once it is late
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	q.count(key, 1)
	go func() {
		<-done
		q.count(key, -1)
	}()
	return fmt.Errorf("%w: %w", ErrSilent, ctx.Err())
}

func (q *questions) count(key string, by int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.late[key] += by; q.late[key] == 0 {
		delete(q.late, key)
	}
}
