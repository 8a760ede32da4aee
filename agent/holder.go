package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"lls/agent/api"
	"lls/agent/mount"
	"lls/lvm"
)

// holderFinder finds who holds a device; *mount.Finder is the real one.
type holderFinder interface {
	Holders(ctx context.Context, major, minor uint32) ([]mount.Holder, error)
}

// holdersDeadline bounds the look through all processes of the host.
const holdersDeadline = 3 * time.Second

// holders tells who keeps a volume busy: the caller's own processes by pid and command, all others as another container. mounts says
// whether the plain mounts themselves count, or only what uses them.
func (c *call) holders(ctx context.Context, v lvm.Volume, mounts bool) []api.Holder {
	return c.holdersOf(ctx, v, func(h mount.Holder, g *guest) bool { return mounts || !c.agent.isPlain(h, g) })
}

// isPlain says whether a holder is nothing but a mount where the container's init, or the host's, sees it.
func (a *Agent) isPlain(h mount.Holder, g *guest) bool {
	return h.Kind == mount.HeldMount && a.mainNamespace(h, g)
}

// holdersOf are the holders that count.
func (c *call) holdersOf(ctx context.Context, v lvm.Volume, counts func(h mount.Holder, g *guest) bool) []api.Holder {
	if !v.Active || v.Major == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, holdersDeadline)
	defer cancel()
	found, err := c.agent.finder.Holders(ctx, v.Major, v.Minor)
	if err != nil {
		c.agent.log.Warn("cannot tell all who hold a volume", "volume", v.Name, "error", err)
	}
	var out []api.Holder
	others := false
	for _, h := range found {
		if h.Kind == mount.HeldDevice && (h.PID == os.Getpid() || h.PID == 1) {
			continue // ours, and where systemd keeps it for us
		}
		g := c.agent.guestOf(h.PID)
		if !counts(h, g) {
			continue
		}
		if !c.asker.Admin && (g == nil || g != c.guest) {
			others = true
			continue
		}
		out = append(out, told(h, g, c.agent.isPlain(h, g), c.asker.Admin))
	}
	if others {
		out = append(out, api.Holder{Container: api.AnotherContainer})
	}
	return out
}

// told is a holder as its own container, or the sysadmin, may know it. A plain mount has no process.
func told(h mount.Holder, g *guest, plain, admin bool) api.Holder {
	out := api.Holder{Container: api.HostOwner, PID: h.PID, Command: h.Command, Path: h.Path}
	if g != nil {
		out.Container = g.Owner.Name
		if !admin {
			out.PID = innerPID(h.PID)
		}
	}
	if plain {
		out.PID, out.Command = 0, ""
	}
	return out
}

// mainNamespace says whether a holder is in the mount namespace of its container's init, or of the host.
func (a *Agent) mainNamespace(h mount.Holder, g *guest) bool {
	pid := a.opts.SelfPID
	if g != nil {
		pid = g.box.PID
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	return err == nil && link == fmt.Sprintf("mnt:[%d]", h.MountNS)
}

// guestOf finds the running container that a process of the host is in: that of its pid namespace, or of an ancestor.
func (a *Agent) guestOf(pid int) *guest {
	guests := a.guests.list()
	for range 64 { // no process tree that we could have to climb is deeper
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err != nil {
			return nil
		}
		for _, g := range guests {
			if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", g.box.PID)); g.box.PID == pid || err == nil && theirs == ns && a.pidNS != ns {
				return g
			}
		}
		if pid = statusNumber(pid, "PPid:"); pid < 2 {
			return nil
		}
	}
	return nil
}

// innerPID is a process's pid in its own, innermost pid namespace.
func innerPID(pid int) int { return statusNumber(pid, "NSpid:") }

// statusNumber is the last number of a line of /proc/PID/status, or 0.
func statusNumber(pid int, key string) int {
	data, err := readSmall(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(data) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			f := strings.Fields(rest)
			if len(f) == 0 {
				return 0
			}
			n, _ := strconv.Atoi(f[len(f)-1]) // 0 when it is none
			return n
		}
	}
	return 0
}

// readSmall reads a file of /proc.
func readSmall(path string) (string, error) {
	data, err := os.ReadFile(path)
	return string(data), err
}

// umountLine is the command that unmounts a volume for the caller: on the host or, where it is not mounted there, in a container that has it.
func (c *call) umountLine(name string, v lvm.Volume) string {
	line := "lls umount " + name
	if !c.asker.Admin {
		return line
	}
	at := placesOf(c.agent.places(), v)
	if len(at) == 0 || slices.ContainsFunc(at, func(p place) bool { return p.guest == nil }) {
		return line
	}
	return line + " --container " + at[0].guest.Owner.Name
}

// busy is the error of something that cannot be done to a volume because it is in use.
func (c *call) busy(ctx context.Context, verb, name string, v lvm.Volume, mounts bool) *api.Error {
	e := api.Errorf(api.Busy, "cannot %s %s: it is in use", verb, name).WithHint("end what uses it, then: %s", c.umountLine(name, v))
	e.Holders = c.holders(ctx, v, mounts)
	return e
}
