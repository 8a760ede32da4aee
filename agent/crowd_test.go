package agent

import (
	"testing"
	"time"

	"lls/agent/notify"
)

// TestNobodyCrossesAThresholdForNews has a container's root fill and empty what is his, and a pool at its cap hover around its threshold.
func TestNobodyCrossesAThresholdForNews(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail + "[growth.data]\ncap = \"50G\"\n")
	c, g := b.growClock(), b.grower()
	_, at := b.growing("a", "1G")
	b.fill(10, 1)
	b.news()
	for range 60 {
		at(85)
		b.fill(81, 1)
		g.step(t.Context())
		c.pass(10 * time.Second)
		at(10)
		b.fill(60, 1)
		g.step(t.Context())
		c.pass(10 * time.Second)
	}
	b.mail.mu.Lock()
	var of []string
	for _, it := range b.mail.items {
		of = append(of, it.Of)
	}
	b.mail.mu.Unlock()
	wantLines(t, b.news(), "c1/a cannot grow, and is 85% full", "pool main: data cannot grow, and is 81% full")
	if len(of) != 2 || of[0] != "c1" || of[1] != "" {
		t.Errorf("it is the doing of %q", of)
	}
	c.pass(time.Hour)
	at(85)
	b.fill(81, 1)
	g.step(t.Context())
	wantLines(t, b.news(), "c1/a cannot grow, and is 85% full", "pool main: data cannot grow, and is 81% full")
}

// TestWhatOneContainerHasExpireIsItsOwnNews looks at whose doing the mail says that it is.
func TestWhatOneContainerHasExpireIsItsOwnNews(t *testing.T) {
	b := newBench(t)
	b.reload(testConfig + quietMail + "[expiry]\nunused = \"20m\"\nnotice = \"20m\"\ntrash = \"20m\"\n")
	b.ageing("mine")(16)
	b.mail.mu.Lock()
	items := b.mail.items
	b.mail.mu.Unlock()
	if len(items) != 3 {
		t.Errorf("the news is %q", b.news())
	}
	for _, it := range items {
		if it.Of != "c1" || it.Severity != notify.Info {
			t.Errorf("%+v", it)
		}
	}
}
