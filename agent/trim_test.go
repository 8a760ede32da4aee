package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/filesystem"
	"lls/agent/history"
	"lls/agent/mount"
	"lls/lvm"
)

// fakeTrimmer notes what is trimmed.
type fakeTrimmer struct {
	mu      sync.Mutex
	done    []string
	most    int // at once
	now     int
	err     error
	started chan struct{} // when set, each trim sends here and waits for go
	resume  chan struct{}
}

func (f *fakeTrimmer) Trim(ctx context.Context, device string, _ filesystem.Type, how filesystem.Trim) (lvm.Size, error) {
	f.mu.Lock()
	f.done = append(f.done, strings.Split(device[strings.LastIndexByte(device, '/')+1:], ".")[0])
	f.now++
	f.most = max(f.most, f.now)
	started, resume, err := f.started, f.resume, f.err
	f.mu.Unlock()
	if started != nil {
		started <- struct{}{}
		select {
		case <-resume:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now--
	if how.Patience == 0 {
		err = errors.New("no patience")
	}
	return 5 << 20, err
}

func (f *fakeTrimmer) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(slices.Values(f.done))
}

// mountAll has all active volumes mounted in the container.
func (b *bench) mountAll(names ...string) {
	for _, n := range names {
		b.post(b.c1, api.PathMount, api.MountRequest{Name: n, Path: "/" + n}, "")
	}
	b.agent.points = func(g *guest, _ mount.Keep) (all []mount.Point, _ error) {
		for _, v := range b.volumes() {
			if v.Active && g == nil { // by the number that a report gives, and by what the fake device says right after activation
				major, minor, _ := b.dev.Number(v.VG, v.Name)
				all = append(all, mount.Point{Major: major, Minor: minor, Path: "/" + string(v.Name)}, mount.Point{Major: v.Major, Minor: v.Minor, Path: "/" + string(v.Name)})
			}
		}
		return all, nil
	}
}

// trimmed waits until what was due has been trimmed.
func (b *bench) trimmed() {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		b.agent.trims.mu.Lock()
		n := len(b.agent.trims.pools)
		b.agent.trims.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(end) {
			b.t.Fatal("trimming does not end")
		}
	}
}

func (b *bench) make(names ...string) {
	for _, n := range names {
		b.post(b.c1, api.PathCreate, api.CreateRequest{Name: n, Size: "1G"}, "")
	}
}

func (b *bench) sinceTrim(id string) (t history.Trim) {
	b.agent.past.with(func(h *history.History) { t = h.Trims[id] })
	return t
}

func TestMountedVolumesAreTrimmedByTheClockAndUnderPressure(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + "[trim]\nevery = \"2h\"\npressure = 80.0\n")
	b.make("a", "b", "idle")
	b.mountAll("a", "b")
	tend := func() []string {
		t.Helper()
		b.trims.done = nil
		b.agent.tend(t.Context(), 5*time.Minute)
		b.trimmed()
		return b.trims.names()
	}
	rounds := 0
	for ; rounds < 100; rounds++ {
		if got := tend(); len(got) > 0 {
			if !slices.Equal(got, []string{"a", "b"}) {
				t.Fatalf("trimmed %q", got)
			}
			break
		}
	}
	if rounds != 24 { // the first look finds them mounted, 24 more are two hours
		t.Errorf("trimmed after %d looks", rounds)
	}
	b.lvm.SetFill(testVG, testPool, 85, 1)
	for i := range 20 {
		if got := tend(); (len(got) == 2) != (i == 11) { // an hour later, not before
			t.Fatalf("under pressure, look %d: %q", i, got)
		}
	}
	if b.trims.most != 1 {
		t.Errorf("%d at once", b.trims.most)
	}
	for _, v := range b.volumes() {
		id := string(v.Name[strings.IndexByte(string(v.Name), '.')+1:])
		if got := b.sinceTrim(id); got.Before != (v.Name[0] != 'i') {
			t.Errorf("%s: %+v", v.Name, got)
		}
	}
	b.destroy(b.c1, "idle")
	tend()
}

func TestWhatCannotBeTrimmedIsNotTriedEveryMinute(t *testing.T) {
	for _, tt := range []struct {
		err   error
		tries int
	}{{filesystem.ErrReadOnly, 1}, {filesystem.ErrSlow, 1}, {filesystem.ErrNotMounted, 3}} {
		b := newBench(t)
		b.reload(testConfig + "[trim]\npressure = 80.0\n")
		b.make("a")
		b.mountAll("a")
		b.lvm.SetFill(testVG, testPool, 85, 1)
		b.trims.err = tt.err
		for range 3 {
			b.agent.tend(t.Context(), time.Minute)
			b.trimmed()
		}
		if got := len(b.trims.names()); got != tt.tries {
			t.Errorf("%v: tried %d times", tt.err, got)
		}
	}
}

func TestAskedForATrim(t *testing.T) {
	b := newBench(t)
	b.make("a", "b", "c")
	hers := b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "hers", Size: "1G"}, "")
	b.mountAll("a", "b")
	b.post(b.admin, api.PathMount, api.MountRequest{Name: "hers", Path: "/hers"}, "")
	ask := func(who *api.Client, name string) (out []api.Trimmed, err error) {
		err = who.Post(t.Context(), api.PathTrim, api.TrimRequest{Name: name}, &out)
		return out, err
	}
	if out, err := ask(b.c1, "a"); err != nil || len(out) != 1 || out[0].Name != "a" {
		t.Errorf("%+v, %v", out, err)
	}
	b.post(b.c1, api.PathTrim, api.TrimRequest{Name: "a"}, api.Busy) // a moment later
	b.post(b.c1, api.PathTrim, api.TrimRequest{Name: "c"}, api.NotFound)
	b.post(b.c1, api.PathTrim, api.TrimRequest{Name: "hers"}, api.Denied)
	if err := b.c1.Post(t.Context(), api.PathTrim, api.TrimRequest{Name: "nosuch"}, nil); !api.NotFound.Is(err) {
		t.Error(err)
	}
	out, err := ask(b.c1, "")
	if err != nil || len(out) != 2 || out[0].Problem == "" || out[1].Problem != "" || out[1].Name != "b" {
		t.Errorf("all of c1: %+v, %v", out, err)
	}
	if got := b.trims.names(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("trimmed %q", got)
	}
	b.trims.done = nil
	if out, err = ask(b.admin, ""); err != nil || len(out) != 3 {
		t.Errorf("all: %+v, %v", out, err)
	}
	if got := b.trims.names(); !slices.Equal(got, []string{"a", "b", "hers"}) {
		t.Errorf("trimmed %q", got)
	}
	if got := b.sinceTrim(hers.ID); !got.Before {
		t.Errorf("not noted: %+v", got)
	}
	for err, code := range map[error]api.Code{
		filesystem.ErrReadOnly: api.Denied, filesystem.ErrSlow: api.Busy, filesystem.ErrNotMounted: api.NotFound, filesystem.ErrNoDiscard: api.NeedsAdmin,
	} {
		b.trims.err = err
		b.post(b.admin, api.PathTrim, api.TrimRequest{Name: "hers"}, code)
	}
}

func TestOneVolumeOfAPoolIsTrimmedAtATime(t *testing.T) {
	b := newBench(t)
	b.make("a", "b")
	b.mountAll("a", "b")
	b.trims.started, b.trims.resume = make(chan struct{}), make(chan struct{})
	answers := make(chan error, 2)
	for _, n := range []string{"a", "b"} {
		go func() { answers <- b.admin.Post(t.Context(), api.PathTrim, api.TrimRequest{Name: "c1/" + n}, nil) }()
	}
	select {
	case <-b.trims.started:
	case err := <-answers:
		t.Fatal(err)
	}
	first := "c1/" + b.trims.names()[0]
	b.post(b.admin, api.PathTrim, api.TrimRequest{Name: first}, api.Busy) // never two of a volume
	b.trims.resume <- struct{}{}
	<-b.trims.started
	b.trims.resume <- struct{}{}
	for range 2 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if b.trims.most != 1 {
		t.Errorf("%d at once", b.trims.most)
	}
	// A caller who goes away, and an agent that stops, end it.
	ctx, cancel := context.WithCancel(t.Context())
	go func() { answers <- b.admin.Post(ctx, api.PathTrim, api.TrimRequest{Name: "c1/a"}, nil) }()
	<-b.trims.started
	cancel()
	if err := <-answers; err == nil {
		t.Error("answered")
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		b.trims.mu.Lock()
		n := b.trims.now
		b.trims.mu.Unlock()
		if n == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it goes on")
		}
	}
	go func() { answers <- b.admin.Post(t.Context(), api.PathTrim, api.TrimRequest{Name: "c1/b"}, nil) }()
	<-b.trims.started
	close(b.agent.stopping)
	if err := <-answers; err == nil {
		t.Error("answered")
	}
}

func TestMountsDiscardWhereThePolicySaysSo(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + "[[rules]]\nvolume = \"eager\"\ntrim.discard = true\n")
	b.make("eager", "lazy")
	for name, want := range map[string]bool{"eager": true, "lazy": false} {
		b.post(b.c1, api.PathMount, api.MountRequest{Name: name, Path: "/x"}, "")
		if got := b.mounts.last().Discard; got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
