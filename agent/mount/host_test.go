package mount

import (
	"errors"
	"os"
	"testing"
	"time"

	"lls/agent/filesystem"
)

func TestHostMounts(t *testing.T) {
	m, d := newMounter(""), newDisk(t, filesystem.XFS)
	ctx, dir := deadline(t, 20*time.Second), t.TempDir()
	check(os.Symlink(dir, dir+"-link"))
	check(os.WriteFile(dir+"/file", nil, 0o600))
	for target, want := range map[string]TargetKind{
		dir + "/none": Missing, dir + "/file": NotDir, "relative": Invalid, "/": Forbidden, "/proc": Forbidden, "/proc/self": Forbidden,
	} {
		d.Target = target
		var e *ErrTarget
		if _, err := m.MountHost(ctx, d.Request); !errors.As(err, &e) || e.Kind != want {
			t.Errorf("%s: %v", target, err)
		}
	}
	d.Target = dir + "-link"
	p, err := m.MountHost(ctx, d.Request)
	if err != nil || p.Path != dir || p.Already {
		t.Fatalf("%+v %v", p, err)
	}
	points, err := Points(os.Getpid())
	if at, ok := byID(points, p.MountID); err != nil || !ok || !at.safe() {
		t.Errorf("mounted as %+v %v", at, err)
	}
	if again, err := m.MountHost(ctx, d.Request); err != nil || !again.Already || again.MountID != p.MountID {
		t.Errorf("again: %+v %v", again, err)
	}
	other := newDisk(t, filesystem.Ext4)
	other.Target = dir
	var occupied *ErrOccupied
	if _, err := m.MountHost(ctx, other.Request); !errors.As(err, &occupied) {
		t.Errorf("over it: %v", err)
	}
	f, err := os.Create(dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.UnmountHost(ctx, dir, d.Major, d.Minor); !errors.Is(err, ErrBusy) {
		t.Errorf("in use: %v", err)
	}
	_ = f.Close()
	if err := m.UnmountHost(ctx, dir, other.Major, other.Minor); !errors.Is(err, ErrNotMounted) {
		t.Errorf("another device: %v", err)
	}
	if err := m.UnmountHost(ctx, dir+"-link", d.Major, d.Minor); err != nil {
		t.Error(err)
	}
	d.mustBeFree("unmounted")
	if err := m.UnmountHost(ctx, dir, d.Major, d.Minor); !errors.Is(err, ErrNotMounted) {
		t.Errorf("twice: %v", err)
	}
}
