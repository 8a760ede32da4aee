package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/filesystem"
	"lls/agent/mount"
	"lls/lvm"
)

// Mounts places mounts; *mount.Mounter is the real one.
type Mounts interface {
	Inject(ctx context.Context, t *mount.Tree, b *mount.Box) error
	Injected(b *mount.Box, t *mount.Tree) (bool, error)
	InjectNodes(ctx context.Context, n *mount.Nodes, b *mount.Box) error
	NodesInjected(b *mount.Box, n *mount.Nodes) (bool, error)
	Mount(ctx context.Context, t *mount.Tree, b *mount.Box, r mount.Request) (mount.Placed, error)
	Unmount(ctx context.Context, b *mount.Box, major, minor uint32, path string) error
	MountHost(ctx context.Context, r mount.Request) (mount.Placed, error)
	UnmountHost(ctx context.Context, path string, major, minor uint32) error
	ReadFile(ctx context.Context, b *mount.Box, path string, limit int) ([]byte, error)
}

// Devices is what the agent does to the device of an active volume.
type Devices interface {
	// Number is the device's number, checked to be that of this volume.
	Number(vg lvm.VG, name lvm.Name) (major, minor uint32, err error)
	Make(ctx context.Context, path string, fs filesystem.Type) error
	Grow(ctx context.Context, path string, fs filesystem.Type) error
	Identify(path string) (filesystem.Identity, error)
	// Open opens a volume's device, which must have this number.
	Open(vg lvm.VG, name lvm.Name, major, minor uint32) (*os.File, error)
	// Claimed says whether the device is mounted, or somebody else has it for himself.
	Claimed(path string) bool
	// Check looks for mistakes in a file system that nobody has mounted.
	Check(ctx context.Context, path string, fs filesystem.Type, readOnly bool) error
	// Usage says how full the file system of a device is that is mounted anywhere.
	Usage(ctx context.Context, path string, fs filesystem.Type) (filesystem.Space, error)
	// Sync has all that was written to the file system of a device, mounted anywhere, on its disk.
	Sync(ctx context.Context, path string, fs filesystem.Type) error
	// Fill says how full a pool is.
	Fill(ctx context.Context, vg lvm.VG, pool lvm.Name) (PoolFill, error)
	// CutOff has all that have the device open get errors from now on.
	CutOff(ctx context.Context, vg lvm.VG, name lvm.Name) error
	// IsCutOff says whether that was done to the device that a volume has now.
	IsCutOff(vg lvm.VG, name lvm.Name) (bool, error)
}

// placeDeadline bounds a mount or an unmount, whose device may take its time.
const placeDeadline = 2 * time.Minute

// maxPath is the kernel's PATH_MAX.
const maxPath = 4096

// checkMountPath refuses what cannot be a mount path wherever it is. An empty one means none.
func (c *call) checkMountPath(verb, name, p string) *api.Error {
	if p == "" || path.IsAbs(p) && len(p) < maxPath && !strings.ContainsRune(p, 0) {
		return nil
	}
	return api.Errorf(api.BadPath, "cannot %s %.48s: %.40q is no absolute path", verb, name, p)
}

// where is the container that a request of the sysadmin names, or the caller's own; nil is the host.
func (c *call) where(verb, name, containerName string) (*guest, error) {
	if containerName == "" || !c.asker.Admin && containerName == c.asker.Owner.Name {
		return c.guest, nil
	}
	if !c.asker.Admin {
		return nil, api.Errorf(api.Denied, "cannot %s %s in another container: only the sysadmin may", verb, name)
	}
	if g := c.agent.guests.named(containerName); g != nil {
		return g, nil
	}
	return nil, api.Errorf(api.NotFound, "cannot %s %s: no container %.40q is running", verb, name, containerName).WithHint("see: lls-agent containers")
}

func (c *call) mount(ctx context.Context, in api.MountRequest) (api.Mount, error) {
	r, v, err := c.volume(ctx, "mount", in.Name, catalog.Mount, false)
	if err != nil {
		return api.Mount{}, err
	}
	if in.Path == "" {
		return api.Mount{}, api.Errorf(api.Malformed, "cannot mount %s: the path is missing", in.Name).WithHint("for example: lls mount %s /data", in.Name)
	}
	if e := c.checkMountPath("mount", in.Name, in.Path); e != nil {
		return api.Mount{}, e
	}
	g, err := c.where("mount", in.Name, in.Container)
	if err != nil {
		return api.Mount{}, err
	}
	return c.place(context.WithoutCancel(ctx), v, r, target{path: in.Path, readOnly: in.ReadOnly, noAtime: in.NoAtime, discard: in.Discard}, g)
}

// target says where a mount is to be, and how.
type target struct {
	path                       string
	readOnly, noAtime, discard bool
	replay                     bool // of a line of an fstab
}

// place mounts a volume in a guest, or on the host when g is nil. It is the one path of every mount, and ends with what the mount
// layer read back from inside.
func (c *call) place(ctx context.Context, v *View, r *catalog.Record, at target, g *guest) (api.Mount, error) {
	name := v.Catalog.Shown(c.asker, r)
	wasActive := r.LV.Active
	asker := c.asker
	if g != nil && asker.Admin { // what holds for the container holds when the sysadmin mounts into it, but for the rights
		asker.Privileged = !g.box.Mapped
	}
	asked := at.readOnly
	var placed mount.Placed
	try := func(now *catalog.Record) (err error) {
		if refused := c.mayMount(name, now); refused != nil {
			return refused
		}
		ctx, cancel := context.WithTimeout(ctx, placeDeadline)
		defer cancel()
		at.readOnly = asked || now.MountsReadOnly(asker)
		at.discard = at.discard || !now.LV.ReadOnly && c.config.Rules(v.pool(now.LV).Name, now.Owner.Name, string(now.Name)).Trim.Discard
		placed, err = c.tryPlace(ctx, now, at, g)
		return err
	}
	err := c.agent.alone(ctx, r, c.progress, try)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, lvm.ErrNotFound) {
		// The device has gone since the report: activate it and try once more, with what is there now.
		if now, viewErr := c.agent.store.current(ctx, 0); viewErr == nil && now.Catalog.ByID(r.ID) != nil {
			r = now.Catalog.ByID(r.ID)
			wasActive = wasActive && r.LV.Active
			err = c.agent.alone(ctx, r, c.progress, try)
		}
	}
	if err != nil {
		if !wasActive {
			c.agent.undoActivate(ctx, r)
		}
		return api.Mount{}, c.placeError(ctx, name, r.LV, at.path, err)
	}
	if placed.Already && asked && !placed.ReadOnly { // not where it is us who want it so: then what was there before stays as it was
		return api.Mount{}, api.Errorf(api.Busy, "cannot mount %s at %.200s: it is mounted there already, writable", name, at.path).
			WithHint("unmount it first: lls umount %.200s", placed.Path).Because(&mount.ErrOccupied{Path: placed.Path})
	}
	m := api.Mount{Volume: name, Container: api.HostOwner, Path: placed.Path, ReadOnly: placed.ReadOnly, Already: placed.Already}
	if g != nil {
		m.Container = g.Owner.Name
	}
	if e := c.stillLive(ctx, r, g, placed, name); e != nil {
		return api.Mount{}, e
	}
	c.agent.used(v, r)
	if !placed.Already {
		c.agent.volumes.look(r.ID)
		c.agent.told(api.EventMounted, v, r, g, placed.Path)
	}
	return m, nil
}

// mayMount refuses what changed since the request found it: it is in the trash now, or its owner lets the caller not mount it any more.
func (c *call) mayMount(name string, now *catalog.Record) *api.Error {
	refused := now.May(c.asker, catalog.Mount, "mount", name)
	if refused == nil && now.State != catalog.Live {
		refused = api.Errorf(api.NotFound, "cannot mount %s: it was deleted just now", name).WithHint("bring it back: lls undelete %s", name)
	}
	return refused
}

// stillLive takes a mount away again whose volume went to the trash while it was placed.
func (c *call) stillLive(ctx context.Context, r *catalog.Record, g *guest, placed mount.Placed, name string) *api.Error {
	v, err := c.agent.store.current(ctx, workAge)
	if err != nil {
		c.agent.log.Warn("cannot tell whether a volume was deleted while it was mounted", "volume", r.LV.Name, "error", err)
		return nil
	}
	now := v.Catalog.ByID(r.ID)
	if now == nil || now.State != catalog.Trash {
		return nil
	}
	if placed.Already { // whoever placed it takes it away, or had it before
		return c.mayMount(name, now)
	}
	major, minor, err := c.agent.devices.Number(r.LV.VG, r.LV.Name)
	if err == nil {
		err = c.unplace(ctx, g, mount.Point{Path: placed.Path, Major: major, Minor: minor})
	}
	if err == nil {
		c.agent.undoActivate(ctx, now)
	} else {
		c.agent.log.Warn("cannot take away the mount of a volume that was deleted", "volume", r.LV.Name, "error", err)
	}
	return c.mayMount(name, now)
}

func (c *call) tryPlace(ctx context.Context, r *catalog.Record, at target, g *guest) (mount.Placed, error) {
	a := c.agent
	a.called.forget(r.LV.VG, r.LV.Name) // who has it mounted may call it otherwise
	if !r.LV.Active {
		if err := a.activate(ctx, r.LV.VG, r.LV.Name); err != nil {
			return mount.Placed{}, err
		}
	}
	major, minor, err := a.devices.Number(r.LV.VG, r.LV.Name)
	if err != nil {
		return mount.Placed{}, err
	}
	req := mount.Request{
		Device: a.store.lvm.Device(r.LV.VG, r.LV.Name), Major: major, Minor: minor, Type: filesystem.Type(r.FS),
		ReadOnly: at.readOnly, ReadOnlyDevice: r.LV.ReadOnly, Target: at.path, NoAtime: at.noAtime, Discard: at.discard, Replay: at.replay,
	}
	if g == nil {
		return a.mounts.MountHost(ctx, req)
	}
	release, err := g.hold()
	if err != nil {
		return mount.Placed{}, err
	}
	defer release()
	return a.mounts.Mount(ctx, g.tree, g.box, req)
}

// activate makes the devices of volumes of one group appear, with one command.
func (a *Agent) activate(ctx context.Context, vg lvm.VG, names ...lvm.Name) error {
	return a.store.write(ctx, vg, func(ctx context.Context, w lvm.Writer, _ *View) (edit, error) {
		a.called.forget(vg, names...)
		if err := w.Activate(ctx, names...); err != nil {
			return nil, err
		}
		all := func(volumes []lvm.Volume) []lvm.Volume { return volumes }
		for _, name := range names {
			major, minor, err := a.devices.Number(vg, name)
			if err != nil {
				return nil, err
			}
			all = both(all, changed(name, func(v *lvm.Volume) { v.Active, v.Major, v.Minor = true, major, minor }))
		}
		return all, nil
	})
}

// undoActivate has the device of a volume go again that could not be mounted, unless somebody else uses it: what fails leaves no trace.
func (a *Agent) undoActivate(ctx context.Context, r *catalog.Record) {
	if err := a.deactivate(ctx, r); err != nil && !errors.Is(err, lvm.ErrNotFound) {
		a.log.Warn("cannot deactivate a volume that could not be mounted", "volume", r.LV.Name, "error", err)
	}
}

// placeError puts a failed mount into the words of its asker.
func (c *call) placeError(ctx context.Context, name string, v lvm.Volume, target string, err error) error {
	var bad *mount.ErrTarget
	var occupied *mount.ErrOccupied
	switch {
	case errors.As(err, &bad):
		e := api.Errorf(api.BadPath, "cannot mount %s at %.200s: %s", name, target, bad.Why).Because(err)
		if bad.Kind == mount.Missing {
			return e.WithHint("make the directory first: mkdir -p %.200s", target)
		}
		return e
	case errors.As(err, &occupied):
		return api.Errorf(api.Busy, "cannot mount %s at %.200s: something else is mounted there", name, target).Because(err).
			WithHint("take it away first: lls umount %.200s", target)
	case errors.Is(err, mount.ErrStuck):
		return api.Errorf(api.Busy, "cannot mount %s at %.200s: the file system at that path does not answer", name, target).Because(err).
			WithHint("choose another path, or end what serves that one")
	case errors.Is(err, mount.ErrMounts):
		return tooManyMounts("mount", name).Because(err)
	case errors.Is(err, mount.ErrNoPlace):
		return api.Errorf(api.NeedsAdmin, "cannot mount %s: this container has no usable /lls", name).Because(err).
			WithHint("make /lls a plain directory of the container and restart it")
	case errors.Is(err, filesystem.ErrDirtyLog):
		return api.Errorf(api.NeedsAdmin, "cannot mount %s: it was open to raw writing, and was not unmounted cleanly", name).Because(err).
			WithHint("the sysadmin can mount and unmount it once by hand, which replays its log (never xfs_repair -L)")
	case errors.Is(err, filesystem.ErrDamaged) || errors.Is(err, unix.EUCLEAN):
		return api.Errorf(api.Denied, "cannot mount %s: its file system is damaged", name).Because(err).
			WithHint("take an older snapshot, or have the sysadmin repair it with e2fsck or xfs_repair")
	case errors.Is(err, mount.ErrBusy) || errors.Is(err, lvm.ErrOpen):
		return c.busy(ctx, "mount", name, v, true).Because(err)
	}
	return err
}

func (c *call) umount(ctx context.Context, in api.UmountRequest) ([]api.Mount, error) {
	if in.Target == "" {
		return nil, api.Errorf(api.Malformed, "cannot unmount: say which volume or path").WithHint("by name or path: lls umount NAME, or lls umount /data")
	}
	g, err := c.where("umount", in.Target, in.Container)
	if err != nil {
		return nil, err
	}
	c.doing = fmt.Sprintf("unmount %.200s", in.Target)
	v, err := c.agent.store.current(ctx, c.agent.listAge())
	if err != nil {
		return nil, err
	}
	found, err := c.mounted(v, g, in.Target)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), placeDeadline)
	defer cancel()
	gone := []api.Mount{}
	var failed []*api.Error
	for _, m := range found {
		name := v.Catalog.Shown(c.asker, m.record)
		if e := c.unmountError(ctx, name, m, c.unplace(ctx, g, m.Point)); e != nil {
			if len(found) > 1 {
				e.Message = strings.Replace(e.Message, name+":", name+" at "+m.Path+":", 1)
			}
			failed = append(failed, e)
			continue
		}
		c.what = m.record.Owner.String() + "/" + string(m.record.LV.Name)
		c.agent.used(v, m.record)
		c.agent.told(api.EventUnmounted, v, m.record, g, m.Path)
		out := api.Mount{Volume: name, Container: api.HostOwner, Path: m.Path}
		if g != nil {
			out.Container = g.Owner.Name
		}
		gone = append(gone, out)
	}
	if slices.ContainsFunc(found, func(m mountOf) bool { return m.record.Raw }) {
		c.agent.work.Go(func() { c.agent.showAll(context.WithoutCancel(ctx)) })
	}
	if len(failed) > 0 {
		return nil, partly(failed, gone)
	}
	return gone, nil
}

// unmountError puts a failed unmount into the words of its asker; nil is none.
func (c *call) unmountError(ctx context.Context, name string, m mountOf, err error) *api.Error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mount.ErrBusy):
		return c.unmountBusy(ctx, name, m)
	case errors.Is(err, mount.ErrNotMounted):
		return c.outOfReach(name, m.place, err)
	case errors.Is(err, mount.ErrStuck):
		return api.Errorf(api.Busy, "cannot unmount %s: the container's file system does not answer", name).Because(err)
	}
	return c.explain(err)
}

// unmountBusy says who keeps a mount: mounts that lie on it, and those who use it.
func (c *call) unmountBusy(ctx context.Context, name string, m mountOf) *api.Error {
	e := c.busy(ctx, "unmount", name, m.record.LV, false)
	on, err := c.agent.mountedOn(m.place)
	if err != nil {
		c.agent.log.Warn("cannot tell what is mounted below a mount", "volume", m.record.LV.Name, "error", err)
	}
	if len(on) == 0 {
		return e
	}
	var holders []api.Holder
	for _, p := range on {
		holders = append(holders, p.holder())
	}
	e.Holders = append(holders, e.Holders...)
	return e.WithHint("unmount that first: %s", c.unmountLine(on[0]))
}

// outOfReach is the error of a mount that was in the table and that its path does not lead to: another hides it, or it has gone meanwhile.
func (c *call) outOfReach(name string, p place, cause error) *api.Error {
	all, err := c.agent.points(p.guest, nil)
	if err != nil && !errors.Is(err, mount.ErrGone) {
		return c.explain(errors.Join(cause, err))
	}
	if !slices.ContainsFunc(all, func(q mount.Point) bool { return q.ID == p.ID && q.Major == p.Major && q.Minor == p.Minor }) {
		return api.Errorf(api.NotFound, "cannot unmount %s: it is not mounted at %.200s any more", name, p.Path).Because(cause).
			WithHint("see what is mounted: lls list")
	}
	over, hidden := mount.Over(all, p.Point)
	if !hidden {
		return c.explain(cause)
	}
	return api.Errorf(api.Busy, "cannot unmount %s: %.200s lies under what is mounted at %.200s", name, p.Path, over.Path).Because(cause).
		WithHint("unmount that first: %s", c.unmountLine(place{p.guest, over}))
}

// unmountLine is the command that takes one mount away, of a volume or of anything else, for the caller.
func (c *call) unmountLine(p place) string {
	line := fmt.Sprintf("umount %.200s", p.Path)
	away := p.guest != nil && c.asker.Admin // where the caller is not
	switch ours := c.agent.activeDevices(); {
	case ours != nil && ours(p.Major, p.Minor) && away:
		return "lls " + line + " --container " + p.guest.Owner.Name
	case ours != nil && ours(p.Major, p.Minor):
		return "lls " + line
	case away:
		return line + ", in " + p.guest.Owner.Name
	}
	return line
}

// partly is the error of what failed in part: the first failure, with the others, and with what was unmounted all the same.
func partly(failed []*api.Error, gone []api.Mount) *api.Error {
	e := *failed[0]
	for _, other := range failed[1:] {
		e.Problems = append(e.Problems, other.Message)
	}
	for _, m := range gone {
		e.Problems = append(e.Problems, m.Volume+" is not mounted at "+m.Path+" any more")
	}
	return &e
}

func (c *call) unplace(ctx context.Context, g *guest, p mount.Point) error {
	if g == nil {
		return c.agent.mounts.UnmountHost(ctx, p.Path, p.Major, p.Minor)
	}
	release, err := g.hold()
	if err != nil {
		return err
	}
	defer release()
	return c.agent.mounts.Unmount(ctx, g.box, p.Major, p.Minor, p.Path)
}

// mountOf is a mount of a volume of ours.
type mountOf struct {
	place
	record *catalog.Record
}

// mounted finds what of ours is mounted in a guest, or on the host, at the path or under the name that target is; the latest mount
// first. What has become hidden or trash is found as well, since its mount is the caller's own.
func (c *call) mounted(v *View, g *guest, target string) ([]mountOf, error) {
	var ref catalog.Ref
	if !path.IsAbs(target) {
		parsed, err := catalog.ParseRef(target)
		if err != nil {
			return nil, badName("unmount", err)
		}
		ref = parsed
	}
	mine, _ := v.Catalog.Find(c.asker, ref, false) // nil when it is none, or several: then all of that name
	all := c.agent.places()
	var found []mountOf
	for _, r := range v.Catalog.Records {
		if mine != nil && mine != r || mine == nil && ref.Name != "" && ref.Name != r.Name {
			continue
		}
		for _, p := range placesOf(all, r.LV) {
			if p.guest == g && (ref.Name != "" || p.Path == path.Clean(target)) {
				found = append([]mountOf{{p, r}}, found...)
			}
		}
	}
	if len(found) == 0 && slices.Contains(all.unknown, g) {
		return nil, tooManyMounts("unmount", target)
	}
	if len(found) == 0 {
		what := "it is not mounted here"
		if ref.Name == "" {
			what = "no volume of LLS is mounted there"
		}
		return nil, api.Errorf(api.NotFound, "cannot unmount %.200s: %s", target, what).WithHint("see what is mounted: lls list")
	}
	return found, nil
}
