package mount

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// HolderKind says by what a device is held.
type HolderKind string

// The kinds of holders.
const (
	HeldMount  HolderKind = "mount"  // a mount namespace; PID is one process in it
	HeldFile   HolderKind = "file"   // an open file
	HeldCwd    HolderKind = "cwd"    // a working directory
	HeldRoot   HolderKind = "root"   // a root directory
	HeldExe    HolderKind = "exe"    // a running program
	HeldMap    HolderKind = "map"    // a mapped file
	HeldDevice HolderKind = "device" // the block device itself
)

// Holder is somebody who keeps a device busy.
type Holder struct {
	PID     int
	Command string // as the process calls itself: it may lie
	UID     uint32 // as id of the host
	MountNS uint64 // inode number of its mount namespace
	Path    string // as the process sees it
	Kind    HolderKind
}

// Finder finds who holds a device. The zero value is ready; it is safe for
// concurrent use.
//
// The memory maps of a process are under a lock of its own. Who is root in a
// container can have a thread hold it for ever, in a mmap(2) of a file whose FUSE
// server never answers; then who reads them waits, where no signal reaches. Such
// a process is left out until that read has ended, and while there are maxSilent
// of them no memory maps are read at all: each costs a thread.
type Finder struct {
	pass sync.Mutex // held while memory maps are read, so that a process holds up one search

	mu     sync.Mutex
	silent map[process]bool // whose memory maps are still being read

	read     func(pid int) (string, error) // readMaps, but in tests
	patience time.Duration                 // mapsPatience, but in tests
}

// process is one that no other is mistaken for when its pid is used again.
type process struct {
	pid     int
	started string // field 22 of proc_pid_stat(5)
}

const (
	maxSilent    = 4
	mapsPatience = 500 * time.Millisecond // for one process
)

// errSilent means that a process did not answer.
var errSilent = errors.New("does not tell its memory maps")

// Holders finds who holds a device. When ctx ends first, or a process did not
// answer in time for the first time, it returns what was found so far, and the
// error.
func (f *Finder) Holders(ctx context.Context, major, minor uint32) ([]Holder, error) {
	s := &search{ctx: ctx, major: major, minor: minor}
	done := make(chan error, 1)
	// None of what it does waits for a file system's server, but for memory maps,
	// which come last.
	go func() { done <- s.run(f) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("cannot look at all processes: %w", err)
	}
	return slices.Clone(s.found), err
}

// Mounted says whether a device is mounted in whatever mount namespace that has a
// process. When ctx ends first, it is the error.
func Mounted(ctx context.Context, major, minor uint32) (bool, error) {
	s := &search{ctx: ctx, major: major, minor: minor}
	pids, err := processes()
	if err != nil {
		return false, err
	}
	seen := map[uint64]bool{}
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return false, fmt.Errorf("cannot look at all mounts: %w", err)
		}
		if s.mounts(pid, seen); len(s.found) > 0 {
			return true, nil
		}
	}
	return false, nil
}

type search struct {
	ctx          context.Context
	major, minor uint32

	mu    sync.Mutex
	found []Holder
}

func (s *search) run(f *Finder) error {
	pids, err := processes()
	if err != nil {
		return err
	}
	seen := map[uint64]bool{}
	for _, pid := range pids {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		s.mounts(pid, seen)
		s.process(pid)
	}
	return f.maps(s, pids)
}

func processes() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, err
}

func (s *search) process(pid int) {
	dir := "/proc/" + strconv.Itoa(pid)
	for name, kind := range map[string]HolderKind{"cwd": HeldCwd, "root": HeldRoot, "exe": HeldExe} {
		s.link(pid, dir+"/"+name, kind)
	}
	fds, err := os.Open(dir + "/fd")
	if err != nil {
		return
	}
	defer fds.Close()
	names, _ := fds.Readdirnames(-1)
	for _, name := range names {
		s.link(pid, dir+"/fd/"+name, HeldFile)
	}
}

// mounts looks at each mount namespace once.
func (s *search) mounts(pid int, seen map[uint64]bool) {
	ns, err := namespace(strconv.Itoa(pid), "mnt")
	if err != nil || seen[ns] {
		return
	}
	points, err := readPoints(pid, maxMountinfo, func(major, minor uint32) bool { return major == s.major && minor == s.minor })
	if err != nil && gone(err) == ErrGone {
		return // another process may tell
	}
	seen[ns] = true
	for _, p := range points {
		s.add(pid, HeldMount, p.Path)
	}
}

// link looks at what a link in /proc leads to. An empty mask makes statx(2) tell
// the device without asking the file system's server, which may be hostile.
func (s *search) link(pid int, path string, kind HolderKind) {
	var x unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, 0, &x) != nil {
		return
	}
	switch {
	case x.Dev_major == s.major && x.Dev_minor == s.minor:
	case x.Mode&unix.S_IFMT == unix.S_IFBLK && x.Rdev_major == s.major && x.Rdev_minor == s.minor:
		kind = HeldDevice
	default:
		return
	}
	target, _ := os.Readlink(path)
	s.add(pid, kind, target)
}

// maps looks at the memory maps of processes.
func (f *Finder) maps(s *search, pids []int) error {
	f.pass.Lock()
	defer f.pass.Unlock()
	var problems []error
	for _, pid := range pids {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		known, full := f.isSilent(pid)
		if full {
			break
		}
		if known {
			continue
		}
		text, err := f.ask(s.ctx, pid)
		if errors.Is(err, errSilent) {
			problems = append(problems, fmt.Errorf("process %d: %w", pid, err))
			continue
		}
		for _, path := range mapped(text, s.major, s.minor) {
			s.add(pid, HeldMap, path)
		}
	}
	return errors.Join(problems...)
}

// isSilent says whether a process is known not to answer, and whether there are
// as many of those as there may be.
func (f *Finder) isSilent(pid int) (known, full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.silent) > 0 && f.silent[process{pid, started(pid)}], len(f.silent) >= maxSilent
}

// ask reads the memory maps of a process, which is errSilent when that takes too
// long. Other errors mean that it has ended.
func (f *Finder) ask(ctx context.Context, pid int) (text string, err error) {
	read := f.read
	if read == nil {
		read = readMaps
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(f.patience, mapsPatience))
	defer cancel()
	done := make(chan struct{})
	var got string // theirs until done
	var gotErr error
	go func() {
		defer close(done)
		got, gotErr = read(pid)
	}()
	select {
	case <-done:
		return got, gotErr
	case <-ctx.Done():
	}
	p := process{pid, started(pid)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent == nil {
		f.silent = map[process]bool{}
	}
	f.silent[p] = true
	go func() { // owns the read until it ends
		<-done
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.silent, p)
	}()
	return "", errSilent
}

// started is when a process was, in the kernel's words; empty when it has ended.
func started(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// Its name, in parentheses, may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}

func readMaps(pid int) (string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/maps")
	return string(text), err
}

// mapped finds the files of a device in lines "range flags offset major:minor
// inode path", numbers in hex (proc_pid_maps(5)).
func mapped(text string, major, minor uint32) []string {
	device := fmt.Sprintf("%02x:%02x", major, minor)
	var paths []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 6 || f[3] != device || f[4] == "0" {
			continue
		}
		_, path, _ := strings.Cut(line, " "+f[4]+" ")
		path = unescape(strings.TrimSpace(path))
		if !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

func (s *search) add(pid int, kind HolderKind, path string) {
	h := Holder{PID: pid, Kind: kind, Path: path}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return // it has ended
	}
	h.Command, h.UID = who(string(status))
	h.MountNS, _ = namespace(strconv.Itoa(pid), "mnt")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() == nil {
		s.found = append(s.found, h)
	}
}

// who reads the name and the effective uid from proc_pid_status(5).
func who(status string) (command string, uid uint32) {
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":\t")
		switch f := strings.Fields(value); {
		case key == "Name":
			command = unescape(value)
		case key == "Uid" && len(f) == 4:
			n, err := strconv.ParseUint(f[1], 10, 32)
			if err == nil {
				return command, uint32(n)
			}
		}
	}
	return command, 0
}
