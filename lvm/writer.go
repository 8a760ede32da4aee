package lvm

import "context"

// Writer changes one volume group. It lives only as long as the function that
// Write gave it to, which must not call Write for the same group; afterwards
// every method returns ErrClosedWriter. It serves one goroutine.
//
// Names are checked again at each call. A change that is there already is no
// error, except for CreateThin and Snapshot.
type Writer interface {
	// Report reads the group anew.
	Report(ctx context.Context) (Group, error)

	// CreateThin makes an empty thin volume.
	CreateThin(ctx context.Context, c CreateThin) error

	// Snapshot makes a thin snapshot of a thin volume, atomically and by one
	// LVM command.
	Snapshot(ctx context.Context, s Snapshot) error

	// Retag adds and takes away tags in one step.
	Retag(ctx context.Context, name Name, add, del []Tag) error

	// Adopt is Retag for a volume that is not managed yet.
	Adopt(ctx context.Context, name Name, add []Tag) error

	// Activate makes the devices of volumes appear, whatever their
	// skip-activation flag says.
	Activate(ctx context.Context, names ...Name) error

	// Deactivate makes the devices disappear. ErrOpen when one is in use.
	Deactivate(ctx context.Context, names ...Name) error

	// Extend grows a volume to a size, rounded up to whole extents.
	Extend(ctx context.Context, name Name, size Size) error

	// SetReadOnly sets a volume's permission.
	SetReadOnly(ctx context.Context, name Name, readOnly bool) error

	// Remove removes a volume for ever. It reads the group first and refuses
	// what others depend on (*DependentsError), what is in use (ErrOpen), and what
	// still, which is asked of the volume as it is now, does not want gone any
	// more (ErrChanged; nil wants it gone in any case). The tags that still saw
	// are those that LVM removes it with: whoever changes one first, keeps it.
	Remove(ctx context.Context, name Name, still func(Volume) bool) error

	// ExtendPool grows a pool to these sizes; 0 leaves one as it is. ErrShrink
	// when one of them is larger already, perhaps by dmeventd meanwhile. It takes
	// ExtendCost of the group's free space, or, when that is not there,
	// ErrNoSpace and nothing; only metadata grows without its spare.
	ExtendPool(ctx context.Context, pool Name, data, metadata Size) error

	// SetFallback has a pool grow by itself when nobody else sees to it, or with
	// the zero value no longer. On an active pool it sees that dmeventd watches
	// (ErrNotMonitored), so call it at each start. A new fallback reloads the
	// pool's table, for which the pool is suspended for an instant.
	// ErrForeignProfile when the pool has a profile that is not ours.
	SetFallback(ctx context.Context, pool Name, f Fallback) error
}

// CreateThin describes a new thin volume.
type CreateThin struct {
	Pool     Name
	Name     Name
	Size     Size // rounded up to whole extents
	Tags     []Tag
	Activate bool
}

// Snapshot describes a new thin snapshot. It has its origin's size and pool.
type Snapshot struct {
	Origin   Name
	Name     Name
	Tags     []Tag
	ReadOnly bool
	Activate bool
}

// CreatePool describes a new thin pool.
type CreatePool struct {
	VG   VG
	Name Name

	// Size of the data; when 0, Percent of the group's free space for data and
	// metadata together.
	Size    Size
	Percent int

	MetadataSize Size // 0: by DefaultMetadataSize
	ChunkSize    Size // 0: by DefaultChunkSize
	Tags         []Tag
}
