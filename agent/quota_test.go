package agent

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/container"
	"lls/agent/mount"
	"lls/lvm"
	"lls/policy"
)

// twoPools has a second pool beside main, a container c2, and rules.
func twoPools(t *testing.T, rules string) (b *bench, c2 *api.Client) {
	t.Helper()
	b = newBench(t)
	err := b.lvm.CreatePool(t.Context(), lvm.CreatePool{VG: testVG, Name: "quick", Size: 20 << 30, Tags: []lvm.Tag{catalog.PoolTag("fast")}})
	if err != nil {
		t.Fatal(err)
	}
	b.reload(testConfig + "[pools.fast]\nvg = \"vg\"\nlv = \"quick\"\n" + rules)
	g := &guest{
		Container: container.Container{Dir: "/var/lib/lxc", Base: "c2", Owner: catalog.Owner{Name: "c2", Token: "t2"}},
		box:       &mount.Box{PID: os.Getpid(), RootUID: uint32(os.Getuid()), Mapped: true},
	}
	return b, b.socket(t.TempDir()+"/c2", g)
}

func (b *bench) reload(config string) {
	b.t.Helper()
	b.write(config)
	if err := b.agent.Reload(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// crowd sends so many requests at once and counts the answers' codes.
func crowd(t *testing.T, c *api.Client, n int, path string, in func(i int) any) map[api.Code]int {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := map[api.Code]int{}
	for i := range n {
		wg.Go(func() {
			code := api.Code("")
			if err := c.Post(t.Context(), path, in(i), nil); err != nil {
				code = api.AsError(err).Code
			}
			mu.Lock()
			defer mu.Unlock()
			done[code]++
		})
	}
	wg.Wait()
	return done
}

func TestLimitsOfPoolsAndContainersHoldAtTheirEdge(t *testing.T) {
	b, c2 := twoPools(t, `
[[rules]]
pool = "fast"
limits.volumes = 2
limits.size = "3G"
[[rules]]
container = "c?"
pool = "main"
limits.volumes = 4
[[rules]]
container = "c2"
limits.volumes = 1
`)
	in := func(pool, name, size string) api.CreateRequest {
		return api.CreateRequest{Name: name, Size: size, Pool: pool}
	}
	b.post(b.c1, api.PathCreate, in("fast", "f1", "1G"), "")
	b.post(b.c1, api.PathCreate, in("fast", "f2", "3G"), api.Full) // one too large
	b.post(b.c1, api.PathCreate, in("fast", "f2", "1G"), "")
	b.post(b.c1, api.PathCreate, in("fast", "f3", "1G"), api.Full) // one too many
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "f2", Size: "+1G"}, "")
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "f2", Size: "+4M"}, api.Full)
	for n := range 4 {
		b.post(b.c1, api.PathCreate, in("main", fmt.Sprintf("m%d", n), "1G"), "")
	}
	b.post(b.c1, api.PathCreate, in("main", "m4", "1G"), api.Full)
	for _, pool := range []string{"main", "fast"} {
		b.post(c2, api.PathCreate, in(pool, "one-"+pool, "1G"), "")
		b.post(c2, api.PathCreate, in(pool, "two-"+pool, "1G"), api.Full)
	}
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "f1"}, "")
	b.post(b.c1, api.PathCreate, in("fast", "f3", "1G"), api.Full) // the trash counts
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "f1"}, "")
	b.post(b.c1, api.PathCreate, in("fast", "f3", "1G"), "")
	for n := range 3 { // the sysadmin is not limited, for whomever it works
		b.post(b.admin, api.PathCreate, api.CreateRequest{Name: fmt.Sprintf("gift%d", n), Size: "2G", Pool: "fast", Owner: "c1"}, "")
	}
}

func TestARefusalNamesTheLimitTheUseAndWhatToType(t *testing.T) {
	b := newBench(t)
	for n, size := range []string{"1G", "2G", "3G", "1G", "1G"} {
		b.post(b.c1, api.PathCreate, api.CreateRequest{Name: fmt.Sprintf("v%d", n), Size: size}, "")
	}
	largest := b.post(b.c1, api.PathDelete, api.NameRequest{Name: "v1"}, "")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "v0"}, "")
	err := api.AsError(b.c1.Post(t.Context(), api.PathCreate, api.CreateRequest{Name: "more", Size: "1G"}, nil))
	if want := "cannot create more: limits.volumes allows 5: used up by 5 volumes, 2 of them in the trash (v1 2G, v0 1G)"; err.Message != want {
		t.Errorf("%s\nwant\n%s", err.Message, want)
	}
	this := "v1." + largest.ID // and no other that is called v1
	if want := "lls purge " + this + " --yes frees one volume for good; all that counts: lls list --all"; err.Hint != want {
		t.Errorf("%s\nwant\n%s", err.Hint, want)
	}
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "v1", Size: "1G"}, api.Full)
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: this}, "")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "v1", Size: "1G"}, "")
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: this}, api.NotFound) // typed once more, it takes nothing else
}

func TestFiftyAtOnceCannotPassALimitTogether(t *testing.T) {
	snapshot := func(i int) any { return api.SnapshotRequest{Source: "d", Name: fmt.Sprintf("s%d", i)} }
	create := func(i int) any { return api.CreateRequest{Name: fmt.Sprintf("v%d", i), Size: "1G", Pool: "fast"} }
	const roomy = "[[rules]]\nlimits.volumes = 0\nlimits.snapshots = 0\nlimits.size = \"0\"\n"
	for _, tt := range []struct {
		name, rules, path string
		in                func(i int) any
		want              int
	}{
		{"volumes of a pool", roomy + "[[rules]]\npool = \"fast\"\nlimits.volumes = 7\n", api.PathCreate, create, 7},
		{"size of a container in a pool", roomy + "[[rules]]\npool = \"f*\"\ncontainer = \"c*\"\nlimits.size = \"9G\"\n", api.PathCreate, create, 9},
		{"snapshots of a container", roomy + "[[rules]]\ncontainer = \"c1\"\nlimits.snapshots = 6\n", api.PathSnapshot, snapshot, 6},
		{"overcommit", roomy + "[[rules]]\npool = \"fast\"\nlimits.overcommit = 0.25\n", api.PathCreate, create, 5},
		{"snapshots of an origin in a minute", roomy + "limits.snapshots_per_minute = 8\n", api.PathSnapshot, snapshot, 8},
		{"operations in a minute", roomy + "limits.operations_per_minute = 11\n", api.PathSnapshot, snapshot, 11},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, _ := twoPools(t, tt.rules)
			b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G", Pool: "main"}, "")
			done := crowd(t, b.c1, 50, tt.path, tt.in)
			if done[""] != tt.want || done[api.Full] != 50-tt.want || len(b.volumes()) != tt.want+1 {
				t.Errorf("answers %v and %d volumes, want %d done", done, len(b.volumes())-1, tt.want)
			}
		})
	}
}

func TestAPoolPromisesNoMoreThanItsOvercommit(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + "overcommit = 0.2\n") // of 50G
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "a", Size: "9G"}, "")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "b", Size: "1028M"}, api.Full)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "b", Size: "1020M"}, "")
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "b", Size: "+8M"}, api.Full)
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "b", Size: "+4M"}, "")
	for _, c := range []*api.Client{b.c1, b.admin} {
		b.post(c, api.PathSnapshot, api.SnapshotRequest{Source: "a", Name: "s"}, api.Full)
	}
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "b"}, "")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "c", Size: "512M"}, api.Full) // the trash is still there
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "b"}, "")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "c", Size: "512M"}, "")
	b.reload(testConfig + "overcommit = 0\n")
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "huge", Size: "500T"}, "")
}

// clock has the agent live at a time that the test sets.
func (b *bench) clock() (pass func(time.Duration)) {
	var mu sync.Mutex
	now := time.Now()
	b.agent.opts.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	return func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
}

func TestAContainersOperationsAreCountedByTheMinute(t *testing.T) {
	b, c2 := twoPools(t, "[[rules]]\ncontainer = \"c1\"\nlimits.operations_per_minute = 3\n")
	pass := b.clock()
	set := func(c *api.Client, want api.Code) {
		t.Helper()
		b.post(c, api.PathSet, api.SetRequest{Name: "a", Access: api.AccessRW}, want)
	}
	b.post(c2, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	pass(20 * time.Second)
	set(b.c1, "")
	b.post(b.c1, api.PathSet, api.SetRequest{Name: "nosuch", Access: "rw"}, api.NotFound) // what failed was work as well
	err := api.AsError(b.c1.Post(t.Context(), api.PathSet, api.SetRequest{Name: "a", Access: "ro"}, nil))
	if err.Code != api.Full || err.Message != "cannot set a volume now: limits.operations_per_minute allows 3 within a minute" || err.Hint != "try again in 40s" || err.RetryAfter != 40 {
		t.Errorf("%v, %v, %v", err.Code, err, err.Hint)
	}
	b.list(b.c1, true) // to look costs nothing
	for range 10 {
		set(c2, "")
		b.post(b.admin, api.PathSet, api.SetRequest{Name: "c1/a", Access: api.AccessRW}, "")
	}
	pass(40*time.Second - 1)
	set(b.c1, api.Full)
	pass(1)
	set(b.c1, "")
	set(b.c1, api.Full)
	pass(time.Hour)
	set(c2, "")
	if n := len(b.agent.rates.all); n != 1 {
		t.Errorf("%d rates are kept of containers that do nothing", n-1)
	}
}

func TestSnapshotsOfOneOriginAreCountedByTheMinute(t *testing.T) {
	b, c2 := twoPools(t, "[[rules]]\nlimits.snapshots_per_minute = 2\nlimits.snapshots = 100\nlimits.volumes = 4\n")
	pass := b.clock()
	for _, name := range []string{"d", "e"} {
		b.post(b.admin, api.PathCreate, api.CreateRequest{Name: name, Size: "1G"}, "")
	}
	snap := func(c *api.Client, source, name string, want api.Code) {
		t.Helper()
		b.post(c, api.PathSnapshot, api.SnapshotRequest{Source: source, Name: name}, want)
	}
	snap(b.c1, "d", "s1", "")
	snap(b.c1, "d", "s1", api.Exists) // none was taken
	snap(b.c1, "d", "s2", "")
	snap(b.c1, "d", "s3", api.Full)
	snap(b.c1, "e", "s3", "")
	snap(c2, "d", "s1", "") // nobody can keep another from a dataset
	for n := range 5 {
		snap(b.admin, "d", fmt.Sprintf("a%d", n), "")
	}
	pass(time.Minute - 1)
	snap(b.c1, "d", "s4", api.Full)
	pass(1)
	snap(b.c1, "d", "s4", "")
	pass(time.Minute)
	b.destroy(b.c1, "s1")
	snap(b.c1, "d", "s5", "")
	snap(b.c1, "d", "s6", api.Full) // by the volumes: that is none taken
	b.destroy(b.c1, "s5")
	snap(b.c1, "d", "s6", "")
	b.destroy(b.c1, "s6")
	snap(b.c1, "d", "s7", api.Full)
}

func TestUsageAndConfigTellTheLimitsOfEachPool(t *testing.T) {
	b, _ := twoPools(t, "[[rules]]\npool = \"fast\"\nlimits.volumes = 2\n[[rules]]\ncontainer = \"c1\"\nlimits.snapshots = 1\nlimits.operations_per_minute = 9\n")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G", Pool: "fast"}, "")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "a"}, "")
	var mine, theirs []api.Usage
	if err := b.c1.Get(t.Context(), api.PathUsage, nil, &mine); err != nil {
		t.Fatal(err)
	}
	if err := b.admin.Get(t.Context(), api.PathUsage, url.Values{"container": {"c2"}}, &theirs); err != nil {
		t.Fatal(err)
	}
	for i, want := range []api.Usage{
		{Container: "c1", Pool: "fast", Volumes: 1, VolumesMax: 2, SnapshotsMax: 1, Size: 1 << 30, SizeMax: 20 << 30, Trash: 1},
		{Container: "c1", Pool: "main", VolumesMax: 5, SnapshotsMax: 1, SizeMax: 20 << 30},
		{Container: "c2", Pool: "fast", VolumesMax: 2, SnapshotsMax: 3, SizeMax: 20 << 30},
		{Container: "c2", Pool: "main", VolumesMax: 5, SnapshotsMax: 3, SizeMax: 20 << 30},
	} {
		if got := append(mine, theirs...); len(got) != 4 || got[i] != want {
			t.Errorf("usage says %+v, want %+v", got, want)
		}
	}
	text, err := configFor(b.guest1, b.agent.config())
	var read guestConfig
	if err != nil || json.Unmarshal(text, &read) != nil {
		t.Fatalf("%s, %v", text, err)
	}
	fast := guestLimits{Volumes: 2, Snapshots: 1, Size: 20 << 30, OperationsPerMinute: 9, SnapshotsPerMinute: 120}
	main := fast
	main.Volumes = 5
	if read.PoolLimits["main"] != main || read.PoolLimits["fast"] != fast || read.Limits != fast || strings.Join(read.Pools, " ") != "fast main" {
		t.Errorf("config.json says\n%s", text)
	}
}

func TestSizesLookAlikeEverywhere(t *testing.T) {
	for _, n := range []int64{0, 1, 1023, 1024, 1536, 1<<20 - 1, 100 << 30, 1<<40 - 1, 1<<40 + 1, 3 << 39, 1 << 50, 1<<60 + 1, 1<<63 - 1, -1, -5 << 30} {
		if got, want := policy.FormatSize(n), lvm.Size(n).String(); got != want {
			t.Errorf("%d is %s in a refusal, and %s elsewhere", n, got, want)
		}
	}
}
