package event

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// waitReadable returns when fd can be read, or with ctx's error. These descriptors are not left to Go's poller: it listens for edges,
// and one of them is armed anew for each event.
func waitReadable(ctx context.Context, fd int) error {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("cannot wait for events: %w", err)
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // any 8 bytes but zeroes, which cannot fail on a fresh eventfd
	})
	defer func() {
		if !stop() {
			<-woken // it writes to the descriptor's number: not after that is somebody else's
		}
		_ = unix.Close(wake)
	}()
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("cannot wait for events: %w", err)
		case ctx.Err() != nil:
			return ctx.Err()
		case fds[0].Revents&unix.POLLNVAL != 0:
			return errors.New("cannot wait for events: closed")
		case fds[0].Revents != 0:
			return nil // an error is found by the read
		}
	}
}
