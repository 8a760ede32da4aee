package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/container"
	"lls/agent/mount"
	"lls/agent/setup"
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
	cfg, err := setup.ReadConfig(written(t, "[pools.main]\nvg = \"vg\"\nlv = \"pool\"\nraw = { privileged = \"ro\", unprivileged = \"rw\" }\n"))
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

func TestNamesOfGrantsAreUnderstood(t *testing.T) {
	for _, name := range []string{"", "raw", "raw-key-id-x-1-3", "raw-key-id-rw-1", "raw-key-id-rw-1-03", "raw-key-id-rw-1--3", "raw-key-id-rw-1-99999999999", "stored"} {
		if g, err := parseGrant(name); err == nil {
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
		if back, err := parseGrant(g.name()); err != nil || back != g {
			t.Errorf("%q is read as %+v, %v", g.name(), back, err)
		}
	}
}

// keeper keeps names with their notes, and what became of them.
type keeper struct {
	kept      map[string][]*os.File
	notes     map[string]string
	forgotten []string
}

func (k *keeper) Keep(name, note string, _ *os.File) error { return k.Renote(name, note) }
func (k *keeper) Renote(name, note string) error {
	if k.notes == nil {
		k.notes = map[string]string{}
	}
	k.notes[name] = note
	return nil
}
func (k *keeper) Noted(name string) (string, error) { return k.notes[name], nil }

func (k *keeper) Kept() (map[string][]*os.File, error) { return k.kept, nil }
func (k *keeper) Forget(name string) error {
	k.forgotten = append(k.forgotten, name)
	return nil
}

// monitors take device rules, or fail.
type monitors struct {
	fakeContainers
	err  error
	told []string
}

func (m *monitors) SetDevice(_ context.Context, c container.Container, allow bool, rule string) error {
	m.told = append(m.told, fmt.Sprint(c.Base, " ", allow, " ", rule))
	return m.err
}

func TestAGrantWhoseDeviceWasLostIsTakenBackFirst(t *testing.T) {
	b := newBench(t)
	key := b.guest1.Key()
	wrong, err := os.Open(os.DevNull) // systemd kept something else under that name
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{kept: map[string][]*os.File{
		"raw-" + key + "-aaaaaaa-rw-253-7": {}, "raw-" + key + "-bbbbbbb-r-253-8": {wrong}, "raw-else-ccccccc-rw-253-9": {}, "what": {},
	}}
	if b.agent.raw, err = newRaw(k); err == nil || !strings.Contains(err.Error(), `"what"`) {
		t.Errorf("what is no grant: %v", err)
	}
	if _, err := wrong.Stat(); err == nil {
		t.Error("what is no device stays open")
	}
	m := &monitors{err: errors.New("the monitor does not answer")}
	b.agent.containers = m
	b.guest1.box.Mapped = false
	if err := b.agent.showNodesTo(t.Context(), b.guest1); err != nil || len(m.told) != 0 {
		t.Errorf("its start-host hook runs: %v, %q", err, m.told)
	}
	b.guest1.ready.Store(true)
	if err := b.agent.showNodesTo(t.Context(), b.guest1); !errors.Is(err, m.err) || len(k.forgotten) != 0 || len(b.agent.raw.lostOf("")) != 3 {
		t.Errorf("a rule stays: %v, forgotten %q", err, k.forgotten)
	}
	m.err, m.told = nil, nil
	for range 2 { // the second time there is nothing to do
		if err := b.agent.showNodesTo(t.Context(), b.guest1); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(m.told, ", "); got != "c1 false b 253:7 rw, c1 false b 253:8 r" {
		t.Errorf("the monitor was told %s", got)
	}
	if got := strings.Join(k.forgotten, ", "); got != "raw-"+key+"-aaaaaaa-rw-253-7, raw-"+key+"-bbbbbbb-r-253-8" {
		t.Errorf("forgotten: %s", got)
	}
	b.agent.letGo(func(key string) bool { return key == "else" }) // a container that is gone
	if left := b.agent.raw.lostOf(""); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

func TestAnUnprivilegedContainerIsGivenNoRuleToTakeOneBack(t *testing.T) {
	b := newBench(t)
	k := &keeper{kept: map[string][]*os.File{"raw-" + b.guest1.Key() + "-aaaaaaa-rw-253-7": {}}}
	m := &monitors{}
	b.agent.containers = m
	var err error
	if b.agent.raw, err = newRaw(k); err != nil {
		t.Fatal(err)
	}
	if err := b.agent.showNodesTo(t.Context(), b.guest1); err != nil || len(m.told) != 0 || len(k.forgotten) != 1 {
		t.Errorf("%v, told %q, forgotten %q", err, m.told, k.forgotten)
	}
}

func TestWhoStopsGrantsNothing(t *testing.T) {
	r, err := newRaw(noKeeper{})
	if err != nil {
		t.Fatal(err)
	}
	r.end()
	if err := r.add(grant{"k", "aaaaaaa", device{253, 7}, true}, bearer{}, nil); err == nil || !r.isBlocked("bbbbbbb") {
		t.Errorf("%v", err)
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
	if err := r.add(g, bearer{}, f); err == nil {
		t.Error("it was granted while it is blocked")
	}
	unblock()
	if err := r.add(g, bearer{}, f); err == nil {
		t.Error("it was granted while somebody else has it blocked")
	}
	second()
	if err := r.add(g, bearer{}, f); err != nil || !r.has(g) {
		t.Errorf("it was not granted: %v", err)
	}
	if err := r.forget(g); err != nil || r.has(g) {
		t.Errorf("it was not forgotten: %v", err)
	}
	if _, err := f.Stat(); err == nil {
		t.Error("its device is still open")
	}
}

// A mount may come and be done between the look at what may be granted and the grant.
func TestWhatWasJustMountedIsNotGrantedForWriting(t *testing.T) {
	b := newBench(t)
	v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	for _, tt := range []struct {
		write, claimed, granted bool
	}{{true, true, false}, {false, true, true}, {true, false, true}} {
		g := grant{b.guest1.Key(), catalog.ID(v.ID), device{253, 7}, tt.write}
		b.dev.mu.Lock()
		b.dev.claimed = []bool{tt.claimed}
		b.dev.mu.Unlock()
		want := map[grant]bool{g: true}
		if err := b.agent.hold(b.agent.store.latest(), b.guest1, want); err != nil || want[g] != tt.granted || b.agent.raw.has(g) != tt.granted {
			t.Errorf("%+v: %v, wanted are %v", tt, err, want)
		}
	}
}
