package filesystem

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// Identity is what a file system says it is called. A snapshot says the same as its origin.
type Identity struct {
	UUID  string // in the usual form of 8-4-4-4-12 digits
	Label string
}

// Where the superblocks have UUID and label: s_uuid and s_volume_name of ext4's, which is at 1024 (fs/ext4/ext4.h), and sb_uuid and
// sb_fname of xfs's, at 0 (fs/xfs/libxfs/xfs_format.h).
const (
	ext4UUIDAt, ext4LabelAt, ext4LabelLen = 1024 + 0x68, 1024 + 0x78, 16
	xfsUUIDAt, xfsLabelAt, xfsLabelLen    = 32, 108, 12
	uuidLen                               = 16
)

// Identify reads UUID and label from the superblock.
func Identify(device string) (Identity, error) {
	f, err := os.Open(device)
	if err != nil {
		return Identity{}, fmt.Errorf("cannot read a superblock: %w", err)
	}
	defer f.Close()
	return identify(f)
}

func identify(r io.ReaderAt) (Identity, error) {
	t, err := detect(r)
	if err != nil {
		return Identity{}, err
	}
	uuidAt, labelAt, labelLen := ext4UUIDAt, ext4LabelAt, ext4LabelLen
	if t == XFS {
		uuidAt, labelAt, labelLen = xfsUUIDAt, xfsLabelAt, xfsLabelLen
	}
	buf := make([]byte, labelAt+labelLen)
	if _, err := r.ReadAt(buf, 0); err != nil {
		return Identity{}, fmt.Errorf("cannot read a superblock: %w", err)
	}
	label, _, _ := bytes.Cut(buf[labelAt:], []byte{0})
	u := hex.EncodeToString(buf[uuidAt : uuidAt+uuidLen])
	return Identity{UUID: u[:8] + "-" + u[8:12] + "-" + u[12:16] + "-" + u[16:20] + "-" + u[20:], Label: string(label)}, nil
}
