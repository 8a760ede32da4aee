package mount

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lls/agent/filesystem"
)

// In the window of LXC's start-host hook the container has its root file system
// but its init has not been executed.
func TestMountIsThereBeforeInit(t *testing.T) {
	if !inLab {
		t.Skip("needs LXC's start-host hook: set LLS_LAB=1 in the lab")
	}
	helper, hook := findHelper(t), as(t, "start-host")
	for _, kind := range []string{"--map", "--privileged"} {
		t.Run(kind, func(t *testing.T) {
			tree, d := newTree(t), newDisk(t, filesystem.Ext4)
			d.fill(func(dir string) { check(os.WriteFile(dir+"/file", []byte("early"), 0o644)) })
			nodesAt(t, filepath.Dir(filepath.Dir(tree.path)))
			name := "hook" + strings.TrimLeft(kind, "-")
			args := []string{name, "--no-start", kind, "165536"}
			if kind == "--privileged" {
				args = args[:3]
			}
			must(t, "lab-container", args...)
			rootfs := "/var/lib/lxc/" + name + "/rootfs"
			check(os.MkdirAll(rootfs+"/data", 0o755))
			check(os.WriteFile(rootfs+"/etc/rc.local", []byte("#!/bin/sh\ncat /data/file >/run/seen\nstat -c %t:%T /dev/mf/early >/run/node\n"), 0o755))
			check(os.WriteFile(rootfs+"/etc/fstab", []byte("lls:x /data lls noauto 0 0\n"), 0o644))
			config, err := os.OpenFile("/var/lib/lxc/"+name+"/config", os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			base := filepath.Dir(filepath.Dir(tree.path))
			_, err = fmt.Fprintf(config, "lxc.hook.start-host = %s %s %s %d %d %s\n", hook, base, d.Device, d.Major, d.Minor, helper)
			check(err)
			check(config.Close())
			log := filepath.Join(t.TempDir(), "log")
			if out, err := exec.Command("lxc-start", "-n", name, "-o", log, "-l", "INFO").CombinedOutput(); err != nil {
				text, _ := os.ReadFile(log)
				t.Fatalf("start: %v: %s\n%s", err, out, text)
			}
			t.Cleanup(func() { must(t, "lxc-stop", "-k", "-n", name) })
			must(t, "lxc-wait", "-n", name, "-s", "RUNNING", "-t", "20")
			g := &guest{t: t, name: name}
			g.do("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do [ -e /run/ready ] && break; sleep 1; done")
			if got := g.do("cat", "/run/seen"); got != "early" {
				t.Errorf("init saw %q", got)
			}
			if got := g.do("stat", "-c", "%u", "/data"); got != "0\n" {
				t.Errorf("/data belongs to %q", got)
			}
			if got, want := g.do("cat", "/run/node"), fmt.Sprintf("%x:%x\n", d.Major, d.Minor); got != want {
				t.Errorf("init saw the node %q, not %q", got, want)
			}
			if got := g.do("cat", "/lls/fstab"); got != "lls:x /data lls noauto 0 0\n" {
				t.Errorf("the hook read %q", got)
			}
			if kind == "--map" {
				g.do(readOf("/dev/mf/early")...)
			} else {
				g.refuse(readOf("/dev/mf/early")...)
			}
			g.ordinary()
			g.do("umount", "/data")
			d.mustBeFree("unmounted by the container")
		})
	}
}
