package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/container"
	"lls/policy"
)

func (c *call) status(ctx context.Context) (api.Status, error) {
	a := c.agent
	v, err := a.store.current(ctx, a.listAge())
	if err != nil {
		return api.Status{}, err
	}
	out := api.Status{Version: a.opts.Version, Since: a.started.Format(time.RFC3339), Pools: []api.Pool{}, Containers: len(a.guests.list())}
	for _, r := range v.Catalog.Records {
		if r.State == catalog.Trash {
			out.Trash++
		} else {
			out.Volumes++
		}
	}
	for _, p := range c.config.Pools {
		one := poolStatus(v, p)
		if lv, ok := findPool(v.Groups, p); ok {
			data, metadata := a.outlook(p, lv)
			one.MetadataSize, one.DataForecast, one.MetadataForecast, one.Writers = int64(lv.MetadataSize), tellOutlook(data), tellOutlook(metadata), a.writers(v, p)
		}
		out.Pools = append(out.Pools, one)
	}
	out.Mail = a.mailStatus()
	out.Problems = append(out.Problems, a.growers.problems()...)
	for _, err := range slices.Concat(v.Missing, v.Catalog.Odd) {
		out.Problems = append(out.Problems, err.Error())
	}
	out.Problems = append(out.Problems, a.guests.problems()...)
	out.Problems = append(out.Problems, a.rawProblems(v)...)
	out.Problems = append(out.Problems, a.configProblems()...)
	if len(c.config.Pools) == 0 {
		out.Problems = append(out.Problems, "there is no pool yet: lls-agent init makes one")
	}
	return out, nil
}

// configProblems are what keeps lls.toml, as it is now, from being in force.
func (a *Agent) configProblems() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	const old = "; the old configuration stays in force"
	problems, ok := errors.AsType[policy.Problems](a.badConfig)
	switch {
	case ok:
		var all []string
		for _, p := range problems {
			all = append(all, p.Error()+old)
		}
		return all
	case a.badConfig != nil:
		return []string{a.badConfig.Error() + old}
	}
	return nil
}

func poolStatus(v *View, p policy.Pool) api.Pool {
	out := api.Pool{Name: p.Name, LV: p.Group + "/" + p.LV}
	lv, ok := findPool(v.Groups, p)
	switch {
	case !ok:
		out.Problem = "it is not there"
		return out
	case !lv.HasTag(catalog.PoolTag(p.Name)):
		out.Problem = fmt.Sprintf("it does not carry the tag %s, so nothing is made in it", catalog.PoolTag(p.Name))
	case lv.CheckNeeded:
		out.Problem = "its metadata needs a check: lvconvert --repair " + out.LV
	case lv.Health != "":
		out.Problem = lv.Health
	}
	out.Size, out.DataPercent, out.MetadataPercent = int64(lv.Size), lv.DataPercent, lv.MetadataPercent
	fill := fillOf(v, p, lv)
	out.GroupFree, out.Virtual = fill.GroupFree, fill.Virtual
	return out
}

// containers lists every container of the configured paths, running or not.
func (c *call) containers(ctx context.Context) ([]api.Container, error) {
	v, err := c.agent.store.current(ctx, workAge)
	if err != nil {
		v = nil // how many mounts there are is not known then
	}
	return c.containersIn(v, c.agent.places())
}

// containersIn is containers with the mounts of a view, which may be nil, and of places.
func (c *call) containersIn(v *View, places *whereabouts) ([]api.Container, error) {
	a := c.agent
	all, err := a.containers.List(paths(c.config))
	if err != nil {
		return nil, err
	}
	out := []api.Container{}
	for _, k := range all {
		one := api.Container{Name: k.Owner.Name, LXCPath: k.Dir, Token: k.Owner.Token, State: "stopped", LLS: "-"}
		if k.Err != nil {
			one.LLS = k.Err.Error()
		}
		if g := a.guests.get(k.Key()); g != nil {
			privileged := !g.box.Mapped
			one.State, one.PID, one.Privileged, one.LLS = "running", g.box.PID, &privileged, g.status()
			one.Token = g.Owner.Token
			if k.Err != nil { // it is known from before, but its next start will not be
				one.LLS = k.Err.Error()
			}
			one.Mounts, one.Fstab = countMounts(v, places, g), g.fstab()
		} else if u, ok := a.guests.whyNot(k.Key()); ok {
			one.State, one.PID, one.LLS = "running", max(u.pid, 0), u.why.Error()
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(x, y api.Container) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}

// countMounts counts the mounts of our volumes in a guest.
func countMounts(v *View, places *whereabouts, g *guest) (n int) {
	if v == nil {
		return 0
	}
	for _, r := range v.Catalog.Records {
		for _, p := range placesOf(places, r.LV) {
			if p.guest == g {
				n++
			}
		}
	}
	return n
}

// ownerNamed finds an owner by name or NAME#TOKEN: the host, an existing container, or one that only volumes remember.
func (c *call) ownerNamed(v *View, name string) (catalog.Owner, error) {
	if name == catalog.Host().Name {
		return catalog.Host(), nil
	}
	all, err := c.agent.containers.List(paths(c.config))
	if err != nil {
		return catalog.Owner{}, err
	}
	for _, k := range all {
		if k.Err != nil && k.Owner.Name == name {
			return catalog.Owner{}, api.Errorf(api.NeedsAdmin, "cannot tell which owner container %.64q is: %v", name, k.Err).WithHint("see: lls-agent containers")
		}
		if k.Err == nil && (k.Owner.Name == name || k.Owner.String() == name) {
			return k.Owner, nil
		}
	}
	switch owners := v.Catalog.OwnersCalled(name); len(owners) {
	case 0:
		return catalog.Owner{}, api.Errorf(api.NotFound, "cannot find container %.64q: there is none of that name, nor any volume of it", name).
			WithHint("see: lls-agent containers")
	case 1:
		return owners[0], nil
	default:
		return catalog.Owner{}, api.Errorf(api.Malformed, "cannot tell which %.64q is meant: several were called so", name).
			WithHint("give one of: %s", ownerList(owners))
	}
}

func ownerList(owners []catalog.Owner) string {
	var names []string
	for _, o := range owners {
		names = append(names, o.String())
	}
	return strings.Join(names, ", ")
}

// exists says whether an owner's container is still defined, or that is not known, with one look at the containers for the whole call.
func (c *call) exists(o catalog.Owner) bool {
	if c.defined == nil {
		all, err := c.agent.containers.List(paths(c.config))
		if err != nil {
			return true
		}
		c.defined = definedBy(all)
	}
	return c.defined.has(o) != policy.No
}

// give hands all volumes of one owner to another, or none when a name is taken there.
func (c *call) give(ctx context.Context, in api.GiveRequest) ([]api.Volume, error) {
	v, err := c.agent.store.current(ctx, listAge)
	if err != nil {
		return nil, err
	}
	from, err := c.giver(v, in.From)
	if err != nil {
		return nil, err
	}
	to, err := c.ownerNamed(v, in.To)
	if err != nil {
		return nil, err
	}
	if from == to {
		return nil, api.Errorf(api.Malformed, "cannot give %s its own volumes", from)
	}
	var records []*catalog.Record
	for _, r := range v.Catalog.Records {
		if r.Owner != from || r.State == catalog.Making {
			continue
		}
		if r.State == catalog.Live && v.Catalog.Taken(to, r.Name) != nil {
			return nil, api.Errorf(api.Exists, "cannot give %s to %s: it has one of that name", v.Catalog.Shown(c.asker, r), to.Name).
				WithHint("delete one of the two first")
		}
		records = append(records, r)
	}
	out := []api.Volume{}
	for _, r := range records {
		given, err := c.agent.retag(context.WithoutCancel(ctx), r, false, func(given *catalog.Record, v *View) error {
			if given.State == catalog.Live && v.Catalog.Taken(to, given.Name) != nil {
				return api.Errorf(api.Exists, "cannot give %s to %s: it has one of that name by now", given.Name, to.Name)
			}
			given.Owner = to
			return nil
		})
		if err != nil {
			return nil, err
		}
		out = append(out, c.show(v, given, nil))
	}
	return out, nil
}

// giver is the owner that volumes are taken from: one that has some, and of several of that name the one whose container is gone.
func (c *call) giver(v *View, name string) (catalog.Owner, error) {
	owners := v.Catalog.OwnersCalled(name)
	if len(owners) > 1 {
		owners = slices.DeleteFunc(owners, c.exists)
	}
	switch len(owners) {
	case 0:
		return catalog.Owner{}, api.Errorf(api.NotFound, "cannot give away what %.64q has: it has no volumes", name).WithHint("see the owners: lls-agent list --all")
	case 1:
		return owners[0], nil
	}
	return catalog.Owner{}, api.Errorf(api.Malformed, "cannot tell which %.64q is meant: several were called so", name).WithHint("give one of: %s", ownerList(owners))
}

func (c *call) reload(ctx context.Context, _ api.Empty) (api.Empty, error) {
	err := c.agent.Reload(ctx)
	if err == nil {
		return api.Empty{}, nil
	}
	e := api.Errorf(api.Malformed, "cannot take the new configuration: %v", err)
	if problems, ok := errors.AsType[policy.Problems](err); ok && len(problems) > 1 {
		e = api.Errorf(api.Malformed, "cannot take the new configuration: it has %d mistakes", len(problems))
		for _, p := range problems {
			e.Problems = append(e.Problems, p.Error())
		}
	}
	return api.Empty{}, e.WithHint("mend %s; the old one stays in force", c.agent.opts.Config)
}

func paths(cfg *policy.Config) []container.Path {
	var out []container.Path
	for _, p := range cfg.LXCPaths {
		out = append(out, container.Path{Dir: p.Path, Label: p.Label})
	}
	return out
}
