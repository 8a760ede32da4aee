package mount

import "errors"

// What a caller decides on. Their texts name only what a container may see.
var (
	ErrBusy       = errors.New("in use")
	ErrStuck      = errors.New("the container's file system does not answer")
	ErrGone       = errors.New("the container has ended")
	ErrNoPlace    = errors.New("cannot be used") // /lls or /dev/mf
	ErrHostMounts = errors.New("the container shares the mounts of the host")
	ErrNotMounted = errors.New("not mounted there")
	ErrMounts     = errors.New("too many mounts") // in one mount namespace
	ErrTooLarge   = errors.New("too large")       // a file
	ErrNotRegular = errors.New("no regular file") // or one of the kernel's, or links that lead nowhere
)

// TargetKind says what is wrong with a mount target.
type TargetKind string

// The kinds of ErrTarget.
const (
	Missing   TargetKind = "missing"
	NotDir    TargetKind = "notdir"
	Forbidden TargetKind = "forbidden"
	Loop      TargetKind = "loop"
	Invalid   TargetKind = "invalid" // no absolute path, or too long
)

// ErrTarget means that a path cannot be mounted on.
type ErrTarget struct {
	Path string // as the container sees it
	Why  string
	Kind TargetKind
}

func (e *ErrTarget) Error() string { return "cannot mount on " + e.Path + ": " + e.Why }

// ErrOccupied means that something else is mounted at the path.
type ErrOccupied struct{ Path string }

func (e *ErrOccupied) Error() string {
	return "cannot mount on " + e.Path + ": something else is mounted there"
}
