package hooks

import (
	"path"
	"strings"
)

// cover is another program's line that the container's own init, or `mount -a` there, mounts after LLS has: what is below its target then
// cannot be seen any more.
type cover struct {
	line                   int
	source, target, fsType string
	sure                   bool // that it is mounted at all
}

// covers are the covers among the lines, by their targets. That of the root directory is there before LLS mounts anything.
func (p *planner) covers(lines []Line) map[string]cover {
	all := map[string]cover{}
	for _, l := range lines {
		o := parseOptions(l.Options)
		_, ours := p.volume(l, o)
		if ours || !l.IsEntry() || l.Problem != "" || l.Type == "swap" || o.noauto || !strings.HasPrefix(l.Target, "/") {
			continue
		}
		c := cover{l.Number, l.Source, path.Clean(l.Target), l.Type, !o.nofail && !l.onDevice()}
		if had, taken := all[c.target]; c.target != "/" && (!taken || c.sure && !had.sure) {
			all[c.target] = c
		}
	}
	return all
}

// onDevice tells a line that wants a block device, which a container mostly has not: it comes from the machine that it was copied from.
func (l Line) onDevice() bool {
	key, _, tagged := strings.Cut(l.Source, "=")
	switch key {
	case "LABEL", "UUID", "PARTLABEL", "PARTUUID", "ID":
		return tagged
	}
	return strings.HasPrefix(l.Source, "/dev/")
}

// coverOf finds what covers a clean target; hides tells whether it does so in any case. At the very target it is not: systemd takes what it
// finds mounted there for what the line wants.
func (p *planner) coverOf(target string) (c cover, found, hides bool) {
	for at := target; at != "/"; at = path.Dir(at) {
		here, ok := p.over[at]
		if ok && here.sure && at != target {
			return here, true, true
		}
		if ok && !found {
			c, found = here, true
		}
	}
	return c, found, false
}
