package event

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// udevGroup is the multicast group of the messages that udev sends when it is done with a device, so that the links in /dev are there
// (MONITOR_GROUP_UDEV in systemd's device-monitor.c).
const udevGroup = 2

const (
	udevBuffer  = 64 << 20 // bytes, as udev's own listeners ask for: some 20000 events may wait
	messageSize = 64 << 10 // bytes; libudev itself reads 8192
)

// Udev hears what udev says of block devices.
type Udev struct {
	socket *nl.NetlinkSocket
	known  memory
	lost   bool // messages, since the socket's queue was empty last
	buf    []byte
	oob    []byte
}

// OpenUdev begins to listen: what happens from now on is kept for Run. The caller closes it.
func OpenUdev() (*Udev, error) {
	socket, err := nl.Subscribe(unix.NETLINK_KOBJECT_UEVENT, udevGroup)
	if err != nil {
		return nil, fmt.Errorf("cannot listen to udev: %w", err)
	}
	u := &Udev{socket: socket, known: memory{}, buf: make([]byte, messageSize), oob: make([]byte, unix.CmsgSpace(unix.SizeofUcred))}
	if err := unix.SetsockoptInt(socket.GetFd(), unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		socket.Close()
		return nil, fmt.Errorf("cannot listen to udev: cannot ask who sends: %w", err)
	}
	if err := socket.SetReceiveBufferSize(udevBuffer, true); err != nil { // needs CAP_NET_ADMIN
		if err := socket.SetReceiveBufferSize(udevBuffer, false); err != nil {
			socket.Close()
			return nil, fmt.Errorf("cannot listen to udev: cannot set the buffer: %w", err)
		}
	}
	return u, nil
}

// Close ends listening. Run must have returned.
func (u *Udev) Close() { u.socket.Close() }

// Run calls emit for each event, in their order, until ctx ends; then it returns nil. emit must not take long.
func (u *Udev) Run(ctx context.Context, emit func(Event)) error {
	for {
		if err := waitReadable(ctx, u.socket.GetFd()); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("cannot listen to udev: %w", err)
		}
		for ctx.Err() == nil {
			e, err := u.receive()
			if errors.Is(err, unix.EAGAIN) {
				u.caughtUp(emit)
				break
			}
			if err != nil {
				return fmt.Errorf("cannot listen to udev: %w", err)
			}
			if e != nil {
				emit(e)
			}
		}
	}
}

// caughtUp asks for a resync after messages were lost. Once its queue was full, the socket drops all that comes, without another word,
// until the queue is empty (NETLINK_S_CONGESTED in Linux' net/netlink/af_netlink.c): only what is looked at after that is whole again.
func (u *Udev) caughtUp(emit func(Event)) {
	if !u.lost {
		return
	}
	u.lost = false
	clear(u.known) // a minor number may have changed hands
	emit(Resync{Why: "udev's events came faster than they were read"})
}

// receive reads one message. It gives nil for one that means nothing to us, and EAGAIN when there is none.
func (u *Udev) receive() (Event, error) {
	n, oobn, flags, from, err := unix.Recvmsg(u.socket.GetFd(), u.buf, u.oob, unix.MSG_DONTWAIT)
	switch {
	case errors.Is(err, unix.EINTR):
		return nil, nil
	case errors.Is(err, unix.ENOBUFS):
		u.lost = true
		return nil, nil
	case err != nil:
		return nil, err
	}
	if !fromUdev(from, u.oob[:oobn]) {
		return nil, nil
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return Resync{Why: "an event of udev was cut short"}, nil
	}
	p, err := parseMessage(u.buf[:n])
	if err != nil {
		return Resync{Why: err.Error()}, nil // a udev we do not understand: no event of its is to be missed
	}
	return u.known.read(p), nil
}

// fromUdev says whether a message was sent to udev's group by a process of the host's root.
func fromUdev(from unix.Sockaddr, oob []byte) bool {
	addr, ok := from.(*unix.SockaddrNetlink)
	if !ok || addr.Pid == 0 || addr.Groups != 1<<(udevGroup-1) {
		return false
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return false
	}
	for i := range messages {
		if cred, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			return cred.Uid == 0
		}
	}
	return false
}
