package main

import (
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/api/cli/clitest"
)

// words splits lines of arguments at spaces.
func words(lines ...string) [][]string {
	var all [][]string
	for _, l := range lines {
		all = append(all, strings.Fields(l))
	}
	return all
}

func day(d int) *time.Time {
	t := time.Date(2026, 11, d, 8, 30, 0, 0, time.UTC)
	return &t
}

func figure(n int64) *int64 { return &n }

const gib = 1 << 30

// volumes is what container web1 may know, in no useful order.
func volumes() []api.Volume {
	return []api.Volume{
		{
			Name: "web2/build", Owner: "web2", Kind: api.KindDataset, Pool: "main", FS: "xfs", Size: 20 * gib, Used: figure(3*gib + 300<<20),
			Visibility: api.Visible, Access: api.AccessNone, State: api.StateLive, Created: *day(1), ID: "b2",
		},
		{
			Name: "genomes", Owner: api.HostOwner, Kind: api.KindDataset, Pool: "main", FS: "ext4", Size: 2048 * gib, Used: figure(1700 * gib),
			Visibility: api.Visible, Access: api.AccessRO, State: api.StateLive, Created: *day(1), ID: "a1",
			Mounts: []api.Mount{{Container: api.AnotherContainer}},
		},
		{
			Name: "old", Owner: "web1", Kind: api.KindSnapshot, Origin: api.HiddenOrigin, Pool: "main", FS: "ext4", Size: gib + gib/2,
			Visibility: api.Hidden, Access: api.AccessRO, State: api.StateTrash, Created: *day(1), Deleted: day(20), Expires: day(27), ID: "c4",
			Frees: figure(gib / 2), FreesAt: day(21),
		},
		mine(),
	}
}

func mine() api.Volume {
	return api.Volume{
		Name: "mine", Owner: "web1", Kind: api.KindSnapshot, Origin: "genomes", Pool: "main", FS: "ext4", Size: 2048 * gib, Used: figure(1700 * gib),
		Visibility: api.Hidden, Access: api.AccessRO, State: api.StateLive, Created: *day(21), ID: "c3",
		Mounts: []api.Mount{{Volume: "mine", Container: "web1", Path: "/data"}, {Volume: "mine", Container: "web1", Path: "/srv/x", ReadOnly: true}},
		Frees:  figure(3*gib + gib/5), FreesAt: day(22),
	}
}

func answers() map[string]clitest.Answer {
	kept := mine()
	kept.Lease = day(29)
	held := mine()
	held.Holders = []api.Holder{{Container: "web1", PID: 123, Command: "bash", Path: "/data/run"}, {Container: api.AnotherContainer}}
	held.Fstab = []api.Replayed{
		{Line: 3, Volume: "mine", Path: "/data", Mounted: true, Warning: "line 3: systemd in the container may wait; better: lls:mine /data lls noauto,x-lls.auto 0 0"},
		{Line: 7, Volume: "mine", Path: "/loop", Problem: "cannot mount mine at /loop: its symbolic links cannot be followed"},
	}
	trash := volumes()[2]
	read := clitest.Now().Add(-20 * time.Second)
	retired := mine()
	retired.ID, retired.State, retired.Mounts, retired.Deleted, retired.Expires = "b9", api.StateTrash, nil, day(22), day(29)
	busy := api.Errorf(api.Busy, "cannot delete held: it is mounted")
	busy.Holders = held.Holders
	return map[string]clitest.Answer{
		"GET /volumes":                          {Result: volumes()},
		"GET /volume":                           {Result: held},
		"GET /usage":                            {Result: []api.Usage{{Container: "web1", Pool: "main", Volumes: 3, VolumesMax: 10, Snapshots: 2, Size: 5 * gib, SizeMax: 100 * gib, Trash: 1, Exclusive: figure(4 * gib), ExclusiveMax: 8 * gib, ExclusiveAt: day(22)}}},
		"POST /create":                          {Result: api.Volume{Name: "scratch", FS: "ext4", Size: 100 * gib, Mounts: []api.Mount{{Container: "web1", Path: "/data"}}}, Progress: []string{"making the file system"}},
		"POST /snapshot":                        {Result: api.Volume{Name: "mine", Origin: "genomes", Mounts: []api.Mount{{Container: "web1", Path: "/data"}}}},
		"POST /mount":                           {Result: api.Mount{Volume: "mine", Container: "web1", Path: "/data", ReadOnly: true}},
		"POST /umount":                          {Result: []api.Mount{{Volume: "mine", Container: "web1", Path: "/data"}, {Volume: "mine", Container: "web1", Path: "/srv/x"}}},
		"POST /trim":                            {Result: []api.Trimmed{{Name: "mine", Returned: 3 * gib}, {Name: "new"}, {Name: "ice", Problem: "cannot trim ice: its file system does not answer"}}},
		"POST /resize":                          {Result: api.Volume{Name: "mine", Size: 150 * gib}},
		"POST /set":                             {Result: api.Volume{Name: "mine", Visibility: api.Visible, Access: api.AccessRW}},
		"POST /delete":                          {Result: trash},
		"POST /undelete":                        {Result: mine()},
		"POST /purge":                           {Result: trash},
		"POST /keep":                            {Result: kept},
		`POST /keep {"name":"gone","for":"7d"}`: {Err: api.Errorf(api.NotFound, "cannot keep gone: there is no such volume")},
		`POST /snapshot {"source":"fast"}`:      {Err: api.Errorf(api.Busy, "cannot make fast-1122: limits.snapshots_per_minute allows 2 within a minute").WithHint("try again in 40s").After(39500 * time.Millisecond)},
		"POST /refresh":                         {Result: api.Refreshed{Volume: mine(), Old: retired, Edits: figure(300 << 20), EditsAt: &read}, Progress: []string{"taking the mounts away"}},
		`POST /refresh {"name":"secretly"}`:     {Result: api.Refreshed{Volume: api.Volume{Name: "secretly", Origin: api.HiddenOrigin, Created: *day(22)}}},
		`POST /snapshot {"source":"quick"}`:     {Result: api.Volume{Name: "quick-1122", ReadOnly: true}},
		`POST /mount {"name":"twice","path":"/data"}`:      {Result: api.Mount{Path: "/data", Already: true}},
		`POST /delete {"name":"held"}`:                     {Err: busy},
		`POST /create {"name":"x","size":"10 G"}`:          {Err: api.Errorf(api.Malformed, "cannot create x: 10 G is no size")},
		`POST /delete {"name":"gone"}`:                     {Err: api.Errorf(api.NotFound, "cannot delete gone: there is no such volume")},
		`POST /resize {"name":"mine","size":"1E"}`:         {Err: api.Errorf(api.Full, "cannot resize mine: your quota is 100G"), Progress: []string{"looking"}},
		`GET /volume?name=secret`:                          {Err: api.Errorf(api.Denied, "cannot show secret: it is not yours")},
		`GET /volume?name=..%2F..%2Fetc%3Fa%3D1%26b%0D%0A`: {Err: api.Errorf(api.Malformed, "cannot show it: that is no name").WithHint("names have letters, digits, _ . + -")},
		`POST /undelete {"name":"a b"}`:                    {Err: api.Errorf(api.Malformed, "cannot undelete \"a b\": a name has no space").WithHint("see: lls list --all")},
	}
}

func TestHelp(t *testing.T) {
	p := program()
	lines := words("", "help", "--version")
	for _, c := range p.Commands {
		lines = append(lines, append(strings.Fields(c.Name), "--help"))
	}
	lines = append(lines, words("help set", "-h", "snapshot", "--help umount")...)
	clitest.Golden(t, "testdata/help.golden", clitest.Terminal{}.Transcript(p, clitest.Serve(t, nil), lines...))
}

func TestAnswersForPeople(t *testing.T) {
	a := clitest.Serve(t, answers())
	got := clitest.Terminal{}.Transcript(program(), a, words(
		"list", "list --all", "info mine", "usage",
		"create scratch --size 100G", "create --size=100G --fs xfs --pool main --visible --mount ./data scratch",
		"snapshot genomes mine --mount /data", "snapshot --visible --ro web2/build", "snapshot quick",
		"mount mine data", "mount --ro mine /data", "mount mine ..", "mount twice /data/",
		"umount mine", "umount /data/", "umount ./x", "umount .", "umount web2/build",
		"resize mine +50G", "set mine --visibility visible --access rw",
		"delete mine", "undelete mine", "undelete mine --as other", "undelete mine old", "purge mine --yes", "purge mine mine.k3 --yes", "keep mine --for 7d", "keep mine old --for never",
		"refresh mine --yes", "refresh secretly --yes", "trim",
	)...)
	clitest.Golden(t, "testdata/people.golden", got)
}

func TestAnswersInJSON(t *testing.T) {
	a := clitest.Serve(t, answers())
	got := clitest.Terminal{}.Transcript(program(), a, words(
		"list --json", "info mine --json", "usage --json", "--json snapshot genomes mine", "umount --json mine", "delete --json mine held old",
		"purge --json mine", "purge mine old --yes --json", "undelete mine --json", "keep mine gone --for 7d --json", "refresh mine --yes --json", "resize mine --json", "--json nonsense",
	)...)
	clitest.Golden(t, "testdata/json.golden", got)
}

func TestErrors(t *testing.T) {
	lines := words(
		"snapsot x", "ls", "LIST", "nothing-like-it", "--loud", "list --al", "list x", "create", "create x", "create x --size", "create x --size --fs",
		"create x --size 1G --size 2G", "create x --size 1G --fss xfs", "list --all=yes", "snapshot -x", "snapshot -- -x", "resize x -5G", "resize x",
		"create x --size 1G --visible --hidden", "snapshot x --hidden --visible", "set mine", "delete", "purge mine", "purge mine old", "undelete", "undelete a b --as c", "snapshot fast", "refresh mine", "refresh a b", "refresh secret", "delete mine held gone old", "resize mine 1E", "info secret", "umount nowhere a",
	)
	lines = append(lines,
		[]string{"info", "../../etc?a=1&b\r\n"}, []string{"undelete", "a b"}, []string{"create", "x", "--size", "10 G"}, []string{"snapshot", "a\xff"}, []string{"create", "x", "--size", "\x80"},
		[]string{"mount", "mine", ""}, []string{"snapshot", ""}, []string{"snapshot", "x", "--mount="}, []string{""})
	a := clitest.Serve(t, answers())
	clitest.Golden(t, "testdata/errors.golden", clitest.Terminal{}.Transcript(program(), a, lines...))
}

func TestEmptyAnswers(t *testing.T) {
	a := clitest.Serve(t, map[string]clitest.Answer{
		"GET /volumes": {Result: []api.Volume{}}, "GET /usage": {Result: nil},
	})
	clitest.Golden(t, "testdata/empty.golden", clitest.Terminal{}.Transcript(program(), a, words("list", "list --json", "usage", "usage --json")...))
}

func TestNoAgent(t *testing.T) {
	a := &clitest.Agent{Socket: "/nonexistent/lls.sock"}
	clitest.Golden(t, "testdata/noagent.golden", clitest.Terminal{}.Transcript(program(), a, words("list", "snapshot x", "delete a b", "list --json")...))
}

func TestTerminal(t *testing.T) {
	a := clitest.Serve(t, answers())
	got := clitest.Terminal{Width: 16}.Transcript(program(), a, words("create scratch --size 100G", "resize mine 1E")...) +
		clitest.Terminal{Answer: "y\n"}.Transcript(program(), a, words("purge mine")...) +
		clitest.Terminal{Answer: "n\n"}.Transcript(program(), a, words("purge mine")...) +
		clitest.Terminal{Answer: "y\n"}.Transcript(program(), a, words("refresh mine")...) +
		clitest.Terminal{Answer: "n\n"}.Transcript(program(), a, words("refresh mine")...)
	clitest.Golden(t, "testdata/terminal.golden", got)
}

// A container chooses the names of its processes and paths; they must not reach a terminal as they are.
func TestHostileTextIsEscaped(t *testing.T) {
	v := mine()
	v.Holders = []api.Holder{{Container: "web1", PID: 7, Command: "\x1b]0;owned\a\nname: forged", Path: "/\u202edata\x00"}}
	v.Mounts = []api.Mount{{Container: "web1", Path: "/a\nb\u009b2J"}}
	busy := api.Errorf(api.Busy, "cannot umount x: \x1b[2J")
	busy.Holders = v.Holders
	a := clitest.Serve(t, map[string]clitest.Answer{
		"GET /volume": {Result: v}, "GET /volumes": {Result: []api.Volume{v}}, "POST /umount": {Err: busy}, "POST /mount": {Result: v.Mounts[0]},
	})
	for _, args := range words("info mine", "list", "umount x", "mount x /y") {
		stdout, stderr, _ := clitest.Terminal{}.Run(program(), a, args...)
		if i := strings.IndexAny(stdout+stderr, "\x1b\a\x00\u009b\u202e"); i >= 0 || strings.Contains(stdout+stderr, "\nname: forged") {
			t.Errorf("%q lets through what a terminal obeys: %q", args, stdout+stderr)
		}
	}
}

func TestDocumentation(t *testing.T) {
	clitest.CheckMan(t, "../../packaging/man/lls.1", program())
	clitest.Golden(t, "../../packaging/completions/lls.bash", clitest.Bash(program()))
	clitest.Golden(t, "../../packaging/completions/lls.zsh", clitest.Zsh(program()))
}
