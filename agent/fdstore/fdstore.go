// Package fdstore keeps open files with systemd while the daemon is not there, as sd_notify(3) and sd_listen_fds(3) have it, and tells
// systemd of the daemon's state.
package fdstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Store is systemd's store of this service, with a note on disk of each name in it. Without systemd, it keeps the notes alone.
type Store struct{ socket, notes string }

// New finds the store by the environment that systemd gives its services. notes is a directory for the notes, on a file system that a
// boot empties; New makes it, for root alone.
func New(notes string) (Store, error) {
	if err := os.MkdirAll(notes, 0o700); err != nil {
		return Store{}, fmt.Errorf("cannot note what systemd keeps: %w", err)
	}
	return Store{os.Getenv("NOTIFY_SOCKET"), notes}, nil
}

// unfinished is a note that is being written, and is nothing yet.
const unfinished = ".new"

// firstFile is SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstFile = 3

// Kept are the files that systemd kept for us, by name; they are the caller's. A name without any is that of a file that systemd has let
// go of: before version 254 it does so whenever the service stops and is not started again at once, and later too when it is told to. It
// is called once: nobody else may use the files' numbers before.
func (s Store) Kept() (map[string][]*os.File, error) {
	kept := s.files()
	notes, err := os.ReadDir(s.notes)
	if err != nil {
		return kept, fmt.Errorf("cannot tell what systemd has let go of: %w", err)
	}
	for _, n := range notes {
		if n.Name() != unfinished && kept[n.Name()] == nil {
			kept[n.Name()] = []*os.File{}
		}
	}
	return kept, nil
}

func (s Store) files() map[string][]*os.File {
	kept := map[string][]*os.File{}
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); err != nil || pid != os.Getpid() {
		return kept
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil {
		return kept
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i := range n {
		name := ""
		if i < len(names) {
			name = names[i]
		}
		unix.CloseOnExec(firstFile + i)
		kept[name] = append(kept[name], os.NewFile(uintptr(firstFile+i), name))
	}
	return kept
}

// Keep notes the name with a text, and then has systemd hold a copy of the file, until Forget. FDPOLL=0 keeps it from being dropped for
// what happens to it.
func (s Store) Keep(name, text string, f *os.File) error {
	err := s.Renote(name, text)
	if err == nil {
		err = s.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, int(f.Fd()))
	}
	if err != nil {
		return fmt.Errorf("cannot have systemd keep %s: %w", name, err)
	}
	return nil
}

// Renote puts another text in the place of that which a name was noted with, whole or not at all. It must not be called twice at once.
func (s Store) Renote(name, text string) error {
	next := filepath.Join(s.notes, unfinished)
	err := os.WriteFile(next, []byte(text), 0o600)
	if err == nil {
		err = os.Rename(next, filepath.Join(s.notes, name))
	}
	if err != nil {
		return fmt.Errorf("cannot note %s: %w", name, err)
	}
	return nil
}

// Noted is the text that a name was noted with; empty where there is none.
func (s Store) Noted(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(s.notes, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("cannot read what was noted of %s: %w", name, err)
	}
	return string(text), nil
}

// Forget has systemd close what it keeps under a name, and takes the note away.
func (s Store) Forget(name string) error {
	err := s.send("FDSTOREREMOVE=1\nFDNAME=" + name)
	if gone := os.Remove(filepath.Join(s.notes, name)); !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err != nil {
		return fmt.Errorf("cannot have systemd let go of %s: %w", name, err)
	}
	return nil
}

// Notify tells systemd of the service's state.
func (s Store) Notify(state string) error { return s.send(state) }

func (s Store) send(text string, files ...int) error {
	if s.socket == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	return unix.Sendmsg(fd, []byte(text), rights, &unix.SockaddrUnix{Name: s.socket}, 0)
}
