package agent

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/lvm"
	"lls/policy"
)

// phase is how the month's pool does for a day.
type phase string

const (
	calm       phase = "calm"
	grows      phase = "grows"       // it is too full for some hours, and then grows
	noData     phase = "no data"     // its data is too full, and at its cap
	noMetadata phase = "no metadata" // its metadata is too full, and must not grow
)

// phases are those of the days, over and over.
var phases = []phase{calm, calm, grows, calm, noData, noMetadata}

// The levels of the month's pool, in percent: from which nothing new is made, and where it is otherwise.
const (
	monthData, monthMetadata = 95, 90
	monthCalm                = 40
	monthGrace               = time.Hour // for which not even a full pool takes what was deleted
	growsAfter               = 6 * time.Hour
)

// monthPool is what the observer knows of the pool: who has how much of it.
type monthPool struct {
	phase    phase
	since    time.Duration // running time
	base     int64         // bytes of nobody here
	bytes    map[catalog.ID]int64
	measured map[catalog.ID]bool // for the agent
	metadata float64             // percent
	grown    int
	grower   *grower
}

func (m *month) poolSize() int64 {
	p, _ := m.group().Pool(testPool)
	return int64(p.Size)
}

func (m *month) used() int64 {
	sum := m.pool.base
	for id := range m.records() {
		sum += m.pool.bytes[id]
	}
	return sum
}

// enter begins a phase, with an agent that reads another lls.toml.
func (m *month) enter(ph phase) {
	size := m.poolSize()
	growth := "[growth.data]\nstep = \"1T\"\n"
	switch ph {
	case noData:
		growth += fmt.Sprintf("cap = \"%dM\"\n", size>>20)
	case noMetadata:
		growth += "[growth.metadata]\nthreshold = 0\n"
	}
	if err := os.WriteFile(m.opts.Config, []byte(monthConfig+growth), 0o644); err != nil {
		m.Fatal(err)
	}
	m.pool.phase, m.pool.since, m.pool.metadata = ph, m.mono, 10
	set := func(percent float64) { m.pool.base += int64(float64(size)/100*percent) - m.used() }
	set(monthCalm)
	m.pour()
	m.restart()
	m.pool.grower.step(m.Context()) // which lets go of LVM's own growth where it may not grow
	switch ph {
	case grows:
		set(monthData + 1)
	case noData:
		set(monthData)
		m.pool.base += 30 << 30
	case noMetadata:
		m.pool.metadata = monthMetadata + 1
	}
	m.pour()
}

// pour lets LVM say how full the pool is.
func (m *month) pour() {
	m.lvm.SetFill(testVG, testPool, float64(m.used())/float64(m.poolSize())*100, m.pool.metadata)
	m.agent.store.forget()
}

// write lets somebody fill the pool a little further, and the agent see now and then who has what.
func (m *month) write() {
	switch m.pool.phase {
	case noData:
		if m.rand.IntN(10) == 0 {
			m.pool.base += m.rand.Int64N(4 << 30)
		}
	case noMetadata:
		if m.rand.IntN(100) == 0 {
			m.pool.metadata += 0.3
		}
	}
	if m.rand.IntN(12) != 0 {
		return
	}
	f := &figures{at: m.wall, volumes: map[catalog.ID]figure{}, owners: map[catalog.Owner]int64{}}
	clear(m.pool.measured)
	for id, r := range m.records() {
		f.volumes[id] = figure{frees: m.pool.bytes[id], owner: r.Owner}
		m.pool.measured[id] = true
	}
	p, _ := m.agent.config().Pool("main")
	m.agent.measured.put(p, f)
}

// press has the pool short of something in the days in which it cannot grow.
func (m *month) press() {
	switch m.pool.phase {
	case noData:
		m.pool.base += max(0, m.poolSize()/100*monthData-m.used()+10<<30)
	case noMetadata:
		m.pool.metadata = max(m.pool.metadata, monthMetadata+0.3)
	}
	m.pour()
}

// full says whether nothing new is to be made now.
func (m *month) full() bool {
	return float64(m.used()) >= float64(m.poolSize())/100*monthData || m.pool.metadata >= monthMetadata
}

// wantMade fails the test when something new is refused, but in a full pool, and when that does not refuse it.
func wantMade[T any](m *month, v T, err error) (T, bool) {
	m.Helper()
	if full := m.full(); full != api.Full.Is(err) || !full && err != nil {
		m.Fatalf("in a pool of which %d of %d bytes and %v%% of the metadata are in use: %v", m.used(), m.poolSize(), m.pool.metadata, err)
	}
	return v, err == nil
}

// grow has the pool grow as its goroutine would.
func (m *month) grow() {
	was := m.poolSize()
	if m.pool.phase == grows && m.mono-m.pool.since < growsAfter {
		return
	}
	m.pool.grower.step(m.Context())
	if is := m.poolSize(); is > was {
		m.pool.grown++
		if m.pool.phase != grows {
			m.Errorf("the pool grew from %s to %s in phase %q", lvm.Size(was), lvm.Size(is), m.pool.phase)
		}
	}
	m.pour()
}

// shortOf is what the pool has to be given back before a tick, as the observer sees it.
func (m *month) shortOf() (data int64, metadata bool) {
	over := m.used() - m.poolSize()/100*monthData
	if m.pool.phase == noData && over >= 0 {
		data = over + 1
	}
	return data, m.pool.phase == noMetadata && m.pool.metadata >= monthMetadata
}

// mayTake says whether a full pool may take a volume: surely, or at least for all that the observer can tell to the tick.
func (m *month) mayTake(r *catalog.Record, surely bool) bool {
	n, slack := m.notes[r.ID], 2*monthTick
	if surely {
		slack = -slack
	}
	_, mounted := m.mounted[r.ID]
	return n != nil && r.State == catalog.Trash && !mounted && !m.leased(r, n, !surely) && n.trashed+slack >= monthGrace
}

// checkEarly is the oracle of what went before its time in a tick; all is what there was before, natural says that other trash went too.
func (m *month) checkEarly(all map[catalog.ID]*catalog.Record, early []*catalog.Record, data int64, metadata, natural bool) {
	m.early += len(early)
	slices.SortFunc(early, func(a, b *catalog.Record) int { return cmp.Compare(m.notes[b.ID].trashed, m.notes[a.ID].trashed) })
	if data <= 0 && !metadata {
		for _, r := range early {
			m.Errorf("%s was purged before its time, but the pool is not short of anything (%s)", r.LV.Name, m.pool.phase)
		}
		return
	}
	if metadata {
		m.pool.metadata -= 0.4 * float64(len(early))
	}
	freed, last, unknown, youngest := int64(0), int64(0), 0, policy.Never
	if len(early) > 0 {
		youngest = m.notes[early[len(early)-1].ID].trashed
	}
	for _, r := range early {
		if !m.mayTake(r, false) {
			m.Errorf("%s was purged early: %+v", r.LV.Name, *m.notes[r.ID])
		}
		atLast := m.notes[r.ID].trashed <= youngest+2*monthTick // it may be the one that went last
		if !m.pool.measured[r.ID] {
			if unknown++; !atLast {
				m.Errorf("%s was purged early, and more after it, though nobody knew what it gives back", r.LV.Name)
			}
		}
		if freed += m.pool.bytes[r.ID]; atLast {
			last = max(last, m.pool.bytes[r.ID])
		}
	}
	if len(early) > 1 && (metadata || unknown > 1 || unknown == 0 && freed-last >= data) {
		m.Errorf("%d were purged early, the last but one of which gave back enough or something unknown: %d of %d bytes, metadata %v", len(early), freed, data, metadata)
	}
	gone := func(id catalog.ID) bool {
		return slices.ContainsFunc(early, func(r *catalog.Record) bool { return r.ID == id })
	}
	for id, r := range all {
		if gone(id) || !m.mayTake(r, true) || m.records()[id] == nil {
			continue
		}
		switch {
		case len(early) == 0:
			m.Errorf("the pool is short of %d bytes (metadata: %v), but %s stayed", data, metadata, r.LV.Name)
		case m.notes[id].trashed > youngest+3*monthTick: // those that went have not aged by this tick
			m.Errorf("%s was longer in the trash than what was purged early, and stayed: %+v, %+v", r.LV.Name, *m.notes[id], m.agent.past.age(id))
		}
	}
	m.checkNow(early, natural)
}
