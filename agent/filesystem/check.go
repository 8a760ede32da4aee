package filesystem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lls/internal/run"
)

// ErrDamaged means a file system with mistakes that are not mended by themselves.
var ErrDamaged = errors.New("the file system is damaged")

// ErrDirtyLog means an xfs that was not unmounted cleanly: nobody can tell whether it is damaged before its log is replayed, by mounting it.
var ErrDirtyLog = errors.New("the log of the file system has to be replayed")

// dirtyLog is what xfs_repair -n says then, and goes on without the log (phase2.c of xfsprogs).
const dirtyLog = "valuable metadata changes in a log"

// checkDeadline bounds a check, which reads all metadata.
const checkDeadline = 30 * time.Minute

// Check looks for mistakes in a file system that nobody has mounted, and that others than the kernel may have written to. A journal is
// replayed and what is safe to mend is mended, but for xfs, whose program does neither without being told to, and on a read-only device.
// What is left is ErrDamaged.
func Check(ctx context.Context, r Runner, device string, t Type, readOnly bool) error {
	ctx, cancel := context.WithTimeout(ctx, checkDeadline)
	defer cancel()
	var c run.Cmd
	var good []int
	switch t {
	case Ext4: // e2fsck(8): 0 no errors, 1 errors corrected
		c, good = run.Cmd{Name: "e2fsck", Args: []string{"-f", pick(readOnly, "-n", "-p"), "--", device}}, []int{0, 1}
	case XFS: // xfs_repair(8): with -n, 1 when there is corruption
		c, good = run.Cmd{Name: "xfs_repair", Args: []string{"-n", "--", device}}, []int{0}
	default:
		return fmt.Errorf("cannot check the file system: %w: %q", ErrType, t)
	}
	out, err := r.Run(ctx, c)
	var failed *run.Error
	if err == nil || errors.As(err, &failed) && slices.Contains(good, failed.ExitStatus) {
		return nil
	}
	if failed != nil && strings.Contains(string(out.Stdout)+failed.Stderr, dirtyLog) {
		return fmt.Errorf("cannot use the file system: %w", ErrDirtyLog)
	}
	if failed != nil && failed.ExitStatus > 0 {
		return fmt.Errorf("cannot use the file system: %w: %s", ErrDamaged, strings.TrimSpace(failed.Stderr))
	}
	return fmt.Errorf("cannot check the file system: %w", err)
}

func pick(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}
