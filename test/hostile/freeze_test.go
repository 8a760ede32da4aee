package hostile

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lls/test/kit"
)

// hangs says whether a thread of the process waits in the kernel where no signal reaches it.
func hangs(t *testing.T, pid string) bool {
	t.Helper()
	stats, err := filepath.Glob("/proc/" + pid + "/task/*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if text := string(raw); strings.HasPrefix(text[strings.LastIndex(text, ")")+1:], " D") {
			return true
		}
	}
	return false
}

// helpers are the programs that wait for the frozen file system.
func helpers(t *testing.T) []string {
	t.Helper()
	return strings.Fields(kit.Run(t, "pgrep", "-x", "lls-mount").Stdout)
}

func TestAFrozenFileSystemThatIsToGrowKeepsTheAgentFromNothing(t *testing.T) {
	scene(t)
	for _, fs := range []struct{ kind, size, first, next string }{{"ext4", "64M", "80M", "96M"}, {"xfs", "300M", "400M", "500M"}} {
		t.Run(fs.kind, func(t *testing.T) {
			power.Do(t, "create", "cold", "--fs", fs.kind, "--size", fs.size, "--mount", "/mnt")
			power.Must(t, "busybox", "fsfreeze", "--freeze", "/mnt")
			t.Cleanup(func() { power.Exec(t, "busybox", "fsfreeze", "--unfreeze", "/mnt") })
			if r := power.Exec(t, "timeout", "2", "lls", "resize", "cold", fs.first); r.Exit == 0 {
				t.Fatalf("it is frozen, and has grown: %v", r)
			}
			kit.Eventually(t, "a program waits for it", func() bool {
				all := helpers(t)
				return len(all) == 1 && hangs(t, all[0])
			})
			power.Exec(t, "timeout", "2", "lls", "trim", "cold") // which a frozen file system may answer or not
			kit.Eventually(t, "no thread of the agent waits for it", func() bool { return !hangs(t, strconv.Itoa(kit.AgentPID(t))) })
			power.LLS(t, "resize", "cold", fs.next).WantError(t, 11, "it has grown to "+fs.next, "is it frozen?", "fsfreeze -u")
			othersWork(t, "with a frozen file system that is to grow")
			kit.KillAgent(t)
			othersWork(t, "after a kill of the agent meanwhile")
			kit.Must(t, "systemctl", "restart", kit.Unit)
			othersWork(t, "after a restart of the agent meanwhile")

			power.Must(t, "busybox", "fsfreeze", "--unfreeze", "/mnt")
			kit.Eventually(t, "nothing waits for it any more", func() bool { return len(helpers(t)) == 0 })
			kit.Eventually(t, "it grows", func() bool { return power.LLS(t, "resize", "cold", fs.next).Exit == 0 })
			if v := kit.FindLV(t, power.Name, "cold"); slices.Contains(v.Tags(), "lls.g") {
				t.Errorf("its file system is still to grow: %+v", v)
			}
			power.Do(t, "umount", "cold")
			power.Purge(t, "cold")
			worksAgain(t, power)
			nothingHalfMade(t)
		})
	}
}
