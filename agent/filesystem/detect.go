package filesystem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Where the superblocks have their magic numbers, and what these are: byte 0x38
// of the ext4 superblock, which is at 1024 (fs/ext4/ext4.h), and byte 0 of xfs's,
// at 0 (fs/xfs/libxfs/xfs_format.h).
const (
	ext4MagicAt = 1024 + 0x38
	ext4Magic   = 0xEF53
	xfsMagic    = "XFSB"
)

// detect reads the type from the superblock.
func detect(r io.ReaderAt) (Type, error) {
	buf := make([]byte, ext4MagicAt+2)
	n, err := r.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("cannot read a superblock: %w", err)
	}
	xfs := n >= len(xfsMagic) && string(buf[:len(xfsMagic)]) == xfsMagic
	ext4 := n == len(buf) && binary.LittleEndian.Uint16(buf[ext4MagicAt:]) == ext4Magic
	switch {
	case xfs && !ext4:
		return XFS, nil
	case ext4 && !xfs:
		return Ext4, nil
	}
	return "", ErrNone
}
