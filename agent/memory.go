package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"lls/agent/api"
)

// memory is what became of a container's fstab in one run of it. It lies in the container's directory of the host, for an agent that
// starts anew: what a user has unmounted since is not mounted again, what is not decided is tried again, and all of it is still told.
type memory struct {
	Run    string         `json:"run"`
	Began  time.Time      `json:"began"` // the first replay in this run
	Lines  []api.Replayed `json:"lines"`
	Later  []string       `json:"later,omitempty"`  // lines that are not decided, by lineKey
	Waits  map[int]string `json:"waits,omitempty"`  // those of them that were not tried but wait for another, by their number in Lines
	Unread bool           `json:"unread,omitempty"` // the file could not be read
	Again  bool           `json:"again,omitempty"`  // and is to be read again
}

func (m *memory) undecided() bool { return m.Again || len(m.Later) > 0 }

func (a *Agent) memoryOf(g *guest) string { return filepath.Join(a.opts.Trees, g.Key(), "replayed") }

// remembered is what is known of the last replay in this run of the container; nil when there was none.
func (a *Agent) remembered(g *guest) *memory {
	if m := g.memory(); m != nil {
		return m
	}
	text, err := readSmall(a.memoryOf(g))
	if err != nil {
		return nil
	}
	var was memory
	if err := json.Unmarshal([]byte(text), &was); err != nil || was.Run == "" || was.Run != runOf(g.box.PID) {
		return nil
	}
	g.setMemory(&was)
	return &was
}

// remember does a replay and keeps what came of it, beside what was decided before when it was not of all lines. The caller holds
// g.replaying.
func (a *Agent) remember(r *replaying, ctx context.Context) memory {
	g, was := r.guest, r.guest.memory()
	r.replay(ctx)
	now := memory{Began: a.opts.Now(), Later: r.later, Waits: map[int]string{}, Unread: r.unread, Again: r.again}
	var before []api.Replayed
	if was != nil {
		now.Began, before = was.Began, was.Lines
	}
	if r.only != nil {
		now.keep(was, r)
	}
	for _, o := range r.done {
		now.Lines = append(now.Lines, o.Replayed)
		if o.waits {
			now.Waits[o.Line] = r.lines[o.Line]
		}
	}
	a.tellReplay(g, r.done, before)
	a.write(g, &now)
	return now
}

// keep takes over what was decided before a replay of the other lines. A file that could not be read again leaves all as it was.
func (m *memory) keep(was *memory, r *replaying) {
	if r.unread {
		m.Later, m.Waits, m.Unread, m.Again, m.Lines = was.Later, was.Waits, was.Unread, was.Again, was.Lines
		r.done = nil
		return
	}
	for _, line := range was.Lines {
		if !line.Later && !slices.ContainsFunc(r.done, func(o outcome) bool { return o.Line == line.Line && o.Volume == line.Volume }) {
			m.Lines = append(m.Lines, line)
		}
	}
}

// giveUp tries no line of a container any more that was not decided, but for those that were not tried yet, because they waited for one
// of the others: they are tried now, once. The caller holds g.replaying.
func (a *Agent) giveUp(ctx context.Context, g *guest, was *memory) {
	now := *was
	now.Later, now.Waits, now.Again, now.Lines = slices.Sorted(maps.Values(was.Waits)), nil, false, slices.Clone(was.Lines)
	left := 0
	for i, line := range now.Lines {
		if _, waits := was.Waits[line.Line]; line.Later && !waits {
			now.Lines[i].Later = false
			left++
		}
	}
	if left > 0 {
		a.log.Warn("gave up on lines of the container's fstab", "container", g.Owner, "lines", left, "after", retryFor)
	}
	a.write(g, &now)
	if len(now.Later) > 0 {
		a.remember((&call{agent: a}).replayer(g, a.stopping, now.Later), ctx)
	}
}

// write keeps what is known of a guest's fstab. What lies in the directory of one that has ended is the next one's.
func (a *Agent) write(g *guest, m *memory) {
	m.Run = runOf(g.box.PID)
	g.setMemory(m)
	release, err := g.hold()
	if err != nil {
		return
	}
	defer release()
	text, err := json.Marshal(m)
	if err == nil {
		err = os.WriteFile(a.memoryOf(g)+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(a.memoryOf(g)+".new", a.memoryOf(g))
	}
	if err != nil {
		a.log.Warn("cannot remember that a container's fstab was replayed", "container", g.Owner, "error", err)
	}
}

// maxTold is how many lines of one replay the journal names.
const maxTold = 20

// tellReplay writes into the journal what became of the lines, those that failed first, and of what was known before only what changed.
func (a *Agent) tellReplay(g *guest, done []outcome, before []api.Replayed) {
	mounted := 0
	var fresh []outcome
	for _, o := range done {
		if o.Mounted {
			mounted++
		}
		if !slices.Contains(before, o.Replayed) || !o.Later {
			fresh = append(fresh, o)
		}
	}
	if len(fresh) == 0 {
		return
	}
	slices.SortStableFunc(fresh, func(x, y outcome) int { return cmp.Compare(rank(x), rank(y)) })
	journal, now := a.journals.of(g.Owner.String()), a.opts.Now()
	told := 0
	for _, o := range fresh[:min(len(fresh), maxTold)] {
		if _, ok := journal.line(now); !ok {
			break
		}
		told++
		level, text := slog.LevelWarn, "cannot mount what the container's fstab says"
		attrs := []any{"container", g.Owner, "line", o.Line, "volume", o.Volume, "path", o.Path}
		switch {
		case !o.Mounted:
			attrs = append(attrs, "problem", o.Problem, "later", o.Later, "cause", o.cause)
		case o.Warning != "":
			text = "mounted what the container's fstab says, which should say it otherwise"
		default:
			level, text = slog.LevelInfo, "mounted what the container's fstab says"
		}
		if o.Warning != "" {
			attrs = append(attrs, "warning", o.Warning)
		}
		a.log.Log(context.Background(), level, text, attrs...)
	}
	if dropped, ok := journal.line(now); ok {
		a.log.Info("replayed the container's fstab", "container", g.Owner, "mounted", mounted, "of", len(done), "others", len(fresh)-told, "untold", dropped)
	}
}

// rank puts first what people look for.
func rank(o outcome) int {
	switch {
	case !o.Mounted:
		return 0
	case o.Warning != "":
		return 1
	}
	return 2
}

// runOf names one run of a process: its pid and the time of its start, field 22 of proc_pid_stat(5).
func runOf(pid int) string {
	stat, err := readSmall(fmt.Sprintf("/proc/%d/stat", pid))
	command := strings.LastIndex(stat, ") ") // the command before it may hold anything
	if err != nil || command < 0 {
		return ""
	}
	fields := strings.Fields(stat[command+2:])
	if len(fields) < 20 {
		return ""
	}
	return strconv.Itoa(pid) + " " + fields[19]
}
