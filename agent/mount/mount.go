// Package mount places mounts into containers and on the host, takes them away,
// and says who holds a device. Nothing in it walks a container's paths itself:
// the killable helper lls-mount does, and every call reads back what the kernel
// says before it reports success.
//
// The errors that have a type or a name here tell only what the container may
// see. All others are for the host's log: the kernel's words can name devices.
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
	gate    gate
}

// New returns a Mounter that starts its helper through r.
func New(r Runner, o Options) *Mounter {
	if o.Helper == "" {
		o.Helper = DefaultHelper
	}
	if o.Deadline <= 0 {
		o.Deadline = DefaultDeadline
	}
	return &Mounter{runner: r, options: o, gate: gate{boxes: map[uint64]*slots{}}}
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
	Replay         bool // it is made again at each start of the container, so it must not be where systemd mounts over it then
}

// Placed is a mount as it was read back from the kernel.
type Placed struct {
	Path     string // without symbolic links, as the container sees it
	MountID  int    // the first field of mountinfo(5)
	ReadOnly bool
	Already  bool // it was there before
}
