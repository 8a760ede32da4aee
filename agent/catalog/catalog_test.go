package catalog

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/lvm"
)

var (
	alice = Owner{"alice", "t1"}
	bob   = Owner{"bob", "t2"}
	bob2  = Owner{"bob", "t3"}
	admin = Asker{Owner: Host(), Admin: true}
)

func volume(r Record) lvm.Volume {
	return lvm.Volume{VG: "vg", Name: r.LVName(), Tags: append(r.Tags(), "other")}
}

func catalogOf(records ...Record) *Catalog {
	var g lvm.Group
	for _, r := range records {
		g.Volumes = append(g.Volumes, volume(r))
	}
	return New([]lvm.Group{g})
}

func TestParseNameRefusesWhatLVMOrAPathCouldMisread(t *testing.T) {
	for _, good := range []string{"a", "genomes", "G-2026.09_01+x", "7", strings.Repeat("x", MaxName)} {
		if n, err := ParseName(good); err != nil || string(n) != good {
			t.Errorf("%q: %q, %v", good, n, err)
		}
	}
	for _, bad := range []string{
		"", "-rf", ".", "..", ".x", "a..b", "a b", "a/b", "a\nb", "ä", "a\x00", "a#b", "a=b", strings.Repeat("x", MaxName+1),
		strings.Repeat("x", 200), "snapshot", "snapshot1", "pvmove0", "x_tdata", "x_tmeta", "lvol_pmspare", "a_mlog", "a_rimage_0", "@x", "+x",
	} {
		if _, err := ParseName(bad); !errors.Is(err, ErrBadName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseRefTakesANameOrAnOwnersName(t *testing.T) {
	for s, want := range map[string]Ref{"a": {"", "a"}, "c1/a": {"c1", "a"}, "c1#x/a": {"c1#x", "a"}} {
		if got, err := ParseRef(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, bad := range []string{"/a", "a/", "a/b/c", "../a", "c/..", "/", strings.Repeat("o", 200) + "/a"} {
		if got, err := ParseRef(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestTagsReadBackAsTheRecordThatWroteThem(t *testing.T) {
	records := []Record{
		{ID: "aaaaaaa", Name: "genomes", Owner: Host(), State: Live, Visible: true, Access: "ro", FS: "ext4"},
		{ID: "aaaaaab", Name: "a.b-c", Owner: Owner{"odd, ñame%+@", "t9"}, State: Making, Access: "rw", FS: "xfs", Growing: true},
		{ID: "aaaaaac", Name: "x", Owner: alice, State: Trash, Deleted: time.Unix(1800000000, 0), Access: "none", Origin: "aaaaaaa"},
	}
	for _, want := range records {
		v := volume(want)
		for _, tag := range v.Tags {
			if _, err := lvm.ParseTag(string(tag)); err != nil {
				t.Errorf("LVM does not take it: %v", err)
			}
		}
		got, err := FromVolume(v)
		if err != nil {
			t.Fatal(err)
		}
		want.LV = v
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("got  %+v\nwant %+v", *got, want)
		}
	}
}

func TestFromVolumeTellsWhatIsOddAboutTags(t *testing.T) {
	good := Record{ID: "aaaaaaa", Name: "x", Owner: alice, State: Live, Access: "ro"}
	for name, change := range map[string]func(*lvm.Volume){
		"no id":        func(v *lvm.Volume) { v.Name = "x" },
		"no owner":     func(v *lvm.Volume) { v.Tags = append(v.Tags[:1:1], v.Tags[2:]...) },
		"twice":        func(v *lvm.Volume) { v.Tags = append(v.Tags, "lls.n=y") },
		"bad name":     func(v *lvm.Volume) { v.Tags[0] = "lls.n=.." },
		"bad state":    func(v *lvm.Volume) { v.Tags[2] = "lls.s=gone" },
		"no time":      func(v *lvm.Volume) { v.Tags[2] = "lls.s=trash" },
		"live time":    func(v *lvm.Volume) { v.Tags[2] = "lls.s=live:7" },
		"bad access":   func(v *lvm.Volume) { v.Tags[4] = "lls.a=rwx" },
		"half escape":  func(v *lvm.Volume) { v.Tags[1] = "lls.o=a+4" },
		"tokenless":    func(v *lvm.Volume) { v.Tags[1] = "lls.o=alice" },
		"visible what": func(v *lvm.Volume) { v.Tags[3] = "lls.v=" },
	} {
		v := volume(good)
		change(&v)
		if r, err := FromVolume(v); err == nil {
			t.Errorf("%s: read as %+v", name, r)
		}
	}
	c := New([]lvm.Group{{Volumes: []lvm.Volume{{Name: "x", Tags: []lvm.Tag{"lls.n=x"}}, {Name: "plain"}}}})
	if len(c.Odd) != 1 || len(c.Records) != 0 {
		t.Errorf("odd ones: %v, records: %v", c.Odd, c.Records)
	}
}

func TestFindPrefersMineThenTheHosts(t *testing.T) {
	c := catalogOf(
		Record{ID: "h1", Name: "data", Owner: Host(), State: Live, Visible: true, Access: "ro"},
		Record{ID: "h2", Name: "secret", Owner: Host(), State: Live, Access: "ro"},
		Record{ID: "a1", Name: "data", Owner: alice, State: Live, Access: "ro"},
		Record{ID: "a2", Name: "old", Owner: alice, State: Trash, Deleted: time.Unix(1, 0), Access: "ro"},
		Record{ID: "a3", Name: "old", Owner: alice, State: Trash, Deleted: time.Unix(2, 0), Access: "ro"},
		Record{ID: "b1", Name: "pub", Owner: bob, State: Live, Visible: true, Access: "ro"},
		Record{ID: "b2", Name: "prv", Owner: bob, State: Live, Access: "ro"},
		Record{ID: "b3", Name: "pub", Owner: bob2, State: Live, Visible: true, Access: "ro"},
		Record{ID: "b4", Name: "bin", Owner: bob, State: Trash, Deleted: time.Unix(1, 0), Visible: true, Access: "ro"},
	)
	tests := []struct {
		asker Asker
		ref   string
		trash bool
		want  ID
		err   error
	}{
		{Asker{Owner: alice}, "data", false, "a1", nil},
		{Asker{Owner: alice}, "host/data", false, "h1", nil},
		{Asker{Owner: alice}, "alice/data", false, "a1", nil},
		{Asker{Owner: bob}, "data", false, "h1", nil},
		{Asker{Owner: bob}, "alice/data", false, "", ErrNotFound},
		{Asker{Owner: alice}, "secret", false, "", ErrNotFound},
		{Asker{Owner: alice}, "bob/pub", false, "", ErrAmbiguous},
		{Asker{Owner: alice}, "bob#t3/pub", false, "b3", nil},
		{Asker{Owner: alice}, "bob/prv", false, "", ErrNotFound},
		{Asker{Owner: bob}, "bob/prv", false, "b2", nil},
		{Asker{Owner: alice}, "old", true, "a3", nil},
		{Asker{Owner: alice}, "old", false, "", ErrNotFound},
		{Asker{Owner: alice}, "bob/bin", true, "", ErrNotFound},
		{admin, "data", false, "h1", nil},
		{admin, "alice/data", false, "a1", nil},
		{admin, "secret", false, "h2", nil},
		{admin, "bob/bin", true, "b4", nil},
		{admin, "nobody/x", false, "", ErrNotFound},
	}
	for _, tt := range tests {
		ref, err := ParseRef(tt.ref)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Find(tt.asker, ref, tt.trash)
		if !errors.Is(err, tt.err) || (r != nil) != (tt.want != "") || r != nil && r.ID != tt.want {
			t.Errorf("%v asks for %s: %+v, %v; want %s, %v", tt.asker.Owner, tt.ref, r, err, tt.want, tt.err)
		}
		if r == nil || tt.trash {
			continue
		}
		shown, err := ParseRef(c.Shown(tt.asker, r))
		if again, err2 := c.Find(tt.asker, shown, false); err != nil || err2 != nil || again != r {
			t.Errorf("%v is shown %s, which is not %s again", tt.asker.Owner, shown, r.ID)
		}
	}
}

func TestWhatIsInTheTrashIsCalledSoThatNoOtherIsMeant(t *testing.T) {
	deleted := func(id ID, name Name, o Owner, at int64) Record {
		return Record{ID: id, Name: name, Owner: o, State: Trash, Deleted: time.Unix(at, 0), Access: "ro"}
	}
	c := catalogOf(
		Record{ID: "h1", Name: "data", Owner: Host(), State: Live, Visible: true, Access: "ro"},
		Record{ID: "a1", Name: "mine", Owner: alice, State: Live, Access: "ro"},
		deleted("a2", "mine", alice, 3), deleted("a3", "old", alice, 1), deleted("a4", "old", alice, 2), deleted("a5", "data", alice, 1),
		deleted("h2", "data", Host(), 1), deleted("h3", "gone", Host(), 1), deleted("b1", "x", bob, 1), deleted("b2", "x", bob2, 1),
	)
	for _, tt := range []struct {
		asker Asker
		id    ID
		want  string
	}{
		{Asker{Owner: alice}, "a1", "mine"},
		{Asker{Owner: alice}, "a2", "mine.a2"}, // its name lives
		{Asker{Owner: alice}, "a3", "old.a3"},
		{Asker{Owner: alice}, "a4", "old"},     // the latest
		{Asker{Owner: alice}, "a5", "data.a5"}, // its name is the host's
		{Asker{Owner: alice}, "h1", "data"},
		{admin, "a2", "alice/mine.a2"}, {admin, "a4", "alice/old"}, {admin, "a5", "alice/data"},
		{admin, "h1", "data"}, {admin, "h2", "data.h2"}, {admin, "h3", "gone"},
		{admin, "b1", bob.String() + "/x"}, {admin, "b2", bob2.String() + "/x"},
	} {
		if got := c.Exact(tt.asker, c.ByID(tt.id)); got != tt.want {
			t.Errorf("%v calls %s %s, want %s", tt.asker.Owner, tt.id, got, tt.want)
		}
	}
}

func TestRightsFollowTheTable(t *testing.T) {
	rec := func(owner Owner, visible bool, access string, ro bool) *Record {
		return &Record{Name: "x", Owner: owner, State: Live, Visible: visible, Access: access, LV: lvm.Volume{ReadOnly: ro}}
	}
	other, priv := Asker{Owner: bob}, Asker{Owner: bob, Privileged: true}
	tests := []struct {
		name   string
		asker  Asker
		r      *Record
		action Action
		want   api.Code
	}{
		{"owner changes a hidden one", Asker{Owner: alice}, rec(alice, false, "none", false), Change, ""},
		{"owner mounts whatever access says", Asker{Owner: alice}, rec(alice, true, "none", false), Mount, ""},
		{"hidden does not exist to see", other, rec(alice, false, "rw", false), See, api.NotFound},
		{"hidden does not exist to mount", other, rec(alice, false, "rw", false), Mount, api.NotFound},
		{"hidden does not exist to change", other, rec(alice, false, "rw", false), Change, api.NotFound},
		{"visible is seen", other, rec(alice, true, "none", false), See, ""},
		{"visible is snapshot", other, rec(alice, true, "none", false), Snapshot, ""},
		{"visible is not changed", other, rec(alice, true, "rw", false), Change, api.Denied},
		{"none is not mounted", other, rec(alice, true, "none", false), Mount, api.Denied},
		{"ro is mounted", other, rec(alice, true, "ro", false), Mount, ""},
		{"ro is not mounted by the privileged", priv, rec(alice, true, "ro", false), Mount, api.Denied},
		{"a read-only volume is, even by them", priv, rec(alice, true, "ro", true), Mount, ""},
		{"rw is mounted by the privileged", priv, rec(alice, true, "rw", false), Mount, ""},
		{"the sysadmin does all", admin, rec(alice, false, "none", false), Change, ""},
	}
	for _, tt := range tests {
		got := api.Code("")
		if err := tt.r.May(tt.asker, tt.action, "use", "x"); err != nil {
			got = err.Code
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	trash := rec(alice, true, "rw", false)
	trash.State = Trash
	if trash.Known(other) || !trash.Known(Asker{Owner: alice}) || !trash.Known(admin) {
		t.Error("the trash is its owner's and the sysadmin's business alone")
	}
	if !rec(alice, true, "ro", false).MountsReadOnly(other) || rec(alice, true, "rw", false).MountsReadOnly(other) ||
		rec(alice, true, "none", false).MountsReadOnly(Asker{Owner: alice}) || !rec(alice, true, "rw", true).MountsReadOnly(admin) {
		t.Error("read-only is for others by access, and for all by the volume")
	}
}

func FuzzFromVolume(f *testing.F) {
	f.Add("x.aaaaaaa", "lls.n=x", "lls.o=a+20b#t", "lls.s=trash:5", "lls.v=v", "lls.a=rw")
	f.Add("x", "lls.n=", "lls.o=host", "lls.s=live", "lls.v=h", "lls.p=")
	f.Fuzz(func(t *testing.T, name, a, b, c, d, e string) {
		r, err := FromVolume(lvm.Volume{Name: lvm.Name(name), Tags: []lvm.Tag{lvm.Tag(a), lvm.Tag(b), lvm.Tag(c), lvm.Tag(d), lvm.Tag(e)}})
		if err != nil {
			return
		}
		if _, err := ParseName(string(r.Name)); err != nil {
			t.Errorf("an unchecked name came through: %v", err)
		}
		if back, err := FromVolume(lvm.Volume{Name: lvm.Name(name), Tags: r.Tags()}); err != nil || back.Owner != r.Owner || back.State != r.State {
			t.Errorf("%+v does not read back: %+v, %v", r, back, err)
		}
	})
}

func TestAPairOfARefreshLastsWhileTheOldOneIsInTheTrashAndTheNewOneIsThere(t *testing.T) {
	for _, tt := range []struct {
		name       string
		state      State
		next       Record
		pair, both bool
	}{
		{"refreshed", Trash, Record{ID: "bbbbbbb", Owner: alice, State: Live}, true, true},
		{"in the middle of it", Trash, Record{ID: "bbbbbbb", Owner: alice, State: Making}, true, true},
		{"both in the trash", Trash, Record{ID: "bbbbbbb", Owner: alice, State: Trash, Deleted: time.Unix(2, 0)}, true, true},
		{"refreshed again, to what is gone", Trash, Record{ID: "bbbbbbb", Owner: alice, State: Trash, Deleted: time.Unix(2, 0), NextID: "ccccccc"}, true, true},
		{"refreshed again", Trash, Record{ID: "bbbbbbb", Owner: alice, State: Trash, Deleted: time.Unix(2, 0), NextID: "ddddddd"}, false, true},
		{"a circle, by hand", Trash, Record{ID: "bbbbbbb", Owner: alice, State: Trash, Deleted: time.Unix(2, 0), NextID: "aaaaaaa"}, false, true},
		{"the new one is gone", Trash, Record{ID: "ccccccc", Owner: alice, State: Live}, false, true},
		{"the new one is given away", Trash, Record{ID: "bbbbbbb", Owner: bob, State: Live}, false, true},
		{"the old one is back", Live, Record{ID: "bbbbbbb", Owner: alice, State: Live}, false, false},
	} {
		tt.next.Name, tt.next.Access = "mine", "ro"
		c := catalogOf(Record{ID: "aaaaaaa", Name: "mine", Owner: alice, State: tt.state, Deleted: time.Unix(1, 0), Access: "ro", NextID: "bbbbbbb"}, tt.next,
			Record{ID: "ddddddd", Name: "mine", Owner: alice, State: Live, Access: "ro"})
		old := c.ByID("aaaaaaa")
		if next := c.Replacement(old); (next != nil) != tt.pair || next != nil && next.ID != "bbbbbbb" {
			t.Errorf("%s: its replacement is %+v", tt.name, next)
		}
		if was := c.Replaced("bbbbbbb"); (was != nil) != tt.both || was != nil && was != old || c.Replaced("") != nil {
			t.Errorf("%s: replaced is %+v", tt.name, was)
		}
	}
}
