package filesystem

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/internal/run"
)

func TestParseType(t *testing.T) {
	for _, s := range []string{"ext4", "xfs"} {
		if got, err := ParseType(s); err != nil || string(got) != s {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
	for _, s := range []string{"", "ext3", "EXT4", "ext4 ", "-ext4", "btrfs"} {
		if _, err := ParseType(s); !errors.Is(err, ErrType) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestDeviceIsAnOperand(t *testing.T) {
	for _, kind := range []Type{Ext4, XFS} {
		for _, bytes := range []uint64{2 << 30, 5 << 40} {
			c, err := makeCommand("-weird", bytes, kind, MakeOptions{Label: "l"})
			if n := len(c.Args); err != nil || c.Args[n-2] != "--" || c.Args[n-1] != "-weird" {
				t.Errorf("%s: %q %v", kind, c.Args, err)
			}
			if limited := slices.Contains(c.Args, "-l"); limited != (kind == XFS && bytes > 1<<40) {
				t.Errorf("%s of %d: %q", kind, bytes, c.Args)
			}
		}
	}
	if _, err := makeCommand("x", 1, "btrfs", MakeOptions{}); !errors.Is(err, ErrType) {
		t.Error(err)
	}
}

func TestReadOnlyDevicesReplayNoJournal(t *testing.T) {
	for kind, want := range map[Type]string{Ext4: "noload", XFS: "norecovery"} {
		o := Options(kind, true)
		if !slices.Contains(o, Option{want, ""}) || !slices.Contains(o, Option{"ro", ""}) {
			t.Errorf("%s: %v", kind, o)
		}
		if o := Options(kind, false); slices.Contains(o, Option{want, ""}) || slices.Contains(o, Option{"ro", ""}) {
			t.Errorf("%s: %v", kind, o)
		}
	}
	for _, readOnly := range []bool{false, true} {
		if !slices.Contains(Options(XFS, readOnly), Option{"nouuid", ""}) || !slices.Contains(Options(Ext4, readOnly), Option{"errors", "remount-ro"}) {
			t.Error("an option that is always there is missing")
		}
	}
}

func TestDetectForeignData(t *testing.T) {
	both := make([]byte, 4096)
	copy(both, xfsMagic)
	both[ext4MagicAt], both[ext4MagicAt+1] = 0x53, 0xef
	for name, data := range map[string][]byte{"nothing": nil, "zeros": make([]byte, 4096), "short": []byte("XFS"), "both": both} {
		if got, err := detect(bytes.NewReader(data)); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

func TestAwaitReturnsAtTheDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	release, abandoned := make(chan struct{}), make(chan struct{})
	err := await(ctx, func() error { <-release; return nil }, func() { close(abandoned) })
	if !errors.Is(err, ErrSlow) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(release)
	<-abandoned
	if err := await(context.Background(), func() error { return os.ErrExist }, func() { t.Error("abandoned") }); err != os.ErrExist {
		t.Error(err)
	}
}

// loop gives a file of this size as a block device.
func loop(t *testing.T, size int64) (file, device string) {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("LLS_LAB") == "1" {
			t.Fatal("not root in the lab")
		}
		t.Skip("needs root, for loop devices")
	}
	file = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "-f", "--show", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() { command(t, "losetup", "-d", device) })
	return file, device
}

// Some build machines withhold what the kernel asks for to resize ext4.
func needResourceRight(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	if data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		return
	}
	if os.Getenv("LLS_LAB") == "1" {
		t.Fatal("no CAP_SYS_RESOURCE in the lab")
	}
	t.Skip("needs CAP_SYS_RESOURCE, to resize ext4")
}

func command(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%q: %v: %s", args, err, out)
	}
}

func blocks(t *testing.T, dir string) uint64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * uint64(st.Bsize)
}

func TestMakeIdentifyMountAndGrow(t *testing.T) {
	for _, kind := range []Type{Ext4, XFS} {
		for _, mounted := range []bool{false, true} {
			t.Run(string(kind), func(t *testing.T) {
				if kind == Ext4 {
					needResourceRight(t)
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				file, device := loop(t, 512<<20)
				if err := Make(ctx, run.New(), device, kind, MakeOptions{Label: "data"}); err != nil {
					t.Fatal(err)
				}
				if got, err := Identify(device); err != nil || got.Label != "data" {
					t.Errorf("made %s: %+v %v", kind, got, err)
				}
				dir := t.TempDir()
				place := func() {
					if err := unix.Mount(device, dir, string(kind), 0, ""); err != nil {
						t.Fatal(err)
					}
				}
				place()
				before := blocks(t, dir)
				check := []byte("kept")
				if err := os.WriteFile(dir+"/file", check, 0o644); err != nil {
					t.Error(err)
				}
				if !mounted {
					_ = unix.Unmount(dir, 0)
				}
				if err := newMounted().Grow(ctx, device, kind); err != nil {
					t.Errorf("nothing to grow: %v", err)
				}
				if err := os.Truncate(file, 1<<30); err != nil {
					t.Fatal(err)
				}
				command(t, "losetup", "-c", device)
				if err := newMounted().Grow(ctx, device, kind); err != nil {
					t.Errorf("grow: %v", err)
				}
				if !mounted {
					fd, err := unix.Open(device, unix.O_RDONLY|unix.O_EXCL, 0)
					if err != nil {
						t.Errorf("still in use: %v", err)
					}
					_ = unix.Close(fd)
					place()
				}
				if after := blocks(t, dir); after < before+400<<20 {
					t.Errorf("grew from %d to %d", before, after)
				}
				if got, err := os.ReadFile(dir + "/file"); err != nil || !bytes.Equal(got, check) {
					t.Errorf("read %q %v", got, err)
				}
				if err := unix.Unmount(dir, 0); err != nil {
					t.Error(err)
				}
				if kind == Ext4 {
					command(t, "e2fsck", "-fn", device)
				} else {
					command(t, "xfs_repair", "-n", device)
				}
			})
		}
	}
}

// What is written is allocated, for good, in a thin pool.
func TestMakeWritesLittle(t *testing.T) {
	for _, kind := range []Type{Ext4, XFS} {
		for size, most := range map[int64]int64{2 << 30: 100 << 20, 5 << 40: 300 << 20} {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			file, device := loop(t, size)
			start := time.Now()
			if err := Make(ctx, run.New(), device, kind, MakeOptions{}); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			fd, err := Mount(ctx, device, kind, false, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(500 * time.Millisecond) // for the kernel's own initialisation
			_ = fd.Close()
			var st unix.Stat_t
			if err := unix.Stat(file, &st); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s of %d GiB: %v, %d MiB written", kind, size>>30, took, st.Blocks*512>>20)
			if st.Blocks*512 > most {
				t.Errorf("%s of %d: wrote %d", kind, size, st.Blocks*512)
			}
		}
	}
}

func TestMountRefusesWhatIsNoFileSystem(t *testing.T) {
	_, device := loop(t, 64<<20)
	ctx := context.Background()
	if _, err := Mount(ctx, device, "vfat", false, nil, 0); !errors.Is(err, ErrType) {
		t.Error(err)
	}
	for _, kind := range []Type{Ext4, XFS} {
		if fd, err := Mount(ctx, device, kind, false, nil, 0); err == nil {
			t.Errorf("%s: mounted %v", kind, fd)
		}
		if err := newMounted().Grow(ctx, device, kind); err == nil {
			t.Errorf("%s: grown", kind)
		}
	}
}
