package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/mount"
	"lls/lvm"
)

// late replays as the reconciliation does, as an agent that starts when fresh, and gives the lines: + mounted, - not, ? to be tried again.
func (b *bench) late(fresh bool) string {
	b.t.Helper()
	if fresh {
		b.guest1.setMemory(nil)
	}
	b.agent.replayLate(b.t.Context(), b.guest1)
	return said(b.guest1.fstab())
}

func said(lines []api.Replayed) string {
	var all []string
	for _, l := range lines {
		sign := "-"
		if l.Mounted {
			sign = "+"
		} else if l.Later {
			sign = "?"
		}
		all = append(all, fmt.Sprint(l.Line, sign))
	}
	return strings.Join(all, " ")
}

func (b *bench) failAt(path string, err error) {
	b.mounts.mu.Lock()
	defer b.mounts.mu.Unlock()
	b.mounts.fail[path] = err
}

func (b *bench) targets() string {
	b.mounts.mu.Lock()
	defer b.mounts.mu.Unlock()
	var all []string
	for _, r := range b.mounts.done {
		all = append(all, r.Target)
	}
	b.mounts.done = nil
	return strings.Join(all, " ")
}

// is compares, and says what was to be seen.
func is(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestOnlyLinesThatFailedForTheHostsReasonsAreTriedAgain(t *testing.T) {
	b := newBench(t)
	b.withTree()
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
	b.setFstab("lls:mine /ok lls", "lls:mine /host lls", "lls:mine /gone lls", "lls:mine /full lls", "lls:mine /proc/x lls", "lls:no /no lls", "lls:mine /stuck lls")
	b.failAt("/host", errors.New("no luck"))
	b.failAt("/gone", &mount.ErrTarget{Path: "/gone", Kind: mount.Missing})
	b.failAt("/full", &mount.ErrOccupied{Path: "/full"})
	b.failAt("/stuck", mount.ErrStuck)
	is(t, "first", b.late(false), "5- 1+ 2? 3- 4- 6- 7?")
	is(t, "first", b.targets(), "/ok /host /gone /full /stuck")
	b.failAt("/gone", nil)
	is(t, "again", b.late(false), "5- 1+ 3- 4- 6- 2? 7?")
	is(t, "again", b.targets(), "/host /stuck")
	b.failAt("/stuck", nil)
	is(t, "an agent that starts", b.late(true), "5- 1+ 3- 4- 6- 2? 7+")
	is(t, "an agent that starts", b.targets(), "/host /stuck")

	b.setFstab("# another line above", "lls:mine /ok lls", "lls:mine /new lls", "lls:mine /host lls")
	b.failAt("/host", nil)
	is(t, "after an edit", b.late(false), "5- 1+ 3- 6- 7+ 4+")
	is(t, "after an edit", b.targets(), "/host") // neither what was decided nor what nobody asked for yet
	is(t, "at the end", b.late(false)+b.targets(), "5- 1+ 3- 6- 7+ 4+")
	is(t, "for another agent", b.late(true)+b.targets(), "5- 1+ 3- 6- 7+ 4+")
}

func TestLinesAreTriedAgainForAWhileOnly(t *testing.T) {
	b := newBench(t)
	b.withTree()
	now := time.Now()
	b.agent.opts.Now = func() time.Time { return now }
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
	b.setFstab("lls:mine /host lls")
	b.failAt("/host", errors.New("no luck"))
	is(t, "first", b.late(false), "1?")
	now = now.Add(retryFor - time.Second)
	is(t, "in time", b.late(false), "1?")
	is(t, "tried", b.targets(), "/host /host")
	now = now.Add(time.Second)
	b.failAt("/host", nil)
	is(t, "too late", b.late(false)+b.targets(), "1-")
	is(t, "for another agent", b.late(true)+b.targets(), "1-")
}

func TestAnAgentThatStartsTriesOnceMoreWhateverTheTime(t *testing.T) {
	b := newBench(t)
	b.withTree()
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
	b.setFstab("lls:mine /a lls", "lls:mine /b lls")
	close(b.agent.stopping)
	is(t, "while the agent stops", b.late(false)+b.targets(), "1? 2?")
	b.agent.stopping = make(chan struct{})
	later := time.Now().Add(24 * time.Hour)
	b.agent.opts.Now = func() time.Time { return later }
	is(t, "a day later", b.late(true), "1+ 2+")
}

func TestAnFstabThatCannotBeReadIsReadAgain(t *testing.T) {
	for err, again := range map[error]bool{mount.ErrStuck: true, context.DeadlineExceeded: true, os.ErrPermission: false, mount.ErrTooLarge: false, mount.ErrNotRegular: false} {
		b := newBench(t)
		b.withTree()
		b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
		b.setFstab("lls:mine /a lls")
		b.mounts.dark = err
		if m := (&call{agent: b.agent}).replayFirst(t.Context(), b.guest1); !m.Unread || m.Again != again {
			t.Errorf("%v: %+v", err, m)
		}
		b.mounts.dark = nil
		want := "0-"
		if again {
			want = "1+"
		}
		is(t, err.Error(), b.late(false), want)
	}
}

func TestAVolumeGroupThatComesLate(t *testing.T) {
	b := newBench(t)
	b.withTree()
	b.write(testConfig + "[pools.late]\nvg = \"late\"\nlv = \"pool\"\n")
	if err := b.agent.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.setFstab("lls:mine /a lls", "UUID=uuid-of-tagged /b ext4 nofail", "LABEL=root / ext4", "UUID=1-2 /efi ext4", "UUID=1-3 /c ext4 x-lls.auto")
	is(t, "before", b.late(false), "5? 1?")
	is(t, "still", b.late(false), "5? 1?")
	b.lvm.AddGroup("late", 100<<30)
	if err := b.lvm.CreatePool(t.Context(), lvm.CreatePool{VG: "late", Name: "pool", Size: 50 << 30, Tags: []lvm.Tag{catalog.PoolTag("late")}}); err != nil {
		t.Fatal(err)
	}
	b.agent.store.forget() // an event
	for _, name := range []string{"mine", "tagged"} {
		b.post(b.c1, api.PathCreate, api.CreateRequest{Name: name, Size: "1G", Pool: "late"}, "")
	}
	is(t, "then", b.late(false), "5- 1+ 2+")
	is(t, "then", b.targets(), "/a /b")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "more", Size: "1G"}, "")
	b.setFstab("lls:more /more lls")
	is(t, "decided", b.late(false)+b.targets(), "5- 1+ 2+")
}

func TestAGuestWhoseInjectionFailedAtFirstIsReplayedAndReady(t *testing.T) {
	b := newBench(t)
	b.withTree()
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
	b.setFstab("lls:mine /a lls")
	done := b.agent.guests.hook(b.guest1.Key())
	b.agent.mend(t.Context(), b.guest1)
	if b.guest1.ready.Load() {
		t.Error("liblxc would be asked while the hook runs")
	}
	done()
	ctx, cancel := context.WithCancel(t.Context())
	b.agent.mend(ctx, b.guest1)
	cancel() // as monitorEnded does
	for end := time.Now().Add(10 * time.Second); b.guest1.memory() == nil && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if is(t, "then", said(b.guest1.fstab()), "1+"); !b.guest1.ready.Load() {
		t.Error("it is not ready")
	}
}

func TestAHookLearnsWhichContainersAreNotServed(t *testing.T) {
	b := newBench(t)
	for what, c := range map[string]struct {
		name string
		pid  int
		want api.Code
	}{
		"another container":          {"another", os.Getpid(), api.NotFound},
		"one with the host's mounts": {"c1", os.Getpid(), api.NotFound},
		"somebody else's process":    {"c1", 1, api.Denied},
	} {
		var answer api.HookAnswer
		if err := b.admin.Post(t.Context(), api.PathHookStart, api.HookStart{Name: c.name, LXCPath: "/var/lib/lxc", PID: c.pid}, &answer); !c.want.Is(err) {
			t.Errorf("%s: %+v, %v", what, answer, err)
		}
	}
}

// anew is as if the container started again.
func (b *bench) anew() {
	b.guest1.setMemory(nil)
	_ = os.Remove(b.agent.memoryOf(b.guest1))
}

func TestAReplayNamesItsLinesAndDoesNotFloodTheJournal(t *testing.T) {
	b := newBench(t)
	b.withTree()
	var journal bytes.Buffer
	b.agent.log = slog.New(slog.NewTextHandler(&journal, nil))
	now := time.Now()
	b.agent.opts.Now = func() time.Time { return now }
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
	b.setFstab("lls:mine /a lls", "lls:mine /run/x lls", "lls:c1/mine /b lls suid", "lls:host/nothere /c lls")
	b.replayed()
	for _, want := range []string{
		`line=1 volume=mine path=/a`, `line=2 volume=mine path=/run/x problem="line 2: cannot mount at`,
		`line=3 volume=c1/mine path=/b problem="line 3: not allowed`, `line=4 volume=host/nothere path=/c problem="cannot mount host/nothere`,
	} {
		if !strings.Contains(journal.String(), want) {
			t.Errorf("the journal has no %s:\n%s", want, &journal)
		}
	}
	var info api.Volume
	if err := b.c1.Get(t.Context(), api.PathVolume, map[string][]string{"name": {"mine"}}, &info); err != nil {
		t.Fatal(err)
	}
	is(t, "lls info mine", said(info.Fstab), "2- 3- 1+")

	lines := []string{"lls:mine /a lls"}
	for i := range 256 {
		lines = append(lines, fmt.Sprintf("lls:no%d /n%d lls", i, i))
	}
	b.setFstab(lines...)
	journal.Reset()
	for range 20 {
		b.anew()
		if n := len(b.replayed()); n != 257 {
			t.Fatalf("%d lines", n)
		}
	}
	if n := strings.Count(journal.String(), "fstab"); n > throttleLines || n < maxTold || !strings.Contains(journal.String(), "others=237") {
		t.Errorf("%d lines in the journal", n)
	}
	now = now.Add(throttleWindow)
	b.anew()
	journal.Reset()
	if b.replayed(); strings.Count(journal.String(), "level=WARN") != maxTold {
		t.Errorf("later:\n%s", &journal)
	}
}
