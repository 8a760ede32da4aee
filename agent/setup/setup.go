// Package setup makes a host ready for LLS: a volume group, a thin pool in it, and the lines of lls.toml that name it. It never
// touches anything that holds data.
package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lls/agent/catalog"
	"lls/internal/run"
	"lls/lvm"
	"lls/policy"
)

// Names of what Init makes.
const (
	DefaultGroup  = "lls"
	DefaultPoolLV = "pool"
	DefaultPool   = "main"
)

// poolShare is the part of a volume group's free space that a new pool gets. The rest is for its growth.
const poolShare = 80

// loopShare is the part of the file system's free space that a pool in a file may grow to when no size is given, in percent.
const loopShare = 80

// minLoop is the least that a pool in a file is made with.
const minLoop = 1 << 30

// LVM is what setting up needs of it; *lvm.Host is the real one.
type LVM interface {
	Report(ctx context.Context, vgs ...lvm.VG) ([]lvm.Group, error)
	CreateGroup(ctx context.Context, vg lvm.VG, device string, metadataSize lvm.Size) error
	CreatePool(ctx context.Context, c lvm.CreatePool) error
	TagPool(ctx context.Context, vg lvm.VG, pool lvm.Name, add []lvm.Tag) error
}

// Runner starts programs; *run.Runner is one.
type Runner interface {
	Run(ctx context.Context, c run.Cmd) (run.Result, error)
}

// Setup makes pools. State is the directory for pools in files.
type Setup struct {
	LVM    LVM
	Run    Runner
	Config string
	State  string
	Say    func(format string, args ...any)
}

// Request is what `lls-agent init` was asked for. With nothing set it is a pool in a file.
type Request struct {
	Group  lvm.VG   // an existing group, or with Device or in a file the name of the new one
	Pool   lvm.Name // an existing thin pool in Group
	Device string   // an empty block device
	Loop   lvm.Size // of the file; 0 is LoopSize
}

// ErrConfigured means that lls.toml names the pool already.
var ErrConfigured = errors.New("lls.toml names it already")

// Init makes the pool, or takes in the one that is there, and adds it to lls.toml. It returns the pool's name there.
func (s *Setup) Init(ctx context.Context, r Request) (policy.Pool, error) {
	cfg, err := ReadConfig(s.Config)
	if err != nil {
		return policy.Pool{}, err
	}
	p := policy.Pool{Name: freeName(cfg), Group: string(r.Group), LV: string(r.Pool)}
	if p.Group == "" {
		p.Group = DefaultGroup
	}
	if p.LV == "" {
		p.LV = DefaultPoolLV
	}
	for _, old := range cfg.Pools {
		if old.Group == p.Group && old.LV == p.LV {
			return old, fmt.Errorf("cannot make pool %s/%s: %w, as %s", p.Group, p.LV, ErrConfigured, old.Name)
		}
	}
	if r.Pool == "" {
		if p, err = s.makePool(ctx, r, p); err != nil {
			return p, err
		}
	} else if err := s.takePool(ctx, p); err != nil {
		return p, err
	}
	if err := addPool(s.Config, p); err != nil {
		return p, err
	}
	s.Say("%s names it: pool %s", s.Config, p.Name)
	return p, nil
}

// makePool makes what is missing of group and pool.
func (s *Setup) makePool(ctx context.Context, r Request, p policy.Pool) (policy.Pool, error) {
	vg := lvm.VG(p.Group)
	device := r.Device
	if device == "" && r.Group == "" || r.Loop > 0 {
		if err := s.noGroup(ctx, vg); err != nil {
			return p, err
		}
		var err error
		p.Loop = filepath.Join(s.State, p.Name+".img")
		if device, err = s.makeLoop(ctx, p.Loop, r.Loop); err != nil {
			return p, err
		}
		s.Say("%s is the sparse file that holds the pool, as %s", p.Loop, device)
	}
	if device != "" {
		if err := s.LVM.CreateGroup(ctx, vg, device, lvm.DefaultGroupMetadata); err != nil {
			return p, err
		}
		s.Say("%s is a new volume group on %s", vg, device)
	}
	err := s.LVM.CreatePool(ctx, lvm.CreatePool{VG: vg, Name: lvm.Name(p.LV), Percent: poolShare, Tags: []lvm.Tag{catalog.PoolTag(p.Name)}})
	if err != nil {
		return p, err
	}
	s.Say("%s/%s is a new thin pool with %d%% of the group's space; the rest is for its growth", vg, p.LV, poolShare)
	return p, nil
}

func (s *Setup) noGroup(ctx context.Context, vg lvm.VG) error {
	switch _, err := s.LVM.Report(ctx, vg); {
	case err == nil:
		return fmt.Errorf("cannot make volume group %s: %w", vg, lvm.ErrExists)
	case errors.Is(err, lvm.ErrNoGroup):
		return nil
	default:
		return err
	}
}

// takePool marks an existing thin pool as one that LLS may use. Its volumes are left alone.
func (s *Setup) takePool(ctx context.Context, p policy.Pool) error {
	groups, err := s.LVM.Report(ctx, lvm.VG(p.Group))
	if err != nil {
		return err
	}
	pool, ok := groups[0].Pool(lvm.Name(p.LV))
	if !ok {
		return fmt.Errorf("cannot take pool %s/%s: %w", p.Group, p.LV, lvm.ErrNoPool)
	}
	if !pool.Zero {
		s.Say("warning: %s/%s does not zero new chunks: a container with raw access could read what was deleted there (lvchange --zero y)", p.Group, p.LV)
	}
	return s.LVM.TagPool(ctx, lvm.VG(p.Group), lvm.Name(p.LV), []lvm.Tag{catalog.PoolTag(p.Name)})
}

// LoopSize is how large the file of a pool below dir may become when no size is given.
func LoopSize(dir string) (lvm.Size, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	for errors.Is(err, os.ErrNotExist) && dir != filepath.Dir(dir) { // it is made later, in the file system of what is there
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &st)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot tell how much space there is: %w", err)
	}
	return (lvm.Size(st.Bavail) * lvm.Size(st.Bsize) / 100 * loopShare) &^ (1<<20 - 1), nil
}

// makeLoop makes a sparse file and a loop device of it.
func (s *Setup) makeLoop(ctx context.Context, file string, size lvm.Size) (device string, err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", fmt.Errorf("cannot make the pool's file: %w", err)
	}
	if size == 0 {
		if size, err = LoopSize(filepath.Dir(file)); err != nil {
			return "", err
		}
	}
	if size < minLoop {
		return "", fmt.Errorf("cannot make the pool's file: %s is less than the %s a pool needs", size, lvm.Size(minLoop))
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", fmt.Errorf("cannot make the pool's file: %w", err)
	}
	s.Say("LLS uses a file that may grow to %s: %s", size, file)
	err = errors.Join(f.Truncate(int64(size)), f.Close())
	if err == nil {
		device, err = Loops{s.Run}.attach(ctx, file)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(file))
	}
	return device, nil
}
