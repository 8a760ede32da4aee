package hostile

import (
	"strings"
	"testing"

	"lls/test/kit"
)

const secret = "zebracrossing" // nothing else is called so

func TestAHiddenNameIsReadNowhere(t *testing.T) {
	scene(t)
	tame.LLS(t, "snapshot", dataset, secret, "--mount", "/data").Want(t, 0)
	defer func() {
		tame.Do(t, "umount", secret)
		tame.Purge(t, secret)
	}()
	for _, c := range []*kit.Container{plain, power} {
		for _, args := range [][]string{
			{"list"}, {"list", "--all"}, {"list", "--all", "--json"}, {"info", dataset}, {"info", dataset, "--json"}, {"usage", "--json"},
			{"create", "own", "--size", "64M"}, {"snapshot", dataset, "own"}, {"info", "own", "--json"}, {"purge", "own", "--yes"}, {"delete", "own"}, {"purge", "own", "--yes"},
			{"umount", "/data"}, {"purge", dataset, "--yes"}, {"delete", dataset},
		} {
			if r := c.LLS(t, args...); strings.Contains(r.Stdout+r.Stderr, secret) {
				t.Errorf("%s: %v", c.Name, r)
			}
		}
		// Of a name that is guessed, nothing differs from one that nobody has.
		for _, args := range [][]string{
			{"info", "tame/NAME"}, {"info", "tame/NAME", "--json"}, {"snapshot", "tame/NAME", "mine"}, {"mount", "tame/NAME", "/data"}, {"umount", "tame/NAME"},
			{"set", "tame/NAME", "--access", "rw"}, {"resize", "tame/NAME", "+1G"}, {"delete", "tame/NAME"}, {"undelete", "tame/NAME"}, {"purge", "tame/NAME", "--yes"},
		} {
			say := func(name string) (int, string) {
				line := strings.Split(strings.ReplaceAll(strings.Join(args, "\x00"), "NAME", name), "\x00")
				r := c.LLS(t, line...)
				return r.Exit, strings.ReplaceAll(r.Stdout+r.Stderr, name, "NAME")
			}
			exit, text := say(secret)
			if exit2, text2 := say("nobodysname1"); exit != 10 || exit2 != exit || text != text2 {
				t.Errorf("%s %v: %d %q, but for a name that nobody has %d %q", c.Name, args, exit, text, exit2, text2)
			}
		}
		for _, files := range []string{"/proc/mounts", "/proc/self/mountinfo", "/proc/partitions", "/proc/swaps", "/lls/config.json"} {
			if r := c.Exec(t, "cat", files); strings.Contains(r.Stdout, secret) {
				t.Errorf("%s: %s tells", c.Name, files)
			}
		}
	}
}

func TestErrorsNameNothingOfTheHost(t *testing.T) {
	scene(t)
	plain.Sh(t, "mkdir -p /busy && touch /file && ln -sfn /nowhere /loop && mount -t tmpfs none /busy")
	defer plain.Sh(t, "umount /busy")
	plain.Do(t, "snapshot", dataset, "mine")
	defer plain.Purge(t, "mine")
	for _, args := range [][]string{
		{"create", "x", "--size", "0"}, {"create", "x", "--size", "1P"}, {"create", "mine", "--size", "1G"}, {"create", "x", "--size", "1G", "--pool", "no"},
		{"create", "snapshot", "--size", "1G"}, {"snapshot", "no", "x"}, {"snapshot", dataset, "mine"}, {"mount", "mine", "/no"}, {"mount", "mine", "/file"},
		{"mount", "mine", "/loop"}, {"mount", "mine", "/busy"}, {"mount", "mine", "/etc/passwd/x"}, {"mount", "mine", "/" + strings.Repeat("a", 300)},
		{"umount", "mine"}, {"umount", "/lls"}, {"umount", "/"}, {"resize", "mine", "1M"}, {"resize", "mine", "+900T"}, {"resize", dataset, "+1G"},
		{"delete", dataset}, {"purge", dataset, "--yes"}, {"undelete", "mine"}, {"set", dataset, "--access", "rw"}, {"info", "no"}, {"mount", dataset, "/proc"},
	} {
		r := plain.LLS(t, args...)
		if r.Exit == 0 {
			t.Errorf("done: %v", r)
		}
		for _, of := range []string{"/dev/", "/run/lls", "/var/lib", "dm-", "lvcreate", "lvchange", "exit status", kit.VG + "/"} {
			if strings.Contains(r.Stdout+r.Stderr, of) {
				t.Errorf("names %s: %v", of, r)
			}
		}
	}
	for _, raw := range []string{`{`, `[]`, `{"name":1}`, `{"nosuch":1}`, `{"name":"x"}{}`, strings.Repeat("[", 60000), strings.Repeat(" ", 70000)} {
		for _, path := range []string{"/1.0/create", "/1.0/mount", "/2.0/x", "/1.0/../create"} {
			r := as(t, plain, "ask", "POST", path, raw)
			if !strings.Contains(r.Stdout, `"code":"malformed"`) || strings.Contains(r.Stdout, "/proc/") || strings.Contains(r.Stdout, "lls.sock") {
				t.Errorf("%s %.20q: %v", path, raw, r)
			}
		}
	}
}
