// Package mount places mounts into containers and on the host, takes them away,
// and says who holds a device. Nothing in it walks a container's paths itself:
// the killable helper lls-mount does, and every call reads back what the kernel
// says before it reports success.
package mount

import (
	"context"
	"time"

	"lls/agent/filesystem"
	"lls/internal/run"
)

// Runner starts programs; *run.Runner is one.
type Runner interface {
	Run(ctx context.Context, c run.Cmd) (run.Result, error)
}

// Options of a Mounter.
type Options struct {
	Helper   string        // path of lls-mount; empty is DefaultHelper
	Deadline time.Duration // of one run of the helper; 0 is DefaultDeadline
}

// Default values of Options.
const (
	DefaultHelper   = "/usr/lib/lls/lls-mount"
	DefaultDeadline = 5 * time.Second
)

// Mounter places and removes mounts. It is safe for concurrent use.
type Mounter struct {
	runner  Runner
	options Options
}

// New returns a Mounter that starts its helper through r.
func New(r Runner, o Options) *Mounter {
	return &Mounter{runner: r, options: o}
}

// Request says what is to be mounted where.
type Request struct {
	Device         string // path on the host, such as /dev/vg/lv
	Major, Minor   uint32 // what Device must be
	Type           filesystem.Type
	ReadOnly       bool   // a flag of the mount, locked in an unprivileged container
	ReadOnlyDevice bool   // the device is read-only: so is the superblock, and no journal is replayed
	Target         string // absolute path of a directory, in the container or on the host
	NoAtime        bool
	Discard        bool
}

// Placed is a mount as it was read back from the kernel.
type Placed struct {
	Path     string // without symbolic links, as the container sees it
	MountID  int    // the first field of mountinfo(5)
	ReadOnly bool
	Already  bool // it was there before
}

// Inject puts the tree at /lls in the container. It does nothing when it is there.
func (m *Mounter) Inject(ctx context.Context, t *Tree, b *Box) error { return errTodo }

// Injected says whether the tree is what the container sees at /lls.
func (m *Mounter) Injected(b *Box, t *Tree) (bool, error) { return false, errTodo }

// Mount places a file system into a container.
func (m *Mounter) Mount(ctx context.Context, t *Tree, b *Box, r Request) (Placed, error) {
	return Placed{}, errTodo
}

// Unmount takes away the mount of exactly this device at exactly this path.
func (m *Mounter) Unmount(ctx context.Context, b *Box, major, minor uint32, path string) error {
	return errTodo
}

// MountHost mounts on the host, for the sysadmin.
func (m *Mounter) MountHost(ctx context.Context, r Request) (Placed, error) { return Placed{}, errTodo }

// UnmountHost takes away the mount of exactly this device at exactly this path of the host.
func (m *Mounter) UnmountHost(ctx context.Context, path string, major, minor uint32) error {
	return errTodo
}
