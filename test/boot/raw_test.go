package boot

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lls/test/kit"
)

// raw lets containers of both kinds do something with devices, until the test ends.
func raw(t *testing.T, right string) {
	t.Helper()
	kit.WithConfig(t, "\n[pools.main.raw]\nprivileged = \""+right+"\"\nunprivileged = \""+right+"\"\n")
}

// reads says whether the container's root can open and read a device.
func reads(t *testing.T, c *kit.Container, path string) bool {
	t.Helper()
	return c.Exec(t, "dd", "if="+path, "of=/dev/null", "bs=4096", "count=1").Exit == 0
}

// writes says whether it can write to its end, where no test has anything.
func writes(t *testing.T, c *kit.Container, path string) bool {
	t.Helper()
	return c.Exec(t, "sh", "-c", "echo mark | dd of="+path+" bs=4096 seek=16000 conv=notrunc").Exit == 0
}

// may waits until what a container can do with a device is this, of "", "r" and "rw".
func may(t *testing.T, c *kit.Container, path, want string) {
	t.Helper()
	var got string
	end := time.Now().Add(3 * time.Minute) // 16 s on a translated processor that has the machine to itself
	for {
		got = ""
		if reads(t, c, path) {
			got = "r"
		}
		if writes(t, c, path) {
			got += "w"
		}
		if got == want {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("container %s may %q with %s, want %q", c.Name, got, path, want)
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.Sh(t, "echo x >/dev/null; dd if=/dev/zero of=/dev/null count=1; test -c /dev/null")
}

// TestNoRawAccess shows that a device at /dev/mf is for nobody to open, unless the configuration says so.
func TestNoRawAccess(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		own(t, c, "closed")
		t.Cleanup(func() { c.LLS(t, "delete", "closed"); c.LLS(t, "purge", "closed", "--yes") })
		c.Do(t, "mount", "closed", "/mnt")
		defer c.LLS(t, "umount", "closed")
		if reads(t, c, "/dev/mf/closed") || writes(t, c, "/dev/mf/closed") {
			t.Error("the device can be opened")
		}
	})
}

// TestRawAccess gives containers devices and takes them back: by configuration, by mounting, by hiding, by deleting.
func TestRawAccess(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		own(t, c, "open")
		t.Cleanup(func() { c.LLS(t, "umount", "open"); c.LLS(t, "delete", "open"); c.LLS(t, "purge", "open", "--yes") })
		const node = "/dev/mf/open"
		t.Run("read and write", func(t *testing.T) {
			raw(t, "rw")
			may(t, c, node, "rw")
			if tags := kit.FindLV(t, c.Name, "open").TagList; !strings.Contains(tags, "lls.r") {
				t.Errorf("it is not marked as written to: %s", tags)
			}
		})
		may(t, c, node, "")
		t.Run("read", func(t *testing.T) {
			raw(t, "ro")
			may(t, c, node, "r")
		})
		raw(t, "rw")
		may(t, c, node, "rw")
		t.Run("not while it is mounted", func(t *testing.T) {
			c.Do(t, "mount", "open", "/mnt")
			may(t, c, node, "")
			c.Do(t, "umount", "open")
			may(t, c, node, "rw")
		})
		t.Run("not mounted while it is open", func(t *testing.T) {
			pid := c.Background(t, "sleep", "exec sleep 300 3<>"+node)
			c.LLS(t, "mount", "open", "/mnt").WantError(t, 11, "in use")
			may(t, c, node, "rw")
			c.Must(t, "kill", "-9", pid)
			c.Do(t, "mount", "open", "/mnt")
			c.Do(t, "umount", "open")
			may(t, c, node, "rw")
		})
		t.Run("damaged", func(t *testing.T) {
			c.Sh(t, "dd if="+node+" of=/root/saved bs=65536 count=128")
			c.Sh(t, "dd if=/dev/urandom of="+node+" bs=4096 seek=1 count=200 conv=notrunc")
			c.LLS(t, "mount", "open", "/mnt").WantError(t, 12, "damaged")
			c.Do(t, "snapshot", "open", "copy")
			defer c.Purge(t, "copy")
			c.LLS(t, "mount", "copy", "/mnt").WantError(t, 12, "damaged")
			may(t, c, node, "rw")
			c.Sh(t, "dd if=/root/saved of="+node+" bs=65536 conv=notrunc")
			c.Do(t, "mount", "open", "/mnt")
			c.Do(t, "umount", "open")
			may(t, c, node, "rw")
		})
		t.Run("over a crash of the agent", func(t *testing.T) {
			kit.KillAgent(t)
			if n := kit.Must(t, "systemctl", "show", "-p", "NFileDescriptorStore", "--value", kit.Unit); n == "0" {
				t.Error("systemd keeps no device")
			}
			may(t, c, node, "rw")
		})
		t.Run("after it is deleted", func(t *testing.T) { afterDelete(t, c, "open") })
	})
}

// afterDelete deletes a volume whose device the container has open, and has mounted elsewhere, and looks what it can still do.
func afterDelete(t *testing.T, c *kit.Container, name string) {
	t.Helper()
	node := "/dev/mf/" + name
	number := kit.FindLV(t, c.Name, name)
	c.Sh(t, "touch /run/kept && mount --bind "+node+" /run/kept")
	t.Cleanup(func() { c.Exec(t, "umount", "/run/kept") })
	kept := []string{"/run/kept"}
	if c.Privileged {
		c.Must(t, "mknod", "/run/made", "b", number.Major, number.Minor)
		t.Cleanup(func() { c.Exec(t, "rm", "/run/made") })
		kept = append(kept, "/run/made")
	}
	for _, path := range kept {
		may(t, c, path, "rw")
	}
	// It reads a block whenever it is told to, from what it has open.
	reader := c.Holder(t, "exec 3<"+node+"; while sleep 0.2; do dd bs=4096 count=1 iflag=direct <&3 >/dev/null 2>/run/said || touch /run/failed; done")
	r := c.LLS(t, "delete", name).Want(t, 0)
	if !strings.Contains(r.Stdout, "held by") {
		t.Errorf("the answer does not say who has it open: %s", r)
	}
	none := func() {
		t.Helper()
		for _, path := range append(kept, node) {
			if reads(t, c, path) || writes(t, c, path) {
				t.Errorf("%s can still be opened", path)
			}
		}
	}
	none()
	if r := kit.Agent(t, "revoke", c.Name+"/"+name).Want(t, 0); !strings.Contains(r.Stdout, c.Name) {
		t.Errorf("the sysadmin does not see who has it open: %s", r)
	}
	if c.Exec(t, "test", "-e", "/run/failed").Exit == 0 {
		t.Error("what was open before was cut off without force")
	}
	kit.Agent(t, "revoke", c.Name+"/"+name, "--force").Want(t, 0)
	kit.Eventually(t, "reading fails", func() bool { return c.Exec(t, "test", "-e", "/run/failed").Exit == 0 })
	c.Must(t, "rm", "-f", "/run/failed")
	c.Must(t, "kill", "-9", reader)
	kit.Eventually(t, name+" can be purged", func() bool {
		c.LLS(t, "delete", name)
		return c.LLS(t, "purge", name, "--yes").Exit == 0
	})
	var others []string
	reused := false
	for n := 1; n <= 20 && !reused; n++ { // device-mapper takes the lowest number that is free
		v := fmt.Sprintf("n%d", n)
		others = append(others, v)
		other.Do(t, "create", v, "--size", "64M", "--mount", "/mnt")
		none()
		reused = kit.FindLV(t, other.Name, v).Device() == number.Device()
		other.Do(t, "umount", v)
	}
	if !reused {
		t.Error("no volume got the device's number, so nothing was shown")
	}
	none()
	other.Purge(t, others...)
}

// notes are the rights to open a device that the agent has noted.
func notes(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("/run/lls/raw/*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// loseAgent kills the agent, and has systemd neither start it again nor hold what it kept: before version 254 systemd lets go of that by
// itself when the agent is stopped.
func loseAgent(t *testing.T) {
	t.Helper()
	const dropIn = "/run/systemd/system/lls-agent.service.d/lost.conf"
	kit.Must(t, "mkdir", "-p", filepath.Dir(dropIn))
	putFile(t, dropIn, "[Service]\nRestart=no\n")
	kit.Must(t, "systemctl", "daemon-reload")
	kit.Must(t, "kill", "-9", strconv.Itoa(kit.AgentPID(t)))
	kit.Eventually(t, "the agent is gone", func() bool { return kit.AgentPID(t) == 0 })
	kit.Run(t, "systemctl", "reset-failed", kit.Unit)
	cleaned := kit.Run(t, "systemctl", "clean", "--what=fdstore", kit.Unit) // 252 knows no such thing, and needs none
	if n := kit.Must(t, "systemctl", "show", "-p", "NFileDescriptorStore", "--value", kit.Unit); n != "0" {
		t.Fatalf("systemd still holds %s devices: %v", n, cleaned)
	}
	kit.Must(t, "rm", dropIn)
	kit.Must(t, "systemctl", "daemon-reload")
}

// TestRawAccessEndsWithTheAgent shows that nobody opens a device while no agent is there to say whose it is, and that a right that was
// forgotten with a killed agent is taken back by the next.
func TestRawAccessEndsWithTheAgent(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		raw(t, "rw")
		own(t, c, "left")
		t.Cleanup(func() { c.LLS(t, "delete", "left"); c.LLS(t, "purge", "left", "--yes") })
		const node = "/dev/mf/left"
		may(t, c, node, "rw")
		v := kit.FindLV(t, c.Name, "left")
		c.Sh(t, "touch /run/kept && mount --bind "+node+" /run/kept")
		t.Cleanup(func() { c.Exec(t, "umount", "/run/kept") })
		kept := []string{node, "/run/kept"}
		if c.Privileged {
			c.Must(t, "mknod", "/run/left", "b", v.Major, v.Minor)
			t.Cleanup(func() { c.Exec(t, "rm", "/run/left") })
			kept = append(kept, "/run/left")
		}
		none := func(when string) {
			t.Helper()
			for _, path := range kept {
				if reads(t, c, path) || writes(t, c, path) {
					t.Errorf("%s, %s can be opened", when, path)
				}
			}
		}
		if len(notes(t)) == 0 {
			t.Error("no right is noted")
		}
		reader := c.Background(t, "sleep", "exec sleep 300 3<>"+node)
		kit.StopAgent(t)
		none("after a stop")
		if left := notes(t); len(left) != 0 {
			t.Errorf("after a stop, rights are noted: %v", left)
		}
		c.Must(t, "test", "-e", "/proc/"+reader+"/fd/3") // what was open stays open
		kit.StartAgent(t)
		may(t, c, node, "rw")
		c.Must(t, "kill", "-9", reader)

		loseAgent(t)
		if len(notes(t)) == 0 {
			t.Error("no right is noted after a crash")
		}
		old := getFile(t, kit.Config)
		t.Cleanup(func() { putFile(t, kit.Config, old) })
		putFile(t, kit.Config, strings.ReplaceAll(old, `vileged = "rw"`, `vileged = "none"`))
		kit.StartAgent(t)
		none("after a crash")
		c.Sh(t, "echo x >/dev/null; dd if=/dev/zero of=/dev/null count=1")
		kit.Eventually(t, "the notes are gone", func() bool { return len(notes(t)) == 0 })
		putFile(t, kit.Config, old)
		kit.Agent(t, "reload").Want(t, 0)
		may(t, c, node, "rw")

		loseAgent(t)
		kit.Must(t, "lxc-stop", "-k", "-n", c.Name) // with its monitor went its rules
		c.Start(t)
		kit.StartAgent(t)
		may(t, c, node, "rw")
		c.Do(t, "mount", "left", "/mnt")
		may(t, c, node, "")
		c.Do(t, "umount", "left")
	})
}

// TestRawAccessOfOthers shows that what others may do with a device follows its visibility and access.
func TestRawAccessOfOthers(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		raw(t, "rw")
		other.Do(t, "create", "lent", "--size", "64M", "--visible")
		t.Cleanup(func() { other.LLS(t, "delete", "lent"); other.LLS(t, "purge", "lent", "--yes") })
		other.Do(t, "set", "lent", "--access", "rw")
		const node = "/dev/mf/other/lent"
		may(t, c, node, "rw")
		for _, step := range []struct{ set, to, want string }{
			{"access", "none", ""}, {"access", "ro", "r"}, {"access", "rw", "rw"}, {"visibility", "hidden", ""}, {"visibility", "visible", "rw"},
		} {
			other.Do(t, "set", "lent", "--"+step.set, step.to)
			if step.want != "rw" && writes(t, c, node) {
				t.Errorf("--%s %s: it can still be written to", step.set, step.to)
			}
			may(t, c, node, step.want)
		}
	})
}

// still waits until a container's reader, which says in /run/state what became of each read, has said this from now on.
func still(t *testing.T, c *kit.Container, what, when string) {
	t.Helper()
	c.Must(t, "rm", "-f", "/run/state")
	var said string
	kit.Eventually(t, "the reader says something, "+when, func() bool {
		said = strings.TrimSpace(c.Exec(t, "cat", "/run/state").Stdout)
		return said != ""
	})
	if said != what {
		t.Fatalf("%s, its reads are %s, want %s", when, said, what)
	}
}

// TestRawAccessCutOff cuts a container off from a device that it has open, and has everybody do what LVM suspends a volume for: only when
// nobody has it open any more is it a device again, for those who may.
func TestRawAccessCutOff(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		raw(t, "rw")
		other.Do(t, "create", "taken", "--size", "64M", "--visible")
		t.Cleanup(func() { other.LLS(t, "delete", "taken"); other.LLS(t, "purge", "taken", "--yes") })
		other.Do(t, "set", "taken", "--access", "rw")
		const node, mine, full = "/dev/mf/other/taken", "/dev/mf/taken", "other/taken"
		may(t, c, node, "rw")
		reader := c.Holder(t, "exec 3<>"+node+"; while sleep 0.2; do if dd bs=4096 count=1 iflag=direct <&3 >/dev/null 2>&1; then echo good; else echo bad; fi >/run/state; done")
		still(t, c, "good", "at first")
		other.Do(t, "set", "taken", "--access", "none")
		may(t, c, node, "")
		still(t, c, "good", "without a right")

		owner := other.Background(t, "sleep", "exec sleep 300 3<>"+mine)
		kit.Agent(t, "revoke", full, "--force").WantError(t, 12, "container other has it open too", `= "none"`)
		still(t, c, "good", "while its owner has it open")
		other.Must(t, "kill", "-9", owner)
		may(t, other, mine, "rw")
		kit.Agent(t, "revoke", full, "--force").Want(t, 0) // though its owner may open it raw
		still(t, c, "bad", "cut off")

		cutOff := func(when string) {
			t.Helper()
			c.LLS(t, "snapshot", full, "copy").WantError(t, 11, "cut off", "lls info other/taken")
			still(t, c, "bad", when+", after a snapshot")
			other.LLS(t, "snapshot", "taken", "copy").WantError(t, 11, "cut off", "held by another container")
			still(t, c, "bad", when+", after one by its owner")
			other.LLS(t, "resize", "taken", "+4M").WantError(t, 11, "cut off")
			still(t, c, "bad", when+", after a resize")
			other.LLS(t, "mount", "taken", "/mnt").WantError(t, 11, "in use")
			kit.Agent(t, "snapshot", full, "copy").WantError(t, 11, "cut off")
			still(t, c, "bad", when+", after a mount and one by the sysadmin")
		}
		cutOff("at once")
		for _, args := range [][]string{{"list"}, {"info", full}} {
			if text := c.Do(t, args...); !strings.Contains(text, ",cut-off") {
				t.Errorf("lls %s does not say that it is cut off:\n%s", args[0], text)
			}
		}
		kit.KillAgent(t)
		cutOff("after a crash of the agent")
		other.Do(t, "set", "taken", "--access", "rw") // it may again, but not yet
		for _, path := range []string{node, mine} {
			if at := map[string]*kit.Container{node: c, mine: other}[path]; reads(t, at, path) || writes(t, at, path) {
				t.Errorf("%s of %s can be opened while it is cut off", path, at.Name)
			}
		}
		still(t, c, "bad", "with a right to open it anew")
		if r := kit.Agent(t, "revoke", full).Want(t, 0); strings.Contains(r.Stdout, "held by") {
			t.Errorf("a right was given again: %s", r)
		}

		c.Must(t, "kill", "-9", reader)
		may(t, c, node, "rw")
		may(t, other, mine, "rw")
		c.Do(t, "snapshot", full, "copy")
		c.Purge(t, "copy")
	})
}

// TestRawAccessAndGrowth grows a volume that its container has open raw: what cannot be done then is said, and done later.
func TestRawAccessAndGrowth(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		raw(t, "rw")
		own(t, c, "grows")
		t.Cleanup(func() { c.LLS(t, "umount", "grows"); c.LLS(t, "delete", "grows"); c.LLS(t, "purge", "grows", "--yes") })
		may(t, c, "/dev/mf/grows", "rw")
		pid := c.Background(t, "sleep", "exec sleep 300 3<>/dev/mf/grows")
		c.LLS(t, "resize", "grows", "+64M").WantError(t, 11, "has grown to 128M", "held by", "lls resize grows 128M")
		c.Must(t, "kill", "-9", pid)
		c.Do(t, "resize", "grows", "128M")
		if tags := kit.FindLV(t, c.Name, "grows").TagList; strings.Contains(tags, "lls.g,") {
			t.Errorf("its file system is still to grow: %s", tags)
		}
		c.Do(t, "mount", "grows", "/mnt")
		size := strings.Fields(c.Sh(t, "df -P -k /mnt | tail -n 1"))
		if kib, err := strconv.Atoi(size[1]); err != nil || kib < 100<<10 {
			t.Errorf("its file system is %v", size)
		}
		c.Do(t, "umount", "grows")
	})
}
