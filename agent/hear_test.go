package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/event"
	"lls/agent/event/bus"
	"lls/lvm"
)

func TestADeviceIsShownToWhoeverMayKnowItsVolume(t *testing.T) {
	b := newBench(t)
	c2 := catalog.Owner{Name: "c2", Token: "t2"}
	volume := func(id string, owner catalog.Owner, name string, visible bool, minor uint32) lvm.Volume {
		r := catalog.Record{ID: catalog.ID(id), Name: catalog.Name(name), Owner: owner, State: catalog.Live, Visible: visible, Access: "ro"}
		return lvm.Volume{VG: testVG, Name: r.LVName(), Pool: testPool, Tags: r.Tags(), Active: minor != 0, Major: 250, Minor: minor}
	}
	v := &View{Catalog: catalog.New([]lvm.Group{{Name: testVG, Volumes: []lvm.Volume{
		volume("a", catalog.Host(), "genomes", true, 1),
		volume("b", catalog.Host(), "asleep", true, 0),
		volume("c", catalog.Host(), "secret", false, 2),
		volume("d", b.guest1.Owner, "genomes", false, 3),
		volume("e", b.guest1.Owner, "mine", false, 4),
		volume("f", c2, "pub", true, 5),
		volume("g", c2, "prv", false, 6),
	}}})}
	var got []string
	for _, n := range wantedNodes(v, b.guest1, nil) {
		got = append(got, fmt.Sprintf("%s=%d", n.Path, n.Minor))
		if n.Mode != 0 || n.Major != 250 {
			t.Errorf("%+v", n)
		}
	}
	if all := strings.Join(got, " "); all != "genomes=3 mine=4 c2/pub=5" {
		t.Errorf("c1 sees %s", all)
	}
}

func TestAShutdownLetsWorkFinishAndKeepsNewWorkOut(t *testing.T) {
	b := newBench(t)
	released := make(chan struct{})
	b.agent.release = func() { close(released) }
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	wait := make(chan struct{})
	b.mounts.mu.Lock()
	b.mounts.wait = wait
	b.mounts.mu.Unlock()
	slow := make(chan error, 1)
	go func() {
		slow <- b.c1.Post(t.Context(), api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "s", Mount: "/x"}, nil)
	}()
	for b.lvm.Calls("Snapshot") == 0 {
		time.Sleep(time.Millisecond)
	}
	b.agent.heard(event.Shutdown{Starting: true})
	for { // until the gate is closed
		err := b.c1.Post(t.Context(), api.PathDelete, api.NameRequest{Name: "nope"}, nil)
		if api.Busy.Is(err) {
			break
		}
	}
	select {
	case <-released:
		t.Fatal("the host may go down in the middle of a request")
	default:
	}
	b.list(b.c1, false) // what only tells goes on
	close(wait)
	if err := <-slow; err != nil {
		t.Error(err)
	}
	<-released
	b.agent.release = func() {}
	b.agent.heard(event.Shutdown{Starting: false})
	b.agent.work.Go(func() {})
	for api.Busy.Is(b.c1.Post(t.Context(), api.PathDelete, api.NameRequest{Name: "nope"}, nil)) {
		time.Sleep(time.Millisecond)
	}
}

func TestASourceThatFailsIsTriedAgainAndMeanwhileOneLooks(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var runs atomic.Int32
	up := make(chan struct{})
	b.agent.hears = true
	b.agent.hear(ctx, []Source{{Name: "test", Volumes: true, Run: func(ctx context.Context, emit func(event.Event)) error {
		if runs.Add(1) == 1 {
			return errors.New("not yet")
		}
		close(up)
		<-ctx.Done()
		return nil
	}}})
	if got := b.agent.listAge(); got != listAge {
		t.Errorf("deaf, a report may be %v old", got)
	}
	<-up
	within(t, "hearing, a report may be old", func() bool { return b.agent.listAge() == heardAge })
}

func TestTheBusHearsOfEveryChange(t *testing.T) {
	b := newBench(t)
	b.follow()
	v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	b.told(1)
	b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "a", Size: "2G"}, "")
	b.told(2)
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "a"}, "")
	b.told(3)
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "a"}, "")
	b.told(4)
	b.bus.mu.Lock()
	defer b.bus.mu.Unlock()
	var got []string
	for _, e := range b.bus.signals {
		got = append(got, fmt.Sprintf("%s %s %v", e.Signal, e.Name, e.Details))
		if e.Object != bus.VolumePath(v.ID) {
			t.Errorf("of object %s", e.Object)
		}
	}
	want := fmt.Sprintf("VolumeCreated c1/a map[], VolumeResized c1/a map[Size:%d], VolumeDeleted c1/a map[], VolumePurged c1/a map[]", 2<<30)
	if all := strings.Join(got, ", "); all != want {
		t.Errorf("heard %s", all)
	}
}

// TestWhatTheBusTellsCanBeSeen looks at what is shown at the moment of each signal.
func TestWhatTheBusTellsCanBeSeen(t *testing.T) {
	b := newBench(t)
	b.follow()
	v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	b.told(1)
	b.post(b.admin, api.PathMount, api.MountRequest{Name: "c1/a", Path: "/x"}, "")
	b.told(2)
	within(t, "it is told that the volume has its device", func() bool {
		b.bus.mu.Lock()
		defer b.bus.mu.Unlock()
		return slices.ContainsFunc(b.bus.activity, func(e bus.Event) bool {
			return e.Signal == bus.VolumeChanged && e.Object == bus.VolumePath(v.ID) && e.Details["Active"] == "true"
		})
	})
	b.post(b.admin, api.PathDelete, api.NameRequest{Name: "c1/a"}, "")
	b.told(3)
	b.post(b.c1, api.PathPurge, api.NameRequest{Name: "a"}, "")
	b.told(4)
	reports := b.lvm.Calls("Report")
	b.agent.guests.mu.Lock()
	b.agent.guests.all[b.guest1.Key()] = b.guest1 // it started, and no volume changed
	b.agent.guests.mu.Unlock()
	b.agent.sayContainer(bus.ContainerStarted, b.guest1.Container)
	b.told(5)
	b.agent.guests.mu.Lock()
	delete(b.agent.guests.all, b.guest1.Key())
	b.agent.guests.mu.Unlock()
	b.agent.sayContainer(bus.ContainerStopped, b.guest1.Container)
	b.told(6)
	if n := b.lvm.Calls("Report"); n != reports {
		t.Errorf("LVM was asked %d times for containers", n-reports)
	}
	b.bus.mu.Lock()
	defer b.bus.mu.Unlock()
	for i, want := range []struct {
		signal bus.Signal
		object bus.Path
		there  bool
		state  string
	}{
		{bus.VolumeCreated, bus.VolumePath(v.ID), true, "stopped"},
		{bus.Mounted, bus.VolumePath(v.ID), true, "stopped"},
		{bus.VolumeDeleted, bus.VolumePath(v.ID), true, "stopped"},
		{bus.VolumePurged, bus.VolumePath(v.ID), true, "stopped"},
		{bus.ContainerStarted, bus.ContainerPath("c1", "t1"), false, "running"},
		{bus.ContainerStopped, bus.ContainerPath("c1", "t1"), false, "stopped"},
	} {
		e, tree := b.bus.signals[i], b.bus.seen[i]
		if e.Signal != want.signal || e.Object != want.object || (len(tree.Volumes) == 1) != want.there || len(tree.Containers) != 2 || tree.Containers[0].State != want.state {
			t.Errorf("%s of %s with %d volumes and %+v; want %+v", e.Signal, e.Object, len(tree.Volumes), tree.Containers, want)
		}
	}
}

func TestWhatWentIsShownUntilItIsTold(t *testing.T) {
	b := newBench(t)
	v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
	was := b.agent.store.latest()
	b.destroy(b.c1, "a")
	now := b.agent.store.latest()
	shown := func(told *View) []api.Volume {
		b.agent.publish(now, told)
		return b.bus.tree.Volumes
	}
	if all := shown(was); len(all) != 1 || all[0].ID != v.ID {
		t.Errorf("before it is told there are %+v", all)
	}
	if all := shown(now); len(all) != 0 {
		t.Errorf("when it was told there are %+v", all)
	}
}

func TestAHeraldKeepsTheOrderOfWhatHappenedToOneObject(t *testing.T) {
	h := newHerald()
	for _, e := range []bus.Event{
		{Signal: bus.VolumeCreated, Object: "a"}, {Signal: bus.VolumePurged, Object: "b"}, {Signal: bus.VolumePurged, Object: "a"}, {Signal: bus.VolumeCreated, Object: "c"},
	} {
		h.say(e)
	}
	before, after, _ := h.take()
	if got := fmt.Sprint(before, after); got != "[{VolumePurged b  map[]}] [{VolumeCreated a  map[]} {VolumePurged a  map[]} {VolumeCreated c  map[]}]" {
		t.Error(got)
	}
	if before, after, _ := h.take(); len(before)+len(after) != 0 {
		t.Error("told twice")
	}
}

// diary is what was logged.
type diary struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *diary) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func TestTheJournalHearsOfWhatNoEventTold(t *testing.T) {
	event1 := func(b *bench) { b.agent.heard(event.VolumeChanged{}) }
	for name, test := range map[string]struct {
		before, after func(b *bench) // of a look
		want          string
	}{
		"a change that no event told": {before: func(b *bench) { b.hide(t) }, want: "what=changed"},
		"an activation":               {before: func(b *bench) { b.wake(t) }, want: "what=changed"},
		"a volume that went":          {before: func(b *bench) { b.lvm.Edit(testVG, b.volumes()[0].Name, func(v *lvm.Volume) { v.Tags = nil }) }, want: "what=purged"},
		"nothing":                     {},
		"a change of our own":         {before: func(b *bench) { b.post(b.admin, api.PathSet, api.SetRequest{Name: "a", Visibility: "hidden"}, "") }},
		"a change with an event":      {before: func(b *bench) { b.hide(t); event1(b) }},
		"an event that is late":       {before: func(b *bench) { b.hide(t) }, after: event1},
		"deaf":                        {before: func(b *bench) { b.agent.ears.missing.Add(1); b.hide(t) }},
		"deaf until a moment ago": {before: func(b *bench) { b.hide(t) }, after: func(b *bench) {
			b.agent.ears.missing.Add(1)
			b.agent.ears.heard.Add(1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			var j diary
			b.agent.log = slog.New(slog.NewTextHandler(&j, nil))
			b.agent.hears, b.agent.ears.late = true, 3*time.Second
			b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
			look := func() {
				if _, err := b.agent.store.current(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
			}
			look()
			if test.before != nil {
				test.before(b)
			}
			look()
			if test.after != nil {
				test.after(b)
			}
			look() // what was found once is not found again
			var lines []string
			said := func() bool {
				j.mu.Lock()
				defer j.mu.Unlock()
				lines = nil
				for line := range strings.Lines(j.text.String()) {
					if strings.Contains(line, "events missed") {
						lines = append(lines, line)
					}
				}
				return len(lines) > 0
			}
			if test.want != "" {
				within(t, "the journal tells of it", said)
			}
			time.Sleep(2 * b.agent.ears.late) // it would be told by then
			said()
			if test.want == "" && len(lines) > 0 || test.want != "" && (len(lines) != 1 || !strings.Contains(lines[0], test.want)) {
				t.Errorf("the journal says %q, want %q", lines, test.want)
			}
		})
	}
}

// hide makes the first volume hidden behind the agent's back.
func (b *bench) hide(t *testing.T) {
	t.Helper()
	b.lvm.Edit(testVG, b.volumes()[0].Name, func(v *lvm.Volume) {
		for i, tag := range v.Tags {
			v.Tags[i] = lvm.Tag(strings.Replace(string(tag), "lls.v=v", "lls.v=h", 1))
		}
	})
}

// wake has the first volume's device appear behind the agent's back.
func (b *bench) wake(t *testing.T) {
	t.Helper()
	err := b.lvm.Write(t.Context(), testVG, func(w lvm.Writer) error { return w.Activate(t.Context(), b.volumes()[0].Name) })
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryEventHasASignal(t *testing.T) {
	all := signals()
	for _, what := range []string{api.EventCreated, api.EventChanged, api.EventDeleted, api.EventUndeleted, api.EventPurged, api.EventExpiring, api.EventFull, api.EventMounted, api.EventUnmounted} {
		if all[what] == "" {
			t.Errorf("root's programs do not hear of %q", what)
		}
	}
}
