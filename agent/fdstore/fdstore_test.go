package fdstore

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// systemd is the other end of NOTIFY_SOCKET.
func systemd(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

func TestFilesGoToSystemd(t *testing.T) {
	conn := systemd(t)
	s := New()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, send := range []struct {
		do    func() error
		want  string
		files int
	}{
		{func() error { return s.Keep("raw-a", f) }, "FDSTORE=1\nFDPOLL=0\nFDNAME=raw-a", 1},
		{func() error { return s.Forget("raw-a") }, "FDSTOREREMOVE=1\nFDNAME=raw-a", 0},
		{func() error { return s.Notify("READY=1") }, "READY=1", 0},
	} {
		if err := send.do(); err != nil {
			t.Fatal(err)
		}
		text, rights := make([]byte, 200), make([]byte, 200)
		n, rn, _, _, err := conn.ReadMsgUnix(text, rights)
		if err != nil || string(text[:n]) != send.want {
			t.Fatalf("%q, %v; want %q", text[:n], err, send.want)
		}
		var files []int
		if messages, err := unix.ParseSocketControlMessage(rights[:rn]); err == nil && len(messages) == 1 {
			if files, err = unix.ParseUnixRights(&messages[0]); err != nil {
				t.Fatal(err)
			}
		}
		if len(files) != send.files {
			t.Errorf("%q came with %d files, want %d", send.want, len(files), send.files)
		}
		for _, fd := range files {
			_ = unix.Close(fd)
		}
	}
}

func TestWithoutSystemdNothingIsKept(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "3")
	s := New()
	if err := s.Notify("READY=1"); err != nil {
		t.Error(err)
	}
	if kept := s.Kept(); len(kept) != 0 {
		t.Errorf("%v", kept)
	}
}
