package agent

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/mount"
)

func TestReplayMountsWhatTheFstabSaysAndTellsOfTheRest(t *testing.T) {
	b := newBench(t)
	hidden := false
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "hid", Size: "1G", Visible: &hidden}, "")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "other", Size: "1G"}, "")
	b.mounts.mu.Lock()
	b.mounts.fail["/gone"] = &mount.ErrTarget{Path: "/gone", Why: "no such directory", Kind: mount.Missing}
	b.mounts.fstab = strings.Join([]string{
		"# mounts of ours",
		"proc /proc proc defaults 0 0",
		"lls:mine /data/deep/mine lls noauto,x-lls.auto 0 0",
		"lls:d /data ext4 ro 0 0",
		"lls:hid /h ext4 x-lls.required 0 0",
		"UUID=uuid-of-other /o ext4 noatime 0 0",
		"/dev/mf/mine /bare ext4 defaults 0 0",
		"lls:mine /gone lls x-lls.auto 0 0",
		"lls:mine /proc/1 ext4 nofail 0 0",
		"lls:mine /byhand lls noauto 0 0",
	}, "\n")
	b.mounts.mu.Unlock()
	before := b.lvm.Calls("Activate")
	var done []api.Replayed
	if err := b.c1.Post(t.Context(), api.PathReplay, api.ReplayRequest{}, &done); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range done {
		got = append(got, fmt.Sprintf("%d:%v:%v", d.Line, d.Mounted, d.Required))
		if !d.Mounted && d.Problem == "" {
			t.Errorf("line %d is not mounted, and nothing says why", d.Line)
		}
		if d.Line == 7 && !strings.Contains(d.Warning, "lls:mine /bare lls noauto,x-lls.auto") {
			t.Errorf("line 7 warns %q", d.Warning)
		}
	}
	if all := strings.Join(got, " "); all != "9:false:false 4:true:false 5:false:true 6:true:false 7:true:false 8:false:false 3:true:false" {
		t.Errorf("replayed %s", all)
	}
	var targets []string
	for _, r := range b.mounts.done {
		targets = append(targets, r.Target)
		if !r.Replay {
			t.Errorf("%s may be where systemd mounts over it", r.Target)
		}
	}
	if all := strings.Join(targets, " "); all != "/data /o /bare /gone /data/deep/mine" {
		t.Errorf("mounted %s", all)
	}
	// The look for the UUID activates all of its own, the plan the others at once.
	if n := b.lvm.Calls("Activate") - before; n > 2 {
		t.Errorf("%d commands activated 3 volumes", n)
	}
}

func TestInfoTellsWhichLineAsksForAVolumeThatIsNotThere(t *testing.T) {
	b := newBench(t)
	b.withTree()
	b.setFstab("# x", "lls:gone /data lls noauto,x-lls.auto", "lls:c1/gone /srv lls noauto,x-lls.auto,suid", "lls:other /o lls noauto,x-lls.auto")
	b.replayed()
	all := []string{
		`line 3 of /etc/fstab asks for it at /srv: not allowed or not known: "suid"; better: lls:c1/gone /srv lls noauto,x-lls.auto 0 0`,
		"line 2 of /etc/fstab asks for it at /data: cannot mount gone: there is no such volume",
	}
	for _, tt := range []struct {
		client *api.Client
		name   string
		want   []string
	}{
		{b.c1, "gone", all}, {b.c1, "c1/gone", all}, {b.c1, "never", nil}, {b.admin, "gone", nil},
	} {
		var v api.Volume
		err := tt.client.Get(t.Context(), api.PathVolume, url.Values{"name": {tt.name}}, &v)
		if err == nil {
			t.Fatalf("there is a volume %+v", v)
		}
		if e := api.AsError(err); e.Code != api.NotFound || e.Message != "cannot show "+tt.name+": there is no such volume" || !slices.Equal(e.Problems, tt.want) {
			t.Errorf("%s: %v, %q", tt.name, e, e.Problems)
		}
	}
}

func TestAnotherAgentKnowsOfTheReplayAndDoesNotRepeatIt(t *testing.T) {
	b := newBench(t)
	b.agent.opts.Trees = t.TempDir()
	if err := os.Mkdir(filepath.Join(b.agent.opts.Trees, b.guest1.Key()), 0o700); err != nil {
		t.Fatal(err)
	}
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
	b.mounts.mu.Lock()
	b.mounts.fstab = "lls:mine /data lls x-lls.auto 0 0\nlls:no /mnt lls x-lls.auto 0 0\n"
	b.mounts.mu.Unlock()
	first := b.replayed()
	if len(first) != 2 || len(b.mounts.done) != 1 {
		t.Fatalf("replayed %+v", first)
	}
	b.guest1.setMemory(nil) // as a new agent has it
	if again := b.replayed(); !slices.Equal(again, first) || len(b.mounts.done) != 1 {
		t.Errorf("replayed again: %+v", again)
	}
	if known := b.guest1.fstab(); !slices.Equal(known, first) {
		t.Errorf("what is known is %+v, and was %+v", known, first)
	}
	for what, text := range map[string]string{"another run": `{"run":"1 1","lines":[]}`, "no run": `{}`, "nonsense": "1 1"} {
		before := len(b.mounts.done)
		b.guest1.setMemory(nil)
		if err := os.WriteFile(b.agent.memoryOf(b.guest1), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if again := b.replayed(); len(again) != 2 || len(b.mounts.done) != before+1 {
			t.Errorf("with a memory of %s: %+v", what, again)
		}
	}
}

// replayed is what comes of a replay at the start of the container.
func (b *bench) replayed() []api.Replayed {
	return (&call{agent: b.agent}).replayFirst(b.t.Context(), b.guest1).Lines
}

func TestOneSocketCannotFillTheJournal(t *testing.T) {
	var j throttle
	now := time.Unix(1000, 0)
	written := 0
	for range 10 * throttleLines {
		if _, ok := j.line(now); ok {
			written++
		}
	}
	if written != throttleLines {
		t.Errorf("%d lines at once", written)
	}
	if dropped, ok := j.line(now.Add(throttleWindow)); !ok || dropped != 9*throttleLines {
		t.Errorf("later: %d untold, %v", dropped, ok)
	}
	if _, ok := j.line(now.Add(-time.Hour)); !ok {
		t.Error("a clock that goes back keeps silent")
	}
}
