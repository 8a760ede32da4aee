package hooks

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

func appending(s string) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) { return append(b, s...), nil }
}

// fstabWith makes a folder with an fstab, and returns the fstab's path.
func fstabWith(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fstab")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantAlone fails unless the file has this content and nothing else lies beside it.
func wantAlone(t *testing.T, path, content string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != content {
		t.Errorf("the file has %q, %v; want %q", got, err, content)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside it: %v, %v", entries, err)
	}
}

func TestSaveKeepsModeOwnerAndAttributes(t *testing.T) {
	path := fstabWith(t, "a\n")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 1234, 4321
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	attribute := syscall.Setxattr(path, "user.lls-test", []byte("kept"), 0)
	if err := Save(path, appending("b\n")); err != nil {
		t.Fatal(err)
	}
	wantAlone(t, path, "a\nb\n")
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if info.Mode() != 0o640 || int(st.Uid) != uid || int(st.Gid) != gid {
		t.Errorf("mode %v, owner %d:%d", info.Mode(), st.Uid, st.Gid)
	}
	if errors.Is(attribute, syscall.ENOTSUP) {
		t.Log("the file system of the test's folder has no user attributes: that they are kept is not seen here")
		return
	}
	value := make([]byte, 10)
	if n, err := syscall.Getxattr(path, "user.lls-test", value); attribute != nil || err != nil || string(value[:n]) != "kept" {
		t.Errorf("attribute %q, %v, %v", value, attribute, err)
	}
}

func TestSaveWritesNothingWhenNothingChanges(t *testing.T) {
	path := fstabWith(t, "a\n")
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Save(path, appending("")); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("another file: %v, %v", after, err)
	}
	wantAlone(t, path, "a\n")
}

func TestSaveMakesAFileThatIsMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fstab")
	if err := Save(path, appending("")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file without content was made: %v", err)
	}
	if err := Save(path, appending("a\n")); err != nil {
		t.Fatal(err)
	}
	wantAlone(t, path, "a\n")
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestSaveRefusesWhatIsNoPlainFile(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(path string) error // path is of a regular file
		want  error
	}{
		"a symbolic link": {func(p string) error { return errors.Join(os.Rename(p, p+"2"), os.Symlink(p+"2", p)) }, ErrNotRegular},
		"a dangling link": {func(p string) error { return errors.Join(os.Remove(p), os.Symlink("nowhere", p)) }, ErrNotRegular},
		"a FIFO":          {func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600)) }, ErrNotRegular},
		"a folder":        {func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, ErrNotRegular},
		"a hard link":     {func(p string) error { return os.Link(p, p+"2") }, ErrLinked},
		"a long file":     {func(p string) error { return os.Truncate(p, MaxFile+1) }, ErrTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			path := fstabWith(t, "a\n")
			if err := c.plant(path); err != nil {
				t.Fatal(err)
			}
			called := false
			err := Save(path, func(b []byte) ([]byte, error) { called = true; return append(b, 'x'), nil })
			if !errors.Is(err, c.want) || called {
				t.Errorf("got %v, edit called: %v", err, called)
			}
		})
	}
}

func TestSaveRefusesToWriteWhatCouldNotBeReadAgain(t *testing.T) {
	path := fstabWith(t, "a\n")
	err := Save(path, func([]byte) ([]byte, error) { return bytes.Repeat([]byte("x"), MaxFile+1), nil })
	if !errors.Is(err, ErrTooLong) {
		t.Errorf("got %v", err)
	}
	wantAlone(t, path, "a\n")
}

func TestSaveLeavesTheFileWhenEditFails(t *testing.T) {
	path := fstabWith(t, "a\n")
	no := errors.New("no")
	if err := Save(path, func(b []byte) ([]byte, error) { b[0] = 'z'; return nil, no }); !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	wantAlone(t, path, "a\n")
}

func TestSaveNoticesThatTheFileChanged(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"written in place": func(p string) error { return os.WriteFile(p, []byte("other\n"), 0o644) },
		"same size, same time": func(p string) error {
			info, err := os.Lstat(p)
			return errors.Join(err, os.WriteFile(p, []byte("b\n"), 0o644), os.Chtimes(p, info.ModTime(), info.ModTime()))
		},
		"replaced": func(p string) error {
			return errors.Join(os.WriteFile(p+"2", []byte("other\n"), 0o644), os.Rename(p+"2", p))
		},
		"removed": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			path := fstabWith(t, "a\n")
			var there []byte
			err := Save(path, func(b []byte) ([]byte, error) {
				err := change(path)
				there, _ = os.ReadFile(path)
				return append(b, 'x'), err
			})
			if got, _ := os.ReadFile(path); !errors.Is(err, ErrChanged) || !bytes.Equal(got, there) {
				t.Errorf("got %v, left %q, want %q", err, got, there)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "fstab")
	err := Save(path, func([]byte) ([]byte, error) { return []byte("ours\n"), os.WriteFile(path, []byte("theirs\n"), 0o644) })
	if !errors.Is(err, ErrChanged) {
		t.Errorf("made by another meanwhile: %v", err)
	}
	wantAlone(t, path, "theirs\n")
}

func TestSaveTakesAwayWhatAKilledOneLeft(t *testing.T) {
	path := fstabWith(t, "a\n")
	left := filepath.Join(filepath.Dir(path), temporary)
	// Killed when the new file stood under both names: it must not count as hard-linked for ever.
	if err := os.Link(path, left); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, appending("b\n")); err != nil {
		t.Fatal(err)
	}
	wantAlone(t, path, "a\nb\n")
	outside := filepath.Join(t.TempDir(), "victim")
	if err := os.Symlink(outside, left); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, appending("c\n")); err != nil {
		t.Fatal(err)
	}
	wantAlone(t, path, "a\nb\nc\n")
	if _, err := os.Lstat(outside); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("written through a planted link: %v", err)
	}
}

func TestSavesAtTheSameTimeLoseNothing(t *testing.T) {
	path := fstabWith(t, "")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			err := ErrLocked // while the disk is slow
			for errors.Is(err, ErrLocked) {
				err = Save(path, func(b []byte) ([]byte, error) {
					f, _, err := Add(Parse(b), Entry{Name: "a", Target: fmt.Sprint("/m", i)})
					return f.Bytes(), err
				})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	b, err := os.ReadFile(path)
	if plan := Parse(b).Plan(nil); err != nil || len(plan.Mounts) != 8 {
		t.Errorf("%v in %q, %v", plan.Mounts, b, err)
	}
}
