package mount

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"lls/agent/mount/inside"
)

// ReadFile reads a regular file of at most limit bytes as the container's root
// sees it, with the rights of that root's ids. Links are followed, but never out
// of the container. Errors that a caller may decide on are os.ErrNotExist,
// os.ErrPermission, ErrTooLarge, ErrNotRegular, ErrStuck and ErrGone.
func (m *Mounter) ReadFile(ctx context.Context, b *Box, path string, limit int) ([]byte, error) {
	content, err := m.readFile(ctx, b, path, limit)
	if err != nil {
		return nil, fmt.Errorf("cannot read a file of the container: %w", err)
	}
	return content, nil
}

func (m *Mounter) readFile(ctx context.Context, b *Box, path string, limit int) ([]byte, error) {
	fd, err := unix.MemfdCreate("lls-file", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	to := os.NewFile(uintptr(fd), "content")
	defer to.Close()
	a, err := m.help(ctx, m.options.Deadline, b, []*os.File{to}, inside.OpRead,
		decimal(b.RootUID), decimal(b.RootGID), decimal(uint32(max(limit, 0))), path)
	if err != nil {
		return nil, err
	}
	if err := failure(a); err != nil {
		return nil, err
	}
	if a.ID < 0 || a.ID > limit {
		return nil, ErrTooLarge
	}
	content := make([]byte, a.ID)
	if _, err := io.ReadFull(io.NewSectionReader(to, 0, int64(a.ID)), content); err != nil {
		return nil, err
	}
	return content, nil
}
