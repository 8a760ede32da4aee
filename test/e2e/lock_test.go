package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lls/test/kit"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestFilesKeepTheirOwnersUnderAnotherIDMap(t *testing.T) {
	w := lab(t)
	maps := map[string]string{}
	for _, c := range []*kit.Container{w.alice, w.bob, w.root} {
		maps[c.Name] = strings.Join(strings.Fields(read(t, fmt.Sprintf("/proc/%d/uid_map", c.PID(t)))), " ")
		dirs(t, c, "/ids")
	}
	if maps["alice"] == maps["bob"] || maps["bob"] == maps["root"] || !strings.HasPrefix(maps["root"], "0 0 ") {
		t.Fatalf("the id maps are %v", maps)
	}
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			name := "ids-" + fs
			purgeAfter(t, w.alice, name)
			w.alice.Do(t, "create", name, "--size", "320M", "--fs", fs, "--visible", "--mount", "/ids")
			w.alice.Sh(t, "echo root >/ids/root && echo user >/ids/user && chown 1000:1000 /ids/user && chown 65534:7 /ids/lost+found 2>/dev/null; sync; ls -ln /ids")
			wantMounted(t, w.alice, "/ids", kit.FindLV(t, "alice", name))
			for _, c := range []*kit.Container{w.bob, w.root} {
				purgeAfter(t, c, "theirs")
				c.Do(t, "snapshot", "alice/"+name, "theirs", "--mount", "/ids")
				if got := c.Must(t, "stat", "-c", "%u:%g", "/ids", "/ids/root", "/ids/user"); got != "0:0\n0:0\n1000:1000" {
					t.Errorf("%s sees the owners %q", c.Name, got)
				}
				c.Sh(t, "echo mine >/ids/root && echo x >/ids/added")
				if got := c.Must(t, "stat", "-c", "%u", "/ids/added"); got != "0" {
					t.Errorf("a new file of root in %s is of %s there", c.Name, got)
				}
				c.Do(t, "umount", "theirs")
				onHost(t, c.Name+"/theirs", func(dir string) { // what stands on the disk
					var st unix.Stat_t
					if err := unix.Stat(dir+"/added", &st); err != nil || st.Uid != 0 {
						t.Errorf("on the disk it is of %d: %v", st.Uid, err)
					}
				})
				c.Purge(t, "theirs")
			}
		})
	}
}

// TestLockedFlagsStay tries to be rid of a mount's flags, with all a root of an unprivileged container has.
func TestLockedFlagsStay(t *testing.T) {
	w := lab(t)
	c := w.alice
	dirs(t, c, "/locked", "/locked-ro", "/elsewhere")
	own(t, c, "locked", "--mount", "/locked")
	onHost(t, "alice/locked", func(dir string) {
		// Open to all, and everywhere but on a nodev mount it would work.
		if err := unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chmod(dir+"/null", 0o666); err != nil {
			t.Fatal(err)
		}
	})
	c.Do(t, "mount", dataset, "/locked-ro")
	v, data := kit.FindLV(t, "alice", "locked"), kit.FindLV(t, "host", dataset)
	if m := wantMounted(t, c, "/locked-ro", data); !m.Has("ro") {
		t.Fatalf("the dataset is mounted %v", m.Options)
	}
	t.Cleanup(func() { c.LLS(t, "umount", "/locked-ro") })
	if got := c.Must(t, "stat", "-c", "%F", "/locked/null"); got != "character special file" {
		t.Fatalf("null is a %s", got)
	}
	for _, line := range []string{
		"mount -o remount,bind,rw,dev,suid /locked",
		"mount -o remount,rw,dev,suid /locked",
		"mount -o remount,bind,dev /locked",
		"mount -o remount,bind,suid,nodev /locked",
		"mount -o remount,bind,rw /locked-ro",
		"mount -o remount,rw /locked-ro",
		"mount -o remount,bind,rw,nodev,nosuid /locked-ro",
		"mount --bind /locked /elsewhere && mount -o remount,bind,dev,suid /elsewhere",
		"umount /elsewhere; mount --bind /locked-ro /elsewhere && mount -o remount,bind,rw,nodev,nosuid /elsewhere",
		"umount /elsewhere; cat /locked/null",
		"echo x >/locked/null",
		"echo x >/locked-ro/hello",
		"touch /locked-ro/new",
		"unshare -m sh -c 'mount -o remount,bind,rw,nodev,nosuid /locked-ro && echo x >/locked-ro/new'",
	} {
		if r := c.Exec(t, "sh", "-c", line); r.Exit == 0 {
			t.Errorf("it worked: %v", r)
		}
	}
	c.Exec(t, "umount", "/elsewhere")
	wantMounted(t, c, "/locked", v)
	if m := wantMounted(t, c, "/locked-ro", data); !m.Has("ro") {
		t.Errorf("the dataset is mounted %v now", m.Options)
	}
	onHost(t, dataset, func(dir string) {
		if got := read(t, dir+"/hello"); got != "hello\n" {
			t.Errorf("the dataset says %q", got)
		}
	})
}

// TestReadOnlySnapshotsAreReadOnlyEverywhere: a read-only volume has a read-only superblock, which holds in privileged containers too.
func TestReadOnlySnapshotsAreReadOnlyEverywhere(t *testing.T) {
	w := lab(t)
	for _, c := range []*kit.Container{w.alice, w.bob, w.root} {
		dirs(t, c, "/frozen", "/source")
	}
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			purgeAfter(t, w.alice, "frozen", "source")
			w.alice.Do(t, "create", "source", "--size", "320M", "--fs", fs, "--mount", "/source")
			w.alice.Sh(t, "echo kept >/source/file && sync") // and its journal is not empty
			w.alice.Do(t, "snapshot", "source", "frozen", "--ro", "--visible")
			w.alice.Do(t, "set", "frozen", "--access", "rw") // which changes nothing about it
			if v := kit.FindLV(t, "alice", "frozen"); !strings.HasPrefix(v.Attr, "Vr") {
				t.Errorf("LVM says %+v", v)
			}
			for _, c := range []*kit.Container{w.alice, w.bob, w.root} {
				name := "alice/frozen"
				if c == w.alice {
					name = "frozen"
				}
				c.Do(t, "mount", name, "/frozen")
				m := wantMounted(t, c, "/frozen", kit.FindLV(t, "alice", "frozen"))
				if !m.Has("ro") || !m.Super("ro") {
					t.Errorf("%s has it mounted %v %v", c.Name, m.Options, m.SuperOptions)
				}
				if got := c.Must(t, "cat", "/frozen/file"); got != "kept" {
					t.Errorf("the file says %q in %s", got, c.Name)
				}
				for _, line := range []string{"echo x >/frozen/file", "mount -o remount,rw /frozen", "mount -o remount,bind,rw,nodev,nosuid /frozen && echo x >/frozen/file"} {
					if r := c.Exec(t, "sh", "-c", line); r.Exit == 0 {
						t.Errorf("it worked in %s: %v", c.Name, r)
					}
				}
			}
			w.alice.LLS(t, "resize", "frozen", "+64M").WantError(t, 12, "read-only")
			onHost(t, "alice/frozen", func(dir string) {
				if m := kit.MountAt(kit.HostMounts(t), dir); m == nil || !m.Has("ro") || !m.Super("ro") {
					t.Errorf("on the host: %+v", m)
				}
			})
			for _, c := range []*kit.Container{w.bob, w.root, w.alice} {
				c.Do(t, "umount", "/frozen")
			}
		})
	}
}
