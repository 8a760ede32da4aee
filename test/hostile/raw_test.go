package hostile

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/test/kit"
)

// claimed is a file that says that claim has its device.
const claimed = "/run/claimed"

// claim opens a device twice, once for itself alone as a mount has it, and lets go of that some milliseconds after its node was shut, while
// somebody wants to mount the volume; a negative number is never. That it can write below a mount is an error.
func claim(device string, after int) error {
	plainly, err := unix.Open(device, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	alone, err := unix.Open(device, unix.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return err
	}
	if err := os.WriteFile(claimed, nil, 0o644); err != nil {
		return err
	}
	if after < 0 {
		time.Sleep(time.Hour)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		var st unix.Stat_t
		if unix.Stat(device, &st) != nil || st.Mode&0o777 == 0 {
			break
		}
	}
	time.Sleep(time.Duration(after) * time.Millisecond)
	if err := unix.Close(alone); err != nil {
		return err
	}
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
		if strings.Contains(string(mounts), " /data ") {
			_, err := unix.Pwrite(plainly, make([]byte, 4096), 60<<20)
			return fmt.Errorf("it is mounted while we have it open to write: %w", errors.Join(errors.New("a hole"), err))
		}
	}
	return nil
}

// TestWhoHasADeviceForItselfDoesNotPassForAMount has a container that may open its device raw pretend that it is mounted.
func TestWhoHasADeviceForItselfDoesNotPassForAMount(t *testing.T) {
	scene(t)
	c := plain
	kit.WithConfig(t, "\n[pools.main.raw]\nunprivileged = \"rw\"\n")
	c.Sh(t, "mkdir -p /data")
	c.Do(t, "create", "claimed", "--size", "64M")
	const node = "/dev/mf/claimed"
	opens := func() {
		t.Helper()
		kit.Eventually(t, "its device can be opened", func() bool {
			return c.Exec(t, "dd", "if="+node, "of=/dev/null", "bs=4096", "count=1").Exit == 0
		})
	}
	for _, after := range []string{"0", "1", "2", "4", "8", "20", "50", "100"} {
		opens()
		done := make(chan kit.Result, 1)
		go func() { done <- as(t, c, "claim", node, after) }()
		kit.Eventually(t, "it has the device", func() bool { return c.Exec(t, "rm", claimed).Exit == 0 })
		c.LLS(t, "mount", "claimed", "/data")
		if r := <-done; r.Exit != 0 {
			t.Errorf("after %s ms: %s", after, r)
		}
		c.LLS(t, "umount", "claimed")
	}
	opens()
	pid := c.Background(t, "part", "exec "+program+" part:claim "+node+" -1")
	kit.Eventually(t, "it has the device", func() bool { return c.Exec(t, "rm", claimed).Exit == 0 })
	c.LLS(t, "mount", "claimed", "/data").WantError(t, 11, "in use")
	c.LLS(t, "delete", "claimed").Want(t, 0)
	kit.Agent(t, "revoke", c.Name+"/claimed", "--force").Want(t, 0)
	c.Must(t, "kill", "-9", pid)
	kit.Eventually(t, "it can be purged", func() bool { return c.LLS(t, "purge", "claimed", "--yes").Exit == 0 })
}
