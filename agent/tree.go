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
	Container         string      `json:"container"`
	DefaultVisibility string      `json:"default_visibility"`
	DefaultFS         string      `json:"default_fs"`
	Pools             []string    `json:"pools"` // the first is the default
	Limits            guestLimits `json:"limits"`
}

// guestLimits are the limits in each pool; 0 is none. Size is bytes.
type guestLimits struct {
	Volumes   int   `json:"volumes"`
	Snapshots int   `json:"snapshots"`
	Size      int64 `json:"size"`
}

func configFor(g *guest, cfg *policy.Config) ([]byte, error) {
	out := guestConfig{
		Container: g.Owner.Name, DefaultVisibility: cfg.DefaultVisibility, DefaultFS: cfg.DefaultFS, Pools: []string{},
		Limits: guestLimits{Volumes: cfg.Limits.Volumes, Snapshots: cfg.Limits.Snapshots, Size: cfg.Limits.Size},
	}
	for _, p := range cfg.Pools {
		out.Pools = append(out.Pools, p.Name)
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
	return a.putConfig(g, cfg)
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
