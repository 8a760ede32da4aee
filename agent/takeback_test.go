package agent

import (
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/mount"
)

// Udev looks at a device that was mounted, or was about to be, for a moment.
func TestWhatIsTakenBackMayBeOpenForAMoment(t *testing.T) {
	b := newBench(t)
	k := newKernel(b)
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
	before := len(b.volumes())
	k.fail["/nope"] = &mount.ErrTarget{Path: "/nope", Why: "no such directory", Kind: mount.Missing}
	k.seen = func(string) {
		for _, v := range b.volumes() {
			if !strings.HasPrefix(string(v.Name), "d.") {
				b.lvm.SetOpen(testVG, v.Name, true)
				time.AfterFunc(2*takeBackEvery, func() { b.lvm.SetOpen(testVG, v.Name, false) })
			}
		}
	}
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G", Mount: "/nope"}, api.BadPath)
	b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "d", Name: "s", Mount: "/nope"}, api.BadPath)
	if all := b.volumes(); len(all) != before {
		t.Errorf("left are %+v", all)
	}
}
