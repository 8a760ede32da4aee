package agent

import (
	"testing"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/lvm"
)

// Nobody is refused for what a pool was: room that was made, and a tag that is back, are seen at once.
func TestAPoolThatWillDoAgainIsUsedAtOnce(t *testing.T) {
	b := newBench(t)
	b.lvm.SetFill(testVG, testPool, 99, 1)
	b.agent.store.setPools(b.agent.config().Pools)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, api.Full)
	b.lvm.SetFill(testVG, testPool, 10, 1)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")

	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.Tags = nil })
	b.agent.store.setPools(b.agent.config().Pools)
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "b", Size: "1G"}, api.NeedsAdmin)
	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.Tags = []lvm.Tag{catalog.PoolTag("main")} })
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "b", Size: "1G"}, "")
}

func TestUndeleteOfAnothersVisibleVolumeIsRefusedByRights(t *testing.T) {
	b := newBench(t)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "data", Size: "1G"}, "")
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "data"}, api.Denied)
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "nosuch"}, api.NotFound)
	b.post(b.admin, api.PathDelete, api.NameRequest{Name: "data"}, "")
	b.post(b.c1, api.PathUndelete, api.UndeleteRequest{Name: "data"}, api.NotFound)
}
