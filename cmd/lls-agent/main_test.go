package main

import (
	"slices"
	"strings"
	"testing"

	"lls/agent/api"
	"lls/agent/api/cli/clitest"
	"lls/agent/setup"
	"lls/policy"
)

func words(lines ...string) [][]string {
	var all [][]string
	for _, l := range lines {
		all = append(all, strings.Fields(l))
	}
	return all
}

const gib = 1 << 30

func answers() map[string]clitest.Answer {
	used := int64(12 * gib)
	created := clitest.Now().AddDate(0, 0, -3)
	volume := api.Volume{
		Name: "web1/mine", Owner: "web1", Kind: api.KindSnapshot, Origin: "genomes", Pool: "main", FS: "xfs", Size: 100 * gib, Used: &used,
		Visibility: api.Hidden, Access: api.AccessRO, State: api.StateLive, Created: created, ID: "k3", LV: "vg/mine.k3",
		Mounts: []api.Mount{{Container: "web1", Path: "/data"}, {Container: api.HostOwner, Path: "/mnt", ReadOnly: true}},
	}
	dataset := volume
	dataset.Name, dataset.Owner, dataset.Kind, dataset.Origin = "genomes", api.HostOwner, api.KindDataset, ""
	dataset.Visibility, dataset.Mounts = api.Visible, nil
	orphan := volume
	orphan.Name, orphan.Owner, orphan.Orphan, orphan.Mounts, orphan.ReadOnly = "db#t0/x", "db#t0", true, nil, true
	return map[string]clitest.Answer{
		"GET /volumes": {Result: []api.Volume{volume, orphan, dataset}},
		"GET /volume":  {Result: volume},
		"GET /usage":   {Result: []api.Usage{{Container: "web1", Pool: "main", Volumes: 1, SnapshotsMax: 5, Size: 100 * gib}}},
		"GET /status": {Result: api.Status{
			Version: "1.0", Since: "2026-11-22T11:00:00Z", Containers: 2, Volumes: 3, Trash: 1, Problems: []string{"the pool main is nearly full"},
			Pools: []api.Pool{{Name: "main", LV: "vg/pool", Size: 500 * gib, DataPercent: 91.25, MetadataPercent: 3, Virtual: 900 * gib, Problem: "nearly full",
				MetadataSize: gib, DataForecast: &api.Outlook{Text: "at 2G/h data is full in 21h 52m", Known: true, Rate: 2 * gib}, MetadataForecast: &api.Outlook{Text: "metadata is not filling", Known: true},
				Writers: []api.Writer{{Name: "web1/mine", Bytes: 3 * gib}}}},
			Mail: &api.MailStatus{To: []string{"root"}, Queued: 2, Oldest: &created, LastError: "cannot send mail: connection refused"},
		}},
		"GET /containers": {Result: []api.Container{
			{Name: "web1", LXCPath: "/var/lib/lxc", Token: "t1", State: "running", PID: 812, Privileged: new(false), LLS: "ok", Mounts: 1, Fstab: []api.Replayed{
				{Line: 3, Volume: "mine", Path: "/data", Mounted: true, Warning: "line 3: systemd in the container may wait; better: lls:mine /data lls noauto,x-lls.auto 0 0"},
				{Line: 4, Volume: "no", Path: "/mnt", Problem: "cannot mount no: there is no such volume"},
				{Line: 5, Volume: "mine", Path: "/srv", Mounted: true},
				{Problem: "cannot read /etc/fstab: it is no regular file, too long, or does not answer"},
			}},
			{Name: "db", LXCPath: "/srv/lxc", Token: "t2", State: "stopped", LLS: "-"},
			{Name: "ci", LXCPath: "/var/lib/lxc", Token: "t3", State: "running", PID: 900, Privileged: new(true), LLS: "cannot make /lls: it is a link"},
			{Name: "host-like", LXCPath: "/var/lib/lxc", Token: "t4", State: "running", PID: 901, LLS: "the container shares the mounts of the host"},
		}},
		"POST /create":    {Result: dataset},
		"POST /snapshot":  {Result: volume},
		"POST /mount":     {Result: api.Mount{Container: api.HostOwner, Path: "/mnt"}},
		"POST /umount":    {Result: []api.Mount{{Volume: "web1/mine", Container: "web1", Path: "/data"}}},
		"POST /delete":    {Result: volume},
		"POST /refresh":   {Result: api.Refreshed{Volume: volume, Old: volume}},
		"POST /give":      {Result: []api.Volume{volume, volume}},
		"POST /reload":    {Result: api.Empty{}},
		"POST /mail/test": {Result: api.Empty{}},
		`POST /create {"name":"full","size":"1G"}`: {Err: api.Errorf(api.Full, "cannot create full: limits.volumes allows 1: used up by 1 volume").
			WithHint("make room: lls delete NAME, then lls purge NAME --yes (lls usage shows what counts)")},
		"GET /policy/explain": {Result: api.Explanation{Name: "web1/mine", State: "live", Reasons: []string{"unused for 12d of 30d"}, Next: "in 18d of running time its owner is told that it will go",
			Change: []string{"mounting it starts its time anew, a lease keeps it: lls-agent keep web1/mine --for 7d"}}},
		"GET /policy/dry-run":                  {Result: []api.Prospect{{When: "in 2d", Name: "web1/mine", Action: "announce", Why: []string{"unused for 28d of 30d"}}}},
		`POST /delete {"name":"busy"}`:         {Err: api.Errorf(api.Busy, "cannot delete busy: it is mounted")},
		`POST /give {"from":"no","to":"web1"}`: {Err: api.Errorf(api.NotFound, "cannot give no: there is no such owner")},
	}
}

func TestHelp(t *testing.T) {
	p := program()
	lines := words("", "--version")
	for _, c := range p.Commands {
		lines = append(lines, append(strings.Fields(c.Name), "--help"))
	}
	lines = append(lines, words("config", "config --help", "policy -h", "help policy", "help policy explain", "policy", "policy --json explain --help", "mail --json", "policy explian x")...)
	clitest.Golden(t, "testdata/help.golden", clitest.Terminal{}.Transcript(p, clitest.Serve(t, nil), lines...))
}

func TestCommands(t *testing.T) {
	got := clitest.Terminal{}.Transcript(program(), clitest.Serve(t, answers()), words(
		"status", "containers", "containers --json", "list", "info web1/mine", "usage", "usage web1", "reload", "reload --json", "status --json", "mail test", "mail", "mail x",
		"create genomes --size 100G", "create x --size 1G --owner web1 --hidden", "snapshot genomes mine --owner web1",
		"mount genomes mnt", "mount web1/mine /data/ --container web1", "mount web1/mine data --container web1",
		"umount /data --container web1", "umount genomes", "delete web1/mine", "delete busy", "refresh web1/mine --yes", "give web1 web2", "give no web1", "give web1",
		"create x --size 1G --visible", "create x --size 1G --visible --hidden", "create full --size 1G", "purge web1/mine", "policy explain web1/mine", "policy dry-run", "nonsense", "give",
	)...)
	clitest.Golden(t, "testdata/commands.golden", got)
}

func TestConfigCheckTellsEveryMistakeByItsLine(t *testing.T) {
	t.Chdir("testdata")
	got := clitest.Terminal{}.Transcript(program(), clitest.Serve(t, nil), words(
		"config check good.toml", "config check good.toml --json", "config check bad.toml", "config check bad.toml --json", "config check syntax.toml",
		"config check nosuch.toml", "config check .", "config", "config show", "config check a b",
	)...)
	t.Chdir("..")
	clitest.Golden(t, "testdata/config.golden", got)
}

func TestARefusedReloadListsEveryMistake(t *testing.T) {
	refused := api.Errorf(api.Malformed, "cannot take the new configuration: it has 2 mistakes").WithHint("mend /etc/lls/lls.toml; the old one stays in force")
	refused.Problems = []string{"/etc/lls/lls.toml:3: colour: no such key", "/etc/lls/lls.toml:9: limits.size: \"lots\" is no size"}
	a := clitest.Serve(t, map[string]clitest.Answer{"POST /reload": {Err: refused}})
	clitest.Golden(t, "testdata/reload.golden", clitest.Terminal{}.Transcript(program(), a, words("reload", "reload --json")...))
}

func TestInitTellsTheMistakesOfTheConfiguration(t *testing.T) {
	err := initError(policy.Problems{{File: "f", Line: 3, Text: "x"}, {File: "f", Line: 9, Text: "y"}}, setup.Request{})
	if err.Code != api.Malformed || !slices.Equal(err.Problems, []string{"f:3: x", "f:9: y"}) || err.Hint == "" {
		t.Errorf("it says %+v", err)
	}
}

func TestConfigCheckTakesTheExample(t *testing.T) {
	got := clitest.Terminal{}.Transcript(program(), clitest.Serve(t, nil), words("config check ../../lls.toml.example", "config check ../../packaging/lls.toml")...)
	if n := strings.Count(got, "\nok\n"); n != 2 {
		t.Errorf("got\n%s", got)
	}
}

func TestNothingYet(t *testing.T) {
	a := clitest.Serve(t, map[string]clitest.Answer{
		"GET /status": {Result: api.Status{Version: "1.0", Since: "2026-11-22T11:00:00Z"}}, "GET /containers": {Result: nil}, "GET /volumes": {Result: nil},
	})
	clitest.Golden(t, "testdata/empty.golden", clitest.Terminal{}.Transcript(program(), a, words("status", "containers", "containers --json", "list", "list --json")...))
}

func TestDocumentation(t *testing.T) {
	clitest.CheckMan(t, "../../packaging/man/lls-agent.8", program())
	clitest.Golden(t, "../../packaging/completions/lls-agent.bash", clitest.Bash(program()))
	clitest.Golden(t, "../../packaging/completions/lls-agent.zsh", clitest.Zsh(program()))
}
