package agent

import (
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path"

	"lls/agent/mount"
	"lls/policy"
)

// tools are the scripts under the names that users of the old ones know.
//
//go:embed tools/*.sh
var tools embed.FS

// guestConfig is /lls/config.json: what applies to the container.
type guestConfig struct {
	Container         string                 `json:"container"`
	DefaultVisibility string                 `json:"default_visibility"`
	DefaultFS         string                 `json:"default_fs"`
	Pools             []string               `json:"pools"`       // the first is the default
	Limits            guestLimits            `json:"limits"`      // in the default pool
	PoolLimits        map[string]guestLimits `json:"pool_limits"` // in each pool
}

// guestLimits are the limits in one pool; 0 is none. Sizes are bytes. OperationsPerMinute holds for all pools together.
type guestLimits struct {
	Volumes             int   `json:"volumes"`
	Snapshots           int   `json:"snapshots"`
	Size                int64 `json:"size"`
	Exclusive           int64 `json:"exclusive"`
	OperationsPerMinute int   `json:"operations_per_minute"`
	SnapshotsPerMinute  int   `json:"snapshots_per_minute"`
}

func limitsFor(g *guest, cfg *policy.Config, pool string) guestLimits {
	l := cfg.Rules(pool, g.Owner.Name, "").Limits
	return guestLimits{
		Volumes: l.Volumes, Snapshots: l.Snapshots, Size: l.Size, Exclusive: l.Exclusive,
		OperationsPerMinute: l.OperationsPerMinute, SnapshotsPerMinute: l.SnapshotsPerMinute,
	}
}

func configFor(g *guest, cfg *policy.Config) ([]byte, error) {
	first, _ := cfg.Pool("")
	out := guestConfig{
		Container: g.Owner.Name, DefaultVisibility: cfg.DefaultVisibility, DefaultFS: cfg.DefaultFS,
		Pools: []string{}, Limits: limitsFor(g, cfg, first.Name), PoolLimits: map[string]guestLimits{},
	}
	for _, p := range cfg.Pools {
		out.Pools = append(out.Pools, p.Name)
		out.PoolLimits[p.Name] = limitsFor(g, cfg, p.Name)
	}
	text, err := json.MarshalIndent(out, "", "  ")
	return append(text, '\n'), err
}

// fill lays out what the container finds at /lls. It is all the container's own copy: what its root does to it harms nobody else.
func (a *Agent) fill(g *guest) error {
	f, err := os.Open(a.opts.Client)
	if err != nil {
		return fmt.Errorf("cannot copy the client: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := g.tree.Copy("bin/lls", f, 0o755); err != nil {
		return err
	}
	if err := putTools(g.tree); err != nil {
		return err
	}
	return a.putConfig(g, a.config())
}

// retell writes the container's configuration anew, while it runs.
func (a *Agent) retell(g *guest, cfg *policy.Config) error {
	release, err := g.hold()
	if err != nil {
		return nil // it has ended
	}
	defer release()
	return a.touch(g, func() error { return a.putConfig(g, cfg) })
}

func (a *Agent) putConfig(g *guest, cfg *policy.Config) error {
	text, err := configFor(g, cfg)
	if err != nil {
		return err
	}
	return g.tree.Put("config.json", text, 0o644)
}

func putTools(t *mount.Tree) error {
	scripts, err := tools.ReadDir("tools")
	if err != nil {
		return err
	}
	for _, s := range scripts {
		text, err := tools.ReadFile(path.Join("tools", s.Name()))
		if err != nil {
			return err
		}
		if err := t.Put(path.Join("tools", s.Name()), text, 0o755); err != nil {
			return err
		}
	}
	return nil
}
