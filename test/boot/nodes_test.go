package boot

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/test/kit"
)

// inTime is how soon a change made with LVM's own commands has to show everywhere, by the median of all of them: one alone may be held up by
// what else the machine that the guest runs on has to do.
const inTime = time.Second

// delays are how long each took.
var delays []time.Duration

// devices are the block devices at /dev/mf of a container: path and MAJOR:MINOR, with the mode when that is not 0.
func devices(t *testing.T, c *kit.Container) map[string]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/root/dev/mf", c.PID(t))
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && !d.IsDir() {
			err = unix.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) { // it went while it was looked at
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		what := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		if st.Mode != unix.S_IFBLK {
			what += fmt.Sprintf(" mode %o", st.Mode)
		}
		all[strings.TrimPrefix(path, dir+"/")] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// due are the devices that a container should see, by LVM and the tags.
func due(t *testing.T, c *kit.Container) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, v := range kit.LVs(t) {
		name, visible := v.Tag("lls.n"), v.Tag("lls.v") == "v"
		owner, _, _ := strings.Cut(v.Tag("lls.o"), "#")
		if name == "" || v.Tag("lls.s") != "live" || !v.Active() || owner != c.Name && !visible {
			continue
		}
		switch own := all[name]; {
		case owner == c.Name:
			all[name] = v.Device()
		case owner != "host":
			all[owner+"/"+name] = v.Device()
		case own == "":
			all[name] = v.Device()
		}
	}
	return all
}

// soon waits until ok and tells how long that took since began. It fails the test when that was long.
func soon(t *testing.T, began time.Time, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		if time.Since(began) > kit.Patience {
			t.Errorf("%s: not within %v", what, kit.Patience)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(began)
	t.Logf("%s: after %v", what, took.Round(10*time.Millisecond))
	delays = append(delays, took)
}

// allSoon fails the test when half of the changes took longer than they may.
func allSoon(t *testing.T) {
	t.Helper()
	if len(delays) == 0 {
		t.Fatal("nothing was measured")
	}
	slices.Sort(delays)
	median, worst := delays[len(delays)/2], delays[len(delays)-1]
	t.Logf("%d changes showed after %v at the median, %v at the worst", len(delays), median.Round(time.Millisecond), worst.Round(time.Millisecond))
	if median > inTime {
		t.Errorf("changes show after %v at the median, want %v", median, inTime)
	}
}

// byHand runs a command of LVM's that has to end well, and tells when it ended.
func byHand(t *testing.T, args ...string) time.Time {
	t.Helper()
	kit.Must(t, args...)
	return time.Now()
}

// listed is what lls list says of a volume's size in a container; 0 when it does not know the volume.
func listed(t *testing.T, c *kit.Container, name string) int64 {
	t.Helper()
	var all []struct {
		Name string
		Size int64
	}
	c.LLS(t, "list", "--json").Want(t, 0).JSON(t, &all)
	for _, v := range all {
		if v.Name == name {
			return v.Size
		}
	}
	return 0
}

// TestDevicesFollowLVM changes volumes behind LLS's back, with LVM's own commands, and looks at /dev/mf, lls list and lls watch.
func TestDevicesFollowLVM(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		const path = "other/shown"
		events := watch(t, c)
		has := func(path, device string) func() bool {
			return func() bool { return devices(t, c)[path] == device }
		}
		var v kit.LV
		other.Do(t, "snapshot", dataset, "shown", "--visible", "--mount", "/data")
		began := time.Now()
		t.Cleanup(func() { // what the last step leaves when it fails
			other.LLS(t, "umount", "shown")
			other.LLS(t, "delete", "shown")
			other.LLS(t, "purge", "shown", "--yes")
		})
		v = kit.FindLV(t, "other", "shown")
		soon(t, began, "a snapshot mounted in another container shows", has(path, v.Device()))
		events.soon(t, began, "created", path)
		lv := kit.VG + "/" + v.Name

		began = byHand(t, "lvextend", "-L", "+64M", lv)
		soon(t, began, "lvextend shows in the list", func() bool { return listed(t, c, path) == 128<<20 })
		events.soon(t, began, "changed", path)
		soon(t, time.Now(), "its device stays", has(path, v.Device()))

		began = byHand(t, "lvchange", "--deltag", "lls.v=v", "--addtag", "lls.v=h", lv)
		soon(t, began, "a tag that hides it takes the device away", has(path, ""))
		soon(t, began, "and the volume from the list", func() bool { return listed(t, c, path) == 0 })
		events.soon(t, began, "purged", path)
		began = byHand(t, "lvchange", "--deltag", "lls.v=h", "--addtag", "lls.v=v", lv)
		soon(t, began, "a tag that shows it brings the device back", has(path, v.Device()))
		events.soon(t, began, "created", path)

		id := v.Name[strings.LastIndex(v.Name, "."):]
		began = byHand(t, "lvrename", kit.VG, v.Name, "renamed"+id)
		soon(t, began, "the device of a renamed one is right", has(path, v.Device()))
		kit.Must(t, "lvrename", kit.VG, "renamed"+id, v.Name)

		other.Do(t, "umount", "shown")
		kit.Eventually(t, "vgchange -an finds nobody who looks at it", func() bool {
			kit.Run(t, "vgchange", "-an", kit.VG) // which keeps those that are in use
			began = time.Now()
			return !kit.FindLV(t, "other", "shown").Active()
		})
		soon(t, began, "vgchange -an takes the device away", has(path, ""))
		events.soon(t, began, "changed", path)
		if listed(t, c, path) == 0 {
			t.Error("an inactive volume is not listed")
		}
		began = byHand(t, "vgchange", "-ay", "-K", kit.VG)
		v = kit.FindLV(t, "other", "shown")
		soon(t, began, "vgchange -ay brings the device", has(path, v.Device()))
		events.soon(t, began, "changed", path)

		began = byHand(t, "lvremove", "-y", lv)
		soon(t, began, "lvremove takes the device away", has(path, ""))
		soon(t, began, "and the volume from the list", func() bool { return listed(t, c, path) == 0 })
		events.soon(t, began, "purged", path)

		exact(t, c)
		ls := c.Must(t, "ls", "-lR", "/dev/mf")
		for path, number := range devices(t, c) {
			major, minor, _ := strings.Cut(number, ":")
			owner := map[bool]string{true: "root", false: "65534"}[c.Privileged] // nobody that an unprivileged one knows
			if !strings.Contains(strings.Join(strings.Fields(ls), " "), "b--------- 1 "+owner+" root "+major+", "+minor+" ") {
				t.Errorf("ls -l does not show %s %s:\n%s", path, number, ls)
			}
		}
	})
	allSoon(t)
}

// exact fails the test unless /dev/mf is as LVM has it, at once or in time.
func exact(t *testing.T, c *kit.Container) {
	t.Helper()
	for end := time.Now().Add(10 * inTime); ; time.Sleep(20 * time.Millisecond) {
		got, want := devices(t, c), due(t, c) // volumes that nobody uses are let go of, meanwhile too
		if maps.Equal(got, want) {
			if len(want) < 2 {
				t.Errorf("there is hardly anything to see at /dev/mf: %v", want)
			}
			return
		}
		if time.Now().After(end) {
			t.Errorf("/dev/mf of %s has %v\nand should have %v", c.Name, got, want)
			return
		}
	}
}

func TestNoDeviceCanBeOpened(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		withFstab(t, c, "") // it starts again at the end, with a /dev/mf that it has not touched
		c.Do(t, "mount", "e4", "/data")
		defer c.Do(t, "umount", "e4")
		v := kit.FindLV(t, c.Name, "e4")
		soon(t, time.Now(), "the device of a mounted volume shows", func() bool { return devices(t, c)["e4"] == v.Device() })
		for _, line := range []string{
			"dd if=/dev/mf/e4 of=/dev/null bs=512 count=1",
			"dd if=/dev/null of=/dev/mf/e4",
			"chmod 666 /dev/mf/e4 && dd if=/dev/mf/e4 of=/dev/null bs=512 count=1",
			"mknod /tmp/node b " + v.Major + " " + v.Minor + " && dd if=/tmp/node of=/dev/null bs=512 count=1",
			"mount -o remount,bind,rw,dev /dev/mf && dd if=/dev/mf/e4 of=/dev/null bs=512 count=1",
			"chmod 666 /dev/mf/e4 && dd if=/dev/mf/e4 of=/dev/null bs=512 count=1",
		} {
			if r := c.Exec(t, "sh", "-c", line); r.Exit == 0 {
				t.Errorf("the device was opened: %v", r)
			}
		}
		c.Exec(t, "rm", "-f", "/tmp/node")
		c.Sh(t, "echo x >/dev/null && head -c 16 /dev/urandom >/dev/null && head -c 1 /dev/zero >/dev/null")
		soon(t, time.Now(), "/dev/mf has the right number", func() bool { return strings.HasPrefix(devices(t, c)["e4"], v.Device()) })
	})
}

// burst is how many volumes come and go in TestABurst; of every tenth, the volume stays.
var burst = flag.Int("burst", 200, "volumes that come and go in TestABurst, 600 at most")

// TestABurst makes and removes volumes as fast as LVM goes.
func TestABurst(t *testing.T) {
	scene(t)
	name := func(n int) string {
		id := []byte("burstaa") // an id is seven small letters and digits
		id[5], id[6] = byte('a'+n/26), byte('a'+n%26)
		return fmt.Sprintf("burst%d.%s", n, id)
	}
	t.Cleanup(func() {
		for n := range *burst {
			if n%10 == 0 {
				kit.Run(t, "lvremove", "-y", kit.VG+"/"+name(n))
			}
		}
	})
	agent := kit.AgentPID(t)
	cpu, began := used(t, agent), time.Now()
	commands := 0
	for n := range *burst {
		kit.Must(t, "lvcreate", "--type", "thin", "-V", "4M", "--thinpool", kit.PoolLV, "-n", name(n), "--setactivationskip", "y", "-ay", "--ignoreactivationskip",
			"--addtag", fmt.Sprintf("lls.n=burst%d", n), "--addtag", "lls.o=host", "--addtag", "lls.s=live", "--addtag", "lls.v=v", "--addtag", "lls.a=ro",
			"--addtag", "lls.f=ext4", kit.VG)
		commands++
		kit.Must(t, "head", "-c", "1", "/dev/null") // /dev/null works throughout
		if n%10 != 0 {
			kit.Must(t, "lvremove", "-y", kit.VG+"/"+name(n))
			commands++
		}
	}
	took := time.Since(began)
	for _, c := range []*kit.Container{dev, devRoot} {
		exact(t, c)
		if got := devices(t, c)["burst50"]; got == "" {
			t.Errorf("%s does not see burst50", c.Name)
		}
		if listed(t, c, "burst50") != 4<<20 || listed(t, c, "burst51") != 0 {
			t.Errorf("the list in %s is wrong: %s", c.Name, c.Do(t, "list"))
		}
		c.Sh(t, "echo x >/dev/null")
	}
	spent := used(t, agent) - cpu
	t.Logf("%d commands in %v: the agent used %v of CPU (%v a command, %.0f%% of the time)", commands, took.Round(time.Millisecond), spent,
		(spent / time.Duration(commands)).Round(time.Millisecond), 100*spent.Seconds()/took.Seconds())
	if now := kit.AgentPID(t); now != agent {
		t.Errorf("the agent was %d and is %d", agent, now)
	}
	if spent > took/2 {
		t.Errorf("the agent used %v of CPU in %v", spent, took)
	}
}

// used is the CPU time of a process and of those of its children that it has waited for, proc_pid_stat(5).
func used(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat := getFile(t, fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(stat[strings.LastIndex(stat, ") ")+2:])
	ticks := 0
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ is 100 wherever Debian runs
}
