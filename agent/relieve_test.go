package agent

import (
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/policy"
)

// TestAPoolThatIsTooFullTakesTheOldestTrashFirst shows what goes before its time, and what does not.
func TestAPoolThatIsTooFullTakesTheOldestTrashFirst(t *testing.T) {
	b := newBench(t)
	var made []api.Volume
	for _, name := range []string{"oldest", "old", "young", "live"} {
		made = append(made, b.post(b.c1, api.PathCreate, api.CreateRequest{Name: name, Size: "1G"}, ""))
	}
	now := b.agent.opts.Now()
	b.agent.opts.Now = func() time.Time { return now }
	for _, v := range made[:3] {
		b.post(b.c1, api.PathDelete, api.NameRequest{Name: v.Name}, "")
		now = now.Add(time.Second)
	}
	look := func(step time.Duration, times int) {
		for range times {
			now = now.Add(step)
			b.agent.tend(t.Context(), step)
		}
	}
	look(policy.MaxStep, 13) // a little over an hour
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "young"}, "")
	b.post(b.c1, api.PathDelete, api.NameRequest{Name: "young"}, "")
	look(time.Second, 2)
	if got := b.names(b.c1, true); got != "live=live oldest=trash old=trash young=trash" && got != "live=live old=trash oldest=trash young=trash" {
		t.Fatalf("before the pool is full: %s", got)
	}
	b.write(testConfig + "data_percent = 90.0\n[growth.data]\nthreshold = 0.0\n")
	if err := b.agent.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.lvm.SetFill(testVG, testPool, 91, 1)
	for _, want := range []string{"live=live old=trash young=trash", "live=live young=trash", "live=live young=trash"} {
		look(time.Second, 1)
		if got := b.names(b.c1, true); got != want {
			t.Errorf("%s is left, want %s", got, want)
		}
	}
	b.lvm.SetFill(testVG, testPool, 50, 1)
	look(time.Second, 2)
	if r := b.fresh(catalog.ID(made[2].ID)); r == nil || r.State != catalog.Trash {
		t.Errorf("what was deleted a moment ago is %+v", r)
	}
}
