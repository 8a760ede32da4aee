package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lls/agent/container"
)

// bearer is the run of a container that something was granted to. It is noted with the grant: an agent that starts anew and cannot find
// the container, whose directory was renamed or whose lxcpath lls.toml does not name any more, tells by it whether that has ended.
type bearer struct {
	Dir     string `json:"lxcpath"`
	Base    string `json:"name"`
	Init    string `json:"init"`              // as runOf names it
	Monitor string `json:"monitor,omitempty"` // which keeps its device rules from one init to the next; empty for one that had gone already
}

// bearerOf is the bearer of a container whose init is pid, or the zero one. The caller makes sure that this is still its init.
func bearerOf(c container.Container, pid int) bearer {
	b := bearer{Dir: c.Dir, Base: c.Base, Init: runOf(pid)}
	if monitor := statusNumber(pid, "PPid:"); monitor != 1 { // the host's init has it when its monitor has ended
		if b.Monitor = runOf(monitor); b.Monitor == "" {
			return bearer{}
		}
	}
	if b.Init == "" {
		return bearer{}
	}
	return b
}

func (b bearer) note() string {
	text, err := json.Marshal(b)
	if err != nil {
		panic(err) // strings can be written
	}
	return string(text)
}

// readBearer reads a note: the zero bearer when it says nothing.
func readBearer(note string) (b bearer) {
	if json.Unmarshal([]byte(note), &b) != nil {
		return bearer{}
	}
	return b
}

// hasEnded says whether the run has ended for certain, and with it what it may open.
func (b bearer) hasEnded() bool {
	return b.Init != "" && gone(b.Init) && (b.Monitor == "" || gone(b.Monitor))
}

func (b bearer) String() string {
	if b == (bearer{}) {
		return "of an unknown name"
	}
	return fmt.Sprintf("%s in %s", b.Base, b.Dir)
}

// gone says whether a process, as runOf names it, has ended for certain.
func gone(run string) bool {
	first, _, _ := strings.Cut(run, " ")
	pid, err := strconv.Atoi(first)
	if err != nil || pid < 1 {
		return false
	}
	if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return true
	}
	now := runOf(pid)
	return now != "" && now != run
}

// letGo forgets the grants of containers that have ended: with their monitor went their rules.
func (a *Agent) letGo(ended func(key string) bool) {
	a.forgetAll(a.raw.of(func(x grant) bool { return ended(x.key) }))
}

func (a *Agent) forgetAll(all []grant) {
	done := map[string]int{}
	for _, x := range all {
		of := a.raw.bearer(x)
		if err := a.raw.forget(x); err != nil {
			a.log.Warn("cannot let go of a device", "volume", x.id, "error", err)
			continue
		}
		done[of.String()]++
	}
	for _, of := range slices.Sorted(maps.Keys(done)) {
		a.log.Info("let go of devices that a container could open raw, which has ended", "container", of, "devices", done[of])
	}
}

// letGoUnlisted lets go of the devices of containers that are not listed and have ended, as when they were destroyed while no agent ran.
// One that may still run can open them, and nobody can take that back before it is listed again: its devices stay held, and the status
// tells.
func (a *Agent) letGoUnlisted(unlisted func(key string) bool) {
	all := a.raw.of(func(x grant) bool { return unlisted(x.key) })
	all = slices.DeleteFunc(all, func(x grant) bool { return a.guests.get(x.key) != nil || a.steps.isLate(x.key) })
	var ended []grant
	hidden := map[string]bool{}
	for _, x := range all {
		if a.raw.bearer(x).hasEnded() {
			ended = append(ended, x)
		} else {
			hidden[x.key] = true
		}
	}
	a.regain(hidden)
	a.forgetAll(ended)
	for key, of := range a.raw.hide(hidden) {
		a.log.Warn("a container is not listed and may run: the devices that it could open raw stay held", "container", of, "key", key)
	}
}

// regain holds devices again whose files were lost, as far as they are still those of the volumes that were granted: what else gets such
// a number is open to that container.
func (a *Agent) regain(keys map[string]bool) {
	v := a.store.latest()
	if v == nil {
		return // it is looked again soon
	}
	for _, x := range a.raw.of(func(x grant) bool { return keys[x.key] && a.raw.grants[x] == nil }) {
		r := v.Catalog.ByID(x.id)
		if r == nil || !r.LV.Active || r.LV.Major == 0 || x.device != (device{r.LV.Major, r.LV.Minor}) {
			continue
		}
		f, err := a.devices.Open(r.LV.VG, r.LV.Name, x.device.major, x.device.minor)
		if err == nil {
			err = a.raw.regain(x, f)
		}
		if err != nil {
			a.log.Warn("cannot hold a device again that a container may open raw", "volume", r.LV.Name, "error", err)
		}
	}
}

// regain takes the file of a grant that was lost, which stays to be taken back.
func (r *rawAccess) regain(g grant, f *os.File) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.lost[g] || r.grants[g] != nil {
		return f.Close()
	}
	if err := r.keeper.Keep(g.name(), r.bearers[g].note(), f); err != nil {
		return errors.Join(err, f.Close())
	}
	r.grants[g] = f
	return nil
}

// bearer is whom a grant was made to, as far as that is known.
func (r *rawAccess) bearer(g grant) bearer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bearers[g]
}

// hide takes note of the containers that are not listed and may run, and gives those that are new among them.
func (r *rawAccess) hide(keys map[string]bool) (fresh map[string]bearer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh = map[string]bearer{}
	for g, b := range r.bearers {
		if keys[g.key] && !r.hidden[g.key] {
			fresh[g.key] = b
		}
	}
	r.hidden = keys
	return fresh
}

// rawProblems tells what is held for containers that are not listed.
func (a *Agent) rawProblems(v *View) []string {
	held := map[string][]string{}
	for _, x := range a.raw.of(func(x grant) bool { return a.raw.hidden[x.key] }) {
		of, what := a.raw.bearer(x).String(), string(x.id)
		if r := v.Catalog.ByID(x.id); r != nil {
			what = fmt.Sprintf("%s/%s", r.LV.VG, r.LV.Name)
		}
		held[of] = append(held[of], what)
	}
	var all []string
	for _, of := range slices.Sorted(maps.Keys(held)) {
		names, more := slices.Compact(held[of]), ""
		if n := len(names) - maxHeld; n > 0 {
			names, more = names[:maxHeld], fmt.Sprintf(" and %d more", n)
		}
		all = append(all, fmt.Sprintf("container %s: it is not listed and may run, so the devices that it could open raw stay held until it has ended: %s%s",
			of, strings.Join(names, ", "), more))
	}
	return all
}

// maxHeld is how many devices a problem names.
const maxHeld = 10
