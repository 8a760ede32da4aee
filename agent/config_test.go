package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lls/agent/api"
)

// journal is a log that a test can read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) has(words string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Contains(j.text.String(), words)
}

func (b *bench) problems() []string {
	b.t.Helper()
	var s api.Status
	if err := b.admin.Get(b.t.Context(), api.PathStatus, nil, &s); err != nil {
		b.t.Fatal(err)
	}
	return s.Problems
}

func TestABadFileIsToldOfEverywhereAndChangesNothing(t *testing.T) {
	b := newBench(t)
	j := &journal{}
	b.agent.log = slog.New(slog.NewTextHandler(j, nil))
	b.write(strings.Replace(testConfig, "volumes = 5", "volumes = 1\ncolour = \"red\"\nsnapshots_per_minute = -1", 1))
	want := []string{
		b.config + ":7: limits.colour: no such key; there are data_percent, exclusive, metadata_percent, operations_per_minute, overcommit, size, snapshots, snapshots_per_minute, volumes",
		b.config + ":8: limits.snapshots_per_minute: -1 is no whole number from 0 to 2147483647",
	}
	stillOld := func(how string) {
		t.Helper()
		for n := range 2 { // of the one volume that the file speaks of
			b.post(b.c1, api.PathCreate, api.CreateRequest{Name: fmt.Sprintf("a%d", n), Size: "1G"}, "")
			b.post(b.c1, api.PathCreate, api.CreateRequest{Name: fmt.Sprintf("b%d", n), Size: "1G"}, "")
			b.destroy(b.c1, fmt.Sprintf("a%d", n))
			b.destroy(b.c1, fmt.Sprintf("b%d", n))
		}
		got := b.problems()
		for _, w := range want {
			if !slices.Contains(got, w+"; the old configuration stays in force") {
				t.Errorf("%s: the status does not say %q but %q", how, w, got)
			}
			if !j.has(strings.ReplaceAll(w, `"`, `\"`)) {
				t.Errorf("%s: the journal does not say %q", how, w)
			}
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	hup := make(chan os.Signal)
	var loop sync.WaitGroup
	loop.Go(func() { b.agent.loop(ctx, hup) })
	hup <- syscall.SIGHUP
	for end := time.Now().Add(10 * time.Second); !j.has("the old configuration stays in force"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody looked at the file after SIGHUP")
		}
	}
	stillOld("after SIGHUP")
	stop()
	loop.Wait()

	err := api.AsError(b.admin.Post(t.Context(), api.PathReload, api.Empty{}, nil))
	if err.Code != api.Malformed || err.Message != "cannot take the new configuration: it has 2 mistakes" || !slices.Equal(err.Problems, want) || !strings.Contains(err.Hint, b.config) {
		t.Errorf("reload says %+v", err)
	}
	stillOld("after a reload")

	b.write("[limits\n")
	err = api.AsError(b.admin.Post(t.Context(), api.PathReload, api.Empty{}, nil))
	if !strings.HasPrefix(err.Message, "cannot take the new configuration: "+b.config+":1: ") || err.Problems != nil {
		t.Errorf("reload says %+v", err)
	}
	if err := os.Remove(b.config); err != nil {
		t.Fatal(err)
	}
	err = api.AsError(b.admin.Post(t.Context(), api.PathReload, api.Empty{}, nil))
	if err.Code != api.Malformed || !strings.Contains(err.Message, b.config+" is gone, and it named pools") || len(b.agent.config().Pools) != 1 {
		t.Errorf("without the file, reload says %+v; pools: %+v", err, b.agent.config().Pools)
	}
	b.reload(testConfig)
	if got := b.problems(); len(got) != 0 {
		t.Errorf("after a good file the status says %q", got)
	}
}
