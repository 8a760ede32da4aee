package hostile

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/test/kit"
)

// withheld is a file that says that withhold has begun.
const withheld = "/run/withheld"

// withhold has each opening of a file in these file systems wait, whoever opens it.
func withhold(paths []string) error {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		return fmt.Errorf("fanotify_init: %w", err)
	}
	for _, path := range paths {
		if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_OPEN_PERM|unix.FAN_ONDIR, unix.AT_FDCWD, path); err != nil {
			return fmt.Errorf("fanotify_mark %s: %w", path, err)
		}
	}
	if err := os.WriteFile(withheld, nil, 0o644); err != nil {
		return err
	}
	time.Sleep(time.Hour)
	return nil
}

// A kernel without CONFIG_FANOTIFY_ACCESS_PERMISSIONS, as that of user-mode Linux, refuses the mark.
func TestAContainerThatHasEachOpeningWaitHoldsUpNobodyElse(t *testing.T) {
	scene(t)
	pid := power.Background(t, "part", "exec "+program+" part:withhold /dev/mf /lls")
	kit.Eventually(t, "each opening waits", func() bool { return power.Exec(t, "test", "-e", withheld).Exit == 0 })
	lists := func(what string) func() bool {
		return func() bool {
			for line := range strings.Lines(kit.Agent(t, "containers").Want(t, 0).Stdout) {
				if strings.HasPrefix(line, power.Name+" ") {
					return strings.Contains(line, what)
				}
			}
			return false
		}
	}
	shown := func(name string) {
		t.Helper()
		tame.Do(t, "create", name, "--size", "64M", "--visible", "--mount", "/mnt") // which that one would see as well
		kit.Eventually(t, "another container sees its device", func() bool { return tame.Exec(t, "test", "-e", "/dev/mf/"+name).Exit == 0 })
		tame.Do(t, "umount", name)
		tame.Purge(t, name)
	}
	shown("first")
	kit.Eventually(t, "it is listed as not answering", lists("do not answer"))
	shown("second")
	kit.Agent(t, "reload").Want(t, 0)
	kit.KillAgent(t)
	kit.Eventually(t, "it is listed as not answering by the next agent", lists("do not answer"))
	shown("third")
	more.Stop(t)
	more.Start(t)
	more.LLS(t, "list").Want(t, 0)
	power.Must(t, "kill", "-9", pid)
	kit.Eventually(t, "it is served again", lists(" ok "))
	worksAgain(t, power)
	nothingHalfMade(t)
}
