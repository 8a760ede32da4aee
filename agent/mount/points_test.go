package mount

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lls/agent/mount/inside"
)

func TestParsePoints(t *testing.T) {
	const text = `42 27 7:0 / /tmp/a\040b\134c rw,relatime - ext4 /dev/loop0 rw
36 35 98:1 /sub /mnt ro,nosuid,nodev,noatime shared:7 master:1 propagate_from:2 - xfs /dev/mapper/vg-x\011y rw,nouuid
37 36 0:5 / /mnt rw master:3 - tmpfs  rw
`
	points, err := ParsePoints(strings.NewReader(text))
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
		if p, _ := byID(points, id); hidden(points, p) != want {
			t.Errorf("%+v: hidden is not %v", p, want)
		}
	}
	for _, cover := range []Point{{ID: 9, Parent: 2, Path: "/dev"}, {ID: 9, Parent: 1, Path: "/"}} {
		with := append(points, cover)
		for _, id := range []int{3, 5} {
			if p, _ := byID(points, id); !hidden(with, p) {
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
		if p, err := ParsePoints(strings.NewReader(line)); !errors.Is(err, errMountinfo) {
			t.Errorf("%q: %+v %v", line, p, err)
		}
	}
}

func FuzzParsePoints(f *testing.F) {
	f.Add(`42 27 7:0 / /tmp/a\040b rw,relatime shared:1 - ext4 /dev/loop0 rw`)
	f.Add("\\")
	f.Add(`\04 \400 \777 - - -`)
	f.Fuzz(func(t *testing.T, text string) {
		points, err := ParsePoints(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, p := range points {
			if len(p.Path)+len(p.Root) > len(text) || len(p.Options) == 0 {
				t.Errorf("%q: %+v", text, p)
			}
			_, _ = Top(points, p.Path)
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
