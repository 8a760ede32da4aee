// Package bus is the agent on the system's message bus. A [Publisher] shows the sysadmin's view of volumes, pools and containers to
// root's programs, as objects to read and signals to hear; nothing can be changed there. A [Watcher] hears from other services what
// makes the agent look, or finish its work. The agent goes on without a bus, and both come back when it does.
package bus

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// What is on the bus. The name, and the first part of all interfaces, end in the version of what is said here.
const (
	Name = "org.lls.Agent1"
	Root = Path("/org/lls/Agent1") // org.freedesktop.DBus.ObjectManager, and ManagerInterface

	ManagerInterface   = Name + ".Manager"
	VolumeInterface    = Name + ".Volume"
	PoolInterface      = Name + ".Pool"
	ContainerInterface = Name + ".Container"
)

// Path is where an object is on the bus.
type Path string

// VolumePath is the object of the volume with this ID.
func VolumePath(id string) Path { return Root + "/volumes/" + label(id) }

// PoolPath is the object of the pool with this name.
func PoolPath(name string) Path { return Root + "/pools/" + label(name) }

// ContainerPath is the object of a container; the token tells containers of one name in several lxcpaths apart, and may be empty.
func ContainerPath(name, token string) Path {
	if token != "" {
		name += "#" + token
	}
	return Root + "/containers/" + label(name)
}

// label writes a name as an element of a path, which may hold letters, digits and underscores: any other byte, and the underscore, is
// an underscore and two hexadecimal digits. Different names stay different.
func label(name string) Path {
	if name == "" {
		return "_"
	}
	var b strings.Builder
	for _, c := range []byte(name) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return Path(b.String())
}

// defaultAddress is the system bus, by the specification of D-Bus.
const defaultAddress = "unix:path=/run/dbus/system_bus_socket"

// address is the bus to go to: the one asked for, else the system's.
func address(asked string) string {
	if asked != "" {
		return asked
	}
	if env := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"); env != "" {
		return env
	}
	return defaultAddress
}

// Deadlines on the bus daemon.
const (
	setupDeadline = 10 * time.Second // for getting on the bus
	callDeadline  = 10 * time.Second
	writeDeadline = 5 * time.Second // for one write
	retryFirst    = time.Second
	retryLast     = 30 * time.Second
)

// errGone says that the bus daemon ended, or threw us out.
var errGone = errors.New("the connection to the message bus ended")

// timedConn gives up a bus daemon that does not read: without a deadline one message to it would hold everything up, and the
// connection could not even be closed.
type timedConn struct{ net.Conn }

func (c timedConn) Write(p []byte) (int, error) {
	err := c.SetWriteDeadline(time.Now().Add(writeDeadline))
	n := 0
	if err == nil {
		n, err = c.Conn.Write(p)
	}
	if err != nil {
		_ = c.Close() // half a message may be out: nothing can follow it
	}
	return n, err
}

// dial gets on the bus at an address, without passing descriptors. The caller closes the connection.
func dial(addr string, options ...dbus.ConnOption) (conn *dbus.Conn, settled func() error, err error) {
	socket, err := socketOf(addr)
	if err != nil {
		return nil, nil, err
	}
	nc, err := net.DialTimeout("unix", socket, setupDeadline)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot reach the message bus: %w", err)
	}
	if err := nc.SetReadDeadline(time.Now().Add(setupDeadline)); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("cannot reach the message bus: %w", err), nc.Close())
	}
	conn, err = dbus.NewConn(timedConn{nc}, options...)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("cannot reach the message bus: %w", err), nc.Close())
	}
	if err = conn.Auth(nil); err == nil {
		err = conn.Hello()
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("cannot get on the message bus: %w", err)
	}
	return conn, func() error { return nc.SetReadDeadline(time.Time{}) }, nil
}

// socketOf is the socket of the first address in a list, as net names it.
func socketOf(addr string) (string, error) {
	first, _, _ := strings.Cut(addr, ";")
	rest, ok := strings.CutPrefix(first, "unix:")
	if !ok {
		return "", fmt.Errorf("cannot reach the message bus: %q is not a unix socket", first)
	}
	for pair := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(value)
		if err != nil {
			return "", fmt.Errorf("cannot reach the message bus: %w", err)
		}
		switch key {
		case "path":
			return value, nil
		case "abstract":
			return "@" + value, nil
		}
	}
	return "", fmt.Errorf("cannot reach the message bus: %q has no path", first)
}
