package mount

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Point is one line of mountinfo(5).
type Point struct {
	ID, Parent   int
	Major, Minor uint32
	Root, Path   string // Path as the process sees it
	Options      []string
	PeerGroup    int // shared:N, or 0
	Master       int // master:N, or 0
	Type, Source string
	SuperOptions []string
}

// Has says whether a per-mount option is set.
func (p Point) Has(option string) bool { return slices.Contains(p.Options, option) }

// Keep says of which devices mounts are wanted; nil is of all.
type Keep func(major, minor uint32) bool

// Points are the mounts that a process sees. Reading them cannot hang: the
// kernel asks no file system's server for it.
func Points(pid int) ([]Point, error) { return readPoints(pid, maxMountinfo, nil) }

// HostPoints are the mounts of some devices that a process of the host sees.
func HostPoints(pid int, keep Keep) ([]Point, error) { return readPoints(pid, maxMountinfo, keep) }

// How long a table may be, in bytes: that of any process, and that of a container,
// whose root can make 100000 mounts with paths of 16 kB each, and all that is
// read whenever anybody asks what is mounted where. A few hundred containers of
// Docker's in one of ours make half of the latter.
const (
	maxMountinfo = 16 << 20
	maxBoxTable  = 1 << 20
)

func readPoints(pid, limit int, keep Keep) ([]Point, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return limitedPoints(f, limit, keep)
}

// limitedPoints is ErrMounts for a table that is longer than the limit.
func limitedPoints(r io.Reader, limit int, keep Keep) ([]Point, error) {
	l := &io.LimitedReader{R: r, N: int64(limit) + 1}
	points, err := ParsePoints(l, keep)
	if l.N <= 0 {
		return nil, ErrMounts
	}
	return points, err
}

// PointsOf are those of one device.
func PointsOf(points []Point, major, minor uint32) []Point {
	var of []Point
	for _, p := range points {
		if p.Major == major && p.Minor == minor {
			of = append(of, p)
		}
	}
	return of
}

// Top is what a process sees at a path: the mount there that no other covers, at
// the path itself or above. The table may be a hostile one, so each mount is
// looked at a few times only, however they cover each other.
func Top(points []Point, path string) (Point, bool) {
	t := newTable(points)
	for i := range points {
		if p := &points[i]; p.Path == path && t.on(p) == nil && !t.hidden(p) {
			return *p, true
		}
	}
	return Point{}, false
}

// table finds mounts by their ids, which are unique.
type table struct {
	byID     map[int]*Point
	children map[int][]*Point // by the parent's id
	known    map[int]bool     // which are hidden
}

func newTable(points []Point) *table {
	t := &table{byID: make(map[int]*Point, len(points)), children: map[int][]*Point{}, known: map[int]bool{}}
	for i := range points {
		p := &points[i]
		t.byID[p.ID] = p
		if p.Parent != p.ID {
			t.children[p.Parent] = append(t.children[p.Parent], p)
		}
	}
	return t
}

// on is what lies on a mount itself; nil when nothing does.
func (t *table) on(p *Point) *Point {
	return first(t.children[p.ID], func(q *Point) bool { return q.Path == p.Path })
}

// above is what lies on a directory above a mount, in what that is mounted in; nil when nothing does.
func (t *table) above(p *Point) *Point {
	return first(t.children[p.Parent], func(q *Point) bool { return within(p.Path, q.Path) })
}

func first(points []*Point, is func(*Point) bool) *Point {
	if i := slices.IndexFunc(points, is); i >= 0 {
		return points[i]
	}
	return nil
}

// hidden says whether another mount, above it in the tree of paths, covers a mount
// or one that it is mounted in.
func (t *table) hidden(p *Point) bool {
	var way []int // up, of those that nothing covers themselves, and so are hidden if the last is
	hidden := false
	for p != nil {
		if known, ok := t.known[p.ID]; ok {
			hidden = known
			break
		}
		way = append(way, p.ID)
		t.known[p.ID] = false // so that parents in a circle end
		if hidden = t.above(p) != nil; hidden {
			break
		}
		p = t.byID[p.Parent]
	}
	for _, id := range way {
		t.known[id] = hidden
	}
	return hidden
}

// Over is a mount that hides another of the table: it lies on that itself, on a directory above it, or above one that it is mounted in.
func Over(points []Point, p Point) (Point, bool) {
	t := newTable(points)
	at := t.byID[p.ID]
	if at == nil {
		return Point{}, false
	}
	q := t.on(at)
	seen := map[int]bool{} // so that parents in a circle end
	for ; q == nil && at != nil && !seen[at.ID]; at = t.byID[at.Parent] {
		seen[at.ID] = true
		q = t.above(at)
	}
	if q == nil {
		return Point{}, false
	}
	return *q, true
}

// within says whether a path is below a directory.
func within(path, dir string) bool {
	return path != dir && strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func byID(points []Point, id int) (Point, bool) {
	i := slices.IndexFunc(points, func(p Point) bool { return p.ID == id })
	if i < 0 {
		return Point{}, false
	}
	return points[i], true
}

var errMountinfo = errors.New("malformed line of mountinfo")

// ParsePoints reads mountinfo(5). Of a line that is not to be kept nothing stays,
// and only its device is looked at.
func ParsePoints(r io.Reader, keep Keep) ([]Point, error) {
	var points []Point
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20) // two paths of a page each, every byte escaped, and options
	for s.Scan() {
		if keep != nil {
			major, minor, err := deviceOf(s.Bytes())
			if err != nil {
				return nil, err
			}
			if !keep(major, minor) {
				continue
			}
		}
		p, err := parsePoint(s.Text())
		if err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	return points, s.Err()
}

// deviceOf is the third field of a line.
func deviceOf(line []byte) (major, minor uint32, err error) {
	f := bytes.SplitN(line, []byte{' '}, 4)
	if len(f) < 4 {
		return 0, 0, fmt.Errorf("%w: %q", errMountinfo, line)
	}
	x, y, ok := strings.Cut(string(f[2]), ":")
	var n numbers
	major, minor = n.uint32(x), n.uint32(y)
	if !ok || n.err != nil {
		return 0, 0, fmt.Errorf("%w: %q", errMountinfo, line)
	}
	return major, minor, nil
}

func parsePoint(line string) (Point, error) {
	f := strings.Split(line, " ")
	dash := slices.Index(f, "-")
	if dash < 6 || len(f) != dash+4 {
		return Point{}, fmt.Errorf("%w: %q", errMountinfo, line)
	}
	major, minor, ok := strings.Cut(f[2], ":")
	if !ok {
		return Point{}, fmt.Errorf("%w: %q", errMountinfo, line)
	}
	var n numbers
	p := Point{
		ID: n.int(f[0]), Parent: n.int(f[1]), Major: n.uint32(major), Minor: n.uint32(minor),
		Root: unescape(f[3]), Path: unescape(f[4]), Options: strings.Split(f[5], ","),
		Type: unescape(f[dash+1]), Source: unescape(f[dash+2]), SuperOptions: strings.Split(f[dash+3], ","),
	}
	for _, o := range f[6:dash] {
		if g, ok := strings.CutPrefix(o, "shared:"); ok {
			p.PeerGroup = n.int(g)
		}
		if g, ok := strings.CutPrefix(o, "master:"); ok {
			p.Master = n.int(g)
		}
	}
	if n.err != nil {
		return Point{}, fmt.Errorf("%w: %q", errMountinfo, line)
	}
	return p, nil
}

// numbers keeps the first error.
type numbers struct{ err error }

func (n *numbers) int(s string) int {
	v, err := strconv.ParseInt(s, 10, 32)
	n.err = errors.Join(n.err, err)
	return int(v)
}

func (n *numbers) uint32(s string) uint32 {
	v, err := strconv.ParseUint(s, 10, 32)
	n.err = errors.Join(n.err, err)
	return uint32(v)
}

// unescape undoes the kernel's mangle(): three octal digits after a backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
