package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/lvm"
)

func TestIdlePace(t *testing.T) {
	for after, want := range map[time.Duration]time.Duration{
		0: time.Minute, time.Second: time.Second, 3 * time.Second: time.Second, 10 * time.Second: 2 * time.Second,
		5 * time.Minute: time.Minute, 24 * time.Hour: time.Minute,
	} {
		if got := idlePace(after); got != want {
			t.Errorf("idlePace(%v) is %v, want %v", after, got, want)
		}
	}
}

// TestIdle goes through five minutes by hand, with a volume that nobody uses, one that is open, and one that was open for a moment.
func TestIdle(t *testing.T) {
	b := newBench(t)
	now := time.Now()
	b.agent.opts.Now = func() time.Time { return now }
	b.agent.store.now = b.agent.opts.Now
	for _, name := range []string{"unused", "open", "between"} {
		b.post(b.admin, api.PathCreate, api.CreateRequest{Name: name, Size: "1G"}, "")
		b.post(b.admin, api.PathMount, api.MountRequest{Name: name, Path: "/" + name}, "") // which makes it active, and no mount
	}
	full := func(name string) lvm.Name {
		for _, v := range b.volumes() {
			if strings.HasPrefix(string(v.Name), name+".") {
				return v.Name
			}
		}
		t.Fatalf("no volume %s", name)
		return ""
	}
	b.lvm.SetOpen(testVG, full("open"), true)
	since := map[catalog.ID]time.Time{}
	pass := func(d time.Duration, active ...string) {
		t.Helper()
		now = now.Add(d)
		b.agent.idle(t.Context(), since)
		var got []string
		for _, name := range []string{"unused", "open", "between"} {
			for _, v := range b.volumes() {
				if v.Active && strings.HasPrefix(string(v.Name), name+".") {
					got = append(got, name)
				}
			}
		}
		if strings.Join(got, " ") != strings.Join(active, " ") {
			t.Errorf("active are %v, want %v", got, active)
		}
	}
	pass(0, "unused", "open", "between")
	b.lvm.SetOpen(testVG, full("between"), true)
	pass(2*time.Minute, "unused", "open", "between")
	b.lvm.SetOpen(testVG, full("between"), false)
	pass(2*time.Minute, "unused", "open", "between")
	pass(time.Minute, "open", "between")
	b.write("deactivate_after = \"0\"\n" + testConfig)
	if err := b.agent.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	pass(time.Hour, "open", "between")
	b.lvm.Edit(testVG, full("between"), func(v *lvm.Volume) { // deleted, as it is while somebody else has it open
		for i, tag := range v.Tags {
			if tag == "lls.s=live" {
				v.Tags[i] = lvm.Tag(fmt.Sprintf("lls.s=trash:%d", now.Unix()))
			}
		}
	})
	b.lvm.SetOpen(testVG, full("between"), true)
	pass(time.Second, "open", "between")
	b.lvm.SetOpen(testVG, full("between"), false) // its last close
	pass(time.Second, "open")
	b.post(b.admin, api.PathUndelete, api.UndeleteRequest{Name: "between"}, "")
	b.post(b.admin, api.PathMount, api.MountRequest{Name: "between", Path: "/between"}, "")
	b.write("deactivate_after = \"1m\"\n" + testConfig)
	if err := b.agent.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	pass(0, "open", "between") // counted from when it was said
	b.lvm.SetOpen(testVG, full("open"), false)
	pass(time.Minute, "open")
	pass(time.Minute)
}
