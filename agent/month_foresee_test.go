package agent

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/policy"
)

// forecast is what was told in the morning, by the same requests that the sysadmin makes.
type forecast struct {
	at      time.Duration // running time
	due     map[catalog.ID][]api.Prospect
	now     map[catalog.ID]bool // to make room; nil once that was compared
	touched map[catalog.ID]bool // somebody did something with it since
}

// The agent looks every minute and the month every five, for each of up to three things that follow each other.
const (
	toldEarly = monthTick
	toldLate  = 5 * monthTick
)

// words are what explain calls each thing that dry-run tells of.
var words = map[string]string{"announce": "its owner is told", "trash": "it goes to the trash", "purge": "it is purged"}

// ask has both requests tell of every volume, and holds one against the other.
func (m *month) ask() {
	c := &call{agent: m.agent, asker: m.agent.admin(), config: m.agent.config()}
	all, err := c.dryRun(m.Context())
	if err != nil {
		m.Fatal(err)
	}
	m.forecast = &forecast{at: m.mono, due: map[catalog.ID][]api.Prospect{}, now: map[catalog.ID]bool{}, touched: map[catalog.ID]bool{}}
	for _, p := range all {
		switch id := catalog.ID(p.ID); {
		case p.ID == "":
		case p.When == "now":
			m.forecast.now[id] = true
		case p.After > 0:
			m.forecast.due[id] = append(m.forecast.due[id], p)
		}
	}
	records := m.records()
	for id, r := range records {
		name := string(r.Name)
		if !m.findable(records, r) {
			name = string(r.LV.Name)
			m.hidden++
		}
		c.request = &http.Request{URL: &url.URL{RawQuery: url.Values{"name": {r.Owner.Name + "/" + name}}.Encode()}}
		e, err := c.policyExplain(m.Context())
		if err != nil {
			m.Fatal(err)
		}
		m.explained++
		want := policy.Keep
		if m.forecast.now[id] {
			want = policy.Purge
		}
		if e.Action != want.String() {
			m.Errorf("explain of %s says %+v, and dry-run: %v", r.LV.Name, e, want)
		}
		if due := m.forecast.due[id]; len(due) > 0 && (!strings.Contains(e.Next, words[due[0].Action]) || due[0].Name != e.Name) {
			m.Errorf("explain of %s says %+v, and dry-run: %+v", r.LV.Name, e, due)
		}
	}
}

// findable says whether a name means this volume: of those in the trash, the last that was deleted is meant.
func (m *month) findable(all map[catalog.ID]*catalog.Record, r *catalog.Record) bool {
	for id, other := range all {
		if id != r.ID && other.Owner == r.Owner && other.Name == r.Name && (other.State == catalog.Live || r.State == catalog.Trash && !other.Deleted.Before(r.Deleted)) {
			return false
		}
	}
	return true
}

// touch notes that the forecast does not hold for a volume any more.
func (m *month) touch(ids ...catalog.ID) {
	for _, id := range ids {
		if m.forecast != nil {
			m.forecast.touched[id] = true
		}
	}
}

// touchOwner is touch for all that an owner has.
func (m *month) touchOwner(o catalog.Owner) {
	for id, r := range m.records() {
		if r.Owner == o || m.mounted[id] == o {
			m.touch(id)
		}
	}
}

// happened holds what was done to a volume against the morning's forecast.
func (m *month) happened(r *catalog.Record, did policy.Action, early bool) {
	f := m.forecast
	if f == nil || f.touched[r.ID] {
		return
	}
	after := m.mono - f.at
	if early || did == policy.Purge && f.now[r.ID] { // its time may be over in the tick in which it makes room
		delete(f.due, r.ID)
		return
	}
	due := f.due[r.ID]
	if len(due) == 0 || due[0].Action != did.String() {
		m.Errorf("%s: %s happened after %v, and dry-run foretold %+v", r.LV.Name, did, after, due)
		return
	}
	if told := time.Duration(due[0].After) * time.Second; after < told-toldEarly || after > told+toldLate {
		m.Errorf("%s: %s happened after %v, and dry-run foretold it after %v", r.LV.Name, did, after, told)
	}
	f.due[r.ID] = due[1:]
	m.foreseen++
}

// checkNow holds what went early against what the last dry-run said would go now. natural says that trash whose time was over went too.
func (m *month) checkNow(early []*catalog.Record, natural bool) {
	f := m.forecast
	if f == nil || f.at+monthTick != m.mono || natural {
		return
	}
	for id := range f.now {
		m.foretoldNow++
		if !slices.ContainsFunc(early, func(r *catalog.Record) bool { return r.ID == id }) {
			m.Errorf("%s is to be purged now, said dry-run, and was not", id)
		}
	}
	for _, r := range early {
		if n := m.notes[r.ID]; !f.now[r.ID] && n.trashed > monthGrace+2*monthTick {
			m.Errorf("%s was purged early, and dry-run said nothing of it: %+v", r.LV.Name, *n)
		}
	}
}

// endForecast holds against what happened what was foretold for a volume that nobody touched.
func (m *month) endForecast() {
	f := m.forecast
	m.forecast = nil
	if f == nil {
		return
	}
	after := m.mono - f.at
	for id, due := range f.due {
		if len(due) == 0 || f.touched[id] {
			continue
		}
		if told := time.Duration(due[0].After) * time.Second; told+toldLate < after {
			m.Errorf("%s: dry-run foretold %s after %v, and it did not happen within %v", id, due[0].Action, told, after)
		}
	}
}

// foretold is what policy explain says of every volume before a tick.
func (m *month) foretold() map[catalog.ID]policy.Verdict {
	a := m.agent
	v, err := a.store.current(m.Context(), 0)
	if err != nil {
		m.Fatal(err)
	}
	f, out := a.gather(m.Context(), v), map[catalog.ID]policy.Verdict{}
	for _, r := range v.Catalog.Records {
		s, e := a.subject(v, f, r), a.expiry(v, r)
		out[r.ID] = e.Judge(s, e.Observe(a.past.age(r.ID), s, 0, m.wall), m.wall)
	}
	return out
}

// quietWeek holds the dry-run against a week in which nobody does anything.
func (m *month) quietWeek() {
	foretold := map[string]string{}
	a := m.agent
	v, err := a.store.current(m.Context(), 0)
	if err != nil {
		m.Fatal(err)
	}
	f := a.gather(m.Context(), v)
	for _, r := range v.Catalog.Records {
		e, s, age := a.look(v, f, r)
		for _, h := range e.Project(s, age, m.wall, quietDays*24*time.Hour, monthTick) {
			foretold[fmt.Sprintf("%s %s", r.ID, h.Action)] = h.After.String()
		}
	}
	happened := map[string]string{}
	for n := range int(quietDays * 24 * time.Hour / monthTick) {
		before, announced := m.records(), map[catalog.ID]bool{}
		for id := range before {
			announced[id] = a.past.age(id).Announced
		}
		m.tick()
		after := m.records()
		when := (time.Duration(n+1) * monthTick).String()
		for id, was := range before {
			switch now := after[id]; {
			case now == nil:
				happened[fmt.Sprintf("%s %s", id, policy.Purge)] = when
			case was.State != now.State:
				happened[fmt.Sprintf("%s %s", id, policy.Trash)] = when
			case a.past.age(id).Announced && !announced[id]:
				happened[fmt.Sprintf("%s %s", id, policy.Announce)] = when
			}
		}
	}
	if !maps.Equal(foretold, happened) {
		for what, when := range foretold {
			if happened[what] != when {
				m.Errorf("dry-run foretold %s after %s; it happened after %q", what, when, happened[what])
			}
		}
		for what, when := range happened {
			if foretold[what] == "" {
				m.Errorf("%s happened after %s, and was not foretold", what, when)
			}
		}
	}
	if len(foretold) < monthLeast {
		m.Errorf("%d things were foretold for the week, so little was shown", len(foretold))
	}
	m.Logf("%d things happened in the week, as foretold", len(happened))
}
