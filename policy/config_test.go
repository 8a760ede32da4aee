package policy

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// size reads what these tests need: a number, and K, M, G or T.
func size(s string) (int64, error) {
	units := map[byte]float64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}
	if s != "" {
		n, err := strconv.ParseFloat(s[:len(s)-1], 64)
		if unit := units[s[len(s)-1]]; err == nil && unit > 0 && n > 0 {
			return int64(n * unit), nil
		}
	}
	return 0, fmt.Errorf("%q is no size", s)
}

func parsed(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("lls.toml", []byte(text), size)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func example(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../lls.toml.example")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTheExampleIsTheDefault(t *testing.T) {
	got, want := parsed(t, example(t)), parsed(t, "")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example reads as\n%+v, an empty file as\n%+v", got, want)
	}
	if want := defaults(); !reflect.DeepEqual(got, want) {
		t.Errorf("the example reads as\n%+v, the defaults are\n%+v", got, want)
	}
}

// probe is a key of the example, another value for it, and where that has to arrive.
type probe struct {
	value string
	at    func(c *Config) any
	want  any
}

func rules(at func(r Rules) any) func(*Config) any {
	return func(c *Config) any { return at(c.Rules("main", "web", "v")) }
}

func poolRules(at func(r PoolRules) any) func(*Config) any {
	return func(c *Config) any { return at(c.PoolRules("main")) }
}

func growthProbes(all map[string]probe, section string, at func(c *Config) Growth) {
	all[section+".threshold"] = probe{"50.5", func(c *Config) any { return at(c).Threshold }, 50.5}
	all[section+".step"] = probe{`"1G"`, func(c *Config) any { return at(c).Step }, Step{Bytes: 1 << 30}}
	all[section+".cap"] = probe{`"2G"`, func(c *Config) any { return at(c).Cap }, int64(2 << 30)}
	all[section+".cooldown"] = probe{`"1h30m"`, func(c *Config) any { return at(c).CoolDown }, 90 * time.Minute}
}

// settingProbes are those of all keys that may stand in a rule.
func settingProbes() map[string]probe {
	const day = 24 * time.Hour
	all := map[string]probe{
		"limits.volumes":               {"7", rules(func(r Rules) any { return r.Limits.Volumes }), 7},
		"limits.snapshots":             {"6", rules(func(r Rules) any { return r.Limits.Snapshots }), 6},
		"limits.size":                  {`"5T"`, rules(func(r Rules) any { return r.Limits.Size }), int64(5 << 40)},
		"limits.exclusive":             {`"3G"`, rules(func(r Rules) any { return r.Limits.Exclusive }), int64(3 << 30)},
		"limits.operations_per_minute": {"0", func(c *Config) any { return c.Rules("", "web", "").Limits.OperationsPerMinute }, 0},
		"limits.snapshots_per_minute":  {"8", rules(func(r Rules) any { return r.Limits.SnapshotsPerMinute }), 8},
		"limits.data_percent":          {"90", poolRules(func(r PoolRules) any { return r.DataPercent }), 90.0},
		"limits.metadata_percent":      {"99.5", poolRules(func(r PoolRules) any { return r.MetadataPercent }), 99.5},
		"limits.overcommit":            {"1.5", poolRules(func(r PoolRules) any { return r.Overcommit }), 1.5},
		"growth.data.reserve":          {`"4T"`, poolRules(func(r PoolRules) any { return r.Data.Reserve }), Step{Bytes: 4 << 40}},
		"growth.metadata.reserve":      {`"2.5%"`, poolRules(func(r PoolRules) any { return r.Metadata.Reserve }), Step{Percent: 2.5}},
		"expiry.unused":                {`"90m"`, rules(func(r Rules) any { return r.Expiry.Unused }), 90 * time.Minute},
		"expiry.notice":                {`"0"`, rules(func(r Rules) any { return r.Expiry.Notice }), time.Duration(0)},
		"expiry.trash":                 {`"1d12h"`, rules(func(r Rules) any { return r.Expiry.Trash }), 36 * time.Hour},
		"expiry.lease_max":             {`"1d"`, rules(func(r Rules) any { return r.Expiry.LeaseMax }), day},
		"expiry.idle_max":              {`"2w"`, rules(func(r Rules) any { return r.Expiry.IdleMax }), 14 * day},
		"trim.every":                   {`"0"`, poolRules(func(r PoolRules) any { return r.Trim.Every }), time.Duration(0)},
		"trim.pressure":                {"70", poolRules(func(r PoolRules) any { return r.Trim.Pressure }), 70.0},
		"trim.discard":                 {"true", rules(func(r Rules) any { return r.Trim.Discard }), true},
	}
	growthProbes(all, "growth.data", func(c *Config) Growth { return c.PoolRules("main").Data })
	growthProbes(all, "growth.metadata", func(c *Config) Growth { return c.PoolRules("main").Metadata })
	growthProbes(all, "growth.volume", func(c *Config) Growth { return c.Rules("main", "web", "v").Growth })
	return all
}

// generalProbes are those of the other keys.
func generalProbes() map[string]probe {
	return map[string]probe{
		"default_visibility": {`"visible"`, func(c *Config) any { return c.DefaultVisibility }, "visible"},
		"default_fs":         {`"xfs"`, func(c *Config) any { return c.DefaultFS }, "xfs"},
		"deactivate_after":   {`"1h"`, func(c *Config) any { return c.DeactivateAfter }, time.Hour},
		"lxc.paths": {`[{ path = "/a" }, { path = "/b", label = "b" }]`,
			func(c *Config) any { return c.LXCPaths }, []LXCPath{{Path: "/a"}, {Path: "/b", Label: "b"}}},
		"lxc.client_groups": {"[5, 6]", func(c *Config) any { return c.ClientGroups }, []uint32{5, 6}},
		"pools.main.vg":     {`"data"`, func(c *Config) any { return c.Pools[0].Group }, "data"},
		"pools.main.lv":     {`"thin"`, func(c *Config) any { return c.Pools[0].LV }, "thin"},
		"pools.main.loop":   {`"/x.img"`, func(c *Config) any { return c.Pools[0].Loop }, "/x.img"},
		"pools.main.raw": {`{ privileged = "ro", unprivileged = "rw" }`,
			rules(func(r Rules) any { return r.Raw }), Raw{Privileged: RawRead, Unprivileged: RawWrite}},
		"mail.to":       {`["a@b.example"]`, func(c *Config) any { return c.Mail.To }, []string{"a@b.example"}},
		"mail.from":     {`"lls@b.example"`, func(c *Config) any { return c.Mail.From }, "lls@b.example"},
		"mail.relay":    {`"mx.example:25"`, func(c *Config) any { return c.Mail.Relay }, "mx.example:25"},
		"mail.sendmail": {`"/opt/sendmail"`, func(c *Config) any { return c.Mail.Sendmail }, "/opt/sendmail"},
		"mail.every":    {`"1m"`, func(c *Config) any { return c.Mail.Every }, time.Minute},
		"mail.levels":   {"[99, 50.5]", func(c *Config) any { return c.Mail.Levels }, []float64{50.5, 99}},
	}
}

func (p probe) check(t *testing.T, before, after *Config) {
	t.Helper()
	if got := p.at(after); !reflect.DeepEqual(got, p.want) {
		t.Errorf("%v arrives, want %v", got, p.want)
	}
	if reflect.DeepEqual(p.at(before), p.want) {
		t.Errorf("%v is the default already, so this shows nothing", p.want)
	}
}

// uncommented is the example with the pool that it only shows.
func uncommented(t *testing.T) string {
	t.Helper()
	text, _, ok := strings.Cut(example(t), "\n#[[rules]]")
	if !ok {
		t.Fatal("the example shows no rule")
	}
	return regexp.MustCompile(`(?m)^#(\[pools|vg|lv|loop|raw)`).ReplaceAllString(text, "$1")
}

func TestEveryKeyOfTheExampleArrives(t *testing.T) {
	text := uncommented(t)
	before := parsed(t, text)
	probes := generalProbes()
	for name, p := range settingProbes() {
		probes[name] = p
	}
	section, lines := "", strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]") + "."
			continue
		}
		name, _, ok := strings.Cut(line, " = ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		t.Run(section+name, func(t *testing.T) {
			p, ok := probes[section+name]
			if !ok {
				t.Fatal("no test knows of this key")
			}
			delete(probes, section+name)
			changed := append([]string(nil), lines...)
			changed[i] = name + " = " + p.value
			p.check(t, before, parsed(t, strings.Join(changed, "\n")))
		})
	}
	for name := range probes {
		t.Errorf("the example does not show %s", name)
	}
}

func TestTheRuleOfTheExampleIsOne(t *testing.T) {
	text := example(t)
	at := strings.Index(text, "#[[rules]]")
	c := parsed(t, strings.ReplaceAll(text[at:], "\n#", "\n")[1:])
	if r := c.Rules("main", "ci-7", "v"); r.Limits.Volumes != 50 || r.Limits.Size != 1<<40 || r.Expiry.Unused != 72*time.Hour || r.Raw.Privileged != RawRead {
		t.Errorf("it gives %+v", r)
	}
	if r, was := c.Rules("main", "web", "v"), parsed(t, "").Rules("main", "web", "v"); r != was {
		t.Errorf("it changes what it does not match: %+v", r)
	}
}

func TestEverySettingMayStandInARule(t *testing.T) {
	before := parsed(t, "")
	probes := settingProbes()
	probes["raw.privileged"] = probe{`"rw"`, rules(func(r Rules) any { return r.Raw.Privileged }), RawWrite}
	probes["raw.unprivileged"] = probe{`"ro"`, rules(func(r Rules) any { return r.Raw.Unprivileged }), RawRead}
	for _, k := range (&parser{size: size}).keys() {
		t.Run(k.name, func(t *testing.T) {
			p, ok := probes[k.name]
			if !ok {
				t.Fatal("no test knows of this key")
			}
			p.check(t, before, parsed(t, "[[rules]]\n"+k.name+" = "+p.value))
		})
	}
}

// The file holds everything that can be wrong, and what is to be said of it in comments on the same lines.
func TestEverythingWrongIsToldAtOnceByLine(t *testing.T) {
	data, err := os.ReadFile("testdata/wrong.toml")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i, line := range strings.Split(string(data), "\n") {
		for _, text := range strings.Split(line, "#! ")[1:] {
			want = append(want, fmt.Sprintf("/etc/lls/lls.toml:%d: %s", i+1, strings.TrimSpace(text)))
		}
	}
	_, err = Parse("/etc/lls/lls.toml", data, size)
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.Split(err.Error(), "\n")
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Fatalf("problem %d is\n%s\nwant\n%s", i, g, w)
		}
	}
	if problems, ok := errors.AsType[Problems](err); !ok || len(problems) != len(want) || problems[0].Line == 0 {
		t.Errorf("the error is a %T", err)
	}
}

func TestWhatCanBeMeantIsTaken(t *testing.T) {
	const two = "[pools.a]\nvg = \"g\"\nlv = \"a\"\nloop = \"/g.img\"\n[pools.b]\nvg = \"g\"\nlv = \"b\"\n"
	for text, want := range map[string]string{
		"[lxc]\npaths = []\n":          "f:2: lxc.paths: it is empty: without a path there is no container that LLS could work in",
		two:                            "", // the file is named once
		two + "loop = \"/g.img\"\n":    "",
		two + "loop = \"/x/../g.img\"": "",
		two + "[pools.c]\nvg = \"h\"\nlv = \"a\"\nloop = \"/h.img\"\n":             "",
		"[[rules]]\npool = \"main\"\nlimits.volumes = 1\n":                         "", // no pool is there yet
		two + "[[rules]]\npool = \"b\"\nlimits.volumes = 1\n":                      "",
		two + "[[rules]]\npool = \"c*\"\nlimits.volumes = 1\n":                     "",
		two + "[[rules]]\npool = \"[cd]\"\nlimits.volumes = 1\n":                   "",
		"[[rules]]\ncontainer = \"host\"\nexpiry.trash = \"1d\"\n":                 "",
		"[[rules]]\ncontainer = \"host\"\ngrowth.volume.cap = \"1G\"\n":            "",
		"[[rules]]\ncontainer = \"host*\"\nlimits.operations_per_minute = 1\n":     "",
		"[[rules]]\ncontainer = \"host\"\nlimits.operations_per_minute = 1\n":      "f:3: rules.limits.operations_per_minute: the sysadmin, who is \"host\", is not limited; a container of that name is \"[h]ost\"",
		"[[rules]]\ncontainer = \"host\"\nlimits = { size = \"0\" }\n":             "f:3: rules.limits.size: the sysadmin, who is \"host\", is not limited; a container of that name is \"[h]ost\"",
		two + "[[rules]]\npool = \"\"\ncontainer = \"[h]ost\"\nlimits.size=\"1G\"": "",
	} {
		_, err := Parse("f", []byte(text), size)
		if got := fmt.Sprint(err); err == nil && want != "" || err != nil && got != want {
			t.Errorf("%s gives %v, want %q", text, err, want)
		}
	}
}

func TestASyntaxErrorHasItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"default_fs = \"xfs\"\nx = = 1\n":                  "f:2: ",
		"[limits]\nvolumes = 1\n\n[limits]\nvolumes = 2\n": "f:4: ",
		"[limits]\nvolumes = 1\nvolumes = 2\n":             "f:3: ",
		"a = 1\nb = \"x\n":                                 "f:2: ",
		"# a\n[limits\nvolumes = 1\n":                      "f:2: ",
		"\x00\xff":                                         "f:1: ",
	} {
		if _, err := Parse("f", []byte(text), size); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range []string{"../lls.toml.example", "testdata/wrong.toml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Add("0=0b\n")
	f.Add("\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("f", []byte(text), size)
		if err != nil {
			problems, ok := errors.AsType[Problems](err)
			if !ok || c != nil || len(problems) == 0 {
				t.Fatalf("%T, %v", err, c)
			}
			for _, p := range problems {
				if p.Line < 1 || p.Line > strings.Count(text, "\n")+1 || strings.Contains(p.Text, "\n") {
					t.Errorf("%+v is no good in\n%s", p, text)
				}
			}
			return
		}
		c.Rules("main", "web", "v")
		c.PoolRules("main")
	})
}
