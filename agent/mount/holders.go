package mount

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

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

// Holders finds who holds a device. When ctx ends first, it returns what was
// found so far, and the error.
func Holders(ctx context.Context, major, minor uint32) ([]Holder, error) {
	s := &search{ctx: ctx, major: major, minor: minor}
	done := make(chan error, 1)
	// None of what it does waits for a file system's server. But the memory maps
	// of a process are under a lock of its own, so they come last.
	go func() { done <- s.run() }()
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

type search struct {
	ctx          context.Context
	major, minor uint32

	mu    sync.Mutex
	found []Holder
}

func (s *search) run() error {
	pids, err := processes()
	if err != nil {
		return err
	}
	seen := map[uint64]bool{}
	for _, pid := range pids {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		s.process(pid, seen)
	}
	for _, pid := range pids {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		s.maps(pid)
	}
	return nil
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

func (s *search) process(pid int, seen map[uint64]bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	ns, err := namespace(strconv.Itoa(pid), "mnt")
	if err == nil && !seen[ns] {
		seen[ns] = true
		s.mounts(pid)
	}
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

func (s *search) mounts(pid int) {
	points, err := Points(pid)
	if err != nil {
		return // it has ended
	}
	for _, p := range PointsOf(points, s.major, s.minor) {
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

// maps reads lines "range flags offset major:minor inode path", numbers in hex
// (proc_pid_maps(5)).
func (s *search) maps(pid int) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/maps")
	if err != nil {
		return
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return
	}
	for _, path := range mapped(string(text), s.major, s.minor) {
		s.add(pid, HeldMap, path)
	}
}

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
