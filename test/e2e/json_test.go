package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lls/test/kit"
)

// commands are those that a program's own help tells of.
func commands(t *testing.T, help string) []string {
	t.Helper()
	_, list, found := strings.Cut(help, "\nCommands:\n")
	list, _, more := strings.Cut(list, "\n\n")
	var names []string
	for line := range strings.Lines(list) {
		name, _, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Errorf("a line of the help has no name: %q", line)
		}
		names = append(names, name)
	}
	if !found || !more || len(names) < 10 {
		t.Fatalf("the help has no list of commands:\n%s", help)
	}
	return names
}

// without are commands that need no step in TestEveryCommandSpeaksJSON.
var without = map[string]string{
	"watch":     "it does not end; the tests of boot read its JSON",
	"init":      "the tests of init run it, on disks of their own",
	"run":       "it is the daemon",
	"mail test": "it needs a mail server, which the tests of the policy have",
}

// TestEveryCommandSpeaksJSON runs each command with --json, in an order in which each can be done.
func TestEveryCommandSpeaksJSON(t *testing.T) {
	w := lab(t)
	dirs(t, w.alice, "/json")
	purgeAfter(t, w.alice, "j", "k")
	kit.Must(t, "mkdir", "-p", "/mnt/json")
	lists := regexp.MustCompile(`^(list|usage|delete|umount|replay|trim|containers|give|policy dry-run|(keep|undelete|purge) \S+ [^- ])`)
	steps := func(run func(testing.TB, ...string) kit.Result, path string, more ...string) {
		untried := commands(t, run(t).Stdout)
		for _, step := range append([]string{
			"create j --size 64M", "list", "list --all", "info j", "usage", "mount j " + path, "info j", "trim j", "umount j", "mount j " + path + " --ro", "umount " + path,
			"snapshot j k", "snapshot j k2 --ro", "resize j +64M", "set j --visibility visible --access rw", "keep j --for 1h", "keep j k --for 0", "refresh k --yes", "delete k k2", "list --all",
			"undelete k", "delete k", "undelete k k2", "delete k k2", "purge k k2 --yes", "purge k --yes", "delete j", "purge j --yes",
		}, more...) {
			untried = slices.DeleteFunc(untried, func(name string) bool { return step == name || strings.HasPrefix(step, name+" ") })
			r := run(t, append(strings.Fields(step), "--json")...).Want(t, 0)
			var value any
			r.JSON(t, &value)
			if _, isList := value.([]any); lists.MatchString(step) != isList {
				t.Errorf("%s gives %s", step, r.Stdout)
			}
			if r.Stderr != "" {
				t.Errorf("%s says on stderr: %s", step, r.Stderr)
			}
		}
		for _, name := range untried {
			if without[name] == "" {
				t.Errorf("there is no step for %s", name)
			}
		}
	}
	steps(w.alice.LLS, "/json", "replay")
	kit.TempContainer(t, "jgiver")
	steps(kit.Agent, "/mnt/json", "status", "containers", "usage alice", "replay alice", "create j --size 64M --owner jgiver", "policy explain jgiver/j", "policy dry-run", "revoke jgiver/j",
		"give jgiver host", "delete j", "purge j --yes", "config check", "reload")
	// An error is JSON too, on stderr.
	var e struct {
		Error struct{ Code, Message, Hint string }
	}
	r := w.alice.LLS(t, "info", "nosuch", "--json").Want(t, 10)
	if err := json.Unmarshal([]byte(r.Stderr), &e); err != nil || e.Error.Code != "not-found" || e.Error.Message == "" || e.Error.Hint == "" || r.Stdout != "" {
		t.Errorf("%v of %v", err, r)
	}
}

// TestListSaysWhatLVMSays compares `list --json` with LVM's own report.
func TestListSaysWhatLVMSays(t *testing.T) {
	w := lab(t)
	dirs(t, w.alice, "/json")
	own(t, w.alice, "told", "--mount", "/json", "--visible")
	var list []struct {
		Name, Owner, ID, Visibility, Access, State, FS, Kind string
		Size                                                 int64
		Mounts                                               []struct{ Container, Path string }
	}
	w.alice.LLS(t, "list", "--json").Want(t, 0).JSON(t, &list)
	v := kit.FindLV(t, "alice", "told")
	for _, one := range list {
		if one.Name != "told" {
			continue
		}
		got := fmt.Sprint(one.Owner, one.ID, one.Visibility, one.Access, one.State, one.FS, one.Size, one.Kind, one.Mounts)
		want := fmt.Sprint("alice", strings.TrimPrefix(v.Name, "told."), "visible", v.Tag("lls.a"), v.Tag("lls.s"), v.Tag("lls.f"), v.Bytes(t), "dataset", "[{alice /json}]")
		if got != want {
			t.Errorf("lls says %s, and LVM %s", got, want)
		}
		return
	}
	t.Errorf("it is not listed: %+v", list)
}

// TestCurlSpeaksToTheSocket: the protocol is plain HTTP, and a container's socket is its root's only.
func TestCurlSpeaksToTheSocket(t *testing.T) {
	w := lab(t)
	curl := func(socket string, args ...string) kit.Result {
		return kit.Run(t, append([]string{"curl", "-sS", "--max-time", "10", "--unix-socket", socket}, args...)...)
	}
	var info struct{ You, API, Version string }
	curl(kit.Socket, "http://lls/1.0/").Want(t, 0).JSON(t, &info)
	if info.You != "host" || info.API != "1.0" {
		t.Errorf("the host's socket says %+v", info)
	}
	of := func(c *kit.Container) string { return fmt.Sprintf("/proc/%d/root/lls/lls.sock", c.PID(t)) }
	// The host's root is the privileged container's root, too.
	curl(of(w.root), "http://lls/1.0/").Want(t, 0).JSON(t, &info)
	if info.You != "root" {
		t.Errorf("the socket of root says %+v", info)
	}
	var list []struct{ Name string }
	curl(of(w.root), "http://lls/1.0/volumes").Want(t, 0).JSON(t, &list)
	if len(list) == 0 {
		t.Error("it lists nothing")
	}
	var line struct {
		Result struct{ Name string }
		Error  struct{ Code string }
	}
	curl(of(w.root), "http://lls/1.0/create", "-d", `{"name":"curled","size":"64M"}`)
	purgeAfter(t, w.root, "curled")
	kit.FindLV(t, "root", "curled")
	for _, verb := range []string{"delete", "purge"} {
		curl(of(w.root), "http://lls/1.0/"+verb, "-d", `{"name":"curled"}`).Want(t, 0)
	}
	if left := kit.FindLVs(t, "root", "curled"); len(left) != 0 {
		t.Errorf("LVM has still %+v", left)
	}
	for _, bad := range []struct{ url, data, code string }{
		{"http://lls/1.0/status", "", "malformed"}, // the sysadmin's only
		{"http://lls/1.0/give", `{"from":"alice","to":"root"}`, "malformed"},
		{"http://lls/1.0/create", `{"name":"x","size":"64M","owner":"alice"}`, "denied"},
		{"http://lls/1.0/create", `{"name":"x","size":"64M","nosuch":1}`, "malformed"},
		{"http://lls/1.0/create", `{"name":"x",`, "malformed"},
		{"http://lls/2.0/volumes", "", "malformed"},
		{"http://lls/1.0/mount", `{"name":"` + dataset + `","path":"/data","container":"alice"}`, "denied"},
	} {
		args := []string{bad.url}
		if bad.data != "" {
			args = append(args, "-d", bad.data)
		}
		line.Error.Code = ""
		curl(of(w.root), args...).Want(t, 0).JSON(t, &line)
		if line.Error.Code != bad.code {
			t.Errorf("%s %s is answered %+v, want %s", bad.url, bad.data, line, bad.code)
		}
	}
	// But it is nobody in an idmapped one, and neither is a user in there.
	curl(of(w.alice), "http://lls/1.0/volumes").Want(t, 0).JSON(t, &line)
	if line.Error.Code != "denied" {
		t.Errorf("the socket of alice answers the host's root %+v", line)
	}
	for _, c := range []*kit.Container{w.alice, w.root} {
		if r := c.Exec(t, "su", "user", "-c", "/lls/bin/lls list"); r.Exit != 12 || !strings.Contains(r.Stderr, "only root") {
			t.Errorf("a user of %s is answered: %v", c.Name, r)
		}
	}
}
