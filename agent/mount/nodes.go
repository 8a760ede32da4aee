package mount

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"lls/agent/mount/inside"
)

var nodesView = view{
	at: inside.NodesDir, dir: "mf",
	size:       "64k",  // there are no files
	inodes:     "8448", // MaxNodes, each in a directory of its own, and some
	attributes: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC,
	locked:     unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC,
	shows: func(p Point) bool {
		return p.Has("ro") && p.Has("nosuid") && p.Has("noexec") && !p.Has("nodev")
	},
}

// MaxNodes is how many nodes a Set takes.
const MaxNodes = 4096

// Node is a block device in /dev/mf. It belongs to root of the host and to the
// group GID: the container's root has no rights but those of that group.
type Node struct {
	Path         string // "NAME" or "OWNER/NAME", without control characters or a dot first
	Major, Minor uint32
	Mode         os.FileMode // 0, 0440 or 0660
	GID          uint32      // id of the host, such as Box.RootGID
}

// Nodes is the file system of the host that one container sees at /dev/mf.
type Nodes struct {
	*hosted
	set sync.Mutex // one Set at a time
}

// OpenNodes makes the nodes at base/key/mf or adopts those that are there: a
// container that sees them keeps seeing them when the agent restarts. What an
// injection left that was cut short is swept away.
func OpenNodes(base, key string) (*Nodes, error) {
	h, err := openHosted(base, key, nodesView)
	if err != nil {
		return nil, fmt.Errorf("cannot make the nodes of %s: %w", key, err)
	}
	n := &Nodes{hosted: h}
	if err := n.Sweep(); err != nil {
		_ = n.Close()
		return nil, fmt.Errorf("cannot make the nodes of %s: %w", key, err)
	}
	return n, nil
}

// Set makes the directory hold exactly the wanted nodes. What is wrong with some
// of them, or cannot be changed, is in the joined error and does not keep the
// others out. A node is replaced in one step; where OWNER is the NAME of a volume
// too, the volume has the name and the owner's nodes are left out.
func (n *Nodes) Set(want []Node) (changed bool, err error) {
	n.set.Lock()
	defer n.set.Unlock()
	l, left := layOut(want)
	_ = n.writable() // if not, what follows tells
	n.tidy()         // what lies there could have used up all there is
	s := &setter{hosted: n.hosted}
	s.all(l)
	n.tidy()
	if left != nil || s.err != nil {
		return s.changed, &SetError{LeftOut: left, Failed: s.err}
	}
	return s.changed, nil
}

// SetError is what a Set could not do.
type SetError struct {
	LeftOut error // nodes that could not be shown; they are not there
	Failed  error // what could not be changed: something that should be gone may still be there
}

func (e *SetError) Error() string {
	return fmt.Sprintf("cannot show all nodes: %v", errors.Join(e.LeftOut, e.Failed))
}

func (e *SetError) Unwrap() []error { return []error{e.LeftOut, e.Failed} }

// Tidy removes what InjectNodes left there, unless a Set is under way, which does
// so itself.
func (n *Nodes) Tidy() {
	if n.set.TryLock() {
		n.tidy()
		n.set.Unlock()
	}
}

// tidy removes what was set aside, unless an injection is under way, which needs
// its directory there.
func (n *Nodes) tidy() {
	select {
	case n.inject <- struct{}{}:
		_ = removeAll(n.dir, inside.StagingDir)
		<-n.inject
	default:
	}
}

// A layout is what is to be there: directories by name, with "" the topmost, and
// their nodes by name.
type layout map[string]directory

type directory map[string]Node

func (d directory) has(name string) bool { _, ok := d[name]; return ok }

// layOut sorts nodes into directories. Those that it leaves out are in the error.
func layOut(want []Node) (layout, error) {
	var errs []error
	if len(want) > MaxNodes {
		errs = append(errs, fmt.Errorf("%d are more than %d", len(want), MaxNodes))
		want = want[:MaxNodes]
	}
	l := layout{"": {}}
	for _, node := range want {
		dir, name, err := node.split()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if l[dir] == nil {
			l[dir] = directory{}
		}
		if _, twice := l[dir][name]; twice {
			errs = append(errs, fmt.Errorf("%s is there twice", node.Path))
			continue
		}
		l[dir][name] = node
	}
	for name := range l[""] {
		if l[name] != nil {
			errs = append(errs, fmt.Errorf("%s is a volume and an owner", name))
			delete(l, name)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return l, errors.Join(errs...)
}

func (n Node) split() (dir, name string, err error) {
	dir, name, nested := strings.Cut(n.Path, "/")
	if !nested {
		dir, name = "", n.Path
	}
	switch {
	case !clean(name) || nested && !clean(dir):
		return "", "", fmt.Errorf("%q is not NAME or OWNER/NAME", n.Path)
	case n.Mode != 0 && n.Mode != 0o440 && n.Mode != 0o660:
		return "", "", fmt.Errorf("%s: mode %v is not 0, 0440 or 0660", n.Path, n.Mode)
	}
	return dir, name, nil
}

// clean says whether s can be a name there. Those with a dot first are ours.
func clean(s string) bool {
	return s != "" && len(s) <= unix.NAME_MAX && s[0] != '.' && !strings.Contains(s, "/") &&
		utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// A setter is a Set under way. It goes on after errors and keeps them.
type setter struct {
	*hosted
	changed bool
	err     error
}

func (s *setter) keep(what string, err error) bool {
	if err != nil {
		s.err = errors.Join(s.err, fmt.Errorf("cannot %s: %w", what, err))
	}
	return err == nil
}

func (s *setter) all(l layout) {
	top, err := s.open(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if !s.keep("open the nodes", err) {
		return
	}
	defer top.Close()
	s.keep("own the nodes", errors.Join(top.Chown(0, 0), top.Chmod(0o755)))
	// Away with the old first, all of it, for the same reason.
	s.clear(top, func(name string, dir bool) bool {
		return l[""].has(name) && !dir || name != "" && l[name] != nil && dir || name == inside.StagingDir
	})
	for owner, nodes := range l {
		s.in(top, owner, func(dir *os.File) {
			s.clear(dir, func(name string, dir bool) bool { return nodes.has(name) && !dir })
		})
	}
	s.fill(top, l[""])
	for owner, nodes := range l {
		if owner != "" && s.keep("make "+owner, s.mkdir(top, owner, 0o755)) {
			s.in(top, owner, func(dir *os.File) { s.fill(dir, nodes) })
		}
	}
}

// in does something in an owner's directory, if there is one.
func (s *setter) in(top *os.File, owner string, do func(dir *os.File)) {
	if owner == "" {
		return
	}
	dir, err := openAt(top, owner, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) || !s.keep("open "+owner, err) {
		return
	}
	defer dir.Close()
	do(dir)
}

// clear removes all that is not wanted.
func (s *setter) clear(dir *os.File, wanted func(name string, dir bool) bool) {
	names, err := dir.Readdirnames(-1)
	s.keep("list the nodes", err)
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && wanted(name, st.Mode&unix.S_IFMT == unix.S_IFDIR) {
			continue
		}
		if s.keep(fmt.Sprintf("remove %q", name), errors.Join(shut(dir, name), s.discard(dir, name))) {
			s.changed = true
		}
	}
}

func (s *setter) fill(dir *os.File, nodes directory) {
	for name, node := range nodes {
		if node.at(dir, name) {
			continue
		}
		if s.keep("make "+node.Path, s.put(dir, name, node)) {
			s.changed = true
		}
	}
}

// put makes a node in place of whatever has its name.
func (s *setter) put(dir *os.File, name string, node Node) error {
	tmp := ".new-" + rand.Text()
	err := shut(dir, name)
	if err == nil {
		err = node.make(dir, tmp)
	}
	if err == nil {
		err = s.rename(dir, tmp, name)
	}
	if err != nil {
		_ = unix.Unlinkat(int(dir.Fd()), tmp, 0)
		return err
	}
	if !node.at(dir, name) {
		return errors.New("somebody changed it at once")
	}
	return nil
}

// shut lets nobody open a node any more that is about to go. A container's root can have mounted it elsewhere: there it stays, with the
// mode that it has. What is below a directory is shut as well.
func shut(dir *os.File, name string) error {
	f, err := openAt(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		if st.Mode&0o777 == 0 {
			return nil
		}
		return unix.Chmod("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), 0)
	case unix.S_IFDIR:
		list, err := openAt(f, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer list.Close()
		names, err := list.Readdirnames(-1)
		for _, below := range names {
			if name != inside.StagingDir {
				err = errors.Join(err, shut(list, below))
			}
		}
		return err
	}
	return nil
}

func (n Node) make(dir *os.File, name string) error {
	if err := unix.Mknodat(int(dir.Fd()), name, unix.S_IFBLK, int(unix.Mkdev(n.Major, n.Minor))); err != nil {
		return err
	}
	// The name may have got another meaning: no more of it than its descriptor.
	f, err := openAt(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != unix.Mkdev(n.Major, n.Minor) {
		return errors.New("something else took its place")
	}
	if err := unix.Fchownat(int(f.Fd()), "", 0, int(n.GID), unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), uint32(n.Mode.Perm()))
}

// at says whether this very node has the name.
func (n Node) at(dir *os.File, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode == unix.S_IFBLK|uint32(n.Mode.Perm()) && st.Rdev == unix.Mkdev(n.Major, n.Minor) &&
		st.Uid == 0 && st.Gid == n.GID && st.Nlink == 1
}
