package container

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func TestListTakesOnlyWholeContainers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test writes tokens, which only root's files can be: run it as root")
	}
	dir, other := t.TempDir(), t.TempDir()
	write(t, dir+"/c1/config", "", 0o644)
	write(t, dir+"/c2/config", "", 0o644)
	write(t, dir+"/half/config", "", 0o644)
	write(t, dir+"/half/partial", "", 0o644)
	write(t, dir+"/empty/rootfs", "", 0o644)
	write(t, dir+"/lxc-monitord.log", "", 0o644)
	write(t, other+"/c1/config", "", 0o644)
	paths := []Path{{dir, ""}, {other, "b"}, {dir + "/missing", "m"}}
	all, err := NewHost().List(paths)
	if err != nil {
		t.Fatal(err)
	}
	tokens, keys, names := map[string]bool{}, map[string]bool{}, ""
	for _, c := range all {
		names += c.Owner.Name + " "
		tokens[c.Owner.Token], keys[c.Key()] = true, true
	}
	if names != "c1 c2 b:c1 " || len(tokens) != 3 || len(keys) != 3 {
		t.Errorf("names %q, tokens %v, keys %v", names, tokens, keys)
	}
	again, err := NewHost().Find(paths, dir, "c1")
	if err != nil || again != all[0] {
		t.Errorf("found again: %+v, %v", again, err)
	}
	for _, bad := range []string{"", "..", "a/b", "half", "nope"} {
		if _, err := NewHost().Find(paths, dir, bad); !errors.Is(err, ErrNone) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := os.Chmod(dir+"/c1/"+tokenFile, 0o666); err != nil {
		t.Fatal(err)
	}
	if c, err := NewHost().Find(paths, dir, "c1"); err == nil || errors.Is(err, ErrNone) || c.Key() != all[0].Key() {
		t.Errorf("its token cannot be trusted: %+v, %v", c, err)
	}
	all, err = NewHost().List(paths)
	if err != nil || len(all) != 3 || all[0].Err == nil || all[0].Base != "c1" || all[0].Owner.Name != "c1" || all[0].Owner.Token != "" || all[1].Err != nil {
		t.Errorf("with one whose token cannot be trusted: %+v, %v", all, err)
	}
	if _, err := NewHost().Find(paths, "/elsewhere", "c1"); !errors.Is(err, ErrNone) {
		t.Errorf("a path nobody configured: %v", err)
	}
}

func TestTokenIsRootsFileOnly(t *testing.T) {
	dir := t.TempDir()
	good, err := tokenOf(dir)
	if err != nil || len(good) != tokenLen {
		t.Fatalf("%q, %v", good, err)
	}
	for name, plant := range map[string]func(path string) error{
		"a link":      func(p string) error { return os.Symlink("/etc/hostname", p) },
		"a directory": func(p string) error { return os.Mkdir(p, 0o755) },
		"not a token": func(p string) error { return os.WriteFile(p, []byte("../../x\n"), 0o644) },
		"somebody's": func(p string) error {
			return errors.Join(os.WriteFile(p, []byte("abcdefgh"), 0o644), os.Chown(p, 1000, 0))
		},
		"group-writable": func(p string) error {
			return errors.Join(os.WriteFile(p, []byte("abcdefgh"), 0o664), os.Chmod(p, 0o664))
		},
	} {
		d := t.TempDir()
		if err := plant(filepath.Join(d, tokenFile)); err != nil {
			t.Fatal(err)
		}
		if got, err := tokenOf(d); err == nil {
			t.Errorf("%s was read as %q", name, got)
		}
	}
}

func TestTokenIsTheSameForAllWhoAskAtOnce(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			token, err := tokenOf(dir)
			mu.Lock()
			defer mu.Unlock()
			if seen[token] = true; err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(seen) != 1 {
		t.Errorf("tokens: %v", seen)
	}
	if left, _ := filepath.Glob(dir + "/.lls*"); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}
