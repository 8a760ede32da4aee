package thin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lls/internal/run"
)

// layer ends the device-mapper name of the device that a pool's volumes use. LVM makes it with the first volume.
const layer = "-tpool"

// How long the kernel may take to release a snapshot, and at most how full metadata may be, in percent, to take one.
const (
	releaseTime  = 30 * time.Second
	metadataFull = 75
)

// state is what the kernel says about a pool.
type state struct {
	usedMetadata, allMetadata uint64 // blocks of 4 KiB
	blocks                    uint64 // of data
	held                      bool   // whether there is a metadata snapshot
	writable                  bool
}

// status asks for a pool's state. It writes nothing: a status would commit what is pending otherwise.
func (r *Reader) status(ctx context.Context, device string) (state, error) {
	if err := r.there(device); err != nil {
		return state{}, err
	}
	out, err := r.run.Run(ctx, run.Cmd{Name: "dmsetup", Args: []string{"status", "--noflush", "--target", "thin-pool", "--", device}})
	if err != nil {
		return state{}, err
	}
	return parseStatus(string(out.Stdout))
}

func (r *Reader) there(device string) error {
	if _, err := os.Stat(r.mapper + device); errors.Is(err, os.ErrNotExist) {
		return ErrNoDevice
	} else if err != nil {
		return err
	}
	return nil
}

// parseStatus reads one line of the thin-pool target (Documentation/admin-guide/device-mapper/thin-provisioning.rst of Linux):
//
//	0 1048576 thin-pool 3 218/2048 325/8192 - rw no_discard_passdown queue_if_no_space - 512
//
// with the transaction, metadata and data as used/all, and the block of the metadata snapshot or "-". A broken pool says "Fail".
func parseStatus(line string) (state, error) {
	words := strings.Fields(line)
	if len(words) >= 4 && words[2] == "thin-pool" && (words[3] == "Fail" || words[3] == "Error") {
		return state{}, fmt.Errorf("%w: it is broken", ErrNoRoom)
	}
	unknown := fmt.Errorf("cannot understand the pool's status %q", line)
	if len(words) < 8 || words[2] != "thin-pool" {
		return state{}, unknown
	}
	var s state
	var err, err2 error
	s.usedMetadata, s.allMetadata, err = ratio(words[4])
	_, s.blocks, err2 = ratio(words[5])
	if err != nil || err2 != nil {
		return state{}, unknown
	}
	s.held, s.writable = words[6] != "-", words[7] == "rw" || words[7] == "out_of_data_space"
	return s, nil
}

func ratio(s string) (used, all uint64, err error) {
	a, b, ok := strings.Cut(s, "/")
	if !ok {
		return 0, 0, errors.New("no ratio")
	}
	used, err = strconv.ParseUint(a, 10, 63)
	if err != nil {
		return 0, 0, err
	}
	all, err = strconv.ParseUint(b, 10, 63)
	return used, all, err
}

// uuid is what device-mapper calls the device, however often it is made anew.
func (r *Reader) uuid(ctx context.Context, device string) (string, error) {
	out, err := r.run.Run(ctx, run.Cmd{Name: "dmsetup", Args: []string{"info", "-c", "--noheadings", "-o", "uuid", "--", device}})
	if err != nil {
		return "", err
	}
	uuid := strings.TrimSpace(string(out.Stdout))
	if uuid == "" {
		return "", errors.New("the pool has no UUID")
	}
	return uuid, nil
}

// message tells the pool to take or release a snapshot. It is never left half done.
func (r *Reader) message(ctx context.Context, device, text string) error {
	_, err := r.run.Run(ctx, run.Cmd{Name: "dmsetup", Args: []string{"message", "--", device, "0", text}, NoKill: true})
	return err
}

// reserve takes a snapshot of the metadata, after it wrote down that it is ours.
func (r *Reader) reserve(ctx context.Context, device string) (state, error) {
	if err := r.leftover(ctx, device); err != nil && !errors.Is(err, os.ErrNotExist) {
		return state{}, err
	}
	s, err := r.status(ctx, device)
	switch {
	case err != nil:
		return s, err
	case s.held:
		return s, ErrHeld
	case !s.writable:
		return s, fmt.Errorf("%w: it cannot be written", ErrNoRoom)
	case s.usedMetadata*100 > s.allMetadata*metadataFull:
		return s, fmt.Errorf("%w: it is %d percent full", ErrNoRoom, s.usedMetadata*100/s.allMetadata)
	}
	uuid, err := r.uuid(ctx, device)
	if err != nil {
		return s, err
	}
	if err := r.mark(device, uuid); err != nil {
		return s, err
	}
	if err := r.message(ctx, device, "reserve_metadata_snap"); err != nil {
		if errors.Is(err, run.ErrStuck) {
			return s, err // it may still come; the mark stays
		}
		// It may be there all the same, unless somebody else was faster.
		var failed *run.Error
		if errors.As(err, &failed) && failed.ExitStatus > 0 {
			if now, statusErr := r.status(ctx, device); statusErr == nil && now.held {
				err = fmt.Errorf("%w: %w", ErrHeld, err)
			}
			return s, errors.Join(err, r.unmark(device))
		}
		_, releaseErr := r.release(ctx, device)
		return s, errors.Join(err, releaseErr)
	}
	return s, nil
}

// release gives our snapshot back, whatever became of the context, and forgets it once it is gone. It says whether there was one.
func (r *Reader) release(ctx context.Context, device string) (held bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	s, err := r.status(ctx, device)
	if err == nil && s.held {
		err = r.message(ctx, device, "release_metadata_snap")
	}
	if err != nil {
		return s.held, fmt.Errorf("cannot release the metadata snapshot: %w", err)
	}
	return s.held, r.unmark(device)
}

// leftover releases a snapshot that the agent held when it ended. Without a mark the error is os.ErrNotExist.
func (r *Reader) leftover(ctx context.Context, device string) error {
	mark, err := os.ReadFile(filepath.Join(r.dir, device))
	if err != nil {
		return err
	}
	if err := r.there(device); err != nil {
		return err
	}
	uuid, err := r.uuid(ctx, device)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(mark)) != uuid {
		return r.unmark(device) // another pool of that name
	}
	_, err = r.release(ctx, device)
	return err
}

// ReleaseLeftovers releases the snapshots that an agent held when it ended. Call it once the pools are active. What cannot be released
// yet, since the pool is inactive, is when the pool is measured next, or at the next call. A snapshot that a sysadmin took between the
// mark and the crash, which is an instant, is taken for ours.
func (r *Reader) ReleaseLeftovers(ctx context.Context) error {
	if err := r.enter(ctx); err != nil {
		return fmt.Errorf("cannot release metadata snapshots: %w", err)
	}
	defer r.leave()
	marks, err := os.ReadDir(r.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot release metadata snapshots: %w", err)
	}
	var all []error
	for _, m := range marks {
		if !strings.HasSuffix(m.Name(), layer) {
			continue
		}
		if err := r.leftover(ctx, m.Name()); err != nil && !errors.Is(err, ErrNoDevice) {
			all = append(all, fmt.Errorf("cannot release the metadata snapshot of %s: %w", m.Name(), err))
		}
	}
	return errors.Join(all...)
}

// mark writes down that a device's snapshot is ours, before it is.
func (r *Reader) mark(device, uuid string) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	fresh := filepath.Join(r.dir, "new")
	if err := os.WriteFile(fresh, []byte(uuid+"\n"), 0o600); err != nil {
		return err
	}
	if err := syncPath(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, filepath.Join(r.dir, device)); err != nil {
		return err
	}
	return syncPath(r.dir)
}

func (r *Reader) unmark(device string) error {
	if err := os.Remove(filepath.Join(r.dir, device)); err != nil {
		return err
	}
	return syncPath(r.dir)
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
