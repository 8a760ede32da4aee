package agent

import (
	"context"
	"slices"
	"strings"
	"sync"

	"lls/agent/mount"
)

// kernel is a fakeMounts that knows what is mounted where. What is mounted is open for LVM.
type kernel struct {
	*fakeMounts
	lvm  *bench
	mu   sync.Mutex
	id   int
	at   map[*mount.Box][]mount.Point // nil: the host
	busy map[string]error             // what unmounting a path gives
	seen func(step string)            // is told of each step
}

func newKernel(b *bench) *kernel {
	k := &kernel{fakeMounts: b.mounts, lvm: b, at: map[*mount.Box][]mount.Point{}, busy: map[string]error{}, seen: func(string) {}}
	b.agent.mounts = k
	b.agent.points = func(g *guest, _ mount.Keep) ([]mount.Point, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		return slices.Clone(k.at[boxOf(g)]), nil
	}
	b.agent.guests.all[b.guest1.Key()] = b.guest1
	return k
}

func boxOf(g *guest) *mount.Box {
	if g == nil {
		return nil
	}
	return g.box
}

// hold tells LVM whether a device is mounted.
func (k *kernel) hold() {
	open := map[device]bool{}
	for _, all := range k.at {
		for _, p := range all {
			open[device{p.Major, p.Minor}] = true
		}
	}
	for _, v := range k.lvm.volumes() {
		major, minor, _ := k.lvm.dev.Number(v.VG, v.Name)
		k.lvm.lvm.SetOpen(testVG, v.Name, open[device{major, minor}])
	}
}

func (k *kernel) Mount(ctx context.Context, t *mount.Tree, box *mount.Box, r mount.Request) (mount.Placed, error) {
	placed, err := k.fakeMounts.Mount(ctx, t, box, r)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen("mount " + r.Target)
	if err != nil {
		return placed, err
	}
	for _, p := range k.at[box] {
		if p.Path == r.Target && p.Major == r.Major && p.Minor == r.Minor {
			return mount.Placed{Path: p.Path, MountID: p.ID, ReadOnly: p.Has("ro"), Already: true}, nil
		}
	}
	k.id++
	p := mount.Point{ID: k.id, Major: r.Major, Minor: r.Minor, Root: "/", Path: r.Target, Options: []string{"rw", "nodev"}}
	if placed.ReadOnly {
		p.Options[0] = "ro"
	}
	if r.NoAtime {
		p.Options = append(p.Options, "noatime")
	}
	if r.Discard {
		p.SuperOptions = []string{"discard"}
	}
	k.at[box] = append(k.at[box], p)
	k.hold()
	return placed, nil
}

func (k *kernel) MountHost(ctx context.Context, r mount.Request) (mount.Placed, error) {
	return k.Mount(ctx, nil, nil, r)
}

func (k *kernel) Unmount(_ context.Context, box *mount.Box, major, minor uint32, path string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen("umount " + path)
	if err := k.busy[path]; err != nil {
		return err
	}
	for i, p := range k.at[box] {
		if p.Path == path && p.Major == major && p.Minor == minor {
			k.at[box] = slices.Delete(k.at[box], i, i+1)
			k.hold()
			return nil
		}
	}
	return mount.ErrNotMounted
}

func (k *kernel) UnmountHost(ctx context.Context, path string, major, minor uint32) error {
	return k.Unmount(ctx, nil, major, minor, path)
}

// mounted is what of a volume is mounted in a guest: "/data rw,nodev /b ro,nodev".
func (k *kernel) mounted(g *guest, id string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	for _, p := range k.at[boxOf(g)] {
		for _, v := range k.lvm.volumes() {
			if _, minor, _ := k.lvm.dev.Number(v.VG, v.Name); minor == p.Minor && strings.HasSuffix(string(v.Name), "."+id) {
				all = append(all, p.Path, strings.Join(append(p.Options, p.SuperOptions...), ","))
			}
		}
	}
	return strings.Join(all, " ")
}
