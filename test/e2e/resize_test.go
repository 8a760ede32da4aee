package e2e

import (
	"strconv"
	"strings"
	"testing"

	"lls/test/kit"
)

// sizeInside is the file system's size in KiB, as the container's df sees it.
func sizeInside(t *testing.T, c *kit.Container, path string) int {
	t.Helper()
	lines := strings.Split(c.Must(t, "df", "-P", "-k", path), "\n")
	n, err := strconv.Atoi(strings.Fields(lines[len(lines)-1])[1])
	if err != nil {
		t.Fatalf("df says %q", lines)
	}
	return n
}

func TestResizeGrowsTheFileSystem(t *testing.T) {
	w := lab(t)
	for _, c := range []*kit.Container{w.alice, w.root} {
		dirs(t, c, "/grow")
		for _, fs := range []string{"ext4", "xfs"} {
			t.Run(fs+" in "+c.Name, func(t *testing.T) { grow(t, c, fs) })
		}
	}
}

func grow(t *testing.T, c *kit.Container, fs string) {
	name := "grow-" + fs
	purgeAfter(t, c, name)
	c.Do(t, "create", name, "--size", "400M", "--fs", fs, "--mount", "/grow")
	if m := wantMounted(t, c, "/grow", kit.FindLV(t, c.Name, name)); m.FS != fs {
		t.Errorf("it is %s", m.FS)
	}
	c.Sh(t, "echo kept >/grow/file")
	check := func(step string, mib int) {
		t.Helper()
		v := kit.FindLV(t, c.Name, name)
		if v.Bytes(t) != int64(mib)<<20 || strings.Contains(v.TagList, "lls.g") {
			t.Errorf("%s: LVM says %+v, want %d MiB", step, v, mib)
		}
		// A file system has its own needs, but never a fifth.
		if kib := sizeInside(t, c, "/grow"); kib > mib<<10 || kib < mib<<10/5*4 {
			t.Errorf("%s: df sees %d KiB of %d MiB", step, kib, mib)
		}
		if got := c.Must(t, "cat", "/grow/file"); got != "kept" {
			t.Errorf("%s: the file says %q", step, got)
		}
	}
	check("new", 400)
	c.Do(t, "resize", name, "800M")
	check("mounted, to a size", 800)
	c.Do(t, "resize", name, "+400M")
	check("mounted, by a step", 1200)
	c.Do(t, "resize", name, "1200M") // to what it has
	check("mounted, to its own size", 1200)
	c.Do(t, "umount", name)
	active := kit.FindLV(t, c.Name, name).Active()
	c.Do(t, "resize", name, "1600M")
	if v := kit.FindLV(t, c.Name, name); v.Active() != active {
		t.Errorf("active was %v, and now it is %+v", active, v)
	}
	c.Do(t, "mount", name, "/grow")
	check("unmounted", 1600)
	c.Sh(t, "dd if=/dev/zero of=/grow/big bs=1M count=1 2>/dev/null && sync")
	c.Do(t, "umount", "/grow")
}
