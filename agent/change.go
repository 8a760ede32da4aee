package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/filesystem"
	"lls/agent/mount"
	"lls/lvm"
	"lls/policy"
)

func (c *call) resize(ctx context.Context, in api.ResizeRequest) (api.Volume, error) {
	r, _, err := c.volume(ctx, "resize", in.Name, catalog.Change, false)
	if err != nil {
		return api.Volume{}, err
	}
	more, relative := strings.CutPrefix(in.Size, "+")
	size, err := lvm.ParseSize(more)
	if err != nil {
		return api.Volume{}, badSize("resize", in.Name, in.Size)
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := c.enlarge(ctx, r, size, relative, func(*catalog.Record) bool { return true }); err != nil {
		return api.Volume{}, err
	}
	v, err := c.agent.store.current(ctx, workAge)
	if err != nil {
		return api.Volume{}, err
	}
	if now := v.Catalog.ByID(r.ID); now != nil {
		r = now
	}
	return c.show(v, r, placesOf(c.agent.places(), r.LV)), nil
}

// enlarge grows a volume, and its file system with it. still is asked under the writer whether it is to grow after all; where it says no,
// nothing is done, and did is false.
func (c *call) enlarge(ctx context.Context, r *catalog.Record, size lvm.Size, relative bool, still func(now *catalog.Record) bool) (did bool, err error) {
	err = c.agent.store.write(ctx, r.LV.VG, func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		now, err := v.same(r)
		if err != nil || !still(now) {
			return nil, err
		}
		did = true
		return c.extend(ctx, w, v, r, size, relative)
	})
	if err != nil {
		return false, c.heldBy(ctx, r, err)
	}
	if !did {
		return false, nil
	}
	c.progress("growing the file system")
	err = c.agent.finishGrowth(ctx, r.ID)
	if errors.Is(err, lvm.ErrOpen) || errors.Is(err, filesystem.ErrSlow) {
		err = c.halfGrown(ctx, r, err)
	}
	return true, err
}

// halfGrown is the error of a volume that has grown and whose file system has not, since somebody has it open raw, or as it does not answer.
func (c *call) halfGrown(ctx context.Context, r *catalog.Record, err error) error {
	v, readErr := c.agent.store.current(ctx, workAge)
	if readErr != nil {
		return errors.Join(readErr, err)
	}
	if now := v.Catalog.ByID(r.ID); now != nil {
		r = now
	}
	name, size := v.Catalog.Shown(c.asker, r), typed(r.LV.Size) // which is not to be less than it has
	if errors.Is(err, filesystem.ErrSlow) {
		return api.Errorf(api.Busy, "cannot resize %s: it has grown to %s, but its file system has not: it does not answer; is it frozen?", name, r.LV.Size).
			Because(err).WithHint("if it is: fsfreeze -u PATH, then have it grow: lls resize %s %s", name, size)
	}
	e := api.Errorf(api.Busy, "cannot resize %s: it has grown to %s, but its file system has not: it is in use", name, r.LV.Size).Because(err).
		WithHint("end what uses it, then have its file system grow: lls resize %s %s", name, size)
	e.Holders = c.holders(ctx, r.LV, true)
	return e
}

// typed is a size as somebody can type it who wants exactly that: as it is shown, unless that is rounded.
func typed(s lvm.Size) string {
	if text := s.String(); sameSize(text, s) {
		return text
	}
	if s%lvm.MiB == 0 {
		return strconv.FormatInt(int64(s/lvm.MiB), 10) + "M"
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

func sameSize(text string, s lvm.Size) bool {
	read, err := lvm.ParseSize(text)
	return err == nil && read == s
}

// extend grows the volume itself, after marking that its file system is to follow: a start after a crash in between finishes it.
func (c *call) extend(ctx context.Context, w lvm.Writer, v *View, r *catalog.Record, size lvm.Size, relative bool) (edit, error) {
	r, err := v.same(r)
	if err != nil {
		return nil, err
	}
	name := v.Catalog.Shown(c.asker, r)
	if relative {
		if size > math.MaxInt64-r.LV.Size {
			return nil, badSize("resize", name, "+"+size.String())
		}
		size += r.LV.Size
	}
	if r.LV.ReadOnly {
		return nil, api.Errorf(api.Denied, "cannot resize %s: it is read-only", name).WithHint("take a writable copy: lls snapshot %s NAME", name)
	}
	if size < r.LV.Size {
		return nil, api.Errorf(api.Malformed, "cannot resize %s to %s: it has %s, and volumes only grow", name, typed(size), typed(r.LV.Size)).
			WithHint("give a larger size, or a step: lls resize %s +1G", name)
	}
	size = v.roundUp(r.LV.VG, size)
	pool := v.pool(r.LV)
	more := v.more(r.Owner, pool, changed(r.LV.Name, func(v *lvm.Volume) { v.Size = size }))
	if refused := c.overQuota(v, "resize", name, r.Owner, pool, more); refused != nil {
		return nil, refused
	}
	if refused := c.overPool(ctx, v, "resize", name, pool, policy.Ask{Size: int64(size - r.LV.Size)}); refused != nil {
		return nil, refused
	}
	made, err := c.whole(ctx, w, v, r, "cannot resize "+name+": it")
	if err != nil {
		return made, err
	}
	growing := *r
	growing.Growing = true
	if add, del := r.Changes(&growing); len(add) > 0 {
		if err := w.Retag(ctx, r.LV.Name, add, del); err != nil {
			return nil, err
		}
	}
	if size > r.LV.Size {
		if err := w.Extend(ctx, r.LV.Name, size); err != nil {
			return nil, err
		}
	}
	return both(made, changed(r.LV.Name, func(v *lvm.Volume) { v.Tags, v.Size = growing.Tags(), size })), nil
}

// finishGrowth lets the file system of a volume fill it, and takes the mark away.
func (a *Agent) finishGrowth(ctx context.Context, id catalog.ID) error {
	v, err := a.store.current(ctx, workAge)
	if err != nil {
		return err
	}
	r := v.Catalog.ByID(id)
	if r == nil || !r.Growing {
		return nil
	}
	wasActive := r.LV.Active
	if !wasActive {
		if err := a.activate(ctx, r.LV.VG, r.LV.Name); err != nil {
			return err
		}
	}
	grow, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	err = a.alone(grow, r, func(string, ...any) {}, func(*catalog.Record) error {
		return a.devices.Grow(grow, a.store.lvm.Device(r.LV.VG, r.LV.Name), filesystem.Type(r.FS))
	})
	if err != nil {
		return err
	}
	_, err = a.retag(ctx, r, !wasActive, func(to *catalog.Record, _ *View) error {
		to.Growing = to.LV.Size != r.LV.Size // it was extended once more: whoever did that goes on
		return nil
	})
	return err
}

func (c *call) set(ctx context.Context, in api.SetRequest) (api.Volume, error) {
	r, v, err := c.volume(ctx, "set", in.Name, catalog.Change, false)
	if err != nil {
		return api.Volume{}, err
	}
	switch in.Visibility {
	case "", api.Visible, api.Hidden:
	default:
		return api.Volume{}, api.Errorf(api.Malformed, "cannot set %s: %.20q is no visibility", in.Name, in.Visibility).WithHint("say --visibility visible or hidden")
	}
	switch in.Access {
	case "", api.AccessRW, api.AccessRO, api.AccessNone:
	default:
		return api.Volume{}, api.Errorf(api.Malformed, "cannot set %s: %.20q is no access", in.Name, in.Access).WithHint("say --access rw, ro or none")
	}
	growTo, err := c.growTo(v, r, in)
	if err != nil {
		return api.Volume{}, err
	}
	if in.Visibility == "" && in.Access == "" && in.GrowTo == "" {
		return api.Volume{}, api.Errorf(api.Malformed, "cannot set %s: say what", in.Name).WithHint("for example: lls set %s --visibility visible --access ro", in.Name)
	}
	to, err := c.agent.retag(ctx, r, false, func(to *catalog.Record, _ *View) error {
		if in.Visibility != "" {
			to.Visible = in.Visibility == api.Visible
		}
		if in.Access != "" {
			to.Access = in.Access
		}
		if in.GrowTo != "" {
			to.GrowTo = growTo
		}
		return nil
	})
	if err != nil {
		return api.Volume{}, err
	}
	c.agent.volumes.look(r.ID)
	out := c.show(v, to, placesOf(c.agent.places(), r.LV))
	out.Holders = c.rawHolders(ctx, to)
	return out, nil
}

func (c *call) remove(ctx context.Context, in api.NameRequest) (api.Volume, error) {
	r, v, err := c.volume(ctx, "delete", in.Name, catalog.Change, false)
	if err != nil {
		return api.Volume{}, err
	}
	places := c.agent.places()
	at := placesOf(places, r.LV)
	// What its owner or the caller has mounted is busy; what others hold goes to the trash, and they keep it until they let go.
	theirs := func(g *guest) bool { return g == c.guest || g != nil && g.Owner == r.Owner }
	if slices.ContainsFunc(at, func(p place) bool { return theirs(p.guest) }) {
		return api.Volume{}, c.busy(ctx, "delete", in.Name, r.LV, true)
	}
	if r.LV.Active && slices.ContainsFunc(places.unknown, theirs) {
		return api.Volume{}, tooManyMounts("delete", in.Name)
	}
	unblock := c.agent.raw.block(r.ID)
	defer unblock()
	_ = c.agent.settle(ctx, r.ID) // who may still open it raw is told of below
	to, err := c.toTrash(ctx, in.Name, r, r.LV.Active && len(at) == 0)
	var held []api.Holder
	if errors.Is(err, lvm.ErrOpen) { // as no init's mounts tell: by a mount in another namespace, or by what it left
		own := false
		held = c.holdersOf(ctx, r.LV, func(h mount.Holder, g *guest) bool {
			own = own || h.Kind != mount.HeldDevice && theirs(g)
			return true
		})
		if own {
			e := api.Errorf(api.Busy, "cannot delete %s: it is in use", in.Name).WithHint("end what uses it, then: lls delete %s", in.Name)
			e.Holders = held
			return api.Volume{}, e.Because(err)
		}
		to, err = c.toTrash(ctx, in.Name, r, false)
	}
	if err != nil {
		return api.Volume{}, err
	}
	out := c.show(v, to, at)
	out.Holders = c.rawHolders(ctx, to)
	for _, h := range held {
		if !slices.Contains(out.Holders, h) {
			out.Holders = append(out.Holders, h)
		}
	}
	return out, nil
}

// toTrash moves a volume to the trash. With unheld its device goes first: where somebody has that open it is lvm.ErrOpen, and nothing was
// done.
func (c *call) toTrash(ctx context.Context, name string, r *catalog.Record, unheld bool) (*catalog.Record, error) {
	var to catalog.Record
	open := false
	err := c.agent.store.write(ctx, r.LV.VG, func(ctx context.Context, w lvm.Writer, v *View) (edit, error) {
		now, err := v.same(r)
		if err == nil && now.State != catalog.Live {
			err = api.Errorf(api.NotFound, "cannot delete %s: it was deleted just now", name)
		}
		if err != nil {
			return nil, err
		}
		to = *now
		to.State, to.Deleted = catalog.Trash, v.Catalog.DeletedAt(now, c.agent.opts.Now())
		done := changed(r.LV.Name, func(v *lvm.Volume) { v.Tags = to.Tags() })
		if unheld {
			err := w.Deactivate(ctx, r.LV.Name)
			if open = errors.Is(err, lvm.ErrOpen); open {
				return changed(r.LV.Name, func(v *lvm.Volume) { v.Open = true }), nil
			}
			if err != nil {
				return nil, err
			}
			to.LV.Active, to.LV.Major, to.LV.Minor = false, 0, 0
			done = both(done, changed(r.LV.Name, func(v *lvm.Volume) { v.Active, v.Major, v.Minor = false, 0, 0 }))
		}
		add, del := now.Changes(&to)
		if err := w.Retag(ctx, r.LV.Name, add, del); err != nil {
			return nil, err
		}
		return done, nil
	})
	if err == nil && open {
		err = fmt.Errorf("cannot have the device of %s go: %w", r.LV.Name, lvm.ErrOpen)
	}
	return &to, err
}

func (c *call) undelete(ctx context.Context, in api.UndeleteRequest) (api.Volume, error) {
	r, _, err := c.inTrash(ctx, "undelete", in.Name)
	if err != nil {
		return api.Volume{}, err
	}
	name := r.Name
	if in.As != "" {
		if name, err = catalog.ParseName(in.As); err != nil {
			return api.Volume{}, badName("undelete", err)
		}
	}
	release, err := c.reserve(ctx, "undelete", r.Owner, name)
	if api.Exists.Is(err) {
		return api.Volume{}, api.AsError(err).WithHint("give it another name: lls undelete %s --as NEW", in.Name)
	}
	if err != nil {
		return api.Volume{}, err
	}
	defer release()
	to, err := c.agent.retag(ctx, r, false, func(to *catalog.Record, v *View) error {
		if to.State != catalog.Trash {
			return api.Errorf(api.NotFound, "cannot undelete %s: it was undeleted just now", in.Name)
		}
		if v.Catalog.Taken(to.Owner, name) != nil {
			return api.Errorf(api.Exists, "cannot undelete %s: the name is taken", name).WithHint("give it another name: lls undelete %s --as NEW", in.Name)
		}
		to.State, to.Name, to.NextID = catalog.Live, name, ""
		// What a refresh replaced counts as one with what replaced it, until now.
		pool := v.pool(to.LV)
		more := v.more(to.Owner, pool, changed(to.LV.Name, func(v *lvm.Volume) { v.Tags = to.Tags() }))
		if refused := c.overQuota(v, "undelete", in.Name, to.Owner, pool, more); refused != nil {
			if next := v.Catalog.Replacement(r); next != nil && next.State == catalog.Trash {
				return refused.WithHint("what replaced it is in the trash and would count beside it; to destroy that: lls purge %s --yes", next.LV.Name)
			}
			return refused
		}
		return nil
	})
	if err != nil {
		return api.Volume{}, err
	}
	v, err := c.agent.store.current(ctx, workAge)
	if err != nil {
		return api.Volume{}, err
	}
	c.agent.used(v, to) // somebody wants it
	return c.show(v, to, placesOf(c.agent.places(), r.LV)), nil
}

// inTrash finds the volume in the trash that ref names: by its name in LVM, NAME.ID, or as everywhere. The error tells a volume that is not
// in the trash from one that is not there.
func (c *call) inTrash(ctx context.Context, verb, ref string) (*catalog.Record, *View, error) {
	r, v, err := c.thisOne(ctx, verb, ref)
	if err != nil || r != nil {
		return r, v, err
	}
	r, v, err = c.volume(ctx, verb, ref, catalog.Change, true)
	if !api.NotFound.Is(err) {
		return r, v, err
	}
	_, _, live := c.volume(ctx, verb, ref, catalog.Change, false)
	switch {
	case live == nil && verb == "purge":
		err = api.Errorf(api.NotFound, "cannot purge %s: it is not in the trash", ref).WithHint("lls delete %s puts it there", ref)
	case live == nil:
		err = api.Errorf(api.NotFound, "cannot %s %s: it is not in the trash", verb, ref).WithHint("see it: lls info %s", ref)
	case api.Denied.Is(live): // somebody else's, in the trash or not
		err = live
	}
	return nil, nil, err
}

// seen finds the volume that ref names for those who only look: in the trash by its name in LVM, else one that lives, else one in the trash.
func (c *call) seen(ctx context.Context, verb, ref string) (*catalog.Record, error) {
	r, _, err := c.thisOne(ctx, verb, ref)
	if err != nil || r != nil {
		return r, err
	}
	r, _, err = c.volume(ctx, verb, ref, catalog.See, false)
	if api.NotFound.Is(err) {
		if inTrash, _, trashErr := c.volume(ctx, verb, ref, catalog.See, true); trashErr == nil {
			return inTrash, nil
		}
	}
	return r, err
}

// thisOne finds the caller's volume in the trash that is called so in LVM, NAME.ID or OWNER/NAME.ID, which is never another's. It is what a
// hint names: what has a name alone may be another volume by the time somebody types it.
func (c *call) thisOne(ctx context.Context, verb, ref string) (*catalog.Record, *View, error) {
	v, err := c.agent.store.current(ctx, workAge)
	if err != nil {
		return nil, nil, err
	}
	owner, name, owned := strings.Cut(ref, "/")
	if !owned {
		name = ref
	}
	for _, r := range v.Catalog.Records {
		called := string(r.LV.Name) == name && (!owned || owner == r.Owner.Name || owner == r.Owner.String())
		if called && r.State == catalog.Trash && (c.asker.Admin || r.Owner == c.asker.Owner) {
			c.what, c.doing = r.Owner.String()+"/"+string(r.LV.Name), verb+" "+ref
			return r, v, nil
		}
	}
	return nil, v, nil
}

// purge removes a volume of the trash for good, and never a live one.
func (c *call) purge(ctx context.Context, in api.NameRequest) (api.Volume, error) {
	r, v, err := c.inTrash(ctx, "purge", in.Name)
	if err != nil {
		return api.Volume{}, err
	}
	err = c.agent.discard(ctx, r, func(now *catalog.Record) bool { return now.State == catalog.Trash })
	var depend *lvm.DependentsError
	switch {
	case errors.Is(err, lvm.ErrOpen):
		return api.Volume{}, c.heldInTrash(ctx, v, in.Name, r).Because(err)
	case errors.As(err, &depend) && !c.asker.Admin:
		return api.Volume{}, api.Errorf(api.Busy, "cannot purge %s: other volumes depend on it", in.Name).Because(err).
			WithHint("ask the sysadmin which: lls-agent info NAME")
	case err != nil:
		return api.Volume{}, err
	}
	return c.show(v, r, nil), nil
}

// heldInTrash is the error of a purge of what somebody has open. Its owner can end nothing that others do.
func (c *call) heldInTrash(ctx context.Context, v *View, name string, r *catalog.Record) *api.Error {
	e := c.busy(ctx, "purge", name, r.LV, true)
	if len(e.Holders) == 0 || slices.ContainsFunc(e.Holders, func(h api.Holder) bool { return h.Container != api.AnotherContainer }) {
		return e
	}
	ask := "ask the sysadmin, who sees them: lls-agent info " + r.Owner.Name + "/" + string(r.LV.Name)
	kept := c.agent.expiry(v, r).Trash
	if kept <= 0 || r.Forever || !r.Lease.IsZero() {
		return e.WithHint("only others have it: try again when they have let go, or %s", ask)
	}
	return e.WithHint("only others have it: it is purged by itself %s after they have let go; else try again then, or %s", policy.FormatSpan(kept), ask)
}
