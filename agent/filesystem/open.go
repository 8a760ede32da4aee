package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// NewMount makes a file system of the kernel ready and returns a mount of it
// that is attached nowhere and vanishes when closed. attributes are MOUNT_ATTR_*.
// It may block for as long as the device does.
func NewMount(name string, options []Option, attributes int) (*os.File, error) {
	fs, err := unix.Fsopen(name, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot mount %s: %w", name, err)
	}
	defer unix.Close(fs)
	if err := configure(fs, options); err != nil {
		return nil, fmt.Errorf("cannot mount %s %w", name, err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("cannot mount %s: %w", name, explain(fs, err))
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, fmt.Errorf("cannot mount %s: %w", name, explain(fs, err))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Reconfigure changes options of the file system itself, for all its mounts. root is the root of one of them.
func Reconfigure(root *os.File, options []Option) error {
	fs, err := unix.Fspick(int(root.Fd()), "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("cannot change the options of %s: %w", root.Name(), err)
	}
	defer unix.Close(fs)
	if err := configure(fs, options); err != nil {
		return fmt.Errorf("cannot change the options of %s: %w", root.Name(), err)
	}
	if err := unix.FsconfigReconfigure(fs); err != nil {
		return fmt.Errorf("cannot change the options of %s: %w", root.Name(), explain(fs, err))
	}
	return nil
}

// configure sets options of a file system that is not made, or changed, before they are all set.
func configure(fs int, options []Option) (err error) {
	for _, o := range options {
		if o.Value == "" {
			err = unix.FsconfigSetFlag(fs, o.Name)
		} else {
			err = unix.FsconfigSetString(fs, o.Name, o.Value)
		}
		if err != nil {
			return fmt.Errorf("with %s: %w", o.Name, explain(fs, err))
		}
	}
	return nil
}

// explain adds what the kernel has written about the failure: each read of the
// context gives one line, "e file system: text".
func explain(fs int, err error) error {
	var lines []string
	buf := make([]byte, 4096)
	for range 8 {
		n, readErr := unix.Read(fs, buf)
		if readErr != nil || n <= 0 {
			break
		}
		lines = append(lines, strings.TrimSpace(string(buf[:n])))
	}
	if len(lines) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(lines, "; "))
}

// Mount is NewMount of a device with the options LLS always gives it, some more,
// and nodev and nosuid. When ctx ends first the device's answer is awaited, and
// the mount closed, behind the caller's back.
func Mount(ctx context.Context, device string, t Type, readOnlyDevice bool, more []Option, attributes int) (*os.File, error) {
	if _, err := ParseType(string(t)); err != nil {
		return nil, err
	}
	options := slices.Concat([]Option{{"source", device}}, Options(t, readOnlyDevice), more)
	var fd *os.File
	err := await(ctx, func() (err error) {
		fd, err = NewMount(string(t), options, attributes|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID)
		return err
	}, func() {
		if fd != nil {
			_ = fd.Close()
		}
	})
	if err != nil {
		return nil, err
	}
	return fd, nil
}

// Options are the options of the superblock.
func Options(t Type, readOnlyDevice bool) []Option {
	switch {
	case t == Ext4 && readOnlyDevice:
		return []Option{{"ro", ""}, {"noload", ""}, {"errors", "remount-ro"}}
	case t == Ext4:
		// The kernel must not zero inode tables behind our back: on a thin volume
		// that would allocate all of them, 80 GB of 5 TB.
		return []Option{{"errors", "remount-ro"}, {"noinit_itable", ""}}
	case t == XFS && readOnlyDevice: // a snapshot has the UUID of its origin
		return []Option{{"ro", ""}, {"norecovery", ""}, {"nouuid", ""}}
	case t == XFS:
		return []Option{{"nouuid", ""}}
	}
	return nil
}

// ErrSlow means that the kernel has not answered in time. What it was asked to
// do may still happen.
var ErrSlow = errors.New("the device does not answer in time")

// await runs what may block in the kernel, where no deadline reaches. When ctx
// ends first, abandoned is run after it.
func await(ctx context.Context, do func() error, abandoned func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error)
	go func() {
		err := do()
		select {
		case done <- err:
		case <-ctx.Done():
			abandoned()
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.Join(ErrSlow, ctx.Err())
	}
}
