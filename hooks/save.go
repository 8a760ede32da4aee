package hooks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// What Save refuses.
var (
	ErrNotRegular = errors.New("it is a link, or no regular file")
	ErrLinked     = errors.New("it has more than one name (hard links), and only one would change")
	ErrTooLong    = errors.New("it is longer than 256 KiB")
	ErrChanged    = errors.New("somebody else changed it in the meantime")
	ErrLocked     = errors.New("somebody else is changing it")
)

// How long Save waits for another one.
const (
	lockWait  = 5 * time.Second
	lockPause = 20 * time.Millisecond
)

// temporary is the name of the new file before it takes the place of the old one. The lock makes it nobody else's; what a killed Save left there goes.
const temporary = ".fstab.lls-new"

// Save edits the file at path: at any moment there is the old file or the whole new one, with the same owner, mode and extended attributes. A file
// that does not exist is empty for edit, and made with mode 0644. When edit changes nothing, nothing is written. Errors wrap what edit
// returned, or one of the variables above. Other Saves in that directory wait; a change by anybody else is noticed, except in
// the instant between the last look and the renaming.
func Save(path string, edit func([]byte) ([]byte, error)) error {
	if err := save(path, edit); err != nil {
		return fmt.Errorf("cannot change %s: %w", path, err)
	}
	return nil
}

func save(path string, edit func([]byte) ([]byte, error)) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := lock(dir); err != nil {
		return err
	}
	next := filepath.Join(filepath.Dir(path), temporary)
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	old, err := openOriginal(path)
	if err != nil {
		return err
	}
	defer old.close()
	changed, err := edit(bytes.Clone(old.content))
	switch {
	case err != nil:
		return err
	case bytes.Equal(changed, old.content):
		return nil
	case len(changed) > MaxFile:
		return ErrTooLong
	}
	defer os.Remove(next) // once it is renamed there is none
	if err := old.write(next, changed); err != nil {
		return err
	}
	if err := old.replace(next); err != nil {
		return err
	}
	return dir.Sync()
}

// lock takes the directory until it is closed.
func lock(dir *os.File) error {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockPause) {
		err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		if time.Now().After(end) {
			return ErrLocked
		}
	}
}

// original is the file as it was found. The file is nil when there was none.
type original struct {
	path    string
	file    *os.File
	info    fs.FileInfo
	content []byte
}

func openOriginal(path string) (*original, error) {
	// O_NONBLOCK: opening a FIFO must not wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &original{path: path}, nil
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENXIO):
		return nil, ErrNotRegular
	case err != nil:
		return nil, err
	}
	o := &original{path: path, file: f}
	if err := o.read(); err != nil {
		f.Close()
		return nil, err
	}
	return o, nil
}

func (o *original) close() {
	if o.file != nil {
		o.file.Close()
	}
}

func (o *original) read() (err error) {
	if o.info, err = o.file.Stat(); err != nil {
		return err
	}
	if !o.info.Mode().IsRegular() {
		return ErrNotRegular
	}
	if st, ok := o.info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
		return ErrLinked
	}
	o.content, err = io.ReadAll(io.NewSectionReader(o.file, 0, MaxFile+1))
	if err == nil && len(o.content) > MaxFile {
		return ErrTooLong
	}
	return err
}

// write makes the new file, with all that the old one has, and sees it to the disk.
func (o *original) write(next string, content []byte) error {
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := o.dress(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// dress gives the file the old one's owner, extended attributes and mode, in the order in which none undoes another.
func (o *original) dress(f *os.File) error {
	if o.file == nil {
		return f.Chmod(0o644)
	}
	st, ok := o.info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("its owner is not known")
	}
	if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := copyAttributes(o.file, f); err != nil {
		return err
	}
	return f.Chmod(o.info.Mode())
}

// replace puts the new file into the place of the old one if that is still as it was read.
func (o *original) replace(next string) error {
	if o.file == nil {
		err := os.Link(next, o.path) // unlike a renaming, this takes nobody's place
		if errors.Is(err, fs.ErrExist) {
			return ErrChanged
		}
		return err
	}
	now, err := os.Lstat(o.path)
	if err != nil || !os.SameFile(now, o.info) || now.Size() != o.info.Size() || !now.ModTime().Equal(o.info.ModTime()) {
		return ErrChanged
	}
	content, err := io.ReadAll(io.NewSectionReader(o.file, 0, MaxFile+1))
	if err != nil || !bytes.Equal(content, o.content) {
		return ErrChanged
	}
	return os.Rename(next, o.path)
}
