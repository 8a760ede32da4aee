package agent

import (
	"os"
	"path/filepath"
	"testing"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/container"
	"lls/agent/mount"
	"lls/lvm"
	"lls/policy"
)

// written is a file of this text.
func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRawRights(t *testing.T) {
	own, other := catalog.Owner{Name: "c1", Token: "t1"}, catalog.Owner{Name: "c2", Token: "t2"}
	cfg, err := ReadConfig(written(t, "[pools.main]\nvg = \"vg\"\nlv = \"pool\"\nraw = { privileged = \"ro\", unprivileged = \"rw\" }\n"))
	if err != nil {
		t.Fatal(err)
	}
	groups := []lvm.Group{{Name: testVG, Pools: []lvm.Pool{{VG: testVG, Name: testPool, Zero: true, Tags: []lvm.Tag{catalog.PoolTag("main")}}}}}
	for _, test := range []struct {
		what       string
		owner      catalog.Owner
		state      catalog.State
		visible    bool
		access     string
		readOnly   bool
		privileged bool
		want       string
	}{
		{"one's own", own, catalog.Live, false, api.AccessNone, false, false, policy.RawWrite},
		{"one's own, in a privileged container", own, catalog.Live, false, api.AccessNone, false, true, policy.RawRead},
		{"one's own, read-only", own, catalog.Live, false, api.AccessNone, true, false, policy.RawRead},
		{"one's own, in the trash", own, catalog.Trash, false, api.AccessRW, false, false, policy.RawNone},
		{"one's own, in the making", own, catalog.Making, false, api.AccessRW, false, false, policy.RawNone},
		{"another's, hidden", other, catalog.Live, false, api.AccessRW, false, false, policy.RawNone},
		{"another's, for nobody", other, catalog.Live, true, api.AccessNone, false, false, policy.RawNone},
		{"another's, to read", other, catalog.Live, true, api.AccessRO, false, false, policy.RawRead},
		{"another's, to write", other, catalog.Live, true, api.AccessRW, false, false, policy.RawWrite},
		{"another's, to write, in a privileged container", other, catalog.Live, true, api.AccessRW, false, true, policy.RawRead},
		{"the host's, to read", catalog.Host(), catalog.Live, true, api.AccessRO, false, false, policy.RawRead},
	} {
		r := &catalog.Record{Name: "v", Owner: test.owner, State: test.state, Visible: test.visible, Access: test.access,
			LV: lvm.Volume{VG: testVG, Name: "v.aaaaaaa", Pool: testPool, Thin: true, ReadOnly: test.readOnly}}
		g := &guest{Container: container.Container{Owner: own}, box: &mount.Box{Mapped: !test.privileged}}
		if got := rawRight(cfg, &View{Groups: groups, pools: cfg.Pools}, r, g); got != test.want {
			t.Errorf("%s: %s, want %s", test.what, got, test.want)
		}
	}
}

func TestKeptFilesAreUnderstood(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range []string{"", "raw", "raw-key-id-rw-1-3", "raw-key-id-x-1-3", "stored"} {
		if g, err := parseGrant(name, f); err == nil { // it is no block device
			t.Errorf("%q is taken for %+v", name, g)
		}
	}
	for g, want := range map[grant]string{
		{"k", "aaaaaaa", device{253, 7}, true}:  "raw-k-aaaaaaa-rw-253-7 b 253:7 rw",
		{"k", "aaaaaaa", device{253, 7}, false}: "raw-k-aaaaaaa-r-253-7 b 253:7 r",
	} {
		if got := g.name() + " " + g.rule(); got != want {
			t.Errorf("%+v is %q, want %q", g, got, want)
		}
	}
}

func TestNobodyIsGrantedWhatIsBlocked(t *testing.T) {
	r, err := newRaw(noKeeper{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	g := grant{"k", "aaaaaaa", device{253, 7}, true}
	unblock := r.block(g.id)
	second := r.block(g.id)
	if err := r.add(g, f); err == nil {
		t.Error("it was granted while it is blocked")
	}
	unblock()
	if err := r.add(g, f); err == nil {
		t.Error("it was granted while somebody else has it blocked")
	}
	second()
	if err := r.add(g, f); err != nil || !r.has(g) {
		t.Errorf("it was not granted: %v", err)
	}
	if err := r.forget(g); err != nil || r.has(g) {
		t.Errorf("it was not forgotten: %v", err)
	}
	if _, err := f.Stat(); err == nil {
		t.Error("its device is still open")
	}
}
