package mount

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTreeHoldsFilesAndSockets(t *testing.T) {
	tree := newTree(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	src := filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(src, big, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 { // the second time over the first
		if err := tree.Put("config.json", []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := tree.Copy("bin/lls", f, 0o755); err != nil {
			t.Fatal(err)
		}
		l, err := tree.Listen("lls.sock", 0o666)
		if err != nil {
			t.Fatal(err)
		}
		talk(t, l, tree.path+"/lls.sock")
		_ = l.Close()
		if _, err := os.Lstat(tree.path + "/lls.sock"); err != nil {
			t.Errorf("the socket went with its listener: %v", err)
		}
	}
	got, err := os.ReadFile(tree.path + "/bin/lls")
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("copied %d bytes, %v", len(got), err)
	}
	for path, want := range map[string]os.FileMode{
		"": os.ModeDir | 0o755, "/bin": os.ModeDir | 0o755, "/bin/lls": 0o755, "/config.json": 0o644, "/lls.sock": os.ModeSocket | 0o666,
	} {
		if info, err := os.Lstat(tree.path + path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
	base := filepath.Dir(filepath.Dir(tree.path))
	if info, err := os.Lstat(base); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others reach the sockets: %v %v", info, err)
	}
}

func talk(t *testing.T, l *net.UnixListener, path string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

func TestTreeIsAdopted(t *testing.T) {
	tree := newTree(t)
	if err := tree.Put("file", []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := OpenTree(filepath.Dir(filepath.Dir(tree.path)), "box")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.dev != tree.dev || again.group != tree.group {
		t.Errorf("%+v is not %+v", again, tree)
	}
	points, err := Points(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var at []Point
	for _, p := range points {
		if p.Path == tree.path {
			at = append(at, p)
		}
	}
	if len(at) != 1 || !at[0].Has("nodev") || !at[0].Has("nosuid") {
		t.Errorf("mounted as %+v", at)
	}
	if got, err := os.ReadFile(tree.path + "/file"); err != nil || string(got) != "kept" {
		t.Errorf("read %q %v", got, err)
	}
}

func TestTreeKeysAndPathsAreChecked(t *testing.T) {
	needRoot(t)
	for _, key := range []string{"", ".", "..", "a/b", "a\x00"} {
		if _, err := OpenTree(t.TempDir(), key); err == nil {
			t.Errorf("key %q is taken", key)
		}
	}
	tree := newTree(t)
	for _, path := range []string{"", ".", "..", "../x", "/x", "a/../../x", "a//b", "a/", "a/./b"} {
		if err := tree.Put(path, nil, 0o644); err == nil {
			t.Errorf("path %q is taken", path)
		}
	}
}

// What the root of a privileged container can plant where the agent writes.
func TestTreeIsNotLedAstray(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	for name, plant := range map[string]string{
		"link to a file":      "ln -s $VICTIM $AT",
		"link to a directory": "ln -s $OUTSIDE $AT",
		"dangling link":       "ln -s $OUTSIDE/new $AT",
		"full directory":      "mkdir -p $AT/a/b/c && touch $AT/a/b/file && ln -s $OUTSIDE $AT/a/out",
		"fifo":                "mkfifo $AT",
		"file":                "echo planted >$AT && chmod 600 $AT",
		"hard link to itself": "echo planted >x && ln x $AT",
		"socket of its own":   "mknod $AT c 1 3",
	} {
		for _, at := range []string{"lls.sock", "config.json", "bin", ".mnt"} {
			t.Run(name+" at "+at, func(t *testing.T) {
				tree := newTree(t)
				check(os.WriteFile(victim, []byte("mine"), 0o600))
				cmd := exec.Command("sh", "-ec", plant)
				cmd.Dir = tree.path
				cmd.Env = append(os.Environ(), "VICTIM="+victim, "OUTSIDE="+outside, "AT="+at)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				for _, path := range []string{"config.json", "bin/lls"} {
					if err := tree.Put(path, []byte("ours"), 0o644); err != nil {
						t.Error(err)
					}
					if info, err := os.Lstat(tree.path + "/" + path); err != nil || !info.Mode().IsRegular() {
						t.Errorf("%s: %v %v", path, info, err)
					}
				}
				l, err := tree.Listen("lls.sock", 0o666)
				if err != nil {
					t.Fatal(err)
				}
				talk(t, l, tree.path+"/lls.sock")
				_ = l.Close()
				mountInTree(t, tree)
				left, err := os.ReadDir(outside)
				if err != nil || len(left) != 1 {
					t.Errorf("written outside: %v %v", left, err)
				}
				info, err := os.Stat(victim)
				if err != nil || info.Mode() != 0o600 || info.Size() != 4 {
					t.Errorf("the victim is %v %v", info, err)
				}
			})
		}
	}
}

func mountInTree(t *testing.T, tree *Tree) {
	t.Helper()
	fd, err := newTmpfs(treeView)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tree.stage(fd)
	if err != nil {
		t.Fatal(err)
	}
	points, _ := Points(os.Getpid())
	if _, ok := Top(points, tree.path+"/.mnt/"+s.name); !ok {
		t.Error("not staged in the tree")
	}
	s.drop()
	points, _ = Points(os.Getpid())
	for _, p := range points {
		if strings.HasPrefix(p.Path, tree.path+"/") {
			t.Errorf("left %+v", p)
		}
	}
}

func TestListenWhileSomebodyPlants(t *testing.T) {
	tree := newTree(t)
	victim := filepath.Join(t.TempDir(), "victim")
	check(os.WriteFile(victim, nil, 0o600))
	stop := make(chan struct{})
	var planter sync.WaitGroup
	planter.Add(1)
	go func() {
		defer planter.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := tree.path + "/" + strconv.Itoa(i)
			if os.Symlink(victim, name) == nil {
				_ = unix.Rename(name, tree.path+"/lls.sock")
				_ = os.Remove(name)
			}
		}
	}()
	for range 500 {
		if l, err := tree.Listen("lls.sock", 0o666); err == nil {
			_ = l.Close()
		}
	}
	close(stop)
	planter.Wait()
	if info, err := os.Stat(victim); err != nil || info.Mode() != 0o600 {
		t.Errorf("the victim is %v %v", info, err)
	}
}

func TestReadersOfTheTreeSeeWholeFiles(t *testing.T) {
	tree := newTree(t)
	text := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, 1<<16) }
	if err := tree.Put("file", text(0), 0o644); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for i := range 200 {
			if err := tree.Put("file", text(i), 0o644); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		f, err := os.Open(tree.path + "/file")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		_ = f.Close()
		if err != nil || len(got) != 1<<16 || bytes.Count(got, got[:1]) != len(got) {
			t.Fatal(fmt.Errorf("read %d bytes, %v", len(got), err))
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}
