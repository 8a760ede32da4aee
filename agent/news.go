package agent

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/history"
	"lls/agent/notify"
	"lls/lvm"
	"lls/policy"
)

// Mailer takes news for the sysadmin; *notify.Notifier is the real one.
type Mailer interface {
	Run(ctx context.Context) error
	Add(it notify.Item) error
	SetConfig(c notify.Config)
	Status() notify.Status
	Test(ctx context.Context) error
}

// How much a piece of news matters.
type newsKind int

const (
	plainNews newsKind = iota
	warningNews
	urgentNews
)

func (k newsKind) severity() notify.Severity {
	return [...]notify.Severity{plainNews: notify.Info, warningNews: notify.Warn, urgentNews: notify.Urgent}[k]
}

// topWriters is how many of those who write most are named.
const topWriters = 3

// news tells the sysadmin, by mail, of something that the agent did, or could not do, by itself, and how its pool is: what is left, when it
// is full, and who writes most.
func (a *Agent) news(ctx context.Context, kind newsKind, pool, line string, why ...string) {
	a.newsOf(ctx, kind, catalog.Owner{}, pool, line, why...)
}

// newsOf is news of what is an owner's doing, of whom a mail lists only so much. The zero Owner is nobody.
func (a *Agent) newsOf(ctx context.Context, kind newsKind, of catalog.Owner, pool, line string, why ...string) {
	a.log.Info("news", "what", line, "why", why)
	it := notify.Item{At: a.opts.Now(), Severity: kind.severity(), Line: line, Of: of.Name}
	detail := func(name, text string) {
		if text != "" {
			it.Details = append(it.Details, notify.Detail{Name: name, Text: text})
		}
	}
	detail("why", strings.Join(why, "; "))
	if v, err := a.store.current(ctx, workAge); err == nil {
		if p, ok := a.config().Pool(pool); ok && pool != "" {
			a.describe(v, p, detail)
		}
	}
	if err := a.mailer.Add(it); err != nil {
		a.log.Error("cannot mail the news", "what", line, "error", err)
	}
}

// describe tells how a pool is.
func (a *Agent) describe(v *View, p policy.Pool, detail func(name, text string)) {
	lv, ok := findPool(v.Groups, p)
	if !ok {
		return
	}
	if g, ok := v.group(p); ok {
		detail("left in the group", g.Free.String()+" of "+g.Size.String()+" in "+p.Group)
	}
	if lv.Known {
		detail("pool "+p.Name, "data "+policy.FormatPercent(lv.DataPercent)+" of "+lv.Size.String()+", metadata "+policy.FormatPercent(lv.MetadataPercent)+" of "+lv.MetadataSize.String())
	}
	data, metadata := a.outlook(p, lv)
	detail("forecast", data.String()+"; "+metadata.String())
	var most []string
	for _, w := range a.writers(v, p) {
		most = append(most, w.Name+" "+lvm.Size(w.Bytes).String())
	}
	detail("writes most", strings.Join(most, ", "))
}

// outlook is when the two parts of a pool are full.
func (a *Agent) outlook(p policy.Pool, lv lvm.Pool) (data, metadata policy.Outlook) {
	now := a.opts.Now()
	a.past.with(func(h *history.History) {
		samples := h.Samples[p.Name]
		data = policy.Forecast(samples, policy.PartData, int64(lv.Size), now)
		metadata = policy.Forecast(samples, policy.PartMetadata, int64(lv.MetadataSize), now)
	})
	return data, metadata
}

// writers are the volumes of a pool that got most new blocks since an hour or two ago, as far as that is known, as the sysadmin calls them.
func (a *Agent) writers(v *View, p policy.Pool) (most []api.Writer) {
	now, written := mapped(v, p), a.measured.written(p)
	var top []policy.Writer
	a.past.with(func(h *history.History) { top = policy.TopWriters(h.Earlier, now, written, topWriters) })
	for _, w := range top {
		if r := v.Catalog.ByID(catalog.ID(w.ID)); r != nil {
			most = append(most, api.Writer{Name: v.Catalog.Shown(a.admin(), r), Bytes: w.Bytes})
		}
	}
	return most
}

// mapped is how much of a pool each of its volumes has mapped, as far as that is known.
func mapped(v *View, p policy.Pool) map[string]int64 {
	all := map[string]int64{}
	for _, r := range v.Catalog.Records {
		if r.LV.UsedKnown && v.pool(r.LV).Name == p.Name {
			all[string(r.ID)] = int64(float64(r.LV.Size) / 100 * r.LV.UsedPercent)
		}
	}
	return all
}

// mappedEvery is how often the figures are taken that say who writes most. The last but one are those that count: they are as old at least.
const mappedEvery = time.Hour

// sample notes how full the pools are. step is the running time since the last time.
func (a *Agent) sample(v *View, step time.Duration) {
	now := a.opts.Now()
	a.past.with(func(h *history.History) {
		a.past.observed += step
		configured := map[string]bool{}
		for _, p := range a.config().Pools {
			configured[p.Name] = true
			lv, ok := findPool(v.Groups, p)
			if !ok || !lv.Known {
				continue
			}
			h.Samples[p.Name] = policy.Thin(append(h.Samples[p.Name], policy.Sample{
				At: now, Run: a.past.run, Observed: a.past.observed,
				Data: int64(float64(lv.Size) / 100 * lv.DataPercent), Metadata: int64(float64(lv.MetadataSize) / 100 * lv.MetadataPercent),
			}))
		}
		maps.DeleteFunc(h.Samples, func(name string, _ []policy.Sample) bool { return !configured[name] })
		if a.past.observed-a.past.mappedAt >= mappedEvery {
			a.past.mappedAt = a.past.observed
			a.measured.hour()
			h.Earlier = maps.Clone(h.Mapped)
			for _, p := range a.config().Pools {
				maps.Copy(h.Mapped, mapped(v, p)) // what is inactive has written nothing since it was last seen
			}
			for _, m := range []map[string]int64{h.Mapped, h.Earlier} {
				maps.DeleteFunc(m, func(id string, _ int64) bool { return v.Catalog.ByID(catalog.ID(id)) == nil })
			}
		}
		for _, p := range a.config().Pools { // what is seen for the first time begins now
			for id, n := range mapped(v, p) {
				for _, m := range []map[string]int64{h.Mapped, h.Earlier} {
					if _, seen := m[id]; !seen {
						m[id] = n
					}
				}
			}
		}
	})
}

// levelSlack is how many percent a pool must fall below a level before the sysadmin is told again that it passed it.
const levelSlack = 2

// passed is the level that was told last after a part of a pool came to so many percent, of sorted levels, and the one that it passed, rising;
// 0 for none.
func passed(levels []float64, told, percent float64) (now, passed float64) {
	for told > 0 && percent < told-levelSlack {
		below := 0.0
		for _, l := range levels {
			if l < told {
				below = l
			}
		}
		told = below
	}
	for _, l := range levels {
		if l > told && percent >= l {
			told, passed = l, l
		}
	}
	return told, passed
}

// passes says whether a part of a pool passes a level that was not told yet.
func (a *Agent) passes(p policy.Pool, part policy.Part, percent float64) (yes bool) {
	a.past.with(func(h *history.History) {
		_, level := passed(a.config().Mail.Levels, h.Levels[partKey(p.Name, part)], percent)
		yes = level > 0
	})
	return yes
}

// level tells when a part of a pool passed one of the levels, rising.
func (a *Agent) level(ctx context.Context, p policy.Pool, part policy.Part, percent float64) {
	levels := a.config().Mail.Levels
	var level float64
	a.past.with(func(h *history.History) {
		key := partKey(p.Name, part)
		h.Levels[key], level = passed(levels, h.Levels[key], percent)
	})
	if level == 0 {
		return
	}
	kind := warningNews
	if level == slices.Max(levels) && level >= policy.NearlyFull {
		kind = urgentNews
	}
	a.news(ctx, kind, p.Name, "pool "+p.Name+": "+string(part)+" passed "+policy.FormatPercent(level)+": it is "+policy.FormatPercent(percent)+" full")
}

// partKey is what a part of a pool is called in the history.
func partKey(pool string, part policy.Part) string { return pool + " " + string(part) }

// mailConfig is what lls.toml says of mail, for who sends it.
func mailConfig(m policy.Mail) notify.Config {
	return notify.Config{To: m.To, From: m.From, Relay: m.Relay, Sendmail: m.Sendmail, Every: m.Every}
}

// mailStatus is how mail goes.
func (a *Agent) mailStatus() *api.MailStatus {
	s := a.mailer.Status()
	out := &api.MailStatus{To: a.config().Mail.To, Queued: s.Queued, LastError: s.LastError}
	if !s.OldestAt.IsZero() {
		out.Oldest = &s.OldestAt
	}
	if !s.LastSent.IsZero() {
		out.LastSent = &s.LastSent
	}
	return out
}

// mailTest sends a mail now, and says what the mail server said.
func (c *call) mailTest(ctx context.Context, _ api.Empty) (api.Empty, error) {
	if err := c.agent.mailer.Test(ctx); err != nil {
		return api.Empty{}, api.Errorf(api.Failed, "%v", err).WithHint("see [mail] in %s; after a change: lls-agent reload", cmp.Or(c.agent.opts.Config, "lls.toml"))
	}
	return api.Empty{}, nil
}

func tellOutlook(o policy.Outlook) *api.Outlook {
	out := &api.Outlook{Text: o.String(), Known: o.Known, Rate: int64(o.Rate)}
	if !o.FullAt.IsZero() {
		out.FullAt = &o.FullAt
	}
	return out
}
