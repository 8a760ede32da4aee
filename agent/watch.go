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
	done map[int32]func() // by pidfd
}

func newPIDWatch() (*pidWatch, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot watch processes: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	}
	if err != nil {
		_ = unix.Close(ep)
		return nil, fmt.Errorf("cannot watch processes: %w", err)
	}
	return &pidWatch{epoll: ep, wake: wake, done: map[int32]func(){}}, nil
}

// add has done called once, in Run's goroutine, when the process of pidfd has ended. The caller keeps the pidfd open until then, or
// until forget.
func (w *pidWatch) add(pidfd int, done func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, pidfd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(pidfd)})
	if err != nil {
		return fmt.Errorf("cannot watch a process: %w", err)
	}
	w.done[int32(pidfd)] = done
	return nil
}

// forget takes add back. It is no error when the process has ended already.
func (w *pidWatch) forget(pidfd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.done, int32(pidfd))
	_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, pidfd, nil) // ENOENT when it ended
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
			done := w.done[e.Fd]
			delete(w.done, e.Fd)
			if done != nil {
				_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, int(e.Fd), nil)
			}
			w.mu.Unlock()
			if done != nil {
				done()
			}
		}
	}
	return nil
}
