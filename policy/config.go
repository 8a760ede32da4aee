// Package policy reads lls.toml and makes the decisions that follow from it. It is pure: it is given the bytes, the
// state and the time, and returns values with their reasons. It does no I/O and has no clock of its own.
package policy

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Config is a whole, valid lls.toml. Sizes are bytes.
type Config struct {
	DefaultVisibility string // of what containers make: "hidden" or "visible"
	DefaultFS         string // "ext4" or "xfs"
	LXCPaths          []LXCPath
	ClientGroups      []uint32 // gids inside a container that may use its socket besides root
	Pools             []Pool   // sorted by name
	Limits            Limits
}

// LXCPath is a directory of containers. Label stands before the names of its containers; it is empty for one path only.
type LXCPath struct {
	Path  string `toml:"path"`
	Label string `toml:"label"`
}

// Pool is a thin pool that clients may name.
type Pool struct {
	Name  string
	Group string // the LVM volume group
	LV    string // the thin pool in it
	Loop  string // when set, the file that holds the group's only physical volume; the agent attaches it
	Raw   Raw
}

// Limits bound what one container may have in one pool. 0 is no limit.
type Limits struct {
	Volumes   int   // all of them, snapshots and trash included
	Snapshots int   // trash included
	Size      int64 // bytes: sum of the virtual sizes, trash included
	// DataPercent and MetadataPercent are the pool's fill levels above which nothing new is made.
	DataPercent, MetadataPercent float64
}

// SizeParser reads a size as people write it; the package that knows LVM's sizes provides it.
type SizeParser func(string) (int64, error)

// file is lls.toml as it stands; its tags are the keys of lls.toml.example.
type file struct {
	DefaultVisibility string              `toml:"default_visibility"`
	DefaultFS         string              `toml:"default_fs"`
	LXC               fileLXC             `toml:"lxc"`
	Pools             map[string]filePool `toml:"pools"`
	Limits            fileLimits          `toml:"limits"`
}

type fileLXC struct {
	Paths        []LXCPath `toml:"paths"`
	ClientGroups []int64   `toml:"client_groups"`
}

type filePool struct {
	VG   string `toml:"vg"`
	LV   string `toml:"lv"`
	Loop string `toml:"loop"`
	Raw  struct {
		Privileged   string `toml:"privileged"`
		Unprivileged string `toml:"unprivileged"`
	} `toml:"raw"`
}

type fileLimits struct {
	Volumes         int     `toml:"volumes"`
	Snapshots       int     `toml:"snapshots"`
	Size            string  `toml:"size"`
	DataPercent     float64 `toml:"data_percent"`
	MetadataPercent float64 `toml:"metadata_percent"`
}

// defaults is the configuration of a host that has none: safe, and without pools.
func defaults() file {
	return file{
		DefaultVisibility: "hidden",
		DefaultFS:         "ext4",
		LXC:               fileLXC{Paths: []LXCPath{{Path: "/var/lib/lxc"}}},
		Limits:            fileLimits{Volumes: 500, Snapshots: 400, Size: "100T", DataPercent: 95, MetadataPercent: 90},
	}
}

// poolName matches what a pool may be called in lls.toml.
var poolName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// lvmName matches the names of volume groups and thin pools that LLS takes: those lvm(8) allows, shorter.
var lvmName = regexp.MustCompile(`^[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,59}$`)

// label matches what may stand before the names of a path's containers.
var label = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,15}$`)

// Parse reads lls.toml. The error joins everything that is wrong with it.
func Parse(data []byte, size SizeParser) (*Config, error) {
	f := defaults()
	meta, err := toml.Decode(string(data), &f)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return nil, fmt.Errorf("line %d: %s", pe.Position.Line, pe.Message)
		}
		return nil, err
	}
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for _, key := range meta.Undecoded() {
		bad("%s: no such key", key)
	}
	c := &Config{DefaultVisibility: f.DefaultVisibility, DefaultFS: f.DefaultFS, LXCPaths: f.LXC.Paths}
	if c.DefaultVisibility != "hidden" && c.DefaultVisibility != "visible" {
		bad("default_visibility: %q is neither \"hidden\" nor \"visible\"", c.DefaultVisibility)
	}
	if c.DefaultFS != "ext4" && c.DefaultFS != "xfs" {
		bad("default_fs: %q is neither \"ext4\" nor \"xfs\"", c.DefaultFS)
	}
	wrong = append(wrong, checkPaths(c.LXCPaths)...)
	for _, g := range f.LXC.ClientGroups {
		if g < 1 || g > 1<<32-2 {
			bad("lxc.client_groups: %d is no group id above 0", g)
			continue
		}
		c.ClientGroups = append(c.ClientGroups, uint32(g))
	}
	for _, name := range slices.Sorted(maps.Keys(f.Pools)) {
		p := f.Pools[name]
		c.Pools = append(c.Pools, Pool{Name: name, Group: p.VG, LV: p.LV, Loop: p.Loop, Raw: Raw(p.Raw)})
	}
	wrong = append(wrong, checkPools(c.Pools)...)
	limits, errs := checkLimits(f.Limits, size)
	c.Limits = limits
	if wrong = append(wrong, errs...); len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return c, nil
}

func checkPaths(paths []LXCPath) (wrong []error) {
	seen := map[string]bool{}
	for _, p := range paths {
		switch {
		case !filepath.IsAbs(p.Path) || filepath.Clean(p.Path) != p.Path:
			wrong = append(wrong, fmt.Errorf("lxc.paths: %q is no clean absolute path", p.Path))
		case p.Label != "" && !label.MatchString(p.Label):
			wrong = append(wrong, fmt.Errorf("lxc.paths: label %q must match %s", p.Label, label))
		case seen["path "+p.Path]:
			wrong = append(wrong, fmt.Errorf("lxc.paths: %s stands there twice", p.Path))
		case seen["label "+p.Label]:
			wrong = append(wrong, fmt.Errorf("lxc.paths: two paths have the label %q; give each its own", p.Label))
		}
		seen["path "+p.Path], seen["label "+p.Label] = true, true
	}
	return wrong
}

func checkPools(pools []Pool) (wrong []error) {
	seen := map[string]string{}
	for _, p := range pools {
		if !poolName.MatchString(p.Name) {
			wrong = append(wrong, fmt.Errorf("pools.%s: a pool's name must match %s", p.Name, poolName))
		}
		if !lvmName.MatchString(p.Group) {
			wrong = append(wrong, fmt.Errorf("pools.%s.vg: %q is no name of a volume group", p.Name, p.Group))
		}
		if !lvmName.MatchString(p.LV) {
			wrong = append(wrong, fmt.Errorf("pools.%s.lv: %q is no name of a thin pool", p.Name, p.LV))
		}
		if p.Loop != "" && (!filepath.IsAbs(p.Loop) || strings.ContainsRune(p.Loop, 0)) {
			wrong = append(wrong, fmt.Errorf("pools.%s.loop: %q is no absolute path", p.Name, p.Loop))
		}
		if other, ok := seen[p.Group+"/"+p.LV]; ok {
			wrong = append(wrong, fmt.Errorf("pools.%s: is the same thin pool as pools.%s", p.Name, other))
		}
		seen[p.Group+"/"+p.LV] = p.Name
	}
	return wrong
}

func checkLimits(f fileLimits, size SizeParser) (Limits, []error) {
	var wrong []error
	l := Limits{Volumes: f.Volumes, Snapshots: f.Snapshots, DataPercent: f.DataPercent, MetadataPercent: f.MetadataPercent}
	if l.Volumes < 0 || l.Snapshots < 0 {
		wrong = append(wrong, errors.New("limits: a number of volumes or snapshots is 0 (no limit) or more"))
	}
	for key, v := range map[string]float64{"data_percent": l.DataPercent, "metadata_percent": l.MetadataPercent} {
		if !(v > 0 && v <= 100) {
			wrong = append(wrong, fmt.Errorf("limits.%s: %v is not above 0 and at most 100", key, v))
		}
	}
	if f.Size != "" && f.Size != "0" {
		n, err := size(f.Size)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("limits.size: %w", err))
		}
		l.Size = n
	}
	return l, wrong
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
