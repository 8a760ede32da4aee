package e2e

import (
	"strings"
	"testing"

	"lls/test/kit"
)

// TestANewContainerDoesNotInherit: a container made anew under the same name is another one, until the sysadmin gives it the data.
func TestANewContainerDoesNotInherit(t *testing.T) {
	lab(t)
	const name = "phoenix"
	c := kit.TempContainer(t, name)
	c.Do(t, "create", "ashes", "--size", "64M", "--mount", "/data")
	c.Do(t, "create", "thrown", "--size", "64M")
	c.Do(t, "delete", "thrown")
	c.Sh(t, "echo precious >/data/file && sync")
	owner := kit.FindLV(t, name, "ashes").Tag("lls.o")
	c.Destroy(t)
	t.Cleanup(func() {
		for _, v := range kit.LVs(t) {
			if who := v.Tag("lls.o"); strings.HasPrefix(who, name+"#") {
				kit.Purge(t, who+"/"+v.Tag("lls.n"))
			}
		}
	})
	gone := kit.FindLV(t, name, "ashes")
	if gone.Tag("lls.o") != owner || gone.Tag("lls.s") != "live" {
		t.Errorf("LVM says %+v", gone)
	}

	c = kit.NewContainer(t, name)
	if list := c.Do(t, "list", "--all"); strings.Contains(list, "ashes") || strings.Contains(list, "thrown") {
		t.Errorf("the new container sees:\n%s", list)
	}
	for _, args := range [][]string{
		{"mount", "ashes", "/data"}, {"undelete", "thrown"}, {"purge", "ashes", "--yes"}, {"info", name + "/ashes"}, {"info", owner + "/ashes"},
		{"snapshot", owner + "/ashes", "x"}, {"delete", "ashes"},
	} {
		c.LLS(t, args...).WantError(t, 10)
	}
	c.Do(t, "create", "ashes", "--size", "80M") // the name is free for it
	if a, b := kit.FindLVs(t, name, "ashes"), owner; len(a) != 2 || a[0].Tag("lls.o") == a[1].Tag("lls.o") {
		t.Errorf("LVM says %+v (the old owner is %s)", a, b)
	}
	var list []struct {
		Name, Owner, LV string
		Orphan          bool
		Size            int64
	}
	kit.Agent(t, "list", "--json").Want(t, 0).JSON(t, &list)
	orphans := 0
	for _, v := range list {
		if v.Orphan {
			orphans++
			if v.LV != kit.VG+"/"+gone.Name || v.Size != 64<<20 {
				t.Errorf("an orphan is %+v", v)
			}
		}
	}
	if orphans != 1 {
		t.Errorf("the sysadmin sees %+v", list)
	}
	if out := kit.Must(t, "lls-agent", "list"); !strings.Contains(out, "(gone)") {
		t.Errorf("the sysadmin sees:\n%s", out)
	}

	before := kit.TakeState(t)
	kit.Agent(t, "give", owner, name).WantError(t, 16) // the new one has an ashes itself
	before.WantSame(t)
	c.Purge(t, "ashes")
	kit.Agent(t, "give", owner, name).Want(t, 0)
	now := kit.FindLV(t, name, "ashes")
	if now.UUID != gone.UUID || now.Tag("lls.o") == owner {
		t.Errorf("LVM says %+v", now)
	}
	c.Do(t, "mount", "ashes", "/data")
	wantMounted(t, c, "/data", kit.FindLV(t, name, "ashes"))
	if got := c.Must(t, "cat", "/data/file"); got != "precious" {
		t.Errorf("the file says %q", got)
	}
	c.Do(t, "undelete", "thrown")
	c.Do(t, "umount", "ashes")
}

// TestGiveToTheHost hands volumes over by plain names.
func TestGiveToTheHost(t *testing.T) {
	lab(t)
	c := kit.TempContainer(t, "leaver")
	c.Do(t, "create", "left", "--size", "64M")
	kit.Agent(t, "give", "leaver", "host").Want(t, 0)
	t.Cleanup(func() { kit.Purge(t, "left") })
	if v := kit.FindLV(t, "", "left"); v.Tag("lls.o") != "host" {
		t.Errorf("LVM says %+v", v)
	}
	c.LLS(t, "mount", "left", "/data").WantError(t, 10) // hidden, and not its own any more
	kit.Agent(t, "info", "left").Want(t, 0)
}
