package e2e

import (
	"slices"
	"strings"
	"testing"

	"lls/test/kit"
)

// verbs are the rows of the table of rights, as commands on a volume. Each is possible for one who may do it while the volume is live
// and not mounted.
var verbs = []struct {
	name string
	args func(volume string) []string
}{
	{"info", func(v string) []string { return []string{"info", v} }},
	{"snapshot", func(v string) []string { return []string{"snapshot", v, "copy"} }},
	{"mount", func(v string) []string { return []string{"mount", v, "/rights"} }},
	{"set visibility", func(v string) []string { return []string{"set", v, "--visibility", "visible"} }},
	{"set access", func(v string) []string { return []string{"set", v, "--access", "none"} }},
	{"resize", func(v string) []string { return []string{"resize", v, "+64M"} }},
	{"refresh", func(v string) []string { return []string{"refresh", v, "--yes"} }},
	{"delete", func(v string) []string { return []string{"delete", v} }},
	{"undelete", func(v string) []string { return []string{"undelete", v} }},
	{"purge", func(v string) []string { return []string{"purge", v, "--yes"} }},
}

// TestOthersHaveTheRightsOfTheTable takes each row for those who do not own the volume: with a visible one they may look, snapshot and
// mount, a hidden one does not exist. What is refused changes nothing.
func TestOthersHaveTheRightsOfTheTable(t *testing.T) {
	w := lab(t)
	dirs(t, w.bob, "/rights")
	dirs(t, w.root, "/rights")
	own(t, w.alice, "seen", "--visible")
	own(t, w.alice, "unseen")
	for _, c := range []*kit.Container{w.bob, w.root} {
		list := c.Do(t, "list", "--all")
		if !strings.Contains(list, "\nalice/seen ") || strings.Contains(list, "unseen") {
			t.Errorf("%s sees:\n%s", c.Name, list)
		}
		for _, v := range verbs {
			t.Run(c.Name+" "+v.name, func(t *testing.T) {
				before := kit.TakeState(t)
				hidden := c.LLS(t, v.args("alice/unseen")...).WantError(t, 10)
				before.WantSame(t)
				// Nothing tells a hidden volume from none at all.
				none := c.LLS(t, v.args("alice/nosuch")...).WantError(t, 10)
				if strings.ReplaceAll(hidden.Stderr, "unseen", "X") != strings.ReplaceAll(none.Stderr, "nosuch", "X") {
					t.Errorf("a hidden volume is told from none:\n%s\n%s", hidden.Stderr, none.Stderr)
				}
				switch {
				case v.name == "info":
					if out := c.Do(t, v.args("alice/seen")...); !strings.Contains(out, "seen") {
						t.Errorf("info says %q", out)
					}
				case v.name == "snapshot":
					purgeAfter(t, c, "copy")
					c.Do(t, v.args("alice/seen")...)
					if copy := kit.FindLV(t, c.Name, "copy"); copy.Origin != kit.FindLV(t, "alice", "seen").Name || copy.Tag("lls.v") != "h" {
						t.Errorf("LVM says %+v", copy)
					}
				case v.name == "mount" && c.Privileged:
					c.LLS(t, v.args("alice/seen")...).WantError(t, 12, "lls snapshot alice/seen")
					before.WantSame(t)
				case v.name == "mount":
					c.Do(t, v.args("alice/seen")...)
					if m := wantMounted(t, c, "/rights", kit.FindLV(t, "alice", "seen")); !m.Has("ro") {
						t.Errorf("it is mounted %v", m.Options)
					}
					c.Do(t, "umount", "/rights")
				default:
					c.LLS(t, v.args("alice/seen")...).WantError(t, 12)
					before.WantSame(t)
				}
			})
		}
	}
}

// TestOwnerAndSysadminMayAll takes each row for those who may everything, with a visible and a hidden volume of alice's.
func TestOwnerAndSysadminMayAll(t *testing.T) {
	w := lab(t)
	dirs(t, w.alice, "/rights")
	for _, visibility := range []string{"visible", "hidden"} {
		for _, who := range []string{"owner", "sysadmin"} {
			t.Run(who+" "+visibility, func(t *testing.T) {
				name, flags := "thing", []string{}
				if visibility == "visible" {
					flags = append(flags, "--visible")
				}
				own(t, w.alice, name, flags...)
				run, ref, place := func(args ...string) { w.alice.Do(t, args...) }, name, w.alice.Mounts
				if who == "sysadmin" {
					run, ref = func(args ...string) { kit.Agent(t, args...).Want(t, 0) }, "alice/"+name
					place = func(t testing.TB) []kit.Mount { return kit.HostMounts(t) }
					kit.Must(t, "mkdir", "-p", "/rights")
				}
				if list := kit.Must(t, "lls-agent", "list"); !strings.Contains(list, "alice/"+name+" ") {
					t.Errorf("the sysadmin sees:\n%s", list)
				}
				run("info", ref)
				run("snapshot", ref, "copy")
				copy := kit.FindLVs(t, "", "copy")
				if want := map[string]string{"owner": "alice", "sysadmin": "host"}[who]; len(copy) != 1 || !strings.HasPrefix(copy[0].Tag("lls.o"), want) {
					t.Errorf("LVM says %+v", copy)
				}
				run("delete", "copy")
				run("purge", "copy", "--yes")
				run("mount", ref, "/rights")
				v := kit.FindLV(t, "alice", name)
				if m := kit.MountAt(place(t), "/rights"); m == nil || m.Device != v.Device() || m.Has("ro") {
					t.Errorf("mounted is %+v", m)
				}
				run("umount", ref)
				run("mount", ref, "/rights", "--ro")
				if m := kit.MountAt(place(t), "/rights"); m == nil || !m.Has("ro") {
					t.Errorf("with --ro, mounted is %+v", m)
				}
				run("umount", "/rights")
				run("set", ref, "--visibility", "visible", "--access", "rw")
				if v := kit.FindLV(t, "alice", name); v.Tag("lls.v") != "v" || v.Tag("lls.a") != "rw" {
					t.Errorf("the tags are %s", v.TagList)
				}
				run("resize", ref, "128M")
				if v := kit.FindLV(t, "alice", name); v.Bytes(t) != 128<<20 {
					t.Errorf("LVM says %+v", v)
				}
				run("delete", ref)
				if v := kit.FindLV(t, "alice", name); !strings.HasPrefix(v.Tag("lls.s"), "trash:") {
					t.Errorf("the tags are %s", v.TagList)
				}
				run("undelete", ref)
				if v := kit.FindLV(t, "alice", name); v.Tag("lls.s") != "live" {
					t.Errorf("the tags are %s", v.TagList)
				}
				run("delete", ref)
				run("purge", ref, "--yes")
				if left := kit.FindLVs(t, "alice", name); len(left) != 0 {
					t.Errorf("LVM has still %+v", left)
				}
			})
		}
	}
}

// TestAccessSaysHowOthersMount takes each access for another unprivileged and for a privileged container.
func TestAccessSaysHowOthersMount(t *testing.T) {
	w := lab(t)
	for _, c := range []*kit.Container{w.bob, w.root} {
		dirs(t, c, "/access")
	}
	own(t, w.alice, "shared", "--visible")
	const ref = "alice/shared"
	for _, row := range []struct {
		access string
		c      *kit.Container
		flag   []string
		exit   int
		ro     bool
	}{
		{"rw", w.bob, nil, 0, false},
		{"rw", w.bob, []string{"--ro"}, 0, true},
		{"rw", w.root, nil, 0, false},
		{"ro", w.bob, nil, 0, true},
		{"ro", w.bob, []string{"--ro"}, 0, true},
		{"ro", w.root, nil, 12, false},
		{"ro", w.root, []string{"--ro"}, 12, false},
		{"none", w.bob, nil, 12, false},
		{"none", w.root, nil, 12, false},
		{"none", w.root, []string{"--ro"}, 12, false},
	} {
		t.Run(row.access+" in "+row.c.Name+strings.Join(row.flag, ""), func(t *testing.T) {
			w.alice.Do(t, "set", "shared", "--access", row.access)
			before := kit.TakeState(t)
			r := row.c.LLS(t, append([]string{"mount", ref, "/access"}, row.flag...)...)
			if row.exit != 0 {
				r.WantError(t, row.exit, "lls snapshot "+ref)
				before.WantSame(t)
				return
			}
			r.Want(t, 0)
			defer row.c.Do(t, "umount", ref)
			m := wantMounted(t, row.c, "/access", kit.FindLV(t, "alice", "shared"))
			if m.Has("ro") != row.ro {
				t.Errorf("it is mounted %v", m.Options)
			}
			wrote := row.c.Exec(t, "touch", "/access/"+row.c.Name).Exit == 0
			if wrote == row.ro {
				t.Errorf("writing there worked: %v", wrote)
			}
		})
	}
	// A mount that is there outlives the change, and its holder can still let it go.
	w.alice.Do(t, "set", "shared", "--access", "rw")
	w.bob.Do(t, "mount", ref, "/access")
	w.alice.Do(t, "set", "shared", "--visibility", "hidden")
	wantMounted(t, w.bob, "/access", kit.FindLV(t, "alice", "shared"))
	w.bob.LLS(t, "info", ref).WantError(t, 10)
	w.bob.Do(t, "umount", "/access")
	wantNotMounted(t, w.bob, kit.FindLV(t, "alice", "shared"))
}

// TestNamesMeanMineThenTheHosts: a name is unique per owner only.
func TestNamesMeanMineThenTheHosts(t *testing.T) {
	w := lab(t)
	own(t, w.alice, dataset) // the name of the host's
	var one struct{ Owner, Name string }
	w.alice.LLS(t, "info", dataset, "--json").Want(t, 0).JSON(t, &one)
	if one.Owner != "alice" || one.Name != dataset {
		t.Errorf("alice's is %+v", one)
	}
	w.alice.LLS(t, "info", "host/"+dataset, "--json").Want(t, 0).JSON(t, &one)
	if one.Owner != "host" || one.Name != "host/"+dataset {
		t.Errorf("the host's is %+v", one)
	}
	w.bob.LLS(t, "info", dataset, "--json").Want(t, 0).JSON(t, &one)
	if one.Owner != "host" || one.Name != dataset {
		t.Errorf("to bob it is %+v", one)
	}
}

// TestHiddenOriginIsNotNamed: a snapshot of what became hidden stays its owner's.
func TestHiddenOriginIsNotNamed(t *testing.T) {
	w := lab(t)
	own(t, w.alice, "secret-later", "--visible")
	purgeAfter(t, w.bob, "kept")
	w.bob.Do(t, "snapshot", "alice/secret-later", "kept")
	w.alice.Do(t, "set", "secret-later", "--visibility", "hidden")
	var list []struct{ Name, Origin string }
	r := w.bob.LLS(t, "list", "--all", "--json").Want(t, 0)
	r.JSON(t, &list)
	if !slices.Contains(list, struct{ Name, Origin string }{"kept", "-"}) || strings.Contains(r.Stdout, "secret-later") {
		t.Errorf("bob sees %s", r.Stdout)
	}
	if out := w.bob.LLS(t, "info", "kept", "--json"); strings.Contains(out.Stdout, "secret") {
		t.Errorf("bob is told %s", out.Stdout)
	}
}
