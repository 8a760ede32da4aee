// Package fdstore keeps open files with systemd while the daemon is not there, as sd_notify(3) and sd_listen_fds(3) have it, and tells
// systemd of the daemon's state.
package fdstore

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Store is systemd's store of this service. Without systemd, it keeps nothing.
type Store struct{ socket string }

// New finds the store by the environment that systemd gives its services.
func New() Store { return Store{os.Getenv("NOTIFY_SOCKET")} }

// firstFile is SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstFile = 3

// Kept are the files that systemd kept for us, by name; they are the caller's. It is called once: nobody else may use their numbers
// before.
func (s Store) Kept() map[string][]*os.File {
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); err != nil || pid != os.Getpid() {
		return nil
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil {
		return nil
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	kept := map[string][]*os.File{}
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

// Keep has systemd hold a copy of the file until Forget. FDPOLL=0 keeps it from being dropped for what happens to it.
func (s Store) Keep(name string, f *os.File) error {
	if err := s.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, int(f.Fd())); err != nil {
		return fmt.Errorf("cannot have systemd keep %s: %w", name, err)
	}
	return nil
}

// Forget has systemd close what it keeps under a name.
func (s Store) Forget(name string) error {
	if err := s.send("FDSTOREREMOVE=1\nFDNAME=" + name); err != nil {
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
