package mount

import "os"

// Box is a running container as the kernel sees it.
type Box struct {
	PID              int      // its init, in the pid namespace of the host
	PIDFD            *os.File // of PID
	RootUID, RootGID uint32   // its uid 0 and gid 0, as ids of the host
	Mapped           bool     // it has its own user namespace
}

// OpenBox looks at a container's init. It takes a pidfd when none is given; the
// Box owns the pidfd until Close.
func OpenBox(pid int, pidfd *os.File) (*Box, error) { return nil, errTodo }

// Close releases the pidfd.
func (b *Box) Close() error { return errTodo }
