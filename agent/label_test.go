package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
)

// setFstab gives the containers another fstab.
func (b *bench) setFstab(lines ...string) {
	b.t.Helper()
	b.mounts.mu.Lock()
	defer b.mounts.mu.Unlock()
	b.mounts.fstab = strings.Join(lines, "\n")
}

// withTree gives the agent a directory for what it remembers of its containers.
func (b *bench) withTree() {
	b.t.Helper()
	b.agent.opts.Trees = b.t.TempDir()
	if err := os.Mkdir(filepath.Join(b.agent.opts.Trees, b.guest1.Key()), 0o700); err != nil {
		b.t.Fatal(err)
	}
}

// active are the names of volumes that are active in LVM.
func (b *bench) active() string {
	b.t.Helper()
	var all []string
	for _, v := range b.volumes() {
		if v.Active {
			name, _, _ := strings.Cut(string(v.Name), ".")
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// calls are how often LVM was called, and a superblock read, since the last time.
func (b *bench) calls() func() string {
	before := [3]int{}
	return func() string {
		b.agent.called.turn <- struct{}{} // until what was only looked at has gone again
		<-b.agent.called.turn
		b.dev.mu.Lock()
		defer b.dev.mu.Unlock()
		now := [3]int{b.lvm.Calls("Activate"), b.lvm.Calls("Deactivate"), len(b.dev.read)}
		said := fmt.Sprintf("%d on, %d off, %d read", now[0]-before[0], now[1]-before[1], now[2]-before[2])
		before = now
		return said
	}
}

func TestALabelActivatesNothingForLongAndNothingForTheRootDirectory(t *testing.T) {
	b := newBench(t)
	for i := range 12 {
		b.post(b.admin, api.PathCreate, api.CreateRequest{Name: fmt.Sprintf("d%d", i), Size: "1G"}, "")
	}
	b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
	if now := b.active(); now != "" {
		t.Fatalf("active are %s", now)
	}
	calls := b.calls()
	calls()
	replay := func(want, wantActive string, mounted int) {
		t.Helper()
		var done []api.Replayed
		if err := b.c1.Post(t.Context(), api.PathReplay, api.ReplayRequest{}, &done); err != nil {
			t.Fatal(err)
		}
		if got := calls(); got != want || b.active() != wantActive || len(done) != mounted {
			t.Errorf("%s: %s, want %s; active are %q; %+v", b.mounts.fstab, got, want, b.active(), done)
		}
	}
	b.setFstab("LABEL=cloudimg-rootfs / ext4 defaults 0 1", "UUID=uuid-of-d1 /boot/efi vfat umask=0077", "UUID=uuid-of-d1 /tmp ext4", "UUID=uuid-of-d1 /d lls noauto")
	replay("0 on, 0 off, 0 read", "", 0)
	b.setFstab("UUID=another /d ext4 nofail", "LABEL=none /e ext4 nofail")
	replay("2 on, 1 off, 13 read", "", 0) // the container's own first, then all others, and with one command each
	replay("0 on, 0 off, 0 read", "", 0)  // what does not run cannot have changed
	b.setFstab("UUID=UUID-of-mine /d ext4 nofail", "UUID=uuid-of-d1 /e ext4 nofail")
	replay("1 on, 0 off, 0 read", "d1 mine", 2)

	// What another container shows is nobody's by a label: it could be made to be called like a dataset.
	b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "theirs", Size: "1G", Owner: "c2"}, "")
	b.post(b.admin, api.PathSet, api.SetRequest{Name: "c2/theirs", Visibility: api.Visible, Access: api.AccessRW}, "")
	calls()
	b.setFstab("UUID=uuid-of-theirs /d ext4 nofail")
	replay("0 on, 0 off, 2 read", "d1 mine", 0)

	now := time.Now().Add(calledAge)
	b.agent.opts.Now = func() time.Time { return now }
	b.setFstab("UUID=another /d ext4 nofail")
	replay("1 on, 1 off, 13 read", "d1 mine", 0)
	b.post(b.c1, api.PathMount, api.MountRequest{Name: "d2", Path: "/d2"}, "") // who has it may call it otherwise
	replay("1 on, 0 off, 3 read", "d1 d2 mine", 0)
}
