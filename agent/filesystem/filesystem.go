// Package filesystem knows the file systems that LLS makes and mounts: how they
// are made, what options they are always mounted with, how they grow and how
// their superblock is recognised.
package filesystem

import (
	"context"
	"errors"
	"fmt"

	"lls/internal/run"
)

// Type is the kind of a file system, under the kernel's name for it.
type Type string

// The types that LLS makes and mounts. All of them allow idmapped mounts.
const (
	Ext4 Type = "ext4"
	XFS  Type = "xfs"
)

// ErrType means a type that LLS does not mount.
var ErrType = errors.New("unknown file system type")

// ErrNone means that a device holds none of the file systems we know.
var ErrNone = errors.New("no known file system")

// ParseType checks a name given by a user.
func ParseType(s string) (Type, error) {
	switch t := Type(s); t {
	case Ext4, XFS:
		return t, nil
	}
	return "", fmt.Errorf("%w: %q", ErrType, s)
}

// Option is one word for fsconfig(2). An empty value is a flag.
type Option struct{ Name, Value string }

// Runner starts programs; *run.Runner is one.
type Runner interface {
	Run(ctx context.Context, c run.Cmd) (run.Result, error)
}
