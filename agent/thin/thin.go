// Package thin finds out who uses the blocks of a thin pool: how much deleting a volume, or all volumes of one owner, would free. LVM
// does not tell; the pool's own metadata does.
package thin

import (
	"context"
	"errors"
	"fmt"
	"os"

	"lls/internal/run"
	"lls/lvm"
)

// Runner starts programs; *run.Runner is one.
type Runner interface {
	Run(ctx context.Context, c run.Cmd) (run.Result, error)
}

// Errors a caller decides on.
var (
	// ErrNoDevice means that the pool has no device of its own: it is inactive, or has no volumes.
	ErrNoDevice = errors.New("the pool is inactive or has no volumes")

	// ErrHeld means that somebody else reads the pool's metadata, in the only way there is.
	ErrHeld = errors.New("somebody else holds the metadata snapshot of the pool")

	// ErrNoRoom means that the pool has not enough free metadata, or is broken: what changes during the reading needs room twice.
	ErrNoRoom = errors.New("the pool's metadata has no room for a snapshot")

	// ErrTooBig means more blocks or mappings than the reading has memory for.
	ErrTooBig = errors.New("the pool is too big to be read")
)

// Volume is what one volume uses of its pool, in bytes.
type Volume struct {
	Mapped    lvm.Size // blocks it reads from
	Exclusive lvm.Size // those of them that no other volume maps: what deleting it would free

	// Own are the blocks that the volume got by writing, also in place of shared ones, since it was made, or had a snapshot taken of it, last.
	// When that was says Since, by the pool's own time. Unlike Exclusive it does not change by what others write or delete.
	Own   lvm.Size
	Since uint32
}

// Usage is who uses a pool.
type Usage struct {
	Chunk   lvm.Size
	Time    uint32              // of the reading, as the pool counts it: by one with each snapshot taken in it
	Volumes map[int]Volume      // by thin id (lvm.Volume.ThinID)
	Owners  map[string]lvm.Size // what deleting all volumes of an owner would free, in bytes
}

// Reader reads pools' metadata, one pool at a time.
//
// For that the kernel keeps a snapshot of the metadata, of which each pool can have one. Who changes a pool meanwhile, LVM included,
// is not hindered, and no lock of LVM's is needed: the pool may be suspended, used and extended. But what is deleted becomes free only
// when the snapshot is released, changes to the metadata need room for both, and the pool cannot be deactivated. And the snapshot
// is on disk: one that is forgotten stays, over a restart of the machine, too. So the Reader writes down in its folder what it
// holds; only what is written there is ever released. A sysadmin's own snapshot (thin_dump -m, thin_delta) gives ErrHeld.
type Reader struct {
	run    Runner
	dir    string
	mapper string        // where device-mapper has its devices
	turn   chan struct{} // holds one token while a pool is read
}

// NewReader returns a Reader. dir is a folder of its own that outlives a restart of the machine.
func NewReader(r Runner, dir string) *Reader {
	return &Reader{run: r, dir: dir, mapper: "/dev/mapper/", turn: make(chan struct{}, 1)}
}

// Measure reads who uses a pool. owner says whose a volume is, by its thin id; volumes with the same answer are counted together. It
// should know the volumes of a report made just before: LVM uses the ids of deleted volumes again.
//
// It takes 4 bytes of memory for each block of the pool up to the last used one (64 MiB for 1 TiB of 64 KiB blocks), and time for each run of blocks that
// lie one after the other: measured for 2 million runs, 1.3 s with thin-provisioning-tools 1.1, 19 s with 0.9. With 0.9 what n volumes
// share counts n times.
func (r *Reader) Measure(ctx context.Context, vg lvm.VG, pool lvm.Name, owner func(thinID int) string) (Usage, error) {
	u, err := r.measure(ctx, vg, pool, owner)
	if err != nil {
		return Usage{}, fmt.Errorf("cannot measure pool %s/%s: %w", vg, pool, err)
	}
	return u, nil
}

func (r *Reader) measure(ctx context.Context, vg lvm.VG, pool lvm.Name, owner func(int) string) (u Usage, err error) {
	if err := lvm.CheckPair(vg, pool); err != nil {
		return u, err
	}
	if err := r.enter(ctx); err != nil {
		return u, err
	}
	defer r.leave()
	name := lvm.DMName(vg, pool)
	s, err := r.reserve(ctx, name+layer)
	if err != nil {
		return u, err
	}
	defer func() {
		held, releaseErr := r.release(ctx, name+layer)
		if releaseErr == nil && !held {
			releaseErr = errLost
		}
		err = errors.Join(err, releaseErr)
	}()
	t := newTally(owner)
	if err := r.dump(ctx, r.mapper+name+"_tmeta", &parser{tally: t, blocks: s.blocks}); err != nil {
		return u, err
	}
	return t.usage()
}

// errLost means that what was read may have changed in the meantime.
var errLost = errors.New("somebody else released the metadata snapshot")

// enter waits for its turn.
func (r *Reader) enter(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *Reader) leave() { <-r.turn }

// dump has the mappings written into a pipe, and reads them as they come.
func (r *Reader) dump(ctx context.Context, device string, p *parser) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	parsed := make(chan error, 1)
	go func() {
		err := p.read(read)
		_ = read.Close() // which ends a program that still writes
		parsed <- err
	}()
	_, runErr := r.run.Run(ctx, run.Cmd{
		Name: "thin_dump", Args: []string{"-m", "-o", "/dev/fd/3", "--", device}, ExtraFiles: []*os.File{write},
	})
	_ = write.Close()
	if errors.Is(runErr, run.ErrStuck) {
		_ = read.Close() // the program has its end still
	}
	switch err = <-parsed; {
	case runErr == nil:
		return err
	case err == nil || ctx.Err() != nil: // it was cut off
		return runErr
	}
	return fmt.Errorf("%w: %w", err, runErr)
}
