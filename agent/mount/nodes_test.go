package mount

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newNodes(t *testing.T) *Nodes {
	t.Helper()
	needRoot(t)
	base, err := os.MkdirTemp("/run", "lls-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(base) })
	return nodesAt(t, base)
}

func nodesAt(t *testing.T, base string) *Nodes {
	t.Helper()
	n, err := OpenNodes(base, "box")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Remove(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// set is Set of what is all right.
func set(t *testing.T, n *Nodes, want ...Node) bool {
	t.Helper()
	changed, err := n.Set(want)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// shown lists what is there, a line each: path, mode, numbers, owner and group.
func shown(t *testing.T, n *Nodes) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(n.path, func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == n.path {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%s %o %d:%d %d:%d", strings.TrimPrefix(path, n.path+"/"), st.Mode,
			unix.Major(st.Rdev), unix.Minor(st.Rdev), st.Uid, st.Gid))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestNodesAreExactlyThoseWanted(t *testing.T) {
	n := newNodes(t)
	for _, step := range []struct {
		name    string
		want    []Node
		shown   []string
		changed bool
	}{
		{"nothing", nil, nil, false},
		{"some", []Node{{Path: "a", Major: 253, Minor: 7}, {Path: "c/b", Major: 253, Minor: 300, Mode: 0o660, GID: 100000}},
			[]string{"a 60000 253:7 0:0", "c 40755 0:0 0:0", "c/b 60660 253:300 0:100000"}, true},
		{"the same", []Node{{Path: "c/b", Major: 253, Minor: 300, Mode: 0o660, GID: 100000}, {Path: "a", Major: 253, Minor: 7}},
			[]string{"a 60000 253:7 0:0", "c 40755 0:0 0:0", "c/b 60660 253:300 0:100000"}, false},
		{"another mode", []Node{{Path: "a", Major: 253, Minor: 7, Mode: 0o440}, {Path: "c/b", Major: 253, Minor: 300, Mode: 0o660, GID: 100000}},
			[]string{"a 60440 253:7 0:0", "c 40755 0:0 0:0", "c/b 60660 253:300 0:100000"}, true},
		{"another group", []Node{{Path: "a", Major: 253, Minor: 7, Mode: 0o440, GID: 5}, {Path: "c/b", Major: 253, Minor: 300, Mode: 0o660, GID: 100000}},
			[]string{"a 60440 253:7 0:5", "c 40755 0:0 0:0", "c/b 60660 253:300 0:100000"}, true},
		{"another number", []Node{{Path: "a", Major: 253, Minor: 1<<20 - 1, Mode: 0o440, GID: 5}},
			[]string{"a 60440 253:1048575 0:5"}, true},
		{"an owner where a volume was", []Node{{Path: "a/x", Major: 1, Minor: 2}},
			[]string{"a 40755 0:0 0:0", "a/x 60000 1:2 0:0"}, true},
		{"a volume where an owner was", []Node{{Path: "a", Major: 1, Minor: 2}}, []string{"a 60000 1:2 0:0"}, true},
		{"nothing again", nil, nil, true},
	} {
		changed, err := n.Set(step.want)
		if err != nil || changed != step.changed {
			t.Errorf("%s: changed %v, %v", step.name, changed, err)
		}
		if got := shown(t, n); !slices.Equal(got, step.shown) {
			t.Errorf("%s: %q", step.name, got)
		}
	}
}

func TestNodesThatCannotBeAreLeftOut(t *testing.T) {
	n := newNodes(t)
	good := []Node{{Path: "good", Minor: 1}, {Path: "o/good", Minor: 2}}
	want := []string{"good 60000 0:1 0:0", "o 40755 0:0 0:0", "o/good 60000 0:2 0:0"}
	for _, path := range []string{
		"", ".", "..", "/", "a/", "/a", "a//b", "a/b/c", "../a", "a/..", "./a", ".mnt", ".mnt/a", "a/.new", "a\nb", "a/b\x00", "a\x7f", "\xff",
		strings.Repeat("x", 256), "good", "good/x",
	} {
		_, err := n.Set(append(good, Node{Path: path}))
		if err == nil {
			t.Errorf("%q is taken", path)
		}
		if got := shown(t, n); !slices.Equal(got, want) {
			t.Errorf("%q: %q", path, got)
		}
	}
	for _, mode := range []os.FileMode{0o666, 0o640, 0o444, 0o4440, os.ModeSetuid, os.ModeDir} {
		if _, err := n.Set(append(good, Node{Path: "bad", Mode: mode})); err == nil {
			t.Errorf("mode %v is taken", mode)
		}
	}
	if _, err := n.Set(append(good, Node{Path: "bad", Minor: 1 << 20})); err == nil {
		t.Error("a number that the kernel does not have is taken")
	}
	if got := shown(t, n); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestAsManyNodesAsPromised(t *testing.T) {
	n := newNodes(t)
	var want []Node
	for i := range MaxNodes {
		want = append(want, Node{Path: fmt.Sprintf("o%d/n", i), Major: 253, Minor: uint32(i)})
	}
	start := time.Now()
	set(t, n, want...)
	t.Logf("made in %v", time.Since(start))
	start = time.Now()
	if set(t, n, want...) {
		t.Error("changed what was right")
	}
	t.Logf("looked through in %v", time.Since(start))
	if got := shown(t, n); len(got) != 2*MaxNodes {
		t.Errorf("%d are there", len(got))
	}
	if _, err := n.Set(append(want, Node{Path: "more"})); err == nil {
		t.Error("took one more")
	}
	if set(t, n); len(shown(t, n)) != 0 {
		t.Error("some are left")
	}
}

func TestNodesAreAdopted(t *testing.T) {
	n := newNodes(t)
	base := filepath.Dir(filepath.Dir(n.path))
	set(t, n, Node{Path: "a", Major: 1, Minor: 2})
	tree, err := OpenTree(base, "box")
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenNodes(base, "box")
	if err != nil {
		t.Fatal(err)
	}
	if again.dev != n.dev || tree.dev == n.dev {
		t.Errorf("%+v is not %+v", again, n)
	}
	if changed, err := again.Set([]Node{{Path: "a", Major: 1, Minor: 2}}); changed || err != nil {
		t.Errorf("changed %v, %v", changed, err)
	}
	check(again.Close())
	points, err := Points(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p, ok := Top(points, n.path)
	if !ok || !p.Has("nosuid") || !p.Has("noexec") || p.Has("nodev") {
		t.Errorf("mounted as %+v", p)
	}
	if info, err := os.Stat(base); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others reach the devices: %v %v", info, err)
	}
	if err := tree.Remove(); err != nil { // with the other still there
		t.Error(err)
	}
	for _, key := range []string{"", ".", "..", "a/b", "a\x00"} {
		if n, err := OpenNodes(base, key); err == nil {
			t.Errorf("key %q is taken: %v", key, n)
		}
	}
}

// What the root of a privileged container can plant there.
func TestNodesAreNotLedAstray(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	for name, plant := range map[string]string{
		"link to a file":        "ln -s $VICTIM $AT",
		"link to a directory":   "ln -s $OUTSIDE $AT",
		"dangling link":         "ln -s $OUTSIDE/new $AT",
		"full directory":        "mkdir -p $AT/a/b/c && touch $AT/a/b/file && ln -s $OUTSIDE $AT/a/out && mknod $AT/n b 7 1",
		"fifo":                  "mkfifo $AT",
		"file":                  "echo planted >$AT",
		"character device":      "mknod $AT c 7 1",
		"the node, for all":     "mknod -m 666 $AT b 7 1",
		"the node, of somebody": "mknod -m 440 $AT b 7 1 && chown 1000 $AT",
		"the node, twice":       "mknod -m 440 $AT b 7 1 && ln $AT extra",
		"another node":          "mknod -m 440 $AT b 8 0",
		"link in a directory":   "mkdir $AT && ln -s $VICTIM $AT/n && ln -s $VICTIM $AT/m",
		"open to all":           "mkdir $AT && chmod 777 $AT . && chown 1000 $AT .",
		"no room":               "mkdir $AT; seq -f $AT/%.0f 9000 | xargs touch || true",
		"staging of its own":    "mkdir -p .mnt/x && ln -s $OUTSIDE .mnt/out && touch $AT",
		"staging is a link":     "ln -s $OUTSIDE .mnt && mkdir -p $AT/x",
	} {
		for _, at := range []string{"a", "o", "extra"} {
			t.Run(name+" at "+at, func(t *testing.T) {
				n := newNodes(t)
				check(os.WriteFile(victim, []byte("mine"), 0o600))
				cmd := exec.Command("sh", "-ec", plant)
				cmd.Dir = n.path
				cmd.Env = append(os.Environ(), "VICTIM="+victim, "OUTSIDE="+outside, "AT="+at)
				if out, err := cmd.CombinedOutput(); err != nil && at != "extra" {
					t.Fatalf("%v: %s", err, out)
				}
				want := []Node{{Path: "a", Major: 7, Minor: 1, Mode: 0o440, GID: 3}, {Path: "o/n", Major: 7, Minor: 2}}
				set(t, n, want...)
				if got := shown(t, n); !slices.Equal(got, []string{"a 60440 7:1 0:3", "o 40755 0:0 0:0", "o/n 60000 7:2 0:0"}) {
					t.Errorf("%q", got)
				}
				if info, err := os.Stat(n.path); err != nil || info.Mode() != os.ModeDir|0o755 {
					t.Errorf("the directory: %v %v", info, err)
				}
				if set(t, n, want...) {
					t.Error("changed what was right")
				}
				left, err := os.ReadDir(outside)
				if err != nil || len(left) != 1 {
					t.Errorf("written outside: %v %v", left, err)
				}
				if info, err := os.Stat(victim); err != nil || info.Mode() != 0o600 || info.Size() != 4 {
					t.Errorf("the victim is %v %v", info, err)
				}
			})
		}
	}
}

func TestNodesWhileSomebodyPlants(t *testing.T) {
	n := newNodes(t)
	victim := filepath.Join(t.TempDir(), "victim")
	check(os.WriteFile(victim, nil, 0o600))
	planter := exec.Command("sh", "-c", `while :; do ln -sfn "$1" "$2/a"; for f in "$2"/.new-*; do ln -sf "$1" "$f"; done; rm -rf "$2"/*; done`, "-", victim, n.path)
	planter.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := planter.Start(); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		_, _ = n.Set([]Node{{Path: "a", Major: 7, Minor: uint32(i), Mode: 0o660, GID: 1000}, {Path: "o/n", Major: 7, Minor: uint32(i)}})
	}
	_ = syscall.Kill(-planter.Process.Pid, syscall.SIGKILL) // what it started as well
	_ = planter.Wait()
	for end := time.Now().Add(10 * time.Second); syscall.Kill(-planter.Process.Pid, 0) == nil && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // its last program may be about to end
	}
	if info, err := os.Stat(victim); err != nil || info.Mode() != 0o600 {
		t.Errorf("the victim is %v %v", info, err)
	}
	set(t, n, Node{Path: "a", Major: 7})
	if got := shown(t, n); !slices.Equal(got, []string{"a 60000 7:0 0:0"}) {
		t.Errorf("%q", got)
	}
}

// Whoever looks at a node that is replaced always finds one.
func TestNodesAreReplacedInOneStep(t *testing.T) {
	n := newNodes(t)
	set(t, n, Node{Path: "a", Major: 7})
	done := make(chan error, 1)
	go func() {
		var err error
		for i := range 500 {
			if _, err = n.Set([]Node{{Path: "a", Major: 7, Minor: uint32(i)}}); err != nil {
				break
			}
		}
		done <- err
	}()
	for {
		var st unix.Stat_t
		if err := unix.Lstat(n.path+"/a", &st); err != nil || st.Mode&^0o777 != unix.S_IFBLK {
			t.Fatalf("%+v %v", st, err)
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
