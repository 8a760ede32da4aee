package hooks

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// copyAttributes gives one open file the extended attributes of the other, access lists among them. What the kernel's security
// modules keep there may be theirs to set; all others must be kept.
func copyAttributes(from, to *os.File) error {
	// The package syscall has no calls on descriptors for this; the magic links under /proc are the same files.
	source, target := descriptor(from), descriptor(to)
	names := make([]byte, 64<<10) // XATTR_LIST_MAX of linux/limits.h
	n, err := syscall.Listxattr(source, names)
	if errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot list its attributes: %w", err)
	}
	value, there := make([]byte, 64<<10), make([]byte, 64<<10) // XATTR_SIZE_MAX
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		size, err := syscall.Getxattr(source, name, value)
		if err != nil {
			return fmt.Errorf("cannot read its attribute %s: %w", name, err)
		}
		if n, err := syscall.Getxattr(target, name, there); err == nil && bytes.Equal(there[:n], value[:size]) {
			continue
		}
		if err := syscall.Setxattr(target, name, value[:size], 0); err != nil && !strings.HasPrefix(name, "security.") {
			return fmt.Errorf("cannot keep its attribute %s: %w", name, err)
		}
	}
	return nil
}

func descriptor(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
