package agent

import (
	"maps"
	"slices"
	"strings"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/lvm"
)

// live lets users do something.
func (m *month) live() {
	chance := func(percent int) bool { return m.rand.IntN(100) < percent }
	isLive := func(r *catalog.Record) bool { return r.State == catalog.Live && m.running[r.Owner] }
	if r := m.one(isLive); r != nil && chance(30) {
		m.mount(r)
	}
	if ids := slices.Sorted(maps.Keys(m.mounted)); len(ids) > 60 || len(ids) > 0 && chance(15) {
		m.unmount(ids[m.rand.IntN(len(ids))])
	}
	if r := m.one(isLive); r != nil && chance(3) {
		want(m, api.Volume{}, second(m.as(r.Owner).keep(m.Context(), api.KeepRequest{Name: string(r.Name), For: pick(chance(50), "5d", "12h")})))
		m.notes[r.ID].told = false
	}
	if r := m.one(isLive); r != nil && chance(4) {
		m.fstab[r.Owner][r.Name] = true
	}
	if r := m.one(isLive); r != nil && chance(2) {
		m.fstab[r.Owner] = map[catalog.Name]bool{}
	}
	if r := m.one(func(r *catalog.Record) bool { return isLive(r) && m.mounted[r.ID] == catalog.Owner{} }); r != nil && chance(3) {
		m.delete(r)
	}
	if r := m.one(func(r *catalog.Record) bool { return r.State == catalog.Trash }); r != nil && chance(5) {
		m.undelete(r)
	}
	if chance(8) {
		m.snapshot(m.containers[m.rand.IntN(monthContainers)].Owner)
	}
	if r := m.one(isLive); r != nil && chance(1) {
		to := pick(r.Visible, api.Hidden, api.Visible)
		want(m, api.Volume{}, second(m.as(r.Owner).set(m.Context(), api.SetRequest{Name: string(r.Name), Visibility: to})))
		m.notes[r.ID].unused = 0
	}
	if chance(2) {
		m.turn(m.rand.IntN(monthContainers))
	}
}

func second[T any](_ T, err error) error { return err }

func (m *month) mount(r *catalog.Record) {
	if _, there := m.mounted[r.ID]; there {
		return
	}
	want(m, api.Mount{}, second(m.as(r.Owner).mount(m.Context(), api.MountRequest{Name: string(r.Name), Path: "/data/" + string(r.ID)})))
	m.mounted[r.ID] = r.Owner
	m.lvm.Edit(testVG, r.LV.Name, func(v *lvm.Volume) { v.Open, m.devices[r.ID] = true, device{v.Major, v.Minor} })
	m.notes[r.ID].unused = 0
}

func (m *month) unmount(id catalog.ID) {
	delete(m.mounted, id)
	m.lvm.SetOpen(testVG, m.volume(id).Name, false)
}

// turn stops a container that runs, and starts one that does not.
func (m *month) turn(i int) {
	c := m.containers[i]
	if m.running[c.Owner] = !m.running[c.Owner]; m.running[c.Owner] {
		m.boot(i)
		return
	}
	delete(m.agent.guests.all, c.Key())
	for _, id := range slices.Sorted(maps.Keys(m.mounted)) {
		if m.mounted[id] == c.Owner {
			m.unmount(id)
		}
	}
}

func (m *month) delete(r *catalog.Record) {
	want(m, api.Volume{}, second(m.as(r.Owner).remove(m.Context(), api.NameRequest{Name: string(r.Name)})))
	m.notes[r.ID].byUser, m.notes[r.ID].trashed, m.notes[r.ID].tags = true, 0, tagsOf(r)
}

// tagsOf are a volume's tags but the state.
func tagsOf(r *catalog.Record) string {
	var all []string
	for _, t := range r.Tags() {
		if !strings.HasPrefix(string(t), "lls.s=") {
			all = append(all, string(t))
		}
	}
	return strings.Join(all, " ")
}

// undelete shows that what is in the trash comes back as it was.
func (m *month) undelete(r *catalog.Record) {
	want(m, api.Volume{}, second(m.as(r.Owner).undelete(m.Context(), api.UndeleteRequest{Name: string(r.Name)})))
	if now := m.records()[r.ID]; now.State != catalog.Live || tagsOf(now) != m.notes[r.ID].tags {
		m.Errorf("%s came back as %s %s, and was %s", r.LV.Name, now.State, tagsOf(now), m.notes[r.ID].tags)
	}
	m.notes[r.ID].unused, m.notes[r.ID].told = 0, false
	m.undeleted++
}
