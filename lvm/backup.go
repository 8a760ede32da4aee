package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// How many copies of a group's metadata Backup keeps.
const keepBackups = 10

// Backup writes the group's metadata to BackupDir/VG/metadata and keeps the
// copies before it as metadata.1 (the newest) to metadata.9.
func (h *Host) Backup(ctx context.Context, vg VG) error {
	h.backups.Lock()
	defer h.backups.Unlock()
	if err := h.backup(ctx, vg); err != nil {
		return fmt.Errorf("cannot back up volume group %s: %w", vg, err)
	}
	return nil
}

func (h *Host) backup(ctx context.Context, vg VG) error {
	if _, err := ParseVG(string(vg)); err != nil {
		return err
	}
	dir := filepath.Join(h.opts.BackupDir, string(vg))
	// vgcfgbackup replaces %s in the file's name.
	if !filepath.IsAbs(h.opts.BackupDir) || strings.Contains(dir, "%") {
		return fmt.Errorf("backup folder %q: not an absolute path without %%", h.opts.BackupDir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	latest := filepath.Join(dir, "metadata")
	fresh := latest + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := h.lvm(ctx, changeGrace, "vgcfgbackup", "backup{archive=0}", []string{"-f", fresh, "--", string(vg)}); err != nil {
		return err
	}
	if err := settle(fresh); err != nil {
		return err
	}
	for n := keepBackups - 1; n > 0; n-- {
		older, newer := fmt.Sprintf("%s.%d", latest, n), fmt.Sprintf("%s.%d", latest, n-1)
		if n == 1 {
			newer = latest
		}
		if err := os.Rename(newer, older); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(fresh, latest); err != nil {
		return err
	}
	return syncPath(dir)
}

// settle makes a file root's alone and puts it on the disk.
func settle(path string) error {
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	return syncPath(path)
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
