package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/hooks"
	"lls/lvm"
)

// replayDeadline bounds the replay of one container's fstab. A start waits for it as long as the hook does; what is late is mounted
// into the running container.
const replayDeadline = 5 * time.Minute

// fstabPath is the container's own list of mounts, fstab(5).
const fstabPath = "/etc/fstab"

// replay mounts what the container's fstab says, and returns what became of every line that is for LLS. progress is told of each.
func (a *Agent) replay(ctx context.Context, g *guest, progress func(format string, args ...any)) []api.Replayed {
	ctx, cancel := context.WithTimeout(ctx, replayDeadline)
	defer cancel()
	text, err := a.readFstab(ctx, g)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		a.log.Warn("cannot read the container's fstab", "container", g.Owner, "error", err)
		why := "it is no regular file, too long, or does not answer"
		if errors.Is(err, os.ErrPermission) {
			why = "it must be root's, or readable for all" // our helper has the ids of the container's root, and none of its other rights
		}
		return []api.Replayed{{Problem: "cannot read " + fstabPath + ": " + why}}
	}
	c := &call{agent: a, guest: g, asker: g.asker(), config: a.config()}
	plan := hooks.Parse(text).Plan(c.lookup(ctx))
	c.activateAll(ctx, plan.Mounts)
	out := refusals(plan)
	for _, m := range plan.Mounts {
		progress("mounting %s at %s", m.Name, m.Target)
		done := api.Replayed{Line: m.Line, Volume: m.Name, Path: m.Target, Required: m.Required}
		placed, err := c.replayOne(ctx, m)
		if err != nil {
			done.Problem = c.explain(err).Message
			a.log.Warn("cannot mount what the container's fstab says", "container", g.Owner, "line", m.Line, "problem", done.Problem, "cause", err)
		} else {
			done.Mounted, done.Path, done.ReadOnly = true, placed.Path, placed.ReadOnly
		}
		for _, w := range plan.Warnings {
			if w.Line == m.Line {
				done.Warning = w.String()
				a.log.Warn("a line of the container's fstab should be another", "container", g.Owner, "warning", done.Warning)
			}
		}
		out = append(out, done)
	}
	return out
}

func (a *Agent) readFstab(ctx context.Context, g *guest) ([]byte, error) {
	release, err := g.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	return a.mounts.ReadFile(ctx, g.box, fstabPath, hooks.MaxFile)
}

// refusals are the lines that are for LLS and will not be mounted.
func refusals(plan hooks.Plan) []api.Replayed {
	var out []api.Replayed
	for _, n := range plan.Refused {
		out = append(out, api.Replayed{Line: n.Line, Required: n.Required, Problem: n.String()})
	}
	return out
}

func (c *call) replayOne(ctx context.Context, m hooks.Mount) (api.Mount, error) {
	r, v, err := c.volume(ctx, "mount", m.Name, catalog.Mount, false)
	if err != nil {
		return api.Mount{}, err
	}
	return c.place(ctx, v, r, target{path: m.Target, readOnly: m.ReadOnly, noAtime: m.NoAtime, discard: m.Discard}, c.guest)
}

// activateAll activates what the plan needs, with one command for each volume group. What cannot be found or activated is told of
// when it is mounted.
func (c *call) activateAll(ctx context.Context, mounts []hooks.Mount) {
	needed := map[lvm.VG][]lvm.Name{}
	for _, m := range mounts {
		r, _, err := c.volume(ctx, "mount", m.Name, catalog.Mount, false)
		if err == nil && !r.LV.Active {
			needed[r.LV.VG] = append(needed[r.LV.VG], r.LV.Name)
		}
	}
	for vg, names := range needed {
		if err := c.agent.activate(ctx, vg, names...); err != nil {
			c.agent.log.Warn("cannot activate the volumes of a container's fstab", "container", c.guest.Owner, "error", err)
		}
	}
}

// lookup finds volumes by what their file systems say, among those the caller may mount: its own first. A dataset and its snapshots
// have the same label and UUID, so one that fits several alike is none.
func (c *call) lookup(ctx context.Context) hooks.Lookup {
	return func(tag, value string) (string, bool) {
		v, err := c.agent.store.current(ctx, workAge)
		if err != nil {
			return "", false
		}
		var mine, others []*catalog.Record
		for _, r := range v.Catalog.Records {
			if r.State != catalog.Live || r.FS == "" || r.May(c.asker, catalog.Mount, "") != nil || !c.says(ctx, r, tag, value) {
				continue
			}
			if r.Owner == c.asker.Owner {
				mine = append(mine, r)
			} else {
				others = append(others, r)
			}
		}
		for _, found := range [][]*catalog.Record{mine, others} {
			if len(found) == 1 {
				return v.Catalog.Shown(c.asker, found[0]), true
			}
			if len(found) > 1 {
				break
			}
		}
		return "", false
	}
}

// says tells whether a volume's file system has a label or UUID. The volume is active afterwards; what nobody uses goes again by itself.
func (c *call) says(ctx context.Context, r *catalog.Record, tag, value string) bool {
	if !r.LV.Active && c.agent.activate(ctx, r.LV.VG, r.LV.Name) != nil {
		return false
	}
	id, err := c.agent.devices.Identify(c.agent.store.lvm.Device(r.LV.VG, r.LV.Name))
	return err == nil && (tag == "UUID" && strings.EqualFold(id.UUID, value) || tag == "LABEL" && id.Label == value && value != "")
}

// replayOnce replays a container's fstab when that was not done for this run of it: after its start, also when the agent was away.
func (a *Agent) replayOnce(ctx context.Context, g *guest, progress func(format string, args ...any)) []api.Replayed {
	g.replaying.Lock()
	defer g.replaying.Unlock()
	if was, ok := a.remembered(g); ok {
		g.setFstab(was)
		return nil
	}
	done := a.replay(ctx, g, progress)
	a.remember(g, done)
	if len(done) > 0 {
		mounted := 0
		for _, d := range done {
			if d.Mounted {
				mounted++
			}
		}
		a.log.Info("replayed the container's fstab", "container", g.Owner, "mounted", mounted, "of", len(done))
	}
	return done
}

// memory is the last replay in one run of a container. It lies in the container's directory of the host, for an agent that starts anew:
// what a user has unmounted since is not mounted again, and what could not be mounted is still told.
type memory struct {
	Run   string         `json:"run"`
	Lines []api.Replayed `json:"lines"`
}

func (a *Agent) memoryOf(g *guest) string { return filepath.Join(a.opts.Trees, g.Key(), "replayed") }

// remembered is what the last replay in this run of the container came to; false when there was none.
func (a *Agent) remembered(g *guest) ([]api.Replayed, bool) {
	text, err := readSmall(a.memoryOf(g))
	if err != nil {
		return nil, false
	}
	var was memory
	if err := json.Unmarshal([]byte(text), &was); err != nil || was.Run == "" || was.Run != runOf(g.box.PID) {
		return nil, false
	}
	return was.Lines, true
}

func (a *Agent) remember(g *guest, lines []api.Replayed) {
	g.setFstab(lines)
	text, err := json.Marshal(memory{runOf(g.box.PID), lines})
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
	done := c.agent.replay(context.WithoutCancel(ctx), g, c.progress)
	c.agent.remember(g, done)
	if done == nil {
		done = []api.Replayed{}
	}
	return done, nil
}
