package mount

import (
	"errors"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent/mount/inside"
)

func TestParsePoints(t *testing.T) {
	const text = `42 27 7:0 / /tmp/a\040b\134c rw,relatime - ext4 /dev/loop0 rw
36 35 98:1 /sub /mnt ro,nosuid,nodev,noatime shared:7 master:1 propagate_from:2 - xfs /dev/mapper/vg-x\011y rw,nouuid
37 36 0:5 / /mnt rw master:3 - tmpfs  rw
`
	points, err := ParsePoints(strings.NewReader(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Point{
		{ID: 42, Parent: 27, Major: 7, Root: "/", Path: `/tmp/a b\c`, Options: []string{"rw", "relatime"}, Type: "ext4", Source: "/dev/loop0", SuperOptions: []string{"rw"}},
		{ID: 36, Parent: 35, Major: 98, Minor: 1, Root: "/sub", Path: "/mnt", Options: []string{"ro", "nosuid", "nodev", "noatime"}, PeerGroup: 7, Master: 1, Type: "xfs", Source: "/dev/mapper/vg-x\ty", SuperOptions: []string{"rw", "nouuid"}},
		{ID: 37, Parent: 36, Minor: 5, Root: "/", Path: "/mnt", Options: []string{"rw"}, Master: 3, Type: "tmpfs", SuperOptions: []string{"rw"}},
	}
	if !reflect.DeepEqual(points, want) {
		t.Errorf("got  %+v\nwant %+v", points, want)
	}
	some, err := ParsePoints(strings.NewReader(text), func(major, minor uint32) bool { return major == 98 || minor == 5 })
	if err != nil || !reflect.DeepEqual(some, want[1:]) {
		t.Errorf("of two devices: %+v, %v", some, err)
	}
	if of := PointsOf(points, 98, 1); len(of) != 1 || of[0].ID != 36 {
		t.Errorf("of 98:1: %+v", of)
	}
	if p, ok := Top(points, "/mnt"); !ok || p.ID != 37 {
		t.Errorf("top: %+v", p)
	}
	if _, ok := Top(points, "/none"); ok {
		t.Error("something at /none")
	}
	if own, err := Points(1); err != nil || len(own) == 0 {
		t.Errorf("of init: %v %v", own, err)
	}
}

func TestHiddenMounts(t *testing.T) {
	points := []Point{
		{ID: 1, Parent: 1, Path: "/"}, {ID: 2, Parent: 1, Path: "/dev"}, {ID: 3, Parent: 2, Path: "/dev/mf"}, {ID: 4, Parent: 2, Path: "/dev/mfx"},
		{ID: 5, Parent: 3, Path: "/dev/mf"}, {ID: 6, Parent: 1, Path: "/a/b/c"}, {ID: 7, Parent: 1, Path: "/a/b"}, {ID: 8, Parent: 99, Path: "/away"},
	}
	for id, want := range map[int]bool{1: false, 2: false, 3: false, 4: false, 5: false, 6: true, 7: false, 8: false} {
		p, _ := byID(points, id)
		if newTable(points).hidden(&p) != want || plainHidden(points, p) != want {
			t.Errorf("%+v: hidden is not %v", p, want)
		}
	}
	for _, cover := range []Point{{ID: 9, Parent: 2, Path: "/dev"}, {ID: 9, Parent: 1, Path: "/"}} {
		with := append(points, cover)
		for _, id := range []int{3, 5} {
			if p, _ := byID(points, id); !newTable(with).hidden(&p) {
				t.Errorf("%+v is not hidden by %+v", p, cover)
			}
		}
	}
}

func TestMalformedMountinfo(t *testing.T) {
	for _, line := range []string{
		"x", "42 27 7:0 / /tmp rw,relatime ext4 /dev/loop0 rw", "a 27 7:0 / /tmp rw - ext4 /dev/loop0 rw", "1 27 70 / /tmp rw - ext4 x rw",
		"1 27 7:-1 / /tmp rw - ext4 x rw", "1 2 7:0 / /tmp rw shared:x - ext4 x rw", "1 2 7:0 / /tmp rw - ext4 x", "99999999999 2 7:0 / /tmp rw - ext4 x rw",
	} {
		if p, err := ParsePoints(strings.NewReader(line), nil); !errors.Is(err, errMountinfo) {
			t.Errorf("%q: %+v %v", line, p, err)
		}
	}
	for _, line := range []string{"x", "1 2 70 / /tmp rw - ext4 x rw", "1 2 7:-1 / /tmp rw - ext4 x rw", "1 2 7:0"} {
		if p, err := ParsePoints(strings.NewReader(line), func(uint32, uint32) bool { return false }); !errors.Is(err, errMountinfo) {
			t.Errorf("%q of no device: %+v %v", line, p, err)
		}
	}
}

// plainTop is the definition of Top: each mount is held against all others.
func plainTop(points []Point, path string) (Point, bool) {
	for _, p := range points {
		covered := func(q Point) bool { return q.Path == path && q.Parent == p.ID && q.ID != p.ID }
		if p.Path == path && !slices.ContainsFunc(points, covered) && !plainHidden(points, p) {
			return p, true
		}
	}
	return Point{}, false
}

func plainHidden(points []Point, p Point) bool {
	for range points {
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

// Whatever the table is, with parents in circles or that are not there.
func TestTopIsThatOfThePlainDefinition(t *testing.T) {
	paths := []string{"/", "/a", "/a/b", "/a/b/c", "/ab", "/a/c", "/d"}
	r := rand.New(rand.NewPCG(1, 2))
	there := 0
	for range 50000 {
		points := make([]Point, 1+r.IntN(9))
		for i, id := range r.Perm(len(points)) {
			points[i] = Point{ID: id, Parent: r.IntN(len(points) + 1), Path: paths[r.IntN(len(paths))]}
			if r.IntN(2) == 0 { // as mounts are made: below one that is there
				points[i].Parent = points[r.IntN(i+1)].ID
			}
		}
		for _, path := range paths {
			got, ok := Top(points, path)
			want, wantOK := plainTop(points, path)
			if ok != wantOK || got.ID != want.ID {
				t.Fatalf("%s in %+v: %+v %v, by definition %+v %v", path, points, got, ok, want, wantOK)
			}
			if ok {
				there++
				if over, hidden := Over(points, got); hidden {
					t.Fatalf("%+v is at the top in %+v, and under %+v", got, points, over)
				}
			}
		}
	}
	if there < 10000 {
		t.Errorf("only %d mounts were at the top", there)
	}
}

func TestOverFindsWhatHidesAMount(t *testing.T) {
	points := []Point{
		{ID: 1, Path: "/"}, {ID: 2, Parent: 1, Path: "/data/sub"}, {ID: 3, Parent: 1, Path: "/data"}, {ID: 4, Parent: 2, Path: "/data/sub/x"},
		{ID: 5, Parent: 3, Path: "/data/b"}, {ID: 6, Parent: 1, Path: "/c"}, {ID: 7, Parent: 6, Path: "/c"}, {ID: 8, Parent: 1, Path: "/database"},
		{ID: 9, Parent: 10, Path: "/y"}, {ID: 10, Parent: 9, Path: "/y/z"},
	}
	want := map[int]int{2: 3, 4: 3, 6: 7}
	for _, p := range points {
		if got, ok := Over(points, p); ok != (want[p.ID] != 0) || got.ID != want[p.ID] {
			t.Errorf("over mount %d at %s lies %+v, want %d", p.ID, p.Path, got, want[p.ID])
		}
	}
	if got, ok := Over(points, Point{ID: 99, Path: "/data/sub"}); ok {
		t.Errorf("over a mount that has gone lies %+v", got)
	}
}

// The tables are what a container's root can make with one kind of command, again and again. Held against each other, as the plain
// definition does, the mounts of some would take a minute, and that by the square of their number.
func TestTopOfALongTable(t *testing.T) {
	const n = 60000
	at := func(i int, parent int, path string) Point { return Point{ID: i, Parent: parent, Path: path} }
	for name, make := range map[string]func(i int) Point{
		"one on another":     func(i int) Point { return at(i, i-1, "/lls") },
		"side by side":       func(i int) Point { return at(i, 0, "/lls/"+strconv.Itoa(i)) },
		"one in another":     func(i int) Point { return at(i, i-1, strings.Repeat("/d", i%1000)) },
		"hidden, each again": func(i int) Point { return at(i, i-1-i%2, []string{"/a", "/a/lls"}[i%2]) },
		"in a circle":        func(i int) Point { return at(i, (i+1)%n, "/lls") },
	} {
		t.Run(name, func(t *testing.T) {
			points := []Point{{ID: 0, Parent: 0, Path: "/"}}
			for i := 1; i < n; i++ {
				points = append(points, make(i))
			}
			start := time.Now()
			for _, path := range []string{"/lls", "/a/lls", "/a", "/none", "/"} {
				_, _ = Top(points, path)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	points := []Point{{ID: 0, Parent: 0, Path: "/"}}
	for i := 1; i < n; i++ {
		points = append(points, at(i, i-1, "/lls"))
	}
	if p, ok := Top(points, "/lls"); !ok || p.ID != n-1 {
		t.Errorf("the top of a stack: %+v %v", p, ok)
	}
}

func TestALongTableIsRefused(t *testing.T) {
	line := "42 27 7:0 / /tmp rw,relatime - ext4 /dev/loop0 rw\n"
	text := strings.Repeat(line, 100)
	for limit, want := range map[int]error{len(text): nil, len(text) + 1: nil, len(text) - 1: ErrMounts, len(text) / 2: ErrMounts, 10: ErrMounts} {
		for name, keep := range map[string]Keep{"all": nil, "none": func(uint32, uint32) bool { return false }} {
			if points, err := limitedPoints(strings.NewReader(text), limit, keep); !errors.Is(err, want) || want != nil && points != nil {
				t.Errorf("%d bytes of %d, %s: %d mounts, %v", limit, len(text), name, len(points), err)
			}
		}
	}
}

// Of a container's mounts only those of a few devices are kept: what is not leaves nothing behind.
func TestMountsThatAreNotWantedTakeNoRoom(t *testing.T) {
	text := strings.Repeat("42 27 0:5 / /some/where/that/has/a/long/path rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=1k\n", 5000)
	size := func(keep Keep) uint64 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		points, err := ParsePoints(strings.NewReader(text), keep)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		runtime.KeepAlive(points)
		return after.HeapAlloc - min(before.HeapAlloc, after.HeapAlloc)
	}
	all, none := size(nil), size(func(major, _ uint32) bool { return major != 0 })
	if all < uint64(len(text)) || none > all/10 {
		t.Errorf("%d bytes for all, %d for none", all, none)
	}
}

func FuzzParsePoints(f *testing.F) {
	f.Add(`42 27 7:0 / /tmp/a\040b rw,relatime shared:1 - ext4 /dev/loop0 rw`)
	f.Add("\\")
	f.Add(`\04 \400 \777 - - -`)
	f.Fuzz(func(t *testing.T, text string) {
		points, err := ParsePoints(strings.NewReader(text), nil)
		if err != nil {
			return
		}
		for _, p := range points {
			if len(p.Path)+len(p.Root) > len(text) || len(p.Options) == 0 {
				t.Errorf("%q: %+v", text, p)
			}
			_, _ = Top(points, p.Path)
		}
		some, err := ParsePoints(strings.NewReader(text), func(major, _ uint32) bool { return major%2 == 0 })
		all := slices.DeleteFunc(points, func(p Point) bool { return p.Major%2 != 0 })
		if err != nil || !slices.EqualFunc(some, all, func(p, q Point) bool { return reflect.DeepEqual(p, q) }) {
			t.Errorf("%q: kept %+v of %+v, %v", text, some, all, err)
		}
	})
}

func TestRootOf(t *testing.T) {
	for text, want := range map[string]uint32{
		"         0     100000      65536\n":             100000,
		"         1 5 1\n         0     200000      1\n": 200000,
		"0 0 4294967295\n":                               0,
		"0 4294967294 1":                                 4294967294,
	} {
		if got, err := rootOf(text); err != nil || got != want {
			t.Errorf("%q: %d %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1 100000 65536\n", "0 100000\n", "0 -1 5\n", "0 5 0\n", "0 x 1\n"} {
		if got, err := rootOf(text); !errors.Is(err, errNoRoot) {
			t.Errorf("%q: %d %v", text, got, err)
		}
	}
}

func TestMappedFiles(t *testing.T) {
	const text = `7f00-7f01 r-xp 00000000 fd:0a 12 /data/a b (deleted)
7f01-7f02 r--p 00001000 fd:0a 12 /data/a b (deleted)
7f02-7f03 rw-p 00000000 00:00 0 
7f03-7f04 r--s 00000000 fd:0b 12 /other
7f05-7f06 r--s 00000000 fd:0a 13 /data/line\012end
7f06-7f07 rw-p 00000000 00:00 0 [heap]
`
	if got := mapped(text, 0xfd, 10); !reflect.DeepEqual(got, []string{"/data/a b (deleted)", "/data/line\nend"}) {
		t.Errorf("got %q", got)
	}
}

func TestFailuresHaveTypes(t *testing.T) {
	for kind, want := range map[inside.Kind]error{
		inside.Busy: ErrBusy, inside.Gone: ErrGone, inside.NoPlace: ErrNoPlace, inside.NoStaging: errNoStaging, inside.NotMounted: ErrNotMounted,
		inside.OK: nil, inside.Already: nil,
	} {
		if err := failure(inside.Answer{Kind: kind, Text: "why"}); !errors.Is(err, want) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for kind, want := range map[inside.Kind]TargetKind{
		inside.Missing: Missing, inside.NotDir: NotDir, inside.Forbidden: Forbidden, inside.Loop: Loop, inside.Invalid: Invalid,
	} {
		var e *ErrTarget
		if err := failure(inside.Answer{Kind: kind, Path: "/x", Text: "why"}); !errors.As(err, &e) || e.Kind != want || e.Error() != "cannot mount on /x: why" {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if err := failure(inside.Answer{Kind: "new", Text: "why"}); err == nil || err.Error() != "why" {
		t.Errorf("unknown kind: %v", err)
	}
}

func TestWhoHolds(t *testing.T) {
	command, uid := who("Name:\ta\\012b\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n")
	if command != "a\nb" || uid != 2 {
		t.Errorf("%q %d", command, uid)
	}
}

func TestAClosedBoxIsNotAlive(t *testing.T) {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	b := &Box{PID: os.Getpid(), PIDFD: os.NewFile(uintptr(fd), "pidfd")}
	if !b.Alive() {
		t.Error("this process does not live")
	}
	if err := b.Close(); err != nil || b.Alive() {
		t.Errorf("alive after %v", err)
	}
}
