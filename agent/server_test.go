package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/mount"
	"lls/policy"
)

// strange is c1 with another root than us.
func (b *bench) strange() *guest {
	return &guest{Container: b.guest1.Container, box: &mount.Box{PID: os.Getpid(), RootUID: uint32(os.Getuid()) + 1, Mapped: true}}
}

// door is a socket whose connections nobody answers, so that none ends by itself.
type door struct {
	t        *testing.T
	path     string
	accepted chan net.Conn
}

func (b *bench) door(g *guest) *door {
	b.t.Helper()
	d := &door{t: b.t, path: b.t.TempDir() + "/s", accepted: make(chan net.Conn)}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.path, Net: "unix"})
	if err != nil {
		b.t.Fatal(err)
	}
	s := newSocketServer(b.agent, ln, g)
	b.t.Cleanup(func() { _ = s.ln.Close() })
	b.agent.work.Go(func() {
		for {
			c, err := s.ln.Accept()
			if err != nil {
				return
			}
			select {
			case d.accepted <- c:
			case <-b.t.Context().Done():
				_ = c.Close()
				return
			}
		}
	})
	return d
}

// knock opens a connection and gives the socket's end of it, or nil when the socket closed it.
func (d *door) knock() net.Conn {
	d.t.Helper()
	c := dial(d.t, d.path)
	closed := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		closed <- err
	}()
	select {
	case in := <-d.accepted:
		d.t.Cleanup(func() { _ = in.Close() })
		return in
	case err := <-closed:
		if errors.Is(err, os.ErrDeadlineExceeded) {
			d.t.Fatal("the connection was neither accepted nor closed")
		}
		return nil
	}
}

// dial opens a connection that lasts as long as the test, and on which nothing takes more than a minute.
func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestStrangersTakeNoSlotOfThoseWhoMayBeServed(t *testing.T) {
	b := newBench(t)
	d := b.door(b.strange())
	admit := func(groups ...uint32) { // what a reload does; lls.toml itself takes no group 0, which may be ours
		b.agent.mu.Lock()
		defer b.agent.mu.Unlock()
		b.agent.cfg = &policy.Config{ClientGroups: groups}
	}
	all := func(who string, n int) (last net.Conn) {
		t.Helper()
		for i := range n {
			if last = d.knock(); last == nil {
				t.Fatalf("%s %d of %d was sent away", who, i+1, n)
			}
		}
		return last
	}
	stranger := all("stranger", maxStrangers)
	if d.knock() != nil {
		t.Error("one stranger too many was let in")
	}
	admit(uint32(os.Getgid()))
	member := all("member", maxConns)
	admit()
	if d.knock() != nil {
		t.Error("one stranger too many was let in, or waited")
	}
	_ = stranger.Close()
	all("stranger", 1) // and none waits for a member's slot

	admit(uint32(os.Getgid()))
	dial(t, d.path) // waits
	_ = member.Close()
	select {
	case <-d.accepted:
	case <-time.After(time.Minute):
		t.Error("a member's slot was not free again")
	}
}

func TestAListenerThatHasOneWaitForASlotCanBeClosed(t *testing.T) {
	path := t.TempDir() + "/s"
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	l := &limitListener{UnixListener: ln, admits: func(peer) bool { close(asked); return true }, slots: make(chan struct{}), done: make(chan struct{})}
	c := dial(t, path)
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	<-asked
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the one who waited: %v", err)
	}
}

// request asks on a connection that would be kept, and gives the head of the answer.
func request(t *testing.T, c net.Conn, path string) *http.Response {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET /%s%s HTTP/1.1\r\nHost: x\r\n\r\n", api.Version, path); err != nil && !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhoIsDeniedIsNotKept(t *testing.T) {
	b := newBench(t)
	path := t.TempDir() + "/s"
	b.socket(path, b.strange())
	c := dial(t, path)
	if r := request(t, c, api.PathVolumes); r.StatusCode != api.Denied.HTTPStatus() || !r.Close {
		t.Errorf("status %d, to be closed: %v", r.StatusCode, r.Close)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Error(err)
	}
}

func TestWatchersLeaveRoomForRequests(t *testing.T) {
	b := newBench(t)
	path, other := t.TempDir()+"/s", t.TempDir()+"/s"
	client := b.socket(path, b.guest1)
	b.socket(other, b.guest1)
	var last net.Conn
	for i := range maxWatchers {
		last = dial(t, path)
		if r := request(t, last, api.PathWatch); r.StatusCode != http.StatusOK {
			t.Fatalf("watcher %d: status %d", i+1, r.StatusCode)
		}
	}
	c := dial(t, path)
	if r := request(t, c, api.PathWatch); r.StatusCode != api.Busy.HTTPStatus() {
		t.Fatalf("one watcher too many: status %d", r.StatusCode)
	}
	err := client.Watch(t.Context(), func(api.Event) error { return nil })
	if !api.Busy.Is(err) || api.AsError(err).Hint == "" {
		t.Errorf("one watcher too many: %v", err)
	}
	b.list(client, false)
	if r := request(t, dial(t, other), api.PathWatch); r.StatusCode != http.StatusOK {
		t.Errorf("on another socket: status %d", r.StatusCode)
	}
	_ = last.Close()
	within(t, "one more may watch", func() bool {
		c := dial(t, path)
		ok := request(t, c, api.PathWatch).StatusCode == http.StatusOK
		if !ok {
			_ = c.Close()
		}
		return ok
	})
}
