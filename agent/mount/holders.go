package mount

import "context"

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
	Command string
	UID     uint32 // as id of the host
	MountNS uint64 // inode number of its mount namespace
	Path    string
	Kind    HolderKind
}

// Holders finds who holds a device.
func Holders(ctx context.Context, major, minor uint32) ([]Holder, error) { return nil, errTodo }
