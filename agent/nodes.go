package agent

import (
	"slices"
	"strings"

	"lls/agent/catalog"
	"lls/agent/mount"
)

// wantedNodes are the devices that a guest is to see at /dev/mf: one for each active volume that it may know, its own and the host's at
// the top, its own first, others' below their owner. Nobody may open them: raw access is not given.
func wantedNodes(v *View, g *guest) []mount.Node {
	asker := g.asker()
	top := map[string]bool{}
	var nodes []mount.Node
	add := func(r *catalog.Record, path string) {
		nodes = append(nodes, mount.Node{Path: path, Major: r.LV.Major, Minor: r.LV.Minor, GID: g.box.RootGID})
	}
	for _, own := range []bool{true, false} {
		for _, r := range v.Catalog.Records {
			if r.State != catalog.Live || !r.LV.Active || r.LV.Major == 0 || !r.Known(asker) || (r.Owner == asker.Owner) != own {
				continue
			}
			switch name := string(r.Name); {
			case !own && !r.Owner.IsHost():
				owner, _, _ := strings.Cut(v.Catalog.Shown(asker, r), "/")
				add(r, owner+"/"+name)
			case !top[name]:
				top[name] = true
				add(r, name)
			}
		}
	}
	return nodes
}

// showNodes brings /dev/mf of every guest up to the view.
func (a *Agent) showNodes(v *View) {
	for _, g := range a.guests.list() {
		a.showNodesTo(v, g)
	}
}

func (a *Agent) showNodesTo(v *View, g *guest) {
	if g.nodes == nil {
		return
	}
	want := wantedNodes(v, g)
	g.mu.Lock()
	same := g.noded && slices.Equal(want, g.shown)
	g.mu.Unlock()
	if same {
		return
	}
	release, err := g.hold()
	if err != nil {
		return // it has ended
	}
	defer release()
	if _, err = g.nodes.Set(want); err != nil {
		a.log.Warn("cannot show all devices at /dev/mf", "container", g.Owner, "error", err)
	}
	g.mu.Lock()
	g.shown, g.noded = want, true
	g.mu.Unlock()
}
