package event

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ownUdev opens the udev group of a new network namespace, and a socket that speaks as udev there: what is sent is heard by nobody
// else on the machine.
func ownUdev(t *testing.T) (u *Udev, send func(group uint32, msg []byte)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a network namespace of its own")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test's goroutine, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	u, err := OpenUdev()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		t.Fatal(err)
	}
	return u, func(group uint32, msg []byte) {
		t.Helper()
		err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: group})
		if err != nil && err != unix.ENOBUFS { // a listener's buffer is full
			t.Fatal(err)
		}
	}
}

// collect runs u until n events came, and fails when they do not.
func collect(t *testing.T, n int, run func(context.Context, func(Event)) error) []Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var events []Event
	err := run(ctx, func(e Event) {
		if events = append(events, e); len(events) == n {
			cancel()
		}
	})
	if err != nil || len(events) < n {
		t.Fatalf("got %d events, want %d: %+v, %v", len(events), n, events, err)
	}
	return events
}

func TestOnlyTheUdevGroupIsHeard(t *testing.T) {
	u, send := ownUdev(t)
	send(1, about("change", volumeFields("DM_LV_NAME=kernel")...))
	send(2, about("change", volumeFields()...))
	send(2, []byte("libudev\x00of another day"))
	send(2, about("remove"))
	got := collect(t, 3, u.Run)
	if v, ok := got[0].(VolumeChanged); !ok || v.LV != "data-set.x1" {
		t.Errorf("first came %+v", got[0])
	}
	if _, ok := got[1].(Resync); !ok {
		t.Errorf("for a message that cannot be read came %+v, want a resync", got[1])
	}
	if v, ok := got[2].(VolumeChanged); !ok || v.Action != Remove || v.UUID != lvUUID {
		t.Errorf("last came %+v", got[2])
	}
}

func TestAnOverrunAsksForAResyncAndGoesOn(t *testing.T) {
	u, send := ownUdev(t)
	if err := u.socket.SetReceiveBufferSize(4096, true); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		send(2, about("change", volumeFields()...))
	}
	resyncs := 0
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := u.Run(ctx, func(e Event) {
		switch e := e.(type) {
		case Resync:
			resyncs++
			send(2, about("change", volumeFields("DM_LV_NAME=after")...))
		case VolumeChanged:
			if e.LV == "after" {
				cancel()
			}
		}
	})
	if err != nil || resyncs == 0 || ctx.Err() != context.Canceled {
		t.Errorf("%d resyncs, %v, %v; want one, and the event after it", resyncs, err, ctx.Err())
	}
}

func TestListeningEndsWhenTold(t *testing.T) {
	u, _ := ownUdev(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := u.Run(ctx, func(e Event) { t.Errorf("heard %+v of nobody", e) }); err != nil {
		t.Error(err)
	}
}
