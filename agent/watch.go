package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// pidWatch tells when processes end. It waits for all of them in one goroutine, Run's.
type pidWatch struct {
	epoll, wake int

	mu   sync.Mutex
	last int32
	done map[int32]watched // by a number that is never used twice, as a pidfd's is
}

func newPIDWatch() (*pidWatch, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot watch processes: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: 0})
	}
	if err != nil {
		_ = unix.Close(ep)
		return nil, fmt.Errorf("cannot watch processes: %w", err)
	}
	return &pidWatch{epoll: ep, wake: wake, done: map[int32]watched{}}, nil
}

// watched is one process whose end is waited for.
type watched struct {
	pidfd int
	done  func()
}

// add has done called once, in Run's goroutine, when the process of pidfd has ended. The caller keeps the pidfd open until then, or
// until forget.
func (w *pidWatch) add(pidfd int, done func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, pidfd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: w.last})
	if err != nil {
		return fmt.Errorf("cannot watch a process: %w", err)
	}
	w.done[w.last] = watched{pidfd, done}
	return nil
}

// forget takes add back. It is no error when the process has ended already.
func (w *pidWatch) forget(pidfd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, x := range w.done {
		if x.pidfd == pidfd {
			delete(w.done, n)
			_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, pidfd, nil)
		}
	}
}

// run waits until ctx ends.
func (w *pidWatch) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	defer stop()
	events := make([]unix.EpollEvent, 32)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot watch processes: %w", err)
		}
		for _, e := range events[:n] {
			w.mu.Lock()
			x, ok := w.done[e.Fd] // not when it was forgotten meanwhile
			if ok {
				delete(w.done, e.Fd)
				_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, x.pidfd, nil)
			}
			w.mu.Unlock()
			if ok {
				x.done()
			}
		}
	}
	return nil
}
