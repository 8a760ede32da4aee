package filesystem

import (
	"bytes"
	"errors"
	"testing"
)

func TestIdentifyReadsUUIDAndLabelOfBothTypes(t *testing.T) {
	uuid := []byte("\x12\x34\x56\x78\x9a\xbc\xde\xf0\x12\x34\x56\x78\x9a\xbc\xde\xf0")
	ext4, xfs := make([]byte, 4096), make([]byte, 4096)
	ext4[1024+0x38], ext4[1024+0x39] = 0x53, 0xef
	copy(ext4[1024+0x68:], uuid)
	copy(ext4[1024+0x78:], "sixteen-letters!rest")
	copy(xfs, "XFSB")
	copy(xfs[32:], uuid)
	copy(xfs[108:], "data")
	for _, tt := range []struct {
		block []byte
		label string
	}{{ext4, "sixteen-letters!"}, {xfs, "data"}} {
		got, err := identify(bytes.NewReader(tt.block))
		if want := (Identity{"12345678-9abc-def0-1234-56789abcdef0", tt.label}); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if _, err := identify(bytes.NewReader(make([]byte, 4096))); !errors.Is(err, ErrNone) {
		t.Errorf("nothing reads as %v", err)
	}
	if _, err := identify(bytes.NewReader(xfs[:100])); err == nil {
		t.Error("half a superblock was read")
	}
}
