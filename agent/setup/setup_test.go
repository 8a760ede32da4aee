package setup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lls/agent/catalog"
	"lls/internal/run"
	"lls/lvm"
	"lls/lvm/lvmtest"
	"lls/policy"
)

// losetup plays the program: every file is /dev/loop7.
type losetup struct{ calls []string }

func (l *losetup) Run(_ context.Context, c run.Cmd) (run.Result, error) {
	l.calls = append(l.calls, c.Name+" "+strings.Join(c.Args, " "))
	if strings.Contains(l.calls[len(l.calls)-1], "--associated") {
		return run.Result{}, nil
	}
	return run.Result{Stdout: []byte("/dev/loop7\n")}, nil
}

func newSetup(t *testing.T) (*Setup, *lvmtest.Fake) {
	fake := lvmtest.NewFake(lvm.Options{})
	fake.AddDevice("/dev/sdx", 8<<30)
	fake.AddDevice("/dev/loop7", 8<<30)
	dir := t.TempDir()
	return &Setup{LVM: fake, Run: &losetup{}, Config: dir + "/lls.toml", State: dir + "/state", Say: t.Logf}, fake
}

func TestInitMakesAPoolOnADiskAndNamesIt(t *testing.T) {
	s, fake := newSetup(t)
	before := "# ours\ndefault_fs = \"xfs\" # kept"
	if err := os.WriteFile(s.Config, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := s.Init(t.Context(), Request{Device: "/dev/sdx"})
	if want := (policy.Pool{Name: "main", Group: "lls", LV: "pool"}); err != nil || p != want {
		t.Fatalf("%+v, %v", p, err)
	}
	groups, err := fake.Report(t.Context(), "lls")
	if err != nil || len(groups[0].Pools) != 1 || !groups[0].Pools[0].HasTag(catalog.PoolTag("main")) || !groups[0].Pools[0].Zero {
		t.Errorf("%+v, %v", groups, err)
	}
	after, err := os.ReadFile(s.Config)
	if err != nil || !strings.HasPrefix(string(after), before+"\n") {
		t.Errorf("the file reads now\n%s%v", after, err)
	}
	if _, err := s.Init(t.Context(), Request{Device: "/dev/sdx"}); !errors.Is(err, ErrConfigured) {
		t.Errorf("a second time: %v", err)
	}
}

func TestInitWithoutWordsMakesAPoolInAFile(t *testing.T) {
	s, _ := newSetup(t)
	p, err := s.Init(t.Context(), Request{Loop: 8 << 30})
	if want := (policy.Pool{Name: "main", Group: "lls", LV: "pool", Loop: filepath.Join(s.State, "main.img")}); err != nil || p != want {
		t.Fatalf("%+v, %v", p, err)
	}
	if fi, err := os.Stat(p.Loop); err != nil || fi.Size() != 8<<30 || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	cfg, err := ReadConfig(s.Config)
	if err != nil || len(cfg.Pools) != 1 || cfg.Pools[0] != p {
		t.Errorf("lls.toml says %+v, %v", cfg, err)
	}
	if _, err := s.Init(t.Context(), Request{Loop: 100 << 20, Group: "other"}); err == nil || !strings.Contains(err.Error(), "less than") {
		t.Errorf("a file too small: %v", err)
	}
}

func TestInitTakesAnExistingPool(t *testing.T) {
	s, fake := newSetup(t)
	fake.AddGroup("data", 100<<30)
	if err := fake.CreatePool(t.Context(), lvm.CreatePool{VG: "data", Name: "thin", Size: 10 << 30}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Init(t.Context(), Request{Group: "data", Pool: "nope"}); !errors.Is(err, lvm.ErrNoPool) {
		t.Errorf("a pool that is not there: %v", err)
	}
	p, err := s.Init(t.Context(), Request{Group: "data", Pool: "thin"})
	if want := (policy.Pool{Name: "main", Group: "data", LV: "thin"}); err != nil || p != want {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestInitLeavesNothingWhenTheDiskHoldsData(t *testing.T) {
	s, fake := newSetup(t)
	fake.Fail("CreateGroup", lvm.ErrHoldsData)
	if _, err := s.Init(t.Context(), Request{Device: "/dev/sdx"}); !errors.Is(err, lvm.ErrHoldsData) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(s.Config); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("lls.toml was written: %v", err)
	}
}
