package mount

import (
	"bufio"
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

// Points are the mounts that a process sees. Reading them cannot hang: the
// kernel asks no file system's server for it.
func Points(pid int) ([]Point, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	points, err := ParsePoints(io.LimitReader(f, maxMountinfo))
	if n, _ := f.Read(make([]byte, 1)); n > 0 {
		return nil, errMounts
	}
	return points, err
}

// A container's root can make 100000 mounts with paths of 16 kB each, and all
// that is read whenever anybody asks what is mounted where.
const maxMountinfo = 16 << 20

var errMounts = errors.New("too many mounts")

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
// the path itself or above.
func Top(points []Point, path string) (Point, bool) {
	for _, p := range points {
		covered := func(q Point) bool { return q.Path == path && q.Parent == p.ID && q.ID != p.ID }
		if p.Path == path && !slices.ContainsFunc(points, covered) && !hidden(points, p) {
			return p, true
		}
	}
	return Point{}, false
}

// hidden says whether another mount, above it in the tree of paths, covers a mount.
func hidden(points []Point, p Point) bool {
	for range points { // the parents cannot be more
		covers := func(q Point) bool {
			return q.Parent == p.Parent && q.ID != p.ID && q.ID != p.Parent && within(p.Path, q.Path)
		}
		if slices.ContainsFunc(points, covers) {
			return true
		}
		parent, ok := byID(points, p.Parent)
		if !ok || parent.ID == p.ID {
			break
		}
		p = parent
	}
	return false
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

// ParsePoints reads mountinfo(5).
func ParsePoints(r io.Reader) ([]Point, error) {
	var points []Point
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20) // two paths of a page each, every byte escaped, and options
	for s.Scan() {
		p, err := parsePoint(s.Text())
		if err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	return points, s.Err()
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
