// Package lvm says in types what LVM can do: names, sizes, reports and changes
// of one volume group at a time. Host does it with the lvm program; the fake of
// package lvmtest keeps the same contract in memory.
package lvm

import (
	"context"
	"sync"

	"lls/internal/run"
)

// Options of a Host.
type Options struct {
	// BackupDir holds our own copies of the groups' metadata, a folder each.
	// LVM's automatic ones are switched off per command: it keeps a file per
	// change, thousands with frequent snapshots.
	BackupDir string

	// Devices restricts LVM to these physical volumes; empty: LVM's own choice.
	Devices []string

	// ConfigExtra is added to --config of every command.
	ConfigExtra string

	// ProfileDir is where LVM looks for metadata profiles, empty for
	// DefaultProfileDir. Only files named lls-*.profile are written there.
	ProfileDir string

	// Managed says whether a volume is ours. If set, nothing that is not ours
	// is changed, except by Adopt.
	Managed func(Volume) bool
}

// Host is the LVM of this machine. It is safe for concurrent use.
type Host struct {
	run  *run.Runner
	opts Options

	mu      sync.Mutex
	writers map[VG]chan struct{} // holds one token while a group has a writer

	backups sync.Mutex // held while the copies in BackupDir are moved
}

// NewHost returns a Host that runs the lvm program with a Runner.
func NewHost(r *run.Runner, opts Options) *Host {
	return &Host{run: r, opts: opts, writers: map[VG]chan struct{}{}}
}

// Report reads groups with one LVM command; none named means all. It waits for
// changes under way, for a minute at most. A missing group gives ErrNoGroup.
func (h *Host) Report(ctx context.Context, vgs ...VG) ([]Group, error) {
	return h.report(ctx, vgs)
}

// Write calls a function with the only Writer that a group has in this process.
// It waits its turn, first come first served, or until the context ends.
func (h *Host) Write(ctx context.Context, vg VG, fn func(w Writer) error) error {
	return h.write(ctx, vg, fn)
}

// Device is the path of an active volume.
func (h *Host) Device(vg VG, name Name) string { return Device(vg, name) }
