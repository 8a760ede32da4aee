package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lls/test/kit"
)

// debian makes a container, not started, whose root file system is the guest's own Debian with a layer of its own above, and whose init
// is systemd. base is the first host id of an unprivileged one, 0 for a privileged one.
func debian(t *testing.T, name string, base int, fstab string) *kit.Container {
	t.Helper()
	c := &kit.Container{Name: name, Privileged: base == 0}
	dir := filepath.Join(kit.LXCPath, name)
	layers := "/var/tmp/" + name
	lower, upper, work := "/", layers+"/upper", layers+"/work"
	t.Cleanup(func() {
		kit.Run(t, "lxc-stop", "-k", "-n", name)
		kit.Run(t, "umount", c.Root())
		if lower != "/" {
			kit.Run(t, "umount", lower)
		}
		kit.Must(t, "rm", "-rf", "--one-file-system", layers, dir)
	})
	for _, d := range []string{upper, work, c.Root()} {
		kit.Must(t, "mkdir", "-p", d)
	}
	kit.Must(t, "chmod", "755", layers, upper)
	config := "lxc.include = /usr/share/lxc/config/common.conf\n"
	if base != 0 {
		lower = layers + "/lower"
		kit.Must(t, "mkdir", "-p", lower)
		kit.Must(t, "mount", "--bind", "-o", fmt.Sprintf("X-mount.idmap=b:0:%d:65536", base), "/", lower)
		config += "lxc.include = /usr/share/lxc/config/userns.conf\n" + fmt.Sprintf("lxc.idmap = u 0 %d 65536\nlxc.idmap = g 0 %d 65536\n", base, base)
	}
	units := filepath.Join(upper, "etc/systemd/system")
	kit.Must(t, "mkdir", "-p", units)
	for file, text := range map[string]string{
		"etc/fstab": fstab, "etc/hostname": name + "\n", "etc/machine-id": "", "srv/slow/.keep": "", "srv/quick/.keep": "",
		"etc/systemd/system.conf.d/lab.conf": "[Manager]\nDefaultDeviceTimeoutSec=40s\nDefaultTimeoutStopSec=5s\n",
	} {
		file = filepath.Join(upper, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		putFile(t, file, text)
	}
	for _, unit := range []string{
		"lab.service", "lls-agent.service", "lxc.service", "lxc-net.service", "lxc-monitord.service", "lvm2-lvmdbusd.service", "lvm2-monitor.service",
		"dm-event.socket", "dm-event.service", "lvm2-lvmpolld.socket", "systemd-udevd.service", "systemd-udev-trigger.service", "apparmor.service",
		"systemd-udevd-control.socket", "systemd-udevd-kernel.socket", "mdmonitor.service", "e2scrub_reap.service", "systemd-networkd.service",
	} {
		if err := os.Symlink("/dev/null", filepath.Join(units, unit)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/usr/lib/systemd/system/multi-user.target", filepath.Join(units, "default.target")); err != nil {
		t.Fatal(err)
	}
	if base != 0 {
		kit.Must(t, "chown", "-R", fmt.Sprintf("%d:%d", base, base), upper)
	}
	kit.Must(t, "mount", "-t", "overlay", "overlay", "-o", "lowerdir="+lower+",upperdir="+upper+",workdir="+work, c.Root())
	config += "lxc.net.0.type = empty\nlxc.apparmor.profile = unconfined\nlxc.uts.name = " + name + "\nlxc.rootfs.path = dir:" + c.Root() + "\n"
	putFile(t, filepath.Join(dir, "config"), config)
	kit.Must(t, "chmod", "755", dir)
	return c
}

// TestSystemd has a Debian with systemd come up, which must wait for no device but for that of a bare line.
func TestSystemd(t *testing.T) {
	scene(t)
	for i, base := range []int{100000 + 20*65536, 0} {
		t.Run(unprivilegedAndNot[i], func(t *testing.T) {
			name := []string{"debu", "debp"}[i]
			c := debian(t, name, base, "lls:base /srv/quick lls noauto,x-lls.auto 0 0\n")
			kit.Must(t, "lxc-start", "-n", c.Name)
			up(t, c)
			if c.Privileged { // only a snapshot can be had
				c.Do(t, "snapshot", dataset, "mine")
				t.Cleanup(func() {
					for _, v := range kit.FindLVs(t, c.Name, "mine") {
						kit.Agent(t, "delete", c.Name+"/"+v.Tag("lls.n"))
						kit.Agent(t, "purge", c.Name+"/"+v.Tag("lls.n"), "--yes")
					}
				})
			}
			source := map[bool]string{true: "mine", false: dataset}[c.Privileged]
			for _, kind := range []struct{ line, path, want string }{
				{"lls:" + source + " /srv/quick lls noauto,x-lls.auto 0 0\n", "/srv/quick", ""},
				{"/dev/mf/" + source + " /srv/quick ext4 nofail 0 0\n", "/srv/quick", ""},
				{"lls:" + source + " /srv/quick lls defaults 0 0\n", "/srv/quick", "lls:" + source + " /srv/quick lls noauto,x-lls.auto"},
				{"/dev/mf/" + source + " /srv/slow ext4 defaults 0 0\n", "/srv/slow", "lls:" + source + " /srv/slow lls"},
			} {
				kit.Must(t, "lxc-stop", "-k", "-n", c.Name)
				if err := os.WriteFile(filepath.Join(c.Root(), "etc/fstab"), []byte(kind.line), 0o644); err != nil {
					t.Fatal(err)
				}
				kit.Must(t, "lxc-start", "-n", c.Name)
				if m := c.MountAt(t, kind.path); m == nil || m.FS != "ext4" {
					t.Errorf("%s: at the start %+v is mounted", kind.line, m)
				}
				lines := fstabOf(t, c)
				if len(lines) != 1 || (kind.want == "") != (lines[0].Warning == "") || !strings.Contains(lines[0].Warning, kind.want) {
					t.Errorf("%s: lls-agent containers says %+v", kind.line, lines)
				}
				if kind.path == "/srv/slow" {
					break // its systemd may wait now
				}
				up(t, c)
				if m := c.MountAt(t, kind.path); m == nil || m.FS != "ext4" {
					t.Errorf("%s: once systemd is up %+v is mounted", kind.line, m)
				}
			}
			for _, kind := range []struct {
				options string
				comes   bool
			}{{"noauto,x-lls.auto", true}, {"nofail", true}, {"defaults", false}} { // why the last one has a warning where it is mounted
				kit.Must(t, "lxc-stop", "-k", "-n", c.Name)
				line := "lls:nothere /srv/quick lls " + kind.options + " 0 0\n"
				if err := os.WriteFile(filepath.Join(c.Root(), "etc/fstab"), []byte(line), 0o644); err != nil {
					t.Fatal(err)
				}
				kit.Must(t, "lxc-start", "-n", c.Name)
				if kind.comes {
					up(t, c)
					continue
				}
				kit.Eventually(t, "systemd has tried, or ended the container", func() bool {
					r := kit.Run(t, "lab-exec", c.Name, "systemctl", "show", "-p", "ActiveState", "local-fs.target", "srv-quick.mount")
					return strings.Contains(r.Stdout, "ActiveState=failed") || !c.Running(t)
				})
				r := kit.Run(t, "lab-exec", c.Name, "systemctl", "is-active", "local-fs.target")
				if r.Exit == 0 {
					t.Errorf("%s: systemd goes on: %v", line, r)
				}
				t.Logf("%s: local-fs.target is %q, the container runs: %v", strings.TrimSpace(line), strings.TrimSpace(r.Stdout), c.Running(t))
			}
		})
	}
}

// up fails the test unless the container's systemd comes up without a job that waits for a device.
func up(t *testing.T, c *kit.Container) {
	t.Helper()
	began := time.Now()
	var last kit.Result
	for end := began.Add(kit.Patience); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		if jobs := kit.Run(t, "lab-exec", c.Name, "systemctl", "list-jobs", "--no-legend"); strings.Contains(jobs.Stdout, ".device") {
			t.Fatalf("systemd waits:\n%s", jobs.Stdout)
		}
		last = kit.Run(t, "lab-exec", c.Name, "systemctl", "is-system-running")
		if state := strings.TrimSpace(last.Stdout); state == "running" || state == "degraded" {
			t.Logf("systemd in %s is %s after %v", c.Name, state, time.Since(began).Round(100*time.Millisecond))
			return
		}
	}
	t.Fatalf("systemd does not come up: %v\n%s", last, kit.Run(t, "lab-exec", c.Name, "systemctl", "list-jobs").Stdout)
}
