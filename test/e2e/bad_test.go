package e2e

import (
	"slices"
	"strings"
	"testing"

	"lls/test/kit"
)

// badRow is one bad input: it ends with its status, one error and one hint, and leaves no trace.
type badRow struct {
	name string
	exit int
	args []string
}

// badBatch is how many rows are tried between two looks at the state of the guest, which take as long as some rows.
const badBatch = 8

func tryBad(t *testing.T, run func(testing.TB, ...string) kit.Result, rows []badRow) {
	t.Helper()
	before := kit.TakeState(t)
	for batch := range slices.Chunk(rows, badBatch) {
		var names []string
		for _, row := range batch {
			names = append(names, row.name)
			t.Run(row.name, func(t *testing.T) { run(t, row.args...).WantError(t, row.exit) })
		}
		after := kit.TakeState(t)
		if diff := before.Diff(after); diff != "" {
			t.Errorf("one of %q left traces:\n%s", names, diff)
		}
		before = after
	}
}

func TestBadNames(t *testing.T) {
	w := lab(t)
	own(t, w.alice, "good")
	names := map[string]string{
		"a slash": "a/b", "two slashes": "a/b/c", "dots": "..", "a dot": ".", "a way up": "../x", "dots inside": "a..b", "a space": "a b", "a tab": "a\tb",
		"a newline": "a\nb", "a hyphen first": "-x", "a flag": "--force", "200 characters": strings.Repeat("a", 200), "41 characters": strings.Repeat("a", 41), "nothing": "",
		"snapshot": "snapshot", "snapshot1": "snapshot1", "pvmove0": "pvmove0", "_tdata": "a_tdata", "_tmeta": "a_tmeta", "_mimage": "a_mimage_0",
		"_mlog": "a_mlog", "_rimage": "a_rimage", "_rmeta": "a_rmeta", "_cdata": "x_cdata", "_cmeta": "x_cmeta", "_vorigin": "x_vorigin", "_pmspare": "lvol0_pmspare",
		"a tag": "@tag", "an option of LVM": "a,b", "a colon": "a:b", "shell": "$(id)", "a quote": "a'b", "not ASCII": "gén", "an escape": "a\x1b[31mb",
	}
	var rows []badRow
	for what, n := range names {
		rows = append(rows,
			badRow{"create " + what, 2, []string{"create", "--size", "64M", "--", n}},
			badRow{"snapshot as " + what, 2, []string{"snapshot", "--mount", "/data", "--", "good", n}},
		)
		if what == "nothing" {
			rows = rows[:len(rows)-1] // no name at all, which is allowed
		}
		if what != "a slash" { // OWNER/NAME, which is no bad name but an unknown one
			rows = append(rows, badRow{"mount " + what, 2, []string{"mount", "--", n, "/data"}})
		}
	}
	rows = append(rows,
		badRow{"undelete as", 2, []string{"undelete", "good", "--as", "a/b"}},
		badRow{"a hyphen without --", 2, []string{"create", "-x", "--size", "64M"}},
	)
	w.alice.Do(t, "delete", "good")
	w.alice.LLS(t, "undelete", "good", "--as", "..").WantError(t, 2)
	w.alice.Do(t, "undelete", "good")
	rows[len(rows)-2].exit = 10 // it is not in the trash
	tryBad(t, w.alice.LLS, rows)
}

func TestBadSizes(t *testing.T) {
	w := lab(t)
	own(t, w.alice, "sized")
	var rows []badRow
	for _, size := range []string{"0", "0G", "-1G", "-1", "1E", "10 G", "", " ", "G", "ten", "1.5.5G", "1e9", "0x10G", "99999999999999999999G", "2P", "10", "1G1", "10G;id", "NaN", "1,5G"} {
		rows = append(rows, badRow{"create " + size, 2, []string{"create", "x", "--size", size}})
		rows = append(rows, badRow{"resize " + size, 2, []string{"resize", "sized", size}})
		rows = append(rows, badRow{"resize by " + size, 2, []string{"resize", "sized", "+" + size}})
	}
	rows = append(rows,
		badRow{"smaller", 2, []string{"resize", "sized", "32M"}},
		badRow{"two signs", 2, []string{"resize", "sized", "++1G"}},
		badRow{"too small for ext4", 2, []string{"create", "x", "--size", "4M"}},
		badRow{"too small for xfs", 2, []string{"create", "x", "--size", "100M", "--fs", "xfs"}},
		badRow{"more than one may have", 13, []string{"create", "x", "--size", "1P"}},
		badRow{"growing to more than one may have", 13, []string{"resize", "sized", "1P"}},
		badRow{"growing by more than there can be", 2, []string{"resize", "sized", "+9223372036854775807"}},
	)
	tryBad(t, w.alice.LLS, rows)
}

// badPaths are made in a container by makeBadPaths.
var badPaths = map[string]string{
	"missing": "/nosuch", "below a missing one": "/nosuch/dir", "a file": "/bad/file", "below a file": "/bad/file/x", "a link out": "/bad/out", "a link out, far up": "/bad/up",
	"a magic link": "/bad/magic", "a link to nowhere": "/bad/nowhere", "a link to itself": "/bad/self", "the root": "/", "the root, by another way": "/bad/../..",
	"/proc": "/proc", "below /proc": "/proc/self/cwd", "/dev": "/dev", "/dev/shm": "/dev/shm", "/run": "/run", "/tmp": "/tmp", "/sys": "/sys", "/lls": "/lls", "/lls/bin": "/lls/bin",
	"a link to /proc": "/bad/proc", "a link to /dev": "/bad/dev", "a link to /": "/bad/root", "too long": "/" + strings.Repeat("a/", 3000), "a name too long": "/" + strings.Repeat("a", 300),
}

func makeBadPaths(t *testing.T, c *kit.Container) {
	t.Helper()
	c.Sh(t, `mkdir -p /bad && : >/bad/file &&
		ln -sf /var/lib/lxc/bob/rootfs/mnt /bad/out && ln -sf ../../../../../../../../var/lib/lxc/bob/rootfs/mnt /bad/up && ln -sf /proc/1/root/mnt /bad/magic &&
		ln -sf /nosuch /bad/nowhere && ln -sf self /bad/self && ln -sf /proc /bad/proc && ln -sf /dev /bad/dev && ln -sfn / /bad/root`)
	t.Cleanup(func() { c.Exec(t, "rm", "-rf", "/bad") })
}

func TestBadMountPaths(t *testing.T) {
	w := lab(t)
	for _, c := range []*kit.Container{w.alice, w.root} {
		t.Run(c.Name, func(t *testing.T) {
			makeBadPaths(t, c)
			dirs(t, c, "/placed")
			own(t, c, "placed")
			if c == w.root { // in use already there; in alice its device must go again each time
				c.Do(t, "mount", "placed", "/placed")
			}
			var rows []badRow
			for what, p := range badPaths {
				rows = append(rows, badRow{"mount at " + what, 17, []string{"mount", "placed", p}})
				if c == w.alice && slices.Contains([]string{"missing", "a file", "a link out", "the root", "/proc", "/dev", "/run", "/tmp"}, what) {
					rows = append(rows, badRow{"snapshot and mount at " + what, 17, []string{"snapshot", dataset, "lost", "--mount", p}})
				}
			}
			rows = append(rows,
				badRow{"create and mount", 17, []string{"create", "lost", "--size", "64M", "--mount", "/nosuch"}},
				badRow{"no path", 2, []string{"mount", "placed", ""}},
			)
			tryBad(t, c.LLS, rows)
		})
	}
	// Where something else is mounted is no bad path, but taken.
	dirs(t, w.alice, "/taken")
	own(t, w.alice, "first", "--mount", "/taken")
	own(t, w.alice, "second")
	tryBad(t, w.alice.LLS, []badRow{{"taken by another volume", 11, []string{"mount", "second", "/taken"}}})
	// A link within the container is followed, as anywhere.
	dirs(t, w.alice, "/real")
	w.alice.Must(t, "ln", "-sfn", "/real", "/link")
	t.Cleanup(func() { w.alice.Exec(t, "rm", "/link") })
	w.alice.Do(t, "mount", "second", "/link")
	wantMounted(t, w.alice, "/real", kit.FindLV(t, "alice", "second"))
}

func TestBadReferences(t *testing.T) {
	w := lab(t)
	own(t, w.alice, "have")
	own(t, w.bob, "bobs")
	purgeAfter(t, w.alice, "other")
	w.alice.Do(t, "snapshot", "have", "other")
	tryBad(t, w.alice.LLS, []badRow{
		{"an unknown pool", 10, []string{"create", "x", "--size", "64M", "--pool", "nosuch"}},
		{"a device for a pool", 10, []string{"create", "x", "--size", "64M", "--pool", "lls/pool"}},
		{"a taken name", 16, []string{"create", "have", "--size", "64M"}},
		{"a taken name for a snapshot", 16, []string{"snapshot", dataset, "have"}},
		{"a taken name, to be mounted", 16, []string{"snapshot", dataset, "have", "--mount", "/data"}},
		{"an unknown source", 10, []string{"snapshot", "nosuch", "x"}},
		{"an unknown owner", 10, []string{"snapshot", "nobody/have", "x"}},
		{"a hidden source", 10, []string{"snapshot", "bob/bobs", "x", "--mount", "/data"}},
		{"a hidden volume to mount", 10, []string{"mount", "bob/bobs", "/data"}},
		{"a hidden volume to see", 10, []string{"info", "bob/bobs"}},
		{"a hidden volume to purge", 10, []string{"purge", "bob/bobs", "--yes"}},
		{"not mounted", 10, []string{"umount", "have"}},
		{"no mount at a path", 10, []string{"umount", "/data"}},
		{"a mount that is not ours", 10, []string{"umount", "/proc"}},
		{"not in the trash", 10, []string{"undelete", "have"}},
		{"the host's, to delete", 12, []string{"delete", dataset}},
		{"the host's, to purge", 12, []string{"purge", dataset, "--yes"}},
		{"an unknown file system", 2, []string{"create", "x", "--size", "64M", "--fs", "ntfs"}},
		{"no size", 2, []string{"create", "x"}},
		{"nothing to set", 2, []string{"set", "have"}},
		{"an unknown visibility", 2, []string{"set", "have", "--visibility", "maybe"}},
		{"an unknown access", 2, []string{"set", "have", "--access", "all"}},
		{"a flag twice", 2, []string{"create", "x", "--size", "64M", "--size", "1G"}},
		{"an operand too many", 2, []string{"info", "have", "other"}},
		{"an unknown command", 2, []string{"snapshoot", dataset}},
		{"an unknown flag", 2, []string{"list", "--everything"}},
		{"purge without a yes", 2, []string{"purge", "have"}},
		{"the sysadmin's flag", 2, []string{"create", "x", "--size", "64M", "--owner", "bob"}},
	})
	tryBad(t, func(t testing.TB, args ...string) kit.Result { return kit.Agent(t, args...) }, []badRow{
		{"host: a bad name", 2, []string{"create", "a/b", "--size", "64M"}},
		{"host: a missing path", 17, []string{"mount", dataset, "/nosuch"}},
		{"host: the root", 17, []string{"mount", dataset, "/"}},
		{"host: /proc", 17, []string{"mount", dataset, "/proc"}},
		{"host: an unknown container", 10, []string{"mount", dataset, "/data", "--container", "nobody"}},
		{"host: an unknown owner", 10, []string{"create", "x", "--size", "64M", "--owner", "nobody"}},
		{"host: a taken name", 16, []string{"create", dataset, "--size", "64M"}},
		{"host: nothing to give", 10, []string{"give", "nobody", "alice"}},
	})
}
