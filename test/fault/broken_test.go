package fault

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/test/kit"
)

func TestAStoppedAgentKeepsNoContainerFromStarting(t *testing.T) {
	scene(t)
	box.Stop(t)
	pid := kit.AgentPID(t)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	if r := box.Start(t); r.Took > 10*time.Second {
		t.Errorf("the start took %v", r.Took)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, 40*time.Second, "the container is served late", func() bool { return box.LLS(t, "list").Exit == 0 })
}

func TestAnAgentThatIsToldToEndFinishesItsWork(t *testing.T) {
	scene(t)
	done := start(t, "create", "big", "--size", "2T")
	kit.Eventually(t, 10*time.Second, "the work begins", func() bool { return len(kit.FindLVs(t, box.Name, "big")) == 1 })
	kit.StopAgent(t)
	if r := <-done; r.Exit != 0 {
		t.Errorf("%v", r)
	}
	if found := kit.FindLV(t, box.Name, "big"); found.Tag("lls.s") != "live" {
		t.Errorf("after the agent's end: %+v", found)
	}
	box.LLS(t, "list").WantError(t, 14)
	kit.StartAgent(t)
	box.Do(t, "purge", "big", "--yes")
	recovered(t, "an ordered end")
}

func TestABadFileLeavesTheOldRulesInForce(t *testing.T) {
	scene(t)
	kit.WithConfig(t, "\n[limits]\nvolumes = 1\n")
	box.Do(t, "snapshot", dataset, "one")
	defer func() { box.Do(t, "purge", "one", "--yes") }()
	good, err := os.ReadFile(kit.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(kit.Config, good, 0o644); err != nil {
			t.Error(err)
		}
	}()
	for _, bad := range []string{"[limits", "[limits]\nvolumes = -1\n", "nosuchkey = 1\n", "[pools.main]\nvg = \"../x\"\nlv = \"y\"\n", "\x00\xff"} {
		if err := os.WriteFile(kit.Config, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		kit.Agent(t, "reload").WantError(t, 2)
		if err := syscall.Kill(kit.AgentPID(t), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		box.LLS(t, "snapshot", dataset, "two").WantError(t, 13)
		box.LLS(t, "info", "one").Want(t, 0)
	}
}

func TestALockedGroupDelaysAndBreaksNothing(t *testing.T) {
	scene(t)
	lock, err := os.OpenFile("/run/lock/lvm/V_"+kit.VG, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	done, second := start(t, "snapshot", dataset, "late", "--mount", "/a"), start(t, "list")
	time.Sleep(4 * time.Second)
	select {
	case r := <-done:
		t.Errorf("it did not wait for the group's lock: %v", r)
	default:
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.Exit != 0 || !isAt(t, "late", "/a") {
		t.Errorf("%v", r)
	}
	if r := <-second; r.Exit != 0 {
		t.Errorf("%v", r)
	}
	box.Do(t, "umount", "late")
	box.Do(t, "purge", "late", "--yes")
}

func TestAPoolAtItsLimitTakesNothingNew(t *testing.T) {
	scene(t)
	kit.WithConfig(t, "\n[limits]\ndata_percent = 0.01\n")
	before := kit.TakeState(t)
	box.LLS(t, "snapshot", dataset, "x", "--mount", "/a").WantError(t, 13)
	box.LLS(t, "create", "x", "--size", "64M").WantError(t, 13)
	kit.Agent(t, "create", "x", "--size", "64M").WantError(t, 13)
	before.WantSame(t)
}

// brokenLVM puts a program in lvm's place that does what the shell words say before, or instead of, the command $1.
func brokenLVM(t *testing.T, words string) (mend func()) {
	t.Helper()
	real, err := exec.LookPath("lvm")
	if err != nil {
		t.Fatal(err)
	}
	kit.Must(t, "mkdir", "-p", "/var/tmp/real")
	kit.Must(t, "cp", real, "/var/tmp/real/lvm")
	script := "#!/bin/sh\n" + words + "\nexec /var/tmp/real/lvm \"$@\"\n"
	if err := os.WriteFile("/var/tmp/broken", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	kit.Must(t, "mount", "--bind", "/var/tmp/broken", real)
	mended := false
	mend = func() {
		if !mended {
			mended = true
			kit.Must(t, "umount", real)
		}
	}
	t.Cleanup(mend)
	return mend
}

func TestLVMThatFailsLeavesNothingHalfMade(t *testing.T) {
	scene(t)
	for _, c := range []struct {
		breaks string
		does   []string
	}{
		{`[ "$1" != lvcreate ] || { echo "  no luck" >&2; exit 5; }`, []string{"snapshot", dataset, "x", "--mount", "/a"}},
		{`[ "$1" != lvcreate ] || { echo "  no luck" >&2; exit 5; }`, []string{"create", "x", "--size", "64M"}},
		{`[ "$1" != lvcreate ] || { /var/tmp/real/lvm "$@"; exit 5; }`, []string{"snapshot", dataset, "x", "--mount", "/a"}},
		{`[ "$1" != lvcreate ] || { /var/tmp/real/lvm "$@"; exit 5; }`, []string{"create", "x", "--size", "64M"}},
		{`[ "$1" != lvchange ] || exit 5`, []string{"create", "x", "--size", "64M"}},
		{`[ "$1" != lvcreate ] || kill -9 $$`, []string{"snapshot", dataset, "x"}},
	} {
		mend := brokenLVM(t, c.breaks)
		r := box.LLS(t, c.does...)
		if r.Exit == 0 && len(kit.FindLVs(t, box.Name, "x")) != 1 || strings.Contains(r.Stderr, "no luck") {
			t.Errorf("%s: %v", c.breaks, r)
		}
		mend()
		recovered(t, c.breaks)
		found := kit.FindLVs(t, box.Name, "x")
		if r.Exit != 0 && len(found) != 0 {
			t.Errorf("%s: it failed, and left %+v\n%v", c.breaks, found, r)
		}
		if m := box.MountAt(t, "/a"); m != nil {
			box.Do(t, "umount", "/a")
		}
		if len(found) != 0 {
			kit.Agent(t, "purge", "box/x", "--yes").Want(t, 0)
		}
		box.LLS(t, "snapshot", dataset, "y", "--mount", "/a").Want(t, 0)
		box.Do(t, "umount", "y")
		box.Do(t, "purge", "y", "--yes")
	}
}
