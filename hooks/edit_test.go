package hooks

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestAddKeepsEveryOtherByte(t *testing.T) {
	const line = "lls:a /data lls noauto,x-lls.auto 0 0"
	for name, c := range map[string]struct{ before, after string }{
		"an empty file":         {"", line + "\n"},
		"comments and spacing":  {"# one\n\n  proc\t/proc proc   defaults\n", "# one\n\n  proc\t/proc proc   defaults\n" + line + "\n"},
		"no final newline":      {"proc /proc proc", "proc /proc proc\n" + line + "\n"},
		"carriage returns":      {"proc /proc proc\r\n", "proc /proc proc\r\n" + line + "\r\n"},
		"junk":                  {"\x00\xff junk\nlls:\n", "\x00\xff junk\nlls:\n" + line + "\n"},
		"the volume elsewhere":  {"lls:a /other lls\n", "lls:a /other lls\n" + line + "\n"},
		"a line for by hand":    {"lls:a  /data\tlls noauto 0 0 # x", "lls:a  /data\tlls noauto,x-lls.auto 0 0 # x"},
		"already there":         {"x\nlls:a  /data/ lls  defaults\n", "x\nlls:a  /data/ lls  defaults\n"},
		"already as a device":   {"/dev/mf/a /data ext4 nofail 0 2\n", "/dev/mf/a /data ext4 nofail 0 2\n"},
		"already, with more":    {"lls:a /data lls rw,noatime,x-lls.required\n", "lls:a /data lls rw,noatime,x-lls.required\n"},
		"already, no options":   {"lls:a /data lls\r\n", "lls:a /data lls\r\n"},
		"read-only until now":   {"lls:a /data lls noauto,ro,x-lls.auto 1 2\ny\n", "lls:a /data lls noauto,x-lls.auto 1 2\ny\n"},
		"only ro":               {"lls:a /data lls ro", "lls:a /data lls defaults"},
		"same target in escape": {"lls:a /d\\141ta lls\n", "lls:a /d\\141ta lls\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f, changed, err := Add(Parse([]byte(c.before)), Entry{Name: "a", Target: "/data/"})
			if err != nil || string(f.Bytes()) != c.after || changed != (c.before != c.after) {
				t.Errorf("got %q, %v, %v\nwant %q", f.Bytes(), changed, err, c.after)
			}
		})
	}
}

func TestAddGivesALineTheOptionsThatItLacks(t *testing.T) {
	all := Entry{Name: "o/a", Target: "/my data", ReadOnly: true, NoAtime: true, Discard: true, Required: true}
	for before, after := range map[string]string{
		"":                           "lls:o/a /my\\040data lls noauto,x-lls.auto,ro,noatime,discard,x-lls.required 0 0\n",
		"lls:o/a /my\\040data lls\n": "lls:o/a /my\\040data lls ro,noatime,discard,x-lls.required\n",
		"lls:o/a /my\\040data ext4 noatime,rw,nofail\t1 1": "lls:o/a /my\\040data ext4 noatime,nofail,ro,discard,x-lls.required\t1 1",
	} {
		f, changed, err := Add(Parse([]byte(before)), all)
		if err != nil || !changed || string(f.Bytes()) != after {
			t.Errorf("%q: got %q, %v, %v", before, f.Bytes(), changed, err)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	taken, unknown, entry := &ErrTaken{}, &ErrNotUnderstood{}, &ErrEntry{}
	for name, c := range map[string]struct {
		before string
		entry  Entry
		want   any
	}{
		"another volume's target":     {"x\nlls:b /data/. lls\n", Entry{Name: "a", Target: "/data"}, &taken},
		"a disk's target":             {"/dev/sda1 /data ext4\n", Entry{Name: "a", Target: "/data"}, &taken},
		"a label's target":            {"LABEL=a /data ext4\n", Entry{Name: "a", Target: "/data"}, &taken},
		"a target below a tmpfs":      {"tmpfs / tmpfs\ntmpfs /srv/ tmpfs\n", Entry{Name: "a", Target: "/srv/data"}, &taken},
		"its own, below a tmpfs":      {"lls:a /srv/x/data lls\ntmpfs /srv tmpfs\n", Entry{Name: "a", Target: "/srv/x/data"}, &taken},
		"one of two lines":            {"lls:a /data lls\nlls:a /data lls\n", Entry{Name: "a", Target: "/data"}, &taken},
		"a taken target, no type":     {"lls:b /data\n", Entry{Name: "a", Target: "/data"}, &taken},
		"its own line, no type":       {"lls:a /data\n", Entry{Name: "a", Target: "/data"}, &unknown},
		"its own line, other type":    {"/dev/mf/a /data btrfs\n", Entry{Name: "a", Target: "/data"}, &unknown},
		"its own line, bad option":    {"lls:a /data lls suid\n", Entry{Name: "a", Target: "/data"}, &unknown},
		"its own line, escaped comma": {"lls:a /data lls ro\\054nofail\n", Entry{Name: "a", Target: "/data"}, &unknown},
		"a relative target":           {"", Entry{Name: "a", Target: "data"}, &entry},
		"a target of systemd":         {"", Entry{Name: "a", Target: "/tmp/data"}, &entry},
		"a forbidden target":          {"", Entry{Name: "a", Target: "/x/../proc"}, &entry},
		"no name":                     {"", Entry{Target: "/data"}, &entry},
		"a newline in the name":       {"", Entry{Name: "a\nb", Target: "/data"}, &entry},
	} {
		t.Run(name, func(t *testing.T) {
			f, changed, err := Add(Parse([]byte(c.before)), c.entry)
			if err == nil || !errors.As(err, c.want) || changed || string(f.Bytes()) != c.before {
				t.Errorf("got %q, %v, %v", f.Bytes(), changed, err)
			}
		})
	}
}

func TestAddRefusesALineThatWouldNotBeReadAtTheStart(t *testing.T) {
	for name, c := range map[string]struct {
		before string
		target string
	}{
		"the file is full":         {strings.Repeat("#\n", MaxFile/2), "/data"},
		"too many lines":           {manyLines(MaxMounts), "/data"},
		"its line is one too many": {manyLines(MaxMounts) + "lls:a /data lls\n", "/data"},
		"the line is too long":     {"", "/" + strings.Repeat(" ", MaxLine/4)},
	} {
		t.Run(name, func(t *testing.T) {
			f, changed, err := Add(Parse([]byte(c.before)), Entry{Name: "a", Target: c.target})
			if !errors.Is(err, ErrFull) || changed || string(f.Bytes()) != c.before {
				t.Errorf("%v, %v", changed, err)
			}
		})
	}
}

func TestRemoveTakesOnlyTheLinesMeant(t *testing.T) {
	const before = "# lls:a\nlls:a /x lls ro\r\n/dev/mf/a /x/y ext4\nlls:o/a /z lls\nLABEL=a /l ext4 noauto,x-lls.auto\nlls:b /b lls"
	for what, gone := range map[string][]int{
		"a": {2, 3}, "lls:a": {2, 3}, "/dev/mf/a": {2, 3}, "o/a": {4}, "/x": {2}, "/x/": {2}, "/l": {5}, "b": {6}, "/b": {6}, "c": nil, "/c": nil, "": nil, "#": nil, "/": nil,
	} {
		t.Run(what, func(t *testing.T) {
			f, removed, err := Remove(Parse([]byte(before)), what, asWritten)
			var got []int
			for _, l := range removed {
				got = append(got, l.Number)
			}
			var want strings.Builder
			for i, text := range strings.SplitAfter(before, "\n") {
				if !slices.Contains(gone, i+1) {
					want.WriteString(text)
				}
			}
			if err != nil || !slices.Equal(got, gone) || string(f.Bytes()) != want.String() {
				t.Errorf("removed %v, left %q, %v", got, f.Bytes(), err)
			}
		})
	}
}

// asWritten follows no links.
func asWritten(path string) string { return path }

func TestRemoveFollowsTheLinksOfItsOwnLines(t *testing.T) {
	resolve := func(path string) string {
		switch path {
		case "/link", "/other":
			return "/data"
		case "/srv/nfs":
			t.Error("another program's target was followed")
		}
		return path
	}
	const before = "nfs:/x /srv/nfs nfs\nlls:a /link lls\nlls:o/a /other/ lls\nLABEL=a /link ext4 nofail\nlls:a link lls\nlls:b /b lls\n"
	for name, c := range map[string]struct {
		remove func(File) (File, []Line, error)
		gone   []int
	}{
		"where they lead": {func(f File) (File, []Line, error) { return Remove(f, "/data", resolve) }, []int{2, 3}},
		"another link":    {func(f File) (File, []Line, error) { return Remove(f, "/other", resolve) }, []int{2, 3}},
		"a name":          {func(f File) (File, []Line, error) { return Remove(f, "o/a", resolve) }, []int{3}},
		"nowhere":         {func(f File) (File, []Line, error) { return Remove(f, "/nowhere", resolve) }, nil},
		"a mount": {func(f File) (File, []Line, error) {
			g, r := RemoveMount(f, "a", "/data", false, resolve)
			return g, r, nil
		}, []int{2, 3}},
		"a mount by its label": {func(f File) (File, []Line, error) {
			g, r := RemoveMount(f, "c", "/data", true, resolve)
			return g, r, nil
		}, []int{4}},
		"a mount somewhere else": {func(f File) (File, []Line, error) { g, r := RemoveMount(f, "a", "/x", true, resolve); return g, r, nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			left, removed, err := c.remove(Parse([]byte(before)))
			var got []int
			for _, l := range removed {
				got = append(got, l.Number)
			}
			if err != nil || !slices.Equal(got, c.gone) || len(left.Lines) != 6-len(c.gone) {
				t.Errorf("removed %v, want %v; left %q, %v", got, c.gone, left.Bytes(), err)
			}
		})
	}
}

func TestRemoveRefuses(t *testing.T) {
	taken, unknown := &ErrTaken{}, &ErrNotUnderstood{}
	for name, c := range map[string]struct {
		before, what string
		want         any
	}{
		"somebody else's line":      {"/dev/sda1 /data ext4\n", "/data", &taken},
		"a label without x-lls":     {"LABEL=a /data ext4\n", "/data", &taken},
		"a line with a NUL byte":    {"lls:a /data lls \x00\n", "a", &unknown},
		"a line without its type":   {"lls:a /data\nlls:a /b lls\n", "/data", &unknown},
		"one bad line among others": {"lls:a /data lls\nlls:a\n", "a", &unknown},
	} {
		t.Run(name, func(t *testing.T) {
			f, removed, err := Remove(Parse([]byte(c.before)), c.what, asWritten)
			if err == nil || !errors.As(err, c.want) || removed != nil || string(f.Bytes()) != c.before {
				t.Errorf("got %q, %v, %v", f.Bytes(), removed, err)
			}
		})
	}
}

func FuzzEdit(f *testing.F) {
	for i, s := range samples {
		f.Add([]byte(s), "a", "/data", i%2 == 0)
		f.Add([]byte(s), "o/a", "/a b", i%2 == 1)
	}
	f.Fuzz(func(t *testing.T, b []byte, name, target string, readOnly bool) {
		before := Parse(b)
		entry := Entry{Name: name, Target: target, ReadOnly: readOnly, NoAtime: len(name)%2 == 0, Required: len(target)%2 == 0}
		after, changed, err := Add(before, entry)
		if !changed && !bytes.Equal(after.Bytes(), b) {
			t.Fatalf("%q became %q unasked", b, after.Bytes())
		}
		if err != nil {
			return
		}
		again, changedAgain, err := Add(after, entry)
		if err != nil || changedAgain || !bytes.Equal(again.Bytes(), after.Bytes()) {
			t.Fatalf("added again to %q: %q, %v, %v", after.Bytes(), again.Bytes(), changedAgain, err)
		}
		checkAdded(t, before, after, entry)
		for _, what := range []string{name, target, SourcePrefix + name} {
			checkRemoved(t, after, what)
			checkRemoved(t, before, what)
		}
	})
}

// checkAdded fails unless one line was added or changed, no other byte was, and the entry is replayed.
func checkAdded(t *testing.T, before, after File, entry Entry) {
	t.Helper()
	target, _, _ := CheckTarget(entry.Target)
	old, now := before.Lines, after.Lines
	if len(now) == len(old)+1 {
		old = append(slices.Clone(old), Line{})
	}
	if len(now) != len(old) {
		t.Fatalf("%d lines became %d", len(before.Lines), len(now))
	}
	different := 0
	for i := range now {
		if old[i].Text != now[i].Text && old[i].Text+lineEnd(now[i].Text) != now[i].Text && strings.TrimSuffix(now[i].Text, "\n") != old[i].Text {
			different++
		}
	}
	if different > 1 {
		t.Fatalf("%q became %q", before.Bytes(), after.Bytes())
	}
	plan := after.Plan(nil)
	checkPlan(t, plan)
	at := slices.IndexFunc(plan.Mounts, func(m Mount) bool { return m.Target == target })
	if at < 0 {
		t.Fatalf("%+v is not replayed from %q: %+v", entry, after.Bytes(), plan)
	}
	m := plan.Mounts[at]
	if m.Name != entry.Name || m.ReadOnly != entry.ReadOnly || entry.NoAtime && !m.NoAtime || entry.Required && !m.Required {
		t.Fatalf("%+v became %+v in %q", entry, m, after.Bytes())
	}
}

// checkRemoved fails unless exactly the lines that Remove tells are gone, and it then finds no more of them.
func checkRemoved(t *testing.T, f File, what string) {
	t.Helper()
	left, removed, err := Remove(f, what, asWritten)
	var want []byte
	for _, l := range f.Lines {
		if !slices.Contains(removed, l) {
			want = append(want, l.Text...)
		}
	}
	if !bytes.Equal(left.Bytes(), want) || err != nil && removed != nil {
		t.Fatalf("removing %q from %q left %q, %v", what, f.Bytes(), left.Bytes(), err)
	}
	if _, more, _ := Remove(left, what, asWritten); err == nil && more != nil {
		t.Fatalf("removing %q again found %+v", what, more)
	}
}
