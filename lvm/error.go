package lvm

import (
	"errors"
	"fmt"
	"strings"
)

// Errors a caller decides on. LVM's exit status says nothing, so they are found
// by reading the group again after a failure, and from prose only where nothing
// else tells (create.go). What LVM said is in the *run.Error that errors.As finds
// in the same error.
var (
	ErrNoGroup      = errors.New("no such volume group")
	ErrNotFound     = errors.New("no such volume")
	ErrNoPool       = errors.New("no such pool")
	ErrExists       = errors.New("exists already")
	ErrOpen         = errors.New("in use")
	ErrPoolFull     = errors.New("pool is full")
	ErrNoSpace      = errors.New("not enough free space in the volume group")
	ErrShrink       = errors.New("would shrink")
	ErrNotManaged   = errors.New("not managed by LLS")
	ErrHoldsData    = errors.New("holds data")
	ErrChanged      = errors.New("changed meanwhile")
	ErrClosedWriter = errors.New("writer used after its end")

	// ErrFrozen means that somebody has frozen the file system of an origin, which
	// Linux before 6.8 or so lets nobody suspend then.
	ErrFrozen = errors.New("its file system is frozen")

	// ErrForeignProfile means a pool that carries a metadata profile of somebody
	// else's.
	ErrForeignProfile = errors.New("has another metadata profile")

	// ErrNotMonitored means that dmeventd does not watch a pool.
	ErrNotMonitored = errors.New("not monitored by dmeventd")

	// ErrThreshold, which is an ErrPoolFull, means that LVM makes no new volumes
	// in a pool until it has had it grow.
	ErrThreshold = fmt.Errorf("LVM makes nothing new before it has grown: %w", ErrPoolFull)

	// ErrUnknown means that a change failed or was given up, and that reading
	// the group again failed too: whether it took place is not known.
	ErrUnknown = errors.New("outcome not known")
)

// DependentsError refuses to remove a volume that others depend on.
type DependentsError struct {
	VG         VG
	Name       Name
	Dependents []Name // empty when LVM says there are some but not which
}

func (e *DependentsError) Error() string {
	names := make([]string, len(e.Dependents))
	for i, n := range e.Dependents {
		names[i] = string(n)
	}
	who := strings.Join(names, ", ")
	if who == "" {
		who = "other volumes"
	}
	return fmt.Sprintf("cannot remove volume %s/%s: %s depend on it", e.VG, e.Name, who)
}
