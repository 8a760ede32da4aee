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

// store is one whose notes are in a directory of the test.
func store(t *testing.T) Store {
	t.Helper()
	s, err := New(filepath.Join(t.TempDir(), "notes"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestANameIsKnownUntilItIsForgotten(t *testing.T) {
	conn := systemd(t)
	s := store(t)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 { // as one that an earlier run kept already
		if err := s.Keep("raw-a", "", f); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := s.Kept(); err != nil || len(kept) != 1 || kept["raw-a"] == nil || len(kept["raw-a"]) != 0 {
		t.Errorf("what systemd has let go of: %v, %v", kept, err)
	}
	if fi, err := os.Stat(s.notes); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi, err)
	}
	for range 2 {
		if err := s.Forget("raw-a"); err != nil {
			t.Error(err)
		}
	}
	if kept, err := s.Kept(); err != nil || len(kept) != 0 {
		t.Errorf("%v, %v", kept, err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep("raw-b", "", f); err == nil {
		t.Error("systemd does not hear, and that is no error")
	}
	if err := s.Forget("raw-b"); err == nil {
		t.Error("systemd does not hear, and that is no error")
	}
	if err := os.RemoveAll(s.notes); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep("raw-c", "", f); err == nil {
		t.Error("it is kept without a note")
	}
	if _, err := s.Kept(); err == nil {
		t.Error("the notes cannot be read, and that is no error")
	}
}

func TestANameIsNotedWithAText(t *testing.T) {
	systemd(t)
	s := store(t)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, step := range []struct {
		what string
		do   func() error
		want string
	}{
		{"nothing", func() error { return nil }, ""},
		{"kept", func() error { return s.Keep("raw-a", "one of many words", f) }, "one of many words"},
		{"noted anew", func() error { return s.Renote("raw-a", "two") }, "two"},
		{"another that a kill cut off", func() error { return os.WriteFile(filepath.Join(s.notes, unfinished), []byte("thr"), 0o600) }, "two"},
		{"kept again", func() error { return s.Keep("raw-a", "three", f) }, "three"},
		{"forgotten", func() error { return s.Forget("raw-a") }, ""},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		kept, keptErr := s.Kept()
		if got, err := s.Noted("raw-a"); err != nil || keptErr != nil || got != step.want || len(kept) > 1 || (kept["raw-a"] != nil) != (step.want != "") {
			t.Errorf("%s: %q, %v; all names: %v, %v", step.what, got, err, kept, keptErr)
		}
	}
	if err := os.Mkdir(filepath.Join(s.notes, "raw-b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Noted("raw-b"); err == nil {
		t.Errorf("what cannot be read is %q", got)
	}
	if err := s.Renote("raw-b", "x"); err == nil {
		t.Error("what cannot be noted is no error")
	}
}

func TestFilesGoToSystemd(t *testing.T) {
	conn := systemd(t)
	s := store(t)
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
		{func() error { return s.Keep("raw-a", "", f) }, "FDSTORE=1\nFDPOLL=0\nFDNAME=raw-a", 1},
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
	s := store(t)
	if err := s.Notify("READY=1"); err != nil {
		t.Error(err)
	}
	if kept, err := s.Kept(); err != nil || len(kept) != 0 {
		t.Errorf("%v, %v", kept, err)
	}
}
