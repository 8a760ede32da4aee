// Package lvmtest keeps the contract of package lvm: a suite that says what it
// is, and a fake in memory that passes it as real LVM does.
package lvmtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"lls/lvm"
)

// Extent size and device number of the fake's groups and volumes.
const (
	extent = 4 * lvm.MiB
	major  = 253
)

// Fake has the methods of lvm.Host and keeps volume groups in memory. It is
// safe for concurrent use.
//
// It models what callers stumble over: sizes rounded to extents, percentages
// that are known only while active, reused minor numbers, refusals. It stores
// no data, so pools fill only through EditPool.
type Fake struct {
	managed func(lvm.Volume) bool

	mu      sync.Mutex
	groups  map[lvm.VG]*lvm.Group
	turns   map[lvm.VG]chan struct{}
	devices map[string]lvm.Size
	faults  map[string][]error
	backups map[lvm.VG]int
	calls   map[string]int
	serial  int
}

// NewFake returns a fake without groups. Of the options it uses Managed.
func NewFake(opts lvm.Options) *Fake {
	return &Fake{
		managed: opts.Managed,
		groups:  map[lvm.VG]*lvm.Group{},
		turns:   map[lvm.VG]chan struct{}{},
		devices: map[string]lvm.Size{},
		faults:  map[string][]error{},
		backups: map[lvm.VG]int{},
		calls:   map[string]int{},
	}
}

// AddGroup adds an empty group.
func (f *Fake) AddGroup(vg lvm.VG, size lvm.Size) {
	f.mu.Lock()
	defer f.mu.Unlock()
	size -= size % extent
	f.groups[vg] = &lvm.Group{Name: vg, UUID: f.uuid(), Size: size, Free: size, ExtentSize: extent}
}

// AddDevice adds an empty block device for CreateGroup.
func (f *Fake) AddDevice(path string, size lvm.Size) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.devices[path] = size
}

// Fail lets the next call of a step fail with an error: "Snapshot" before
// anything changed, "Snapshot.after" when all is done. The steps are the
// methods of lvm.Host and lvm.Writer. Several for one step are used in order.
func (f *Fake) Fail(step string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[step] = append(f.faults[step], err)
}

// Calls says how often a step was reached.
func (f *Fake) Calls(step string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[step]
}

// Backups says how often a group was backed up.
func (f *Fake) Backups(vg lvm.VG) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.backups[vg]
}

// Edit changes a volume behind everybody's back. It panics without one.
func (f *Fake) Edit(vg lvm.VG, name lvm.Name, edit func(*lvm.Volume)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit(f.must(vg, name))
}

// EditPool changes a pool behind everybody's back. It panics without one.
func (f *Fake) EditPool(vg lvm.VG, name lvm.Name, edit func(*lvm.Pool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := pool(f.groups[vg], name)
	if p == nil {
		panic(fmt.Sprintf("lvmtest: no pool %s/%s", vg, name))
	}
	edit(p)
}

// SetOpen says that somebody holds a volume's device, or no longer does.
func (f *Fake) SetOpen(vg lvm.VG, name lvm.Name, open bool) {
	f.Edit(vg, name, func(v *lvm.Volume) { v.Open = open })
}

// SetFill sets how full a pool is, in percent.
func (f *Fake) SetFill(vg lvm.VG, name lvm.Name, data, metadata float64) {
	f.EditPool(vg, name, func(p *lvm.Pool) { p.DataPercent, p.MetadataPercent = data, metadata })
}

// AddPlain adds an active linear volume that is nobody's.
func (f *Fake) AddPlain(vg lvm.VG, name lvm.Name, size lvm.Size) {
	f.add(vg, lvm.Volume{Name: name, Size: size, Active: true, Layout: []string{"linear"}, Role: []string{"public"}})
}

// AddClassic adds a classic snapshot of a volume that is not thin.
func (f *Fake) AddClassic(vg lvm.VG, origin, name lvm.Name) {
	f.add(vg, lvm.Volume{Name: name, Origin: origin, Size: extent, Active: true, Layout: []string{"linear"}, Role: []string{"public", "snapshot"}})
}

// AddExternal adds a thin volume whose external origin a volume is.
func (f *Fake) AddExternal(vg lvm.VG, pool, origin, name lvm.Name) {
	f.add(vg, lvm.Volume{Name: name, Origin: origin, Pool: pool, Thin: true, Size: extent, Layout: []string{"thin", "sparse"}, Role: []string{"public"}})
}

func (f *Fake) add(vg lvm.VG, v lvm.Volume) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.groups[vg]
	if v.Origin != "" {
		o := f.must(vg, v.Origin)
		v.OriginUUID, v.Size = o.UUID, o.Size
	}
	f.insert(g, v)
}

// insert adds a volume and fills in what LVM would.
func (f *Fake) insert(g *lvm.Group, v lvm.Volume) {
	v.VG, v.UUID, v.Created = g.Name, f.uuid(), time.Now().UTC().Truncate(time.Second)
	v.Size = v.Size.RoundUp(g.ExtentSize)
	if v.Active {
		f.activate(g, &v, true)
	}
	if v.Thin {
		v.ThinID = f.serial
		g.Volumes = append(g.Volumes, v)
		return
	}
	g.Free -= v.Size
	g.Others = append(g.Others, v)
}

func (f *Fake) uuid() string {
	f.serial++
	return fmt.Sprintf("fake00-0000-0000-0000-0000-0000-%06d", f.serial)
}

// activate gives a device the lowest free minor number, as the kernel does:
// numbers are used again.
func (f *Fake) activate(g *lvm.Group, v *lvm.Volume, on bool) {
	v.Active, v.Major, v.Minor, v.UsedKnown = on, 0, 0, on && v.Thin
	if !on {
		return
	}
	used := map[uint32]bool{0: true}
	for _, g := range f.groups {
		for _, o := range slices.Concat(g.Volumes, g.Others) {
			used[o.Minor] = true
		}
	}
	v.Major, v.Minor = major, 1
	for used[v.Minor] {
		v.Minor++
	}
}

// step counts a step, and gives the failure that was asked for.
func (f *Fake) step(name string) error {
	f.calls[name]++
	queue := f.faults[name]
	if len(queue) == 0 {
		return nil
	}
	f.faults[name] = queue[1:]
	return queue[0]
}

// Report is lvm.Host.Report.
func (f *Fake) Report(ctx context.Context, vgs ...lvm.VG) ([]lvm.Group, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cannot read volume groups: %w", err)
	}
	if err := f.step("Report"); err != nil {
		return nil, err
	}
	if len(vgs) == 0 {
		for vg := range f.groups {
			vgs = append(vgs, vg)
		}
		slices.Sort(vgs)
	}
	var groups []lvm.Group
	for _, vg := range vgs {
		if _, err := lvm.ParseVG(string(vg)); err != nil {
			return nil, err
		}
		g := f.groups[vg]
		if g == nil {
			return nil, fmt.Errorf("cannot read volume group %s: %w", vg, lvm.ErrNoGroup)
		}
		groups = append(groups, clone(g))
	}
	return groups, nil
}

// Write is lvm.Host.Write.
func (f *Fake) Write(ctx context.Context, vg lvm.VG, fn func(w lvm.Writer) error) error {
	if _, err := lvm.ParseVG(string(vg)); err != nil {
		return err
	}
	f.mu.Lock()
	if f.turns[vg] == nil {
		f.turns[vg] = make(chan struct{}, 1)
	}
	turn := f.turns[vg]
	f.mu.Unlock()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("cannot write to volume group %s: %w", vg, context.Cause(ctx))
	}
	w := &fakeWriter{f: f, vg: vg}
	defer func() {
		w.closed.Store(true)
		<-turn
	}()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cannot write to volume group %s: %w", vg, context.Cause(ctx))
	}
	return fn(w)
}

// Backup is lvm.Host.Backup; it only counts.
func (f *Fake) Backup(ctx context.Context, vg lvm.VG) error {
	return f.setup(ctx, "Backup", func() error {
		if f.groups[vg] == nil {
			return fmt.Errorf("cannot back up volume group %s: %w", vg, lvm.ErrNoGroup)
		}
		f.backups[vg]++
		return nil
	})
}

// Device is lvm.Host.Device.
func (f *Fake) Device(vg lvm.VG, name lvm.Name) string { return lvm.Device(vg, name) }

// CreateGroup is lvm.Host.CreateGroup.
func (f *Fake) CreateGroup(ctx context.Context, vg lvm.VG, device string, _ lvm.Size) error {
	return f.setup(ctx, "CreateGroup", func() error {
		size, ok := f.devices[device]
		switch {
		case f.groups[vg] != nil:
			return fmt.Errorf("cannot create volume group %s: %w", vg, lvm.ErrExists)
		case !ok:
			return fmt.Errorf("cannot create volume group %s on %s: %w", vg, device, lvm.ErrHoldsData)
		}
		delete(f.devices, device)
		size -= size % extent
		f.groups[vg] = &lvm.Group{Name: vg, UUID: f.uuid(), Size: size, Free: size, ExtentSize: extent}
		return nil
	})
}

// CreatePool is lvm.Host.CreatePool.
func (f *Fake) CreatePool(ctx context.Context, c lvm.CreatePool) error {
	return f.setup(ctx, "CreatePool", func() error {
		g := f.groups[c.VG]
		if g == nil {
			return fmt.Errorf("cannot create pool %s/%s: %w", c.VG, c.Name, lvm.ErrNoGroup)
		}
		if err := lvm.CheckPair(c.VG, c.Name); err != nil {
			return err
		}
		if err := checkTags(c.Tags); err != nil {
			return err
		}
		c, err := c.Complete(*g)
		if err != nil {
			return fmt.Errorf("cannot create pool %s/%s: %w", c.VG, c.Name, err)
		}
		c.Size = c.Size.RoundUp(g.ExtentSize)
		g.Free -= c.Size + g.MetadataCost(c.Name, c.MetadataSize)
		g.Pools = append(g.Pools, lvm.Pool{
			VG: c.VG, Name: c.Name, UUID: f.uuid(), Size: c.Size, MetadataSize: c.MetadataSize, ChunkSize: c.ChunkSize,
			Known: true, Zero: true, WhenFull: "queue", Tags: slices.Clone(c.Tags), Active: true,
		})
		return nil
	})
}

// TagPool is lvm.Host.TagPool.
func (f *Fake) TagPool(ctx context.Context, vg lvm.VG, name lvm.Name, add []lvm.Tag) error {
	return f.setup(ctx, "TagPool", func() error {
		if f.groups[vg] == nil {
			return fmt.Errorf("cannot tag pool %s/%s: %w", vg, name, lvm.ErrNoGroup)
		}
		p := pool(f.groups[vg], name)
		if p == nil {
			return fmt.Errorf("cannot tag pool %s/%s: %w", vg, name, lvm.ErrNoPool)
		}
		if err := checkTags(add); err != nil {
			return err
		}
		p.Tags = retag(p.Tags, add, nil)
		return nil
	})
}

// setup does one step outside of a Writer.
func (f *Fake) setup(ctx context.Context, step string, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f.step(step); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return f.step(step + ".after")
}

// must finds a volume for a test that says it is there.
func (f *Fake) must(vg lvm.VG, name lvm.Name) *lvm.Volume {
	v := volume(f.groups[vg], name)
	if v == nil {
		panic(fmt.Sprintf("lvmtest: no volume %s/%s", vg, name))
	}
	return v
}
