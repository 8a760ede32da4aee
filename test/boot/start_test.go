package boot

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lls/test/kit"
)

// beforeReboot is where what must be mounted after the reboot of the host is kept, by container.
const beforeReboot = "/root/before-reboot.json"

// longFstab gives a container volumes and lines of every sort, and says what must be mounted where.
func longFstab(t *testing.T, c *kit.Container) map[string]string {
	t.Helper()
	c.Sh(t, "mkdir -p /data/e4 /data/xf /data/xf2 /srv/frozen /srv/base /nest /data/uuid /data/node /data/hand /loop; ln -s b /loop/a; ln -s a /loop/b")
	own(t, c, "e4")
	own(t, c, "xf", "--fs", "xfs", "--size", "320M")
	c.Do(t, "snapshot", "xf", "xf2")
	c.Do(t, "snapshot", dataset, "frozen", "--ro")
	own(t, c, "child")
	own(t, c, "node")
	own(t, c, "hand")
	own(t, c, "nest")
	c.Do(t, "mount", "nest", "/mnt")
	c.Sh(t, "mkdir -p /mnt/in/deep")
	c.Do(t, "umount", "nest")
	tagged := own(t, c, "tagged")
	uuid := kit.Must(t, "blkid", "-s", "UUID", "-o", "value", "/dev/"+kit.VG+"/"+tagged.Name)
	inside(t, c, "/etc/fstab", `# what this container mounts
proc /proc proc defaults 0 0
lls:child /nest/in/deep lls noauto,x-lls.auto 0 0
lls:e4 /data/e4 lls noauto,x-lls.auto 0 0
lls:xf	/data/xf	lls	noauto,x-lls.auto,noatime 0 0
lls:xf2 /data/xf2 lls noauto,x-lls.auto 0 0
lls:frozen /srv/frozen lls ro,noauto,x-lls.auto 0 0
lls:nest /nest lls noauto,x-lls.auto 0 0
lls:missing /mnt lls noauto,x-lls.auto 0 0
lls:other/secret /media lls noauto,x-lls.auto 0 0
lls: \777 \ \\ ,,, lls:e4 0 0 /data/e4
lls:e4 /loop/a/x lls noauto,x-lls.auto 0 0
UUID=`+uuid+` /data/uuid ext4 noauto 0 0
/dev/mf/node /data/node ext4 defaults,nofail 0 0
lls:base /srv/base lls noauto,x-lls.auto 0 0
lls:hand /data/hand lls noauto 0 0
`, 0o644)
	want := map[string]string{
		"/nest/in/deep": "child", "/data/e4": "e4", "/data/xf": "xf", "/data/xf2": "xf2", "/srv/frozen": "frozen ro", "/nest": "nest",
		"/data/uuid": "tagged", "/data/node": "node",
	}
	if !c.Privileged {
		want["/srv/base"] = "base ro" // a privileged one could write there all the same, and is refused
	}
	return want
}

// asWritten fails the test unless a container that has just started has what it should, and had it before its init did anything.
func asWritten(t *testing.T, c *kit.Container, how string, want map[string]string) {
	t.Helper()
	same(t, "when the init of "+c.Name+" began after "+how, found(t, c), want)
	same(t, "in "+c.Name+" after "+how, mounted(t, c), want)
	for path, name := range want {
		name, _, _ = strings.Cut(name, " ")
		switch name {
		case "xf2":
			name = "xf" // it is a snapshot
		case "frozen":
			name = dataset
		}
		if got := c.Must(t, "cat", path+"/who"); got != name {
			t.Errorf("after %s %s/who says %q, want %q", how, path, got, name)
		}
	}
}

// TestALongFstab is what a container has to have mounted however it starts. The containers stay, for TestAfterAHostReboot.
func TestALongFstab(t *testing.T) {
	scene(t)
	plain, power = witness(t, "plain"), witness(t, "power", "--privileged")
	wanted := map[string]map[string]string{}
	for i, c := range []*kit.Container{plain, power} {
		t.Run(unprivilegedAndNot[i], func(t *testing.T) {
			start(t, c)
			want := longFstab(t, c)
			wanted[c.Name] = want
			c.Stop(t)
			t.Logf("the start with %d volumes took %v", len(want), start(t, c).Took.Round(time.Millisecond))
			asWritten(t, c, "lxc-stop and lxc-start", want)
			said(t, c)

			pid := c.PID(t)
			forget(t, c)
			c.Exec(t, "reboot") // it may be killed with all the others
			kit.Eventually(t, c.Name+" reboots", func() bool {
				now := strings.TrimSpace(kit.Run(t, "lxc-info", "-n", c.Name, "-p", "-H").Stdout)
				return now != "" && now != "-1" && now != strconv.Itoa(pid)
			})
			c.WaitReady(t)
			asWritten(t, c, "reboot from inside", want)

			kit.Must(t, "lxc-stop", "-k", "-n", c.Name)
			start(t, c)
			asWritten(t, c, "lxc-stop -k", want)

			before := c.Mounts(t)
			kit.Must(t, "lxc-freeze", "-n", c.Name)
			kit.KillAgent(t)
			kit.Must(t, "lxc-unfreeze", "-n", c.Name)
			kit.Eventually(t, "LLS answers in "+c.Name, func() bool { return c.LLS(t, "list").Exit == 0 })
			if after := c.Mounts(t); len(after) != len(before) {
				t.Errorf("while it was frozen and the agent was killed its mounts became\n%+v\nfrom\n%+v", after, before)
			}
			same(t, "after freeze, kill of the agent, unfreeze", mounted(t, c), want)
			kit.Eventually(t, "the new agent knows of the replay", func() bool { return len(fstabOf(t, c)) > 0 })
			said(t, c)
			c.Configure(t, "lxc.start.auto = 1")
			forget(t, c) // what is there after the reboot is new
		})
	}
	text, err := json.Marshal(wanted)
	if err != nil {
		t.Fatal(err)
	}
	putFile(t, beforeReboot, string(text))
}

// replayed is what LLS says of a line of the fstab.
type replayed struct {
	Line             int
	Volume, Path     string
	Mounted          bool
	Problem, Warning string
}

// fstabOf is what lls-agent says of a container's fstab.
func fstabOf(t *testing.T, c *kit.Container) []replayed {
	t.Helper()
	var all []struct {
		Name  string
		Fstab []replayed
	}
	kit.Agent(t, "containers", "--json").Want(t, 0).JSON(t, &all)
	for _, one := range all {
		if one.Name == c.Name {
			return one.Fstab
		}
	}
	t.Fatalf("lls-agent does not know container %s: %+v", c.Name, all)
	return nil
}

// said fails the test unless what was not mounted, and why, is where people look for it.
func said(t *testing.T, c *kit.Container) {
	t.Helper()
	problems := map[int]string{}
	lines := fstabOf(t, c)
	for _, l := range lines {
		if !l.Mounted {
			problems[l.Line] = l.Problem
		}
	}
	want := map[int]string{9: "missing", 10: "secret", 11: "", 12: "links"}
	if c.Privileged {
		want[15] = "privileged"
	}
	for line, word := range want {
		if problem, there := problems[line]; !there || !strings.Contains(problem, word) {
			t.Errorf("line %d: lls-agent containers says %q, want %q", line, problem, word)
		}
	}
	if len(problems) != len(want) {
		t.Errorf("not mounted are %v, want lines of %v", problems, want)
	}
	if strings.Contains(problems[9], "missing") && strings.ReplaceAll(problems[9], "missing", "X") != strings.ReplaceAll(problems[10], "other/secret", "X") {
		t.Errorf("a hidden volume and one that does not exist can be told apart: %q, %q", problems[9], problems[10])
	}
	if info := c.Do(t, "info", "e4"); !strings.Contains(info, "line 12: ") || !strings.Contains(info, "symbolic links") {
		t.Errorf("lls info does not tell of line 12:\n%s", info)
	}
	if all := kit.Must(t, "lls-agent", "containers"); !strings.Contains(all, "fstab of "+c.Name+", line 9: ") {
		t.Errorf("lls-agent containers does not tell of line 9:\n%s", all)
	}
	journal := kit.Must(t, "journalctl", "-u", kit.Unit, "--no-pager", "-o", "cat")
	for _, word := range []string{"lls:missing", "replayed the container's fstab"} {
		if !strings.Contains(journal, strings.TrimPrefix(word, "lls:")) {
			t.Errorf("the journal does not tell of %q", word)
		}
	}
}

// TestAfterAHostReboot looks at the containers of TestALongFstab, which the host has started by itself.
func TestAfterAHostReboot(t *testing.T) {
	kit.Guest(t)
	kit.JournalIfFailed(t, "--boot")
	var wanted map[string]map[string]string
	if err := json.Unmarshal([]byte(getFile(t, beforeReboot)), &wanted); err != nil || len(wanted) != 2 {
		t.Fatalf("before the reboot there was %v: %v", wanted, err)
	}
	for _, c := range []*kit.Container{{Name: "plain"}, {Name: "power", Privileged: true}} {
		kit.Eventually(t, "the host starts "+c.Name, func() bool { return c.Running(t) })
		c.WaitReady(t)
		asWritten(t, c, os.Getenv(rebootPhase)+" of the host", wanted[c.Name])
		forget(t, c) // for the next one
	}
	kit.WantAgentBeforeContainers(t)
	kit.Must(t, "sync")
	if dev := (&kit.Container{Name: "dev"}); dev.Running(t) {
		t.Error("a container started that should not")
	}
	open := map[string]bool{}
	for _, want := range wanted {
		for _, name := range want {
			name, _, _ = strings.Cut(name, " ")
			open[name] = true
		}
	}
	kit.Eventually(t, "what is mounted is open, and nothing else", func() bool {
		return !slices.ContainsFunc(kit.LVs(t), func(v kit.LV) bool {
			name := v.Tag("lls.n")
			return name != "" && (v.Tag("lls.o") == "host" || strings.HasPrefix(v.Tag("lls.o"), "p")) && v.Open() != open[name]
		})
	})
}
