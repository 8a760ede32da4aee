package filesystem

import (
	"context"
	"fmt"

	"lls/internal/run"
)

// MakeOptions says how a file system is made.
type MakeOptions struct {
	Label string // at most 12 bytes (xfs) or 16 (ext4), or empty
}

// Make writes a new, empty file system over whatever the device holds. It writes
// little, whatever the size: on a thin volume every block written is one
// allocated. It discards nothing either: a new thin volume has nothing to discard.
func Make(ctx context.Context, r Runner, device string, t Type, o MakeOptions) error {
	bytes, err := size(device)
	if err != nil {
		return fmt.Errorf("cannot make a file system: %w", err)
	}
	c, err := makeCommand(device, bytes, t, o)
	if err != nil {
		return err
	}
	if _, err := r.Run(ctx, c); err != nil {
		return fmt.Errorf("cannot make a file system: %w", err)
	}
	return nil
}

// The journal of xfs is zeroed when it is made, so it is kept from growing with
// the device; by default it would have 1/2048 of it.
const (
	xfsLogBytes   = 256 << 20
	xfsLogDefault = 2048
)

func makeCommand(device string, bytes uint64, t Type, o MakeOptions) (run.Cmd, error) {
	var c run.Cmd
	switch t {
	case Ext4:
		// No blocks are reserved for root: a dataset is no system disk. Inode
		// tables and journal are not zeroed: groups that are not in use are
		// marked so, and the checksums of the journal carry its own UUID.
		c = run.Cmd{Name: "mkfs.ext4", Args: []string{
			"-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
		}}
	case XFS:
		c = run.Cmd{Name: "mkfs.xfs", Args: []string{"-q", "-f", "-K"}}
		if bytes/xfsLogDefault > xfsLogBytes {
			c.Args = append(c.Args, "-l", fmt.Sprintf("size=%d", xfsLogBytes))
		}
	default:
		return c, fmt.Errorf("cannot make a file system: %w: %q", ErrType, t)
	}
	if o.Label != "" {
		c.Args = append(c.Args, "-L", o.Label)
	}
	c.Args = append(c.Args, "--", device)
	return c, nil
}
