package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lls/internal/run"
)

// DefaultGroupMetadata is the metadata area of a new physical volume. LVM's own
// 1 MiB ends near 1100 volumes with two short tags, since only half of an area
// can be used; this is good for some ten thousands.
const DefaultGroupMetadata = 64 * MiB

// CreateGroup makes a volume group on an empty block device. It refuses with
// ErrHoldsData a device that holds anything, and with ErrOpen one in use.
// metadata is the size of LVM's text area, 0 for DefaultGroupMetadata. It takes
// its turn like Write, as CreatePool and TagPool do.
func (h *Host) CreateGroup(ctx context.Context, vg VG, device string, metadata Size) error {
	err := h.write(ctx, vg, func(Writer) error { return h.createGroup(ctx, vg, device, metadata) })
	if err != nil {
		return fmt.Errorf("cannot create volume group %s on %s: %w", vg, device, err)
	}
	return nil
}

func (h *Host) createGroup(ctx context.Context, vg VG, device string, metadata Size) error {
	switch _, err := h.report(ctx, []VG{vg}); {
	case err == nil:
		return ErrExists
	case !errors.Is(err, ErrNoGroup):
		return err
	}
	if metadata <= 0 {
		metadata = DefaultGroupMetadata
	}
	if err := h.checkEmpty(ctx, device); err != nil {
		return err
	}
	if err := h.change(ctx, "pvcreate", "--metadatasize", bytesArg(metadata), "--", device); err != nil {
		return err
	}
	if err := h.change(ctx, "vgcreate", "--", string(vg), device); err != nil {
		// Asks nobody, and LVM refuses a device that is in a group.
		return errors.Join(err, h.change(context.WithoutCancel(ctx), "pvremove", "--", device))
	}
	return nil
}

// How much of each end of a device must be zero, so that data without a known
// signature is not taken for nothing.
const emptyEnds = MiB

// checkEmpty refuses a device that is in use or holds anything.
func (h *Host) checkEmpty(ctx context.Context, device string) error {
	if !filepath.IsAbs(device) || filepath.Clean(device) != device {
		return fmt.Errorf("%q is not an absolute path", device)
	}
	// O_EXCL on a block device fails while the kernel has it in use.
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EBUSY) {
		return ErrOpen
	}
	if err != nil {
		return err
	}
	defer f.Close() // read only
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0 {
		return errors.New("not a block device")
	}
	if err := zeroEnds(f); err != nil {
		return err
	}
	out, err := h.run.Run(ctx, run.Cmd{Name: "wipefs", Args: []string{"--no-act", "--", device}})
	if err != nil {
		return err
	}
	if text := strings.TrimSpace(string(out.Stdout)); text != "" {
		return fmt.Errorf("%w: wipefs finds a signature", ErrHoldsData)
	}
	return nil
}

func zeroEnds(f *os.File) error {
	end, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	buf := make([]byte, min(int64(emptyEnds), end))
	for _, at := range []int64{0, end - int64(len(buf))} {
		if _, err := f.ReadAt(buf, at); err != nil {
			return err
		}
		for i, b := range buf {
			if b != 0 {
				return fmt.Errorf("%w: byte %d is not zero", ErrHoldsData, at+int64(i))
			}
		}
	}
	return nil
}

// MaxPoolMetadata is the most metadata that a thin pool can use (lvmthin(7)).
const MaxPoolMetadata = 15*GiB + 829*MiB // 15.81 GiB

const minPoolMetadata = 4 * MiB

// DefaultChunkSize of a pool. A snapshot's first write copies a chunk and a new
// chunk is zeroed, both of which cost the more the larger it is (measured: 4k
// random first writes at half the speed with 256k), so chunks are small: 64 KiB,
// as long as the metadata for a pool of that size stays well below its limit.
func DefaultChunkSize(pool Size) Size {
	chunk := 64 * KiB
	for limit := 7 * TiB; pool > limit; limit *= 2 {
		chunk *= 2
	}
	return chunk
}

// DefaultMetadataSize of a pool: about 64 bytes a mapped chunk (lvmthin(7)),
// twice, since snapshots map their chunks once more.
func DefaultMetadataSize(pool, chunk Size) Size {
	need := pool / chunk * 128
	return min(max(need.RoundUp(4*MiB), min(pool/32, 64*MiB).RoundUp(minPoolMetadata), minPoolMetadata), MaxPoolMetadata)
}

// CreatePool makes a thin pool that zeroes new chunks. What happens when it is
// full stays LVM's default: writers wait for it to grow.
func (h *Host) CreatePool(ctx context.Context, c CreatePool) error {
	err := h.write(ctx, c.VG, func(w Writer) error { return w.(*writer).createPool(ctx, c) })
	if err != nil {
		return fmt.Errorf("cannot create pool %s/%s: %w", c.VG, c.Name, err)
	}
	return nil
}

func (w *writer) createPool(ctx context.Context, c CreatePool) error {
	if err := CheckPair(c.VG, c.Name); err != nil {
		return err
	}
	tags, err := tagArgs("--addtag", c.Tags)
	if err != nil {
		return err
	}
	g, err := w.Report(ctx)
	if err != nil {
		return err
	}
	c, err = c.Complete(g)
	if err != nil {
		return err
	}
	// -y: the space is free, what old signatures lie there may be wiped.
	args := append(tags, "-y", "--type", "thin-pool", "-n", string(c.Name), "-L", bytesArg(c.Size), "--poolmetadatasize", bytesArg(c.MetadataSize),
		"--chunksize", bytesArg(c.ChunkSize), "--zero", "y", "--", string(c.VG))
	return w.change(ctx, func(g Group, failure *run.Error) error {
		if _, ok := g.Pool(c.Name); ok && failure.Err != nil {
			return nil
		}
		if err := c.fits(g); err != nil {
			return err
		}
		return errFailed
	}, "lvcreate", args...)
}

// Complete fills in the sizes that were left open, and refuses a pool that does
// not fit into the group as it is.
func (c CreatePool) Complete(g Group) (CreatePool, error) {
	if c.Size == 0 && (c.Percent < 1 || c.Percent > 100) || c.Size < 0 || c.Size > MaxSize {
		return c, fmt.Errorf("%d bytes or %d percent: %w", int64(c.Size), c.Percent, ErrBadSize)
	}
	size := c.Size
	if size == 0 {
		size = g.Free / 100 * Size(c.Percent)
	}
	if c.ChunkSize == 0 {
		c.ChunkSize = DefaultChunkSize(size)
	}
	if c.MetadataSize == 0 {
		c.MetadataSize = DefaultMetadataSize(size, c.ChunkSize)
	}
	c.MetadataSize = c.MetadataSize.RoundUp(g.ExtentSize)
	if c.Size == 0 { // LVM keeps a spare of the metadata
		c.Size = size - 2*c.MetadataSize
		c.Size -= c.Size % g.ExtentSize
	}
	return c, c.fits(g)
}

func (c CreatePool) fits(g Group) error {
	_, volume := g.Volume(c.Name)
	_, pool := g.Pool(c.Name)
	switch {
	case volume || pool:
		return ErrExists
	case c.Size <= 0 || g.Free < c.Size+c.MetadataSize:
		return ErrNoSpace
	}
	return nil
}

// TagPool adds tags to a pool.
func (h *Host) TagPool(ctx context.Context, vg VG, pool Name, add []Tag) error {
	err := h.write(ctx, vg, func(w Writer) error { return w.(*writer).tagPool(ctx, pool, add) })
	if err != nil {
		return fmt.Errorf("cannot tag pool %s/%s: %w", vg, pool, err)
	}
	return nil
}

func (w *writer) tagPool(ctx context.Context, pool Name, add []Tag) error {
	args, err := tagArgs("--addtag", add)
	if err = errors.Join(err, w.check(pool)); err != nil || len(add) == 0 {
		return err
	}
	g, err := w.Report(ctx)
	if err != nil {
		return err
	}
	if _, ok := g.Pool(pool); !ok {
		return ErrNoPool
	}
	return w.change(ctx, func(g Group, _ *run.Error) error {
		if _, ok := g.Pool(pool); !ok {
			return ErrNoPool
		}
		return errFailed
	}, "lvchange", append(args, "--", operand(w.vg, pool))...)
}
