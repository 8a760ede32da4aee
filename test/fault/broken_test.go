package fault

import (
	"fmt"
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
	kit.Eventually(t, "the container is served late", func() bool { return box.LLS(t, "list").Exit == 0 })
}

func TestAnAgentThatIsToldToEndFinishesItsWork(t *testing.T) {
	scene(t)
	var done <-chan kit.Result
	for try := 1; ; try++ {
		done = start(t, "create", "big", "--size", "2T")
		kit.Eventually(t, "the work begins", func() bool { return len(kit.FindLVs(t, box.Name, "big")) == 1 })
		if kit.FindLV(t, box.Name, "big").Tag("lls.s") == "new" {
			break
		}
		if (<-done).Want(t, 0); try == 5 {
			t.Fatal("the work is always over before one can look")
		}
		box.Purge(t, "big")
	}
	kit.StopAgent(t)
	if r := <-done; r.Exit != 0 {
		t.Errorf("%v", r)
	}
	if found := kit.FindLV(t, box.Name, "big"); found.Tag("lls.s") != "live" {
		t.Errorf("after the agent's end: %+v", found)
	}
	box.LLS(t, "list").WantError(t, 14)
	kit.StartAgent(t)
	box.Purge(t, "big")
	recovered(t, "an ordered end")
}

func TestABadFileLeavesTheOldRulesInForce(t *testing.T) {
	scene(t)
	kit.WithConfig(t, "\n[limits]\nvolumes = 1\n")
	box.Do(t, "snapshot", dataset, "one")
	defer func() { box.Purge(t, "one") }()
	good, err := os.ReadFile(kit.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(kit.Config, good, 0o644); err != nil {
			t.Error(err)
		}
	}()
	inForce := func() {
		t.Helper()
		box.LLS(t, "snapshot", dataset, "two").WantError(t, 13)
		box.LLS(t, "info", "one").Want(t, 0)
	}
	for _, bad := range []string{"[limits", "[limits]\nvolumes = -1\n", "nosuchkey = 1\n", "[pools.main]\nvg = \"../x\"\nlv = \"y\"\n", "\x00\xff"} {
		if err := os.WriteFile(kit.Config, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		kit.Agent(t, "reload").WantError(t, 2)
		if err := syscall.Kill(kit.AgentPID(t), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		inForce()
		kit.KillAgent(t)
		inForce()
		if said := kit.Agent(t, "status").Want(t, 0).Stdout; !strings.Contains(said, "problem: "+kit.Config) {
			t.Errorf("after a start with %q the status does not tell of it:\n%s", bad, said)
		}
	}
	if err := os.WriteFile(kit.Config, good, 0o644); err != nil {
		t.Fatal(err)
	}
	kit.Agent(t, "reload").Want(t, 0)
	if said := kit.Agent(t, "status").Want(t, 0).Stdout; strings.Contains(said, "problem: "+kit.Config) {
		t.Errorf("after a good file:\n%s", said)
	}
}

// waited says whether somebody waits for the lock on a file, which proc_locks(5) tells.
func waited(t *testing.T, file *os.File) bool {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, " -> ") && strings.Contains(line, fmt.Sprintf(":%d ", st.Ino)) {
			return true
		}
	}
	return false
}

// lockGroup takes the volume group's lock as LVM does: whoever had it before removed the file, and others would take another one then.
func lockGroup(t *testing.T) *os.File {
	t.Helper()
	const path = "/run/lock/lvm/V_" + kit.VG
	for {
		lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		held, err := lock.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(held, there) {
			return lock
		}
		lock.Close()
	}
}

func TestALockedGroupDelaysAndBreaksNothing(t *testing.T) {
	scene(t)
	lock := lockGroup(t)
	defer lock.Close()
	done, second := start(t, "snapshot", dataset, "late", "--mount", "/a"), start(t, "list")
	kit.Eventually(t, "somebody waits for the lock", func() bool { return waited(t, lock) })
	time.Sleep(2 * time.Second)
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
	box.Purge(t, "late")
}

func TestAPoolAtItsLimitTakesNothingNew(t *testing.T) {
	scene(t)
	kit.WithConfig(t, "\n[limits]\ndata_percent = 0.01\n[growth.data]\nthreshold = 0\n")
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
	// By new files: the agent may still run the old ones.
	kit.Must(t, "mkdir", "-p", "/var/tmp/real")
	kit.Must(t, "cp", real, "/var/tmp/real/lvm.new")
	kit.Must(t, "mv", "-f", "/var/tmp/real/lvm.new", "/var/tmp/real/lvm")
	// As lvs and the like it is called by the links that these are.
	script := "#!/bin/sh\ncase ${0##*/} in lvm) ;; *) set -- ${0##*/} \"$@\" ;; esac\n" + words + "\nexec /var/tmp/real/lvm \"$@\"\n"
	if err := os.WriteFile("/var/tmp/broken.new", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	kit.Must(t, "mv", "-f", "/var/tmp/broken.new", "/var/tmp/broken")
	kit.Must(t, "mount", "--bind", "/var/tmp/broken", real)
	mended := false
	mend = func() {
		if !mended {
			mended = true
			kit.Must(t, "umount", "--lazy", real) // a command may still be under way
		}
	}
	t.Cleanup(mend)
	return mend
}

// hangingLVM has those of LVM's commands wait that hang names, or all of them for "all", until mend.
func hangingLVM(t *testing.T) (hang func(commands string), mend func()) {
	t.Helper()
	const names = "/var/tmp/hang"
	mend = func() { _ = os.Remove(names) }
	hang = func(commands string) {
		t.Helper()
		if err := os.WriteFile(names+".new", []byte(commands+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(names+".new", names); err != nil {
			t.Fatal(err)
		}
	}
	brokenLVM(t, `while read -r names 2>/dev/null <`+names+`; do case " $names " in *" $1 "*|" all ") sleep 0.2 ;; *) break ;; esac; done`)
	t.Cleanup(mend) // before LVM's own program comes back
	return hang, mend
}

// TestAContainerStartsWhileLVMHangs has LVM hang before a start that needs it, and before one that does not.
func TestAContainerStartsWhileLVMHangs(t *testing.T) {
	scene(t)
	fstab := box.Root() + "/etc/fstab"
	old, err := os.ReadFile(fstab)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	box.Do(t, "create", "kept", "--size", "64M")
	defer func() {
		if err := os.WriteFile(fstab, old, 0o644); err != nil {
			t.Error(err)
		}
		box.LLS(t, "umount", "kept")
		box.Do(t, "delete", "kept")
		box.Do(t, "purge", "kept", "--yes")
	}()
	hang, mend := hangingLVM(t)
	const line = "lls:kept /keep lls noauto,x-lls.auto 0 0\n"
	for _, c := range []struct {
		name, fstab, hangs string
		fresh              bool // an agent that has read nothing yet
		late               bool // it is mounted when LVM answers again
	}{
		{"no line, no report", "", "fullreport", false, false},
		{"no line, no view", "", "all", true, false},
		{"a line, nothing answers", line, "all", false, true},
		{"a line, nothing can be activated", line, "lvchange", false, true},
		{"a line, no view", line, "all", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			box.Stop(t)
			if err := os.WriteFile(fstab, []byte(c.fstab), 0o644); err != nil {
				t.Fatal(err)
			}
			v := kit.FindLV(t, box.Name, "kept")
			kit.Eventually(t, "the volume can be deactivated", func() bool {
				return kit.Run(t, "lvchange", "-an", v.VG+"/"+v.Name).Exit == 0
			})
			time.Sleep(2 * time.Second)     // the agent hears of that
			kit.Agent(t, "list").Want(t, 0) // so that the view is fresh
			hang(c.hangs)
			defer mend()
			if c.fresh { // its view is dropped with the configuration it was made by
				if err := syscall.Kill(kit.AgentPID(t), syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
			r := box.Start(t)
			t.Logf("the start took %v", r.Took)
			if r.Took > 10*time.Second {
				t.Errorf("the start took %v", r.Took)
			}
			box.Must(t, "test", "-d", "/dev/mf")
			box.Must(t, "test", "-S", "/lls/lls.sock")
			mend()
			if c.late {
				kit.Eventually(t, "the line is mounted late", func() bool { return isAt(t, "kept", "/keep") })
			}
			kit.Eventually(t, "LLS answers", func() bool { return box.LLS(t, "list").Exit == 0 })
			kit.Eventually(t, "the device is shown", func() bool {
				return c.fstab == "" || box.Exec(t, "test", "-b", "/dev/mf/kept").Exit == 0
			})
		})
	}
}

// TestAReportThatNeverEndsIsGivenUp has the report hang that a purge asks for while it has the group's writer, and not end when it is told
// to, as those of LVM's commands that have all signals blocked.
func TestAReportThatNeverEndsIsGivenUp(t *testing.T) {
	scene(t)
	box.Do(t, "create", "x", "--size", "64M")
	box.Do(t, "delete", "x")
	const hang = "/var/tmp/never"
	brokenLVM(t, `[ "$1" != fullreport ] || [ ! -e `+hang+` ] || { trap "" TERM; exec sleep 4321; }`)
	t.Cleanup(func() { kit.Run(t, "pkill", "-KILL", "-f", "^sleep 4321$") })
	kit.Agent(t, "list").Want(t, 0) // so that the view is fresh
	if err := os.WriteFile(hang, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(hang) // when it is there no more, that was the test
	r := box.LLS(t, "purge", "x", "--yes").WantError(t, 11)
	if r.Took > 2*time.Minute {
		t.Errorf("it took %v", r.Took)
	}
	if err := os.Remove(hang); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, "the next one is answered", func() bool { return box.LLS(t, "purge", "x", "--yes").Exit == 0 })
	recovered(t, "a report that never ended")
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
			kit.Purge(t, "box/x")
		}
		box.LLS(t, "snapshot", dataset, "y", "--mount", "/a").Want(t, 0)
		box.Do(t, "umount", "y")
		box.Purge(t, "y")
	}
}
