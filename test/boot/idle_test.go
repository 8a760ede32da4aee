package boot

import (
	"os"
	"strings"
	"testing"
	"time"

	"lls/test/kit"
)

// active says whether a volume of a container has a device, as LVM tells.
func active(t *testing.T, c *kit.Container, name string) bool {
	t.Helper()
	return kit.FindLV(t, c.Name, name).Active()
}

// TestWhatNobodyUsesIsDeactivated shows that a volume loses its device when it was unused for a while, whoever unmounted it, that each
// use there can be keeps it, even one that no table of mounts of the host or of the container's init shows, and that it comes back by
// being used.
func TestWhatNobodyUsesIsDeactivated(t *testing.T) {
	const after = 3 * time.Second
	kinds(t, func(t *testing.T, c *kit.Container) {
		c.Sh(t, "mkdir -p /idle/lone /idle/kept /idle/held /idle/private")
		names := []string{"lone", "kept", "held", "private", "never"}
		t.Cleanup(func() {
			for _, name := range names {
				c.LLS(t, "umount", name)
				c.LLS(t, "delete", name)
				c.LLS(t, "purge", name, "--yes")
			}
		})
		for _, name := range names {
			own(t, c, name)
		}
		c.Do(t, "mount", "private", "/idle/private")
		pid := c.Background(t, "sleep", "exec unshare -m sleep 600")
		for _, name := range []string{"lone", "kept", "held"} { // that namespace does not get them
			c.Do(t, "mount", name, "/idle/"+name)
		}
		host, err := os.Open("/dev/" + kit.VG + "/" + kit.FindLV(t, c.Name, "held").Name)
		if err != nil {
			t.Fatal(err)
		}
		defer host.Close()
		kit.ChangeConfig(t, func(old string) string { return "deactivate_after = \"3s\"\n" + old })
		kit.Eventually(t, "the agent has looked, and seen the others in use", func() bool { return !active(t, c, "never") })
		began := time.Now()
		for _, name := range []string{"lone", "held", "private"} {
			c.Must(t, "umount", "/idle/"+name) // LLS is not asked
		}
		if there := c.Must(t, "cat", "/proc/"+pid+"/mountinfo"); strings.Count(there, " /idle/") != 1 || !strings.Contains(there, " /idle/private ") {
			t.Fatalf("in that namespace is mounted\n%s", there)
		}
		same(t, "in "+c.Name, mounted(t, c), map[string]string{"/idle/kept": "kept"})

		kit.Eventually(t, "what nobody uses is deactivated", func() bool { return !active(t, c, "lone") })
		t.Logf("it was deactivated after %v", time.Since(began).Round(100*time.Millisecond))
		if took := time.Since(began); took < after {
			t.Errorf("it was deactivated after %v, want %v at the least", took, after)
		}
		kit.Eventually(t, "its device goes from /dev/mf", func() bool { return devices(t, c)["lone"] == "" })
		if listed(t, c, "lone") == 0 {
			t.Error("it is not listed any more")
		}
		time.Sleep(2 * after) // the others had their time as well
		for _, name := range []string{"kept", "held", "private"} {
			if v := kit.FindLV(t, c.Name, name); !v.Active() || devices(t, c)[name] != v.Device() {
				t.Errorf("%s is in use, and is %+v, with %q at /dev/mf", name, v, devices(t, c)[name])
			}
		}

		began = time.Now()
		c.Do(t, "mount", "lone", "/idle/lone")
		t.Logf("mounting it took %v", time.Since(began).Round(10*time.Millisecond))
		if got := c.Must(t, "cat", "/idle/lone/who"); got != "lone" {
			t.Errorf("/idle/lone/who says %q", got)
		}
		kit.Eventually(t, "its device is at /dev/mf again", func() bool {
			v := kit.FindLV(t, c.Name, "lone")
			return v.Active() && devices(t, c)["lone"] == v.Device()
		})

		if err := host.Close(); err != nil {
			t.Fatal(err)
		}
		c.Must(t, "kill", "-9", pid)
		for _, name := range []string{"held", "private"} {
			kit.Eventually(t, name+" goes when its user does", func() bool { return !active(t, c, name) })
		}
		if !active(t, c, "lone") || !active(t, c, "kept") {
			t.Error("a volume went that is mounted")
		}

		t.Run("never", func(t *testing.T) {
			kit.ChangeConfig(t, func(old string) string { return strings.Replace(old, "\"3s\"", "\"0\"", 1) })
			c.Do(t, "umount", "lone")
			time.Sleep(2 * after)
			if !active(t, c, "lone") {
				t.Error("it was deactivated")
			}
		})
		kit.Eventually(t, "and goes when it may again", func() bool { return !active(t, c, "lone") })
	})
}
