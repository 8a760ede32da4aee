package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/filesystem"
	"lls/agent/mount"
	"lls/hooks"
	"lls/lvm"
)

// replayDeadline bounds the replay of one container's fstab. A start waits for it as long as the hook does; what is late is mounted
// into the running container.
const replayDeadline = 5 * time.Minute

// retryFor is how long after the first replay in a run of a container those lines are tried again that failed for the host's reasons: a
// volume group may appear late at boot. After that a volume that comes by such a name is somebody's new one, which nobody expects to
// find mounted. Only an agent that starts tries once more: its predecessor may have been ended in the middle.
const retryFor = 10 * time.Minute

// fstabPath is the container's own list of mounts, fstab(5).
const fstabPath = "/etc/fstab"

// replaying is one replay of a container's fstab under way.
type replaying struct {
	*call
	stop  <-chan struct{} // closed when no other line is to be begun; nil when all are
	only  []string        // the lines to try, by lineKey; nil for all
	lines map[int]string  // lineKey of each line by its number

	done   []outcome
	later  []string // lines that are not decided, by lineKey
	unread bool     // the file could not be read
	again  bool     // and that may pass: all of it is to be tried again
}

// outcome is what became of a line. The cause is for the journal.
type outcome struct {
	api.Replayed
	cause error
	at    string // the whole target, clean
	waits bool   // it was not tried, because a line above it is to be tried again
}

// lineKey is by what a line is known again, wherever in the file it stands then.
func lineKey(text string) string {
	sum := sha256.Sum256([]byte(strings.TrimSpace(text)))
	return hex.EncodeToString(sum[:16])
}

// replay mounts what the container's fstab says, and notes what became of every line that is for LLS. ctx does not cut it short.
func (r *replaying) replay(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replayDeadline)
	defer cancel()
	text, err := r.agent.readFstab(ctx, r.guest)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		r.cannotRead(err)
		return
	}
	file := r.file(text)
	l := &look{call: r.call}
	defer l.done(ctx, nil)
	plan := file.Plan(func(wanted []hooks.Tag) map[hooks.Tag]string { return l.find(ctx, wanted) })
	l.done(ctx, r.activateAll(ctx, plan.Mounts))
	for _, n := range plan.Refused {
		o := outcome{Replayed: api.Replayed{Line: n.Line, Volume: n.Name, Path: n.Target, Required: n.Required, Problem: n.String()}}
		o.Later = n.Reason == hooks.NotFound && l.partial
		o.at = targetOf(file, n.Line) // the notice's own is cut for showing
		r.add(o)
	}
	for _, number := range plan.Unfound {
		if l.partial && !slices.Contains(r.later, r.lines[number]) {
			r.later = append(r.later, r.lines[number]) // perhaps a volume of ours: nothing is said of it before that is known
		}
	}
	for _, m := range plan.Mounts {
		r.add(r.one(ctx, m, plan.Warnings))
	}
}

// cannotRead notes that nothing is known of the fstab.
func (r *replaying) cannotRead(err error) {
	why := "it is no regular file, too long, or does not answer"
	if errors.Is(err, os.ErrPermission) {
		why = "it must be root's, or readable for all" // our helper has the ids of the container's root, and none of its other rights
	}
	theirs := errors.Is(err, os.ErrPermission) || errors.Is(err, mount.ErrTooLarge) || errors.Is(err, mount.ErrNotRegular)
	r.unread, r.again = true, !theirs
	r.done = []outcome{{Replayed: api.Replayed{Problem: "cannot read " + fstabPath + ": " + why, Later: r.again}, cause: err}}
}

// file are the lines to try.
func (r *replaying) file(text []byte) hooks.File {
	file := hooks.Parse(text)
	r.lines = map[int]string{}
	for _, l := range file.Lines {
		r.lines[l.Number] = lineKey(l.Text)
	}
	if r.only != nil {
		file.Lines = slices.DeleteFunc(file.Lines, func(l hooks.Line) bool { return !slices.Contains(r.only, r.lines[l.Number]) })
	}
	return file
}

// targetOf is the clean target of the line of that number; "" when there is none.
func targetOf(file hooks.File, number int) string {
	i := slices.IndexFunc(file.Lines, func(l hooks.Line) bool { return l.Number == number })
	if i < 0 {
		return ""
	}
	return path.Clean(file.Lines[i].Target)
}

func (r *replaying) add(o outcome) {
	r.done = append(r.done, o)
	if o.Later {
		r.later = append(r.later, r.lines[o.Line])
	}
}

func (r *replaying) stopped() bool {
	select {
	case <-r.stop: // never for nil
		return true
	default:
		return false
	}
}

// above finds the line that a mount at a target has to wait for: one of this replay that is to be tried again, and that mounts there or
// above. Without it the target may not be there, or be what it will cover. Of several it is the topmost, which waits for none itself.
func (r *replaying) above(target string) (outcome, bool) {
	for _, o := range r.done {
		if o.Later && o.at != "" && (target == o.at || strings.HasPrefix(target, o.at+"/")) {
			return o, true
		}
	}
	return outcome{}, false
}

// one mounts what one line says.
func (r *replaying) one(ctx context.Context, m hooks.Mount, warnings []hooks.Notice) outcome {
	o := outcome{Replayed: api.Replayed{Line: m.Line, Volume: m.Name, Path: m.Target, Required: m.Required}, at: m.Target}
	for _, w := range warnings {
		switch {
		case w.Line != m.Line:
		case o.Warning == "":
			o.Warning = w.String()
		default:
			o.Warning += "; " + strings.TrimPrefix(w.String(), fmt.Sprintf("line %d: ", w.Line))
		}
	}
	if r.stopped() {
		o.Later, o.Problem = true, "the agent was stopped before it came to this line"
		return o
	}
	if first, ok := r.above(m.Target); ok {
		o.Later, o.waits = true, true
		o.Problem = fmt.Sprintf("cannot mount %.200s at %.200s before line %d is mounted at %.200s", m.Name, m.Target, first.Line, first.at)
		return o
	}
	r.progress("mounting %s at %s", m.Name, m.Target)
	placed, err := r.mountLine(ctx, m)
	if err != nil {
		o.Problem, o.Later, o.cause = r.explain(err).Message, r.mayPass(err), err
		return o
	}
	o.Mounted, o.Path, o.ReadOnly = true, placed.Path, placed.ReadOnly
	return o
}

func (r *replaying) mountLine(ctx context.Context, m hooks.Mount) (api.Mount, error) {
	rec, v, err := r.volume(ctx, "mount", m.Name, catalog.Mount, false)
	if err != nil {
		return api.Mount{}, err
	}
	return r.place(ctx, v, rec, target{path: m.Target, readOnly: m.ReadOnly, noAtime: m.NoAtime, discard: m.Discard, replay: true}, r.guest)
}

// mayPass says whether a line failed for a reason of the host's that may pass. What the line itself, the container, a right or the file
// system is the reason of is as good as decided; that a volume is not there only when all groups are.
func (r *replaying) mayPass(err error) bool {
	switch r.explain(err).Code {
	case api.NotFound:
		v := r.agent.store.latest()
		return v == nil || len(v.Missing) > 0
	case api.BadPath, api.Denied, api.Malformed:
		return false
	}
	var occupied *mount.ErrOccupied
	return !errors.As(err, &occupied) && !errors.Is(err, filesystem.ErrDirtyLog)
}

// activateAll activates what the plan needs, with one command for each volume group, and says what that is. What cannot be found or
// activated is told of when it is mounted.
func (r *replaying) activateAll(ctx context.Context, mounts []hooks.Mount) map[catalog.ID]bool {
	needed, inactive := map[catalog.ID]bool{}, map[lvm.VG][]lvm.Name{}
	for _, m := range mounts {
		if r.stopped() {
			return nil
		}
		rec, _, err := r.volume(ctx, "mount", m.Name, catalog.Mount, false)
		if err == nil && !needed[rec.ID] && !rec.LV.Active {
			inactive[rec.LV.VG] = append(inactive[rec.LV.VG], rec.LV.Name)
		}
		if err == nil {
			needed[rec.ID] = true
		}
	}
	for vg, names := range inactive {
		r.progress("activating %d volumes", len(names))
		if err := r.agent.activate(ctx, vg, names...); err != nil {
			r.agent.log.Warn("cannot activate the volumes of a container's fstab", "container", r.guest.Owner, "error", err)
		}
	}
	return needed
}

func (a *Agent) readFstab(ctx context.Context, g *guest) ([]byte, error) {
	release, err := g.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	return a.mounts.ReadFile(ctx, g.box, fstabPath, hooks.MaxFile)
}

// replayFirst replays a container's fstab at its start. When that was done in this run of it, it only says what came of it.
func (c *call) replayFirst(ctx context.Context, g *guest) memory {
	g.replaying.Lock()
	defer g.replaying.Unlock()
	if was := c.agent.remembered(g); was != nil {
		return *was
	}
	return c.agent.remember(c.replayer(g, nil, nil), ctx)
}

// replayLate mounts into a running container what its start could not: all, when no agent was there, else what is not decided. It leaves
// off when the agent stops; the next one goes on.
func (a *Agent) replayLate(ctx context.Context, g *guest) {
	if !g.replaying.TryLock() {
		return // somebody is at it
	}
	defer g.replaying.Unlock()
	c := &call{agent: a}
	fresh := g.memory() == nil
	was := a.remembered(g)
	switch {
	case was == nil || was.Again && (fresh || a.mayRetry(was)):
		a.remember(c.replayer(g, a.stopping, nil), ctx)
	case !was.undecided():
	case fresh || a.mayRetry(was):
		a.remember(c.replayer(g, a.stopping, was.Later), ctx)
	case !isClosed(a.stopping): // else the next agent goes on
		a.giveUp(ctx, g, was)
	}
}

// replayer is a replay in the name of the container, whose progress is told to c's caller.
func (c *call) replayer(g *guest, stop <-chan struct{}, only []string) *replaying {
	own := &call{agent: c.agent, guest: g, asker: g.asker(), config: c.agent.config(), answer: c.answer}
	return &replaying{call: own, stop: stop, only: only}
}

func (a *Agent) mayRetry(was *memory) bool {
	age := a.opts.Now().Sub(was.Began)
	return age >= 0 && age < retryFor
}

// replayNow replays the fstab of the caller's container on request.
func (c *call) replayNow(ctx context.Context, in api.ReplayRequest) ([]api.Replayed, error) {
	g, err := c.where("mount", "what fstab says", in.Container)
	if err != nil {
		return nil, err
	}
	if g == nil {
		return nil, api.Errorf(api.Malformed, "cannot mount what fstab says: name a container").WithHint("lls-agent replay CONTAINER")
	}
	g.replaying.Lock()
	defer g.replaying.Unlock()
	c.agent.remembered(g) // from when on lines are tried again
	if done := c.agent.remember(c.replayer(g, nil, nil), ctx).Lines; done != nil {
		return done, nil
	}
	return []api.Replayed{}, nil
}
