package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/lvm"
	"lls/policy"
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
		m.keep(r, pick(chance(50), 5*24*time.Hour, 12*time.Hour))
	}
	if r := m.one(isLive); r != nil && chance(4) {
		m.touch(r.ID)
		m.fstab[r.Owner][r.Name] = true
	}
	if r := m.one(isLive); r != nil && chance(2) {
		m.touchOwner(r.Owner)
		m.fstab[r.Owner] = map[catalog.Name]bool{}
	}
	if r := m.one(func(r *catalog.Record) bool { return isLive(r) && m.mounted[r.ID] == catalog.Owner{} }); r != nil && chance(3) {
		m.delete(r)
	}
	if r := m.one(func(r *catalog.Record) bool { return r.State == catalog.Trash }); r != nil && chance(5) {
		m.undelete(r)
	}
	if r := m.one(func(r *catalog.Record) bool {
		return isLive(r) && (m.mounted[r.ID] == catalog.Owner{} || m.mounted[r.ID] == r.Owner)
	}); r != nil && chance(2+monthPace/2) {
		m.refresh(r)
	}
	if chance(8) {
		m.snapshot(m.containers[m.rand.IntN(monthContainers)].Owner)
	}
	if r := m.one(isLive); r != nil && chance(1) {
		to := pick(r.Visible, api.Hidden, api.Visible)
		want(m, api.Volume{}, second(m.as(r.Owner).set(m.Context(), api.SetRequest{Name: string(r.Name), Visibility: to})))
		m.notes[r.ID].unused = 0
		m.touch(r.ID)
	}
	if chance(2) {
		m.turn(m.rand.IntN(monthContainers))
	}
}

func second[T any](_ T, err error) error { return err }

func (m *month) keep(r *catalog.Record, d time.Duration) {
	out, err := m.as(r.Owner).keep(m.Context(), api.KeepRequest{Name: string(r.Name), For: policy.FormatDuration(d)})
	want(m, out, err)
	n := m.notes[r.ID]
	n.told, n.leaseEnd, n.leaseFor, n.leaseOf = false, m.wall.Add(d).Truncate(time.Second), d, 0
	m.touch(r.ID)
}

// refresh puts a new snapshot in a volume's place, which has its lease.
func (m *month) refresh(r *catalog.Record) {
	out, err := m.as(r.Owner).refresh(m.Context(), api.NameRequest{Name: string(r.Name)})
	m.agent.work.Wait()
	out, ok := wantMade(m, out, err)
	if !ok {
		return
	}
	old, next := m.records()[r.ID], m.records()[catalog.ID(out.Volume.ID)]
	if _, still := m.mounted[r.ID]; still || old.State != catalog.Trash || next.State != catalog.Live || next.Name != r.Name {
		m.Fatalf("a refresh of %s left %+v and %+v", r.LV.Name, old, next)
	}
	n := m.notes[r.ID]
	m.made(next.ID, &note{leaseEnd: n.leaseEnd, leaseFor: n.leaseFor, leaseOf: n.leaseOf})
	n.leaseEnd, n.leaseFor, n.byUser, n.trashed, n.tags = time.Time{}, 0, true, 0, tagsOf(old)
	if len(out.Volume.Mounts) > 0 {
		m.noteMount(next)
	}
	m.touch(r.ID)
	m.refreshed++
}

// giveSome has a container that has something give it away.
func (m *month) giveSome() {
	has := map[catalog.Owner]bool{}
	for _, r := range m.records() {
		has[r.Owner] = true
	}
	from := m.rand.IntN(monthContainers)
	for !has[m.containers[from].Owner] {
		from = (from + 1) % monthContainers
	}
	m.give(m.containers[from].Owner, m.containers[(from+1)%monthContainers].Owner)
}

// give hands all that one container has to another.
func (m *month) give(from, to catalog.Owner) {
	m.touchOwner(from)
	admin := &call{agent: m.agent, asker: m.agent.admin(), config: m.agent.config()}
	out, err := admin.give(m.Context(), api.GiveRequest{From: from.String(), To: to.String()})
	for _, v := range want(m, out, err) {
		r := m.records()[catalog.ID(v.ID)]
		if r.Owner != to {
			m.Fatalf("%s was given to %s and is %s's", r.LV.Name, to, r.Owner)
		}
		n := m.notes[r.ID]
		n.unused, n.told, n.trashed, n.tags = 0, false, 0, tagsOf(r) // whoever gets it has all the time
		m.given++
	}
}

func (m *month) mount(r *catalog.Record) {
	if _, there := m.mounted[r.ID]; there {
		return
	}
	want(m, api.Mount{}, second(m.as(r.Owner).mount(m.Context(), api.MountRequest{Name: string(r.Name), Path: "/data/" + string(r.ID)})))
	m.noteMount(r)
	m.notes[r.ID].unused = 0
}

func (m *month) noteMount(r *catalog.Record) {
	m.mounted[r.ID] = r.Owner
	m.lvm.Edit(testVG, r.LV.Name, func(v *lvm.Volume) { v.Open, m.devices[r.ID] = true, device{v.Major, v.Minor} })
	m.touch(r.ID)
}

func (m *month) unmount(id catalog.ID) {
	m.touch(id)
	delete(m.mounted, id)
	m.lvm.SetOpen(testVG, m.volume(id).Name, false)
}

// turn stops a container that runs, and starts one that does not.
func (m *month) turn(i int) {
	c := m.containers[i]
	m.touchOwner(c.Owner)
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
	m.touch(r.ID)
}

// tagsOf are a volume's tags but the state, its name, and what replaced it.
func tagsOf(r *catalog.Record) string {
	var all []string
	for _, t := range r.Tags() {
		if !slices.ContainsFunc([]string{"lls.s=", "lls.n=", "lls.x="}, func(p string) bool { return strings.HasPrefix(string(t), p) }) {
			all = append(all, string(t))
		}
	}
	return strings.Join(all, " ")
}

// undelete shows that what is in the trash comes back as it was.
func (m *month) undelete(r *catalog.Record) {
	ask, all := api.UndeleteRequest{Name: string(r.Name)}, m.records()
	for id, other := range all {
		switch {
		case id == r.ID || other.Owner != r.Owner || other.Name != r.Name:
		case other.State == catalog.Live:
			ask.As = fmt.Sprintf("u%d", m.rand.IntN(1<<30))
		case !other.Deleted.Before(r.Deleted):
			return // the name means another one
		}
	}
	want(m, api.Volume{}, second(m.as(r.Owner).undelete(m.Context(), ask)))
	if now := m.records()[r.ID]; now.State != catalog.Live || ask.As == "" && now.Name != r.Name || tagsOf(now) != m.notes[r.ID].tags {
		m.Errorf("%s came back as %s %s, and was %s", r.LV.Name, now.State, tagsOf(now), m.notes[r.ID].tags)
	}
	m.notes[r.ID].unused, m.notes[r.ID].told = 0, false
	m.touch(r.ID)
	m.undeleted++
}
