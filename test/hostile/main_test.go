// Package hostile plays the root of a container that means harm, in the lab's guest: it takes away and plants what the agent uses,
// serves file systems that never answer, freezes itself, floods its socket. Every test looks for the truth in LVM and /proc, has a
// container that means no harm work meanwhile, and the hostile one again afterwards.
package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/test/kit"
)

// The test program plays the parts inside the containers, too: its first argument then says which.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if part, ok := strings.CutPrefix(os.Args[1], "part:"); ok {
			if err := play(part, os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

const (
	dataset = "base"
	program = "/var/tmp/part"  // this program, in each container and on the host
	normal  = 20 * time.Second // for a snapshot with its mount, on the lab's one slow CPU with a neighbour; what may hold it up lasts longer
)

var (
	setUp                    sync.Once
	tame, plain, power, more *kit.Container
)

// scene makes a dataset and four containers, once: tame means no harm; plain is unprivileged, power is privileged; more is one more.
func scene(t *testing.T) {
	t.Helper()
	kit.Init(t)
	setUp.Do(func() {
		kit.Must(t, "lls-agent", "create", dataset, "--size", "256M")
		tame, plain = kit.NewContainer(t, "tame"), kit.NewContainer(t, "plain")
		power, more = kit.NewContainer(t, "power", "--privileged"), kit.NewContainer(t, "more")
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		kit.Must(t, "install", "-m", "755", self, program)
		for _, c := range []*kit.Container{tame, plain, power, more} {
			kit.Must(t, "install", "-D", "-m", "755", self, filepath.Join(c.Root(), program))
		}
	})
	if more == nil {
		t.Fatal("the scene could not be set; an earlier test says why")
	}
}

// kinds runs a test with an unprivileged and with a privileged container.
func kinds(t *testing.T, test func(t *testing.T, c *kit.Container)) {
	scene(t)
	for _, c := range []*kit.Container{plain, power} {
		t.Run(c.Name, func(t *testing.T) { test(t, c) })
	}
}

// othersWork fails the test unless the tame container gets a snapshot, mounted, in normal time.
func othersWork(t *testing.T, while string) {
	t.Helper()
	took := tame.LLS(t, "snapshot", dataset, "probe", "--mount", "/data").Want(t, 0).Took
	if took > normal {
		t.Errorf("%s, another container's snapshot took %v", while, took)
	}
	tame.Do(t, "umount", "probe")
	tame.Purge(t, "probe")
}

// worksAgain fails the test unless the container itself is served as ever, at the latest after the agent's next look.
func worksAgain(t *testing.T, c *kit.Container) {
	t.Helper()
	kit.Eventually(t, c.Name+" is served again", func() bool { return c.LLS(t, "usage").Exit == 0 })
	c.LLS(t, "snapshot", dataset, "again", "--mount", "/data").Want(t, 0)
	if m := c.MountAt(t, "/data"); m == nil || m.FS != "ext4" {
		t.Errorf("answered as mounted, but /data is %+v", m)
	}
	c.Do(t, "umount", "again")
	c.Purge(t, "again")
}

// as runs one of this program's parts in a container.
func as(t *testing.T, c *kit.Container, part string, args ...string) kit.Result {
	t.Helper()
	return c.Exec(t, append([]string{program, "part:" + part}, args...)...)
}

// holdings is what the agent's process holds.
type holdings struct{ files, threads, children int }

func agentHolds(t *testing.T) holdings {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(kit.AgentPID(t))
	count := func(sub string) int {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	return holdings{count("fd"), count("task"), len(strings.Fields(kit.Run(t, "pgrep", "-P", strconv.Itoa(kit.AgentPID(t))).Stdout))}
}

// letsGo fails the test unless the agent soon holds no more than before, give or take what it keeps for its own comfort. A program that looks
// at the pools is a child for a moment now and then, before as well.
func (before holdings) letsGo(t *testing.T) {
	t.Helper()
	var now holdings
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		now = agentHolds(t)
		if now.files <= before.files+8 && now.threads <= before.threads+40 && now.children == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("the agent held %+v before and holds %+v", before, now)
			return
		}
	}
}

// nothingHalfMade fails the test when a volume is unfinished or unreadable, a device suspended, or a mount left on its way.
func nothingHalfMade(t *testing.T) {
	t.Helper()
	for _, v := range kit.LVs(t) {
		if v.Tag("lls.s") == "new" {
			t.Errorf("half made: %+v", v)
		}
		seen := map[string]bool{}
		for _, tag := range v.Tags() {
			key, _, _ := strings.Cut(tag, "=")
			if seen[key] {
				t.Errorf("contradicts itself: %+v", v)
			}
			seen[key] = true
		}
	}
	if out := kit.Must(t, "dmsetup", "info", "-c", "--noheadings", "-o", "name,suspended"); strings.Contains(out, "Suspended") {
		t.Errorf("suspended devices:\n%s", out)
	}
	for _, m := range kit.HostMounts(t) {
		if strings.HasPrefix(m.Path, "/run/lls/") && strings.Contains(m.Path, "/.mnt/") {
			t.Errorf("left on its way: %+v", m)
		}
	}
}
