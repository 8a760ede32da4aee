// Package policy reads lls.toml and makes the decisions that follow from it. It is pure: it is given the bytes, the
// state and the time, and returns values with their reasons. It does no I/O and has no clock of its own.
package policy

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Config is a whole, valid lls.toml. Sizes are bytes. What it says of a pool, a container and a volume is what its methods
// Rules and PoolRules tell.
type Config struct {
	DefaultVisibility string        // of what containers make: "hidden" or "visible"
	DefaultFS         string        // "ext4" or "xfs"
	DeactivateAfter   time.Duration // how long a volume that nobody uses keeps its device; 0 is for ever
	LXCPaths          []LXCPath
	ClientGroups      []uint32 // gids inside a container that may use its socket besides root
	Pools             []Pool   // sorted by name
	Mail              Mail

	general settings
	rules   []rule // those of the pools' own tables first
}

// LXCPath is a directory of containers. Label stands before the names of its containers; it is empty for one path only.
type LXCPath struct {
	Path  string
	Label string
}

// Pool is a thin pool that clients may name.
type Pool struct {
	Name  string
	Group string // the LVM volume group
	LV    string // the thin pool in it
	Loop  string // when set, the file that holds the group's only physical volume; the agent attaches it
}

// SizeParser reads a size as people write it; the package that knows LVM's sizes provides it.
type SizeParser func(string) (int64, error)

// defaults is the configuration of a host that has none: safe, and without pools.
func defaults() *Config {
	const day = 24 * time.Hour
	return &Config{
		DefaultVisibility: "hidden",
		DefaultFS:         "ext4",
		DeactivateAfter:   5 * time.Minute,
		LXCPaths:          []LXCPath{{Path: "/var/lib/lxc"}},
		ClientGroups:      []uint32{},
		Mail:              Mail{To: []string{"root"}, Sendmail: "/usr/sbin/sendmail", Every: 5 * time.Minute, Levels: []float64{80, 90, 95}},
		general: settings{
			limits: Limits{
				Volumes: 500, Snapshots: 400, Size: 100 << 40, OperationsPerMinute: 600, SnapshotsPerMinute: 120,
				DataPercent: 95, MetadataPercent: 90, Overcommit: 1000,
			},
			data:     Growth{Threshold: 80, Step: Step{Percent: 20}, Reserve: Step{Percent: 5}, CoolDown: 10 * time.Second},
			metadata: Growth{Threshold: 70, Step: Step{Percent: 50}, Cap: 15 << 30, CoolDown: 10 * time.Second},
			volume:   Growth{Threshold: 80, Step: Step{Percent: 20}, CoolDown: time.Minute},
			expiry:   Expiry{Unused: 30 * day, Notice: 7 * day, Trash: 7 * day, LeaseMax: 90 * day},
			trim:     Trim{Every: day, Pressure: 80},
			raw:      Raw{Privileged: RawNone, Unprivileged: RawNone},
		},
	}
}

// poolName matches what a pool may be called in lls.toml.
var poolName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// lvmName matches the names of volume groups and thin pools that LLS takes: those lvm(8) allows, shorter.
var lvmName = regexp.MustCompile(`^[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,59}$`)

// label matches what may stand before the names of a path's containers.
var label = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,15}$`)

// Parse reads lls.toml. name is the file's, for errors: an error is Problems, everything that is wrong with it.
func Parse(name string, data []byte, size SizeParser) (*Config, error) {
	p := &parser{file: name, size: size}
	top := map[string]any{}
	if _, err := toml.Decode(string(data), &top); err != nil {
		return nil, p.syntax(string(data), err)
	}
	p.lines = findLines(string(data))
	c := defaults()
	general := p.general(c, top)
	p.pools(c, top["pools"])
	p.checkLevels(c, general, p.rules(c, top["rules"]))
	if err := p.result(); err != nil {
		return nil, err
	}
	return c, nil
}

// general reads everything but pools and rules.
func (p *parser) general(c *Config, top map[string]any) *table {
	keys := slices.DeleteFunc(p.keys(), func(k key) bool { return strings.HasPrefix(k.name, "raw.") })
	t := p.table(nil, top, names(keys, "default_visibility", "default_fs", "deactivate_after", "lxc.paths", "lxc.client_groups", "pools", "rules",
		"mail.to", "mail.from", "mail.relay", "mail.sendmail", "mail.every", "mail.levels"))
	get(t, "default_visibility", &c.DefaultVisibility, oneOf("hidden", "visible"))
	get(t, "default_fs", &c.DefaultFS, oneOf("ext4", "xfs"))
	get(t, "deactivate_after", &c.DeactivateAfter, duration)
	if v, ok := t.values["lxc.paths"]; ok {
		c.LXCPaths = t.lxcPaths(v)
	}
	getList(t, "lxc.client_groups", &c.ClientGroups, groupID)
	t.mail(&c.Mail)
	for _, set := range t.settings(keys) {
		set(&c.general)
	}
	return t
}

func groupID(v any) (uint32, error) {
	n, ok := v.(int64)
	if !ok || n < 1 || n > 1<<32-2 {
		return 0, fmt.Errorf("%s is no group id above 0", written(v))
	}
	return uint32(n), nil
}

func (t *table) lxcPaths(v any) (paths []LXCPath) {
	at, seen := t.at("lxc.paths"), map[string]bool{}
	if list, ok := v.([]any); ok && len(list) == 0 {
		t.bad(at, "it is empty: without a path there is no container that LLS could work in")
	}
	for i, values := range t.tables(at, v) {
		one, k := LXCPath{}, t.table(below(at, element(i)), values, []string{"path", "label"})
		get(k, "path", &one.Path, text)
		get(k, "label", &one.Label, text)
		switch {
		case values == nil: // it is no table, and that was said
		case !filepath.IsAbs(one.Path) || filepath.Clean(one.Path) != one.Path:
			k.wrongAt("path", "%q is no clean absolute path", one.Path)
		case one.Label != "" && !label.MatchString(one.Label):
			k.wrongAt("label", "%q must match %s", one.Label, label)
		case seen["path "+one.Path]:
			k.wrongAt("path", "%s stands there twice", one.Path)
		case seen["label "+one.Label]:
			k.wrongAt("", "two paths have the label %q; give each its own", one.Label)
		}
		seen["path "+one.Path], seen["label "+one.Label] = true, true
		paths = append(paths, one)
	}
	return paths
}

// pools reads each pool's own table.
func (p *parser) pools(c *Config, v any) {
	if v == nil {
		return
	}
	all, ok := v.(map[string]any)
	if !ok {
		p.bad([]string{"pools"}, "%s is no table: each pool has its own, such as [pools.main]", written(v))
		return
	}
	seen, loops := map[string]string{}, map[string]Pool{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		at := []string{"pools", name}
		values, ok := all[name].(map[string]any)
		if !ok {
			p.bad(at, "%s is no table", written(all[name]))
			continue
		}
		pool := Pool{Name: name}
		t := p.table(at, values, names(rawKeys(), "vg", "lv", "loop"))
		t.pool(&pool)
		if other, ok := seen[pool.Group+"/"+pool.LV]; ok && pool.Group != "" {
			p.bad(at, "it is the same thin pool as pools.%s", other)
		}
		seen[pool.Group+"/"+pool.LV] = name
		t.checkLoop(pool, loops)
		c.Pools = append(c.Pools, pool)
		if sets := t.settings(rawKeys()); len(sets) > 0 {
			c.rules = append(c.rules, rule{pool: name, sets: sets})
		}
	}
}

func (t *table) pool(pool *Pool) {
	named := func(what string) func(any) (string, error) {
		return textWhere(func(s string) error {
			if !lvmName.MatchString(s) {
				return fmt.Errorf("%q is no name of a %s", s, what)
			}
			return nil
		})
	}
	if !poolName.MatchString(pool.Name) {
		t.wrongAt("", "a pool's name must match %s", poolName)
	}
	for _, k := range []string{"vg", "lv"} {
		if _, ok := t.values[k]; !ok {
			t.wrongAt(k, "it is missing")
		}
	}
	get(t, "vg", &pool.Group, named("volume group"))
	get(t, "lv", &pool.LV, named("thin pool"))
	get(t, "loop", &pool.Loop, textWhere(func(s string) error {
		if s != "" && !filepath.IsAbs(s) {
			return fmt.Errorf("%q is no absolute path", s)
		}
		return nil
	}))
}

// checkLoop finds two files for one group, and one file for two: a file holds all of a group. before are the pools that were read, by group
// and by file.
func (t *table) checkLoop(pool Pool, before map[string]Pool) {
	if pool.Group == "" || pool.Loop == "" {
		return // another pool of the group may name the file
	}
	group, file := "group "+pool.Group, "file "+filepath.Clean(pool.Loop)
	if other, ok := before[group]; ok && filepath.Clean(other.Loop) != filepath.Clean(pool.Loop) {
		t.wrongAt("loop", "%s is in %s by pools.%s: one file holds all of a volume group", pool.Group, other.Loop, other.Name)
	}
	if other, ok := before[file]; ok && other.Group != pool.Group {
		t.wrongAt("loop", "it holds the volume group %s by pools.%s: a file holds one group", other.Group, other.Name)
	}
	for _, key := range []string{group, file} {
		if _, ok := before[key]; !ok {
			before[key] = pool
		}
	}
}

// Pool finds a pool by name; the empty name is the first one's. The second result is false when there is none.
func (c *Config) Pool(name string) (Pool, bool) {
	for _, p := range c.Pools {
		if name == "" || p.Name == name {
			return p, true
		}
	}
	return Pool{}, false
}
