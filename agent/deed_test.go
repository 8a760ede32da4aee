package agent

import (
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/history"
	"lls/agent/notify"
	"lls/lvm"
)

// onNews calls it with what is on disk when news of something comes, which is what an agent finds that starts after a kill just then.
type onNews struct {
	*fakeMail
	b     *bench
	words string
	found *history.History
}

func (m *onNews) Add(it notify.Item) error {
	if strings.Contains(it.Line, m.words) && m.found == nil {
		h, err := history.Load(m.b.agent.past.path)
		if err != nil {
			m.b.t.Fatal(err)
		}
		m.found = h
	}
	return m.fakeMail.Add(it)
}

// TestWhatWasDoneIsToldAlsoWhenTheAgentWasKilledBeforeIt has the agent killed between each deed and its mail.
func TestWhatWasDoneIsToldAlsoWhenTheAgentWasKilledBeforeIt(t *testing.T) {
	for _, tt := range []struct {
		words string // of the deed
		full  bool
	}{{words: "mine went to the trash: it was not used"}, {words: "mine was purged: it has been"}, {words: "mine was purged before its time", full: true}} {
		t.Run(tt.words, func(t *testing.T) {
			b := newBench(t)
			config := testConfig + quietMail + "[expiry]\nunused = \"20m\"\nnotice = \"20m\"\ntrash = \"60m\"\n"
			if tt.full {
				config = strings.Replace(testConfig, "[limits]", "[limits]\ndata_percent = 90.0", 1) + quietMail + "[growth.data]\nthreshold = 0.0\n[expiry]\nunused = \"20m\"\nnotice = \"20m\"\ntrash = \"9d\"\n"
			}
			b.reload(config)
			mail := &onNews{fakeMail: &b.mail, b: b, words: tt.words}
			b.agent.mailer = mail
			pass := b.ageing("mine")
			if tt.full {
				b.post(b.c1, api.PathDelete, api.NameRequest{Name: "mine"}, "")
				pass(14)
				b.fill(91, 1)
				b.agent.store.forget()
			}
			for range 30 {
				if mail.found != nil {
					break
				}
				pass(1)
			}
			if mail.found == nil {
				t.Fatalf("that was never told; it is %q", b.names(b.c1, true))
			}
			b.news()
			b.fill(10, 1)
			b.agent.past.history = mail.found // the next agent
			pass(1)
			wantLines(t, b.news(), tt.words)
			pass(1)
			wantLines(t, b.news())
		})
	}
}

// TestWhatWasNotDoneIsNotTold has the agent killed after its note and before the deed.
func TestWhatWasNotDoneIsNotTold(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail)
	pass := b.ageing("mine")
	var id string
	for _, v := range b.list(b.c1, false) {
		if v.Name == "mine" {
			id = v.ID
		}
	}
	for _, purge := range []bool{false, true} {
		b.agent.past.history.Deeds[id] = history.Deed{Purge: purge, Line: "c1/mine is no more"}
		pass(1)
		wantLines(t, b.news())
		if len(b.agent.past.history.Deeds) != 0 {
			t.Error("the note stays")
		}
	}
}

func TestGrowthIsOnlyNotedOnceItWasTold(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail)
	b.growClock()
	g := b.grower()
	b.fill(10, 10)
	g.step(t.Context())
	mail := &onNews{fakeMail: &b.mail, b: b, words: "data grew from 50G to 60G"}
	b.agent.mailer = mail
	b.fill(85, 10)
	g.step(t.Context())
	if mail.found == nil || mail.found.Sizes["main data"] != 50<<30 {
		t.Errorf("when it was told, there was noted %+v", mail.found)
	}
	b.news()
	b.agent.past.history = mail.found // an agent that was killed then
	b.fill(10, 10)
	b.grower().step(t.Context())
	wantLines(t, b.news(), "pool main: data grew from 50G to 60G while the agent was away")
}

func TestGrowthByOthersCountsForTheCoolDown(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail + "[growth.data]\ncooldown = \"10m\"\n")
	c, g := b.growClock(), b.grower()
	b.fill(10, 10)
	g.step(t.Context())
	b.lvm.EditPool(testVG, testPool, func(p *lvm.Pool) { p.Size += 5 * lvm.GiB }) // as dmeventd does
	b.fill(85, 10)
	g.step(t.Context())
	if is := b.pool().Size; is != 55*lvm.GiB {
		t.Errorf("at once it grew again, to %s", is)
	}
	c.pass(10 * time.Minute)
	g.step(t.Context())
	if is := b.pool().Size; is <= 55*lvm.GiB {
		t.Errorf("after the cool-down it is %s", is)
	}
}
