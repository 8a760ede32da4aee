package agent

import (
	"fmt"
	"strings"
	"time"

	"lls/agent/catalog"
	"lls/policy"
)

// expires is when a volume goes to the trash, or out of it, as far as its owner was told; nil when that is not so. It is judged anew, by
// its tags and mounts of now: only the fstabs and containers are those of the last look, and the time since then is yet to be counted.
func (a *Agent) expires(v *View, r *catalog.Record) *time.Time {
	f, looked := a.past.lastLook()
	if f == nil {
		return nil
	}
	now := *f
	if w := a.lastPlaces.Load(); w != nil {
		now.places = w
	}
	e, s := a.expiry(v, r), a.subject(v, now, r)
	next, wait := e.Next(s, e.Observe(a.past.age(r.ID), s, 0, looked), looked)
	if next != policy.Trash && next != policy.Purge { // a volume goes to the trash only after its owner was told
		return nil
	}
	at := looked.Add(wait)
	return &at
}

// remindAll writes into every container which of its volumes will go. Before the first look that is not known, and what the agent before
// wrote holds.
func (a *Agent) remindAll() {
	if !a.past.looked() {
		return
	}
	for _, g := range a.guests.list() {
		a.complain("cannot tell the container what will go", g.Container, a.remind(g))
	}
}

// noticeFile is what a container's users find in /lls when something of theirs will go by itself.
const noticeFile = "NOTICE"

// remind writes the notice of one container when it changed.
func (a *Agent) remind(g *guest) error {
	if g.tree == nil {
		return nil
	}
	v := a.store.latest()
	if v == nil {
		return nil
	}
	var b strings.Builder
	for _, r := range v.Catalog.Records {
		if r.Owner != g.Owner || r.State != catalog.Live {
			continue
		}
		if s := a.volumes.why(r.ID); s.kind != "" {
			fmt.Fprintf(&b, "%s is %s. What helps: %s\n", r.Name, s.why, s.remedy)
		}
		if at := a.expires(v, r); at != nil {
			fmt.Fprintf(&b, "%s is not used, and goes to the trash on %s. To keep it: lls keep %s --for 7d\n", r.Name, at.Format("2006-01-02 15:04"), r.Name)
		}
	}
	b.WriteString(a.fullNotice(v, g.Owner))
	g.mu.Lock()
	same := g.noticed && g.notice == b.String()
	g.mu.Unlock()
	if same {
		return nil
	}
	release, err := g.hold()
	if err != nil {
		return nil // it has ended
	}
	defer release()
	if err := a.touch(g, func() error { return g.tree.Put(noticeFile, []byte(b.String()), 0o644) }); err != nil {
		return err
	}
	g.mu.Lock()
	g.notice, g.noticed = b.String(), true
	g.mu.Unlock()
	return nil
}
