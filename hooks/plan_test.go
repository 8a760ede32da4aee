package hooks

import (
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// labels is what the container of these tests may mount by label or UUID.
func labels(wanted []Tag) map[Tag]string {
	all := map[Tag]string{{"LABEL", "mine"}: "mine", {"UUID", "1-2"}: "web1/theirs", {"LABEL", "my data"}: "spaced"}
	maps.DeleteFunc(all, func(t Tag, _ string) bool { return !slices.Contains(wanted, t) })
	return all
}

// long makes a line of which no better one is offered.
var long = strings.Repeat("a", 3000)

// anything finds a volume for whatever is asked for.
func anything(wanted []Tag) map[Tag]string {
	found := map[Tag]string{}
	for _, t := range wanted {
		found[t] = "x" + strings.Map(func(r rune) rune { return 'y' }, t.Value)
	}
	return found
}

func TestPlanTakesTheLinesForLLS(t *testing.T) {
	for line, want := range map[string]Mount{
		"lls:a /data lls noauto,x-lls.auto 0 0":        {Name: "a", Target: "/data"},
		"lls:a /data":                                  {},
		"lls:web1/a /data lls":                         {Name: "web1/a", Target: "/data"},
		"lls:a /data ext4 noauto":                      {Name: "a", Target: "/data"},
		"lls:a /data btrfs":                            {Name: "a", Target: "/data"},
		"lls:a /data lls noauto":                       {},
		"lls:a /data lls noauto,nofail,ro":             {},
		"lls:a /data lls noauto,auto":                  {Name: "a", Target: "/data"},
		"lls:a /data lls noauto,x-lls.required":        {Name: "a", Target: "/data", Required: true},
		"/dev/mf/a /data xfs noauto":                   {Name: "a", Target: "/data"},
		"/dev/mf/web1/a /data ext4,xfs nofail":         {Name: "web1/a", Target: "/data"},
		"/dev/mf/a /data lls noauto":                   {},
		"/dev/mf/a none swap sw":                       {},
		"LABEL=mine /data ext4 noauto":                 {Name: "mine", Target: "/data"},
		`LABEL="mine" /data auto nofail`:               {Name: "mine", Target: "/data"},
		`LABEL=my\040data /data auto nofail`:           {Name: "spaced", Target: "/data"},
		"UUID=1-2 /data auto nofail":                   {Name: "web1/theirs", Target: "/data"},
		"UUID=1-3 /data ext4 bind":                     {},
		"LABEL= /data ext4 bind":                       {},
		"PARTLABEL=mine /data ext4 bind":               {},
		"/dev/sda1 / ext4 errors=remount-ro 0 1":       {},
		"/dev/mfa /data ext4":                          {},
		"proc /proc proc nodev 0 0":                    {},
		"lls:a /data/ lls ro":                          {Name: "a", Target: "/data", ReadOnly: true},
		"lls:a //data/./x/../y lls ro,rw":              {Name: "a", Target: "/data/y"},
		`lls:a /my\040data lls noatime,discard`:        {Name: "a", Target: "/my data", NoAtime: true, Discard: true},
		"lls:a /data lls noatime,relatime,nodiscard,":  {Name: "a", Target: "/data"},
		"lls:a /runner lls":                            {Name: "a", Target: "/runner"},
		"lls:a /data lls user,_netdev,x-a=b,comment=c": {Name: "a", Target: "/data"},
		"lls:a /data lls lazytime,barrier=1,inode32":   {Name: "a", Target: "/data"},
	} {
		t.Run(line, func(t *testing.T) {
			plan := Parse([]byte("# first\n" + line)).Plan(labels)
			want.Line = 2
			var mounts []Mount
			if want.Name != "" {
				mounts = []Mount{want}
			}
			plan.Warnings = slices.DeleteFunc(plan.Warnings, func(n Notice) bool { return n.Reason == Fails })
			if !slices.Equal(plan.Mounts, mounts) || want.Name != "" && len(plan.Refused)+len(plan.Warnings) > 0 {
				t.Errorf("got %+v, want %+v", plan, mounts)
			}
		})
	}
}

func TestPlanRefusesWithTheReason(t *testing.T) {
	for line, want := range map[string]Notice{
		"lls:a":                                 {Reason: BadLine},
		"lls:a /data":                           {Reason: BadLine},
		"lls:a /data\x00 lls":                   {Reason: BadLine},
		"lls: /data lls":                        {Reason: BadName},
		"/dev/mf/ /data ext4 nofail":            {Reason: BadName},
		`lls:a\012 /data lls`:                   {Reason: BadName},
		"data /data lls ro":                     {Reason: BadName, Better: "lls:data /data lls noauto,x-lls.auto,ro 0 0"},
		`\001 /data lls`:                        {Reason: BadName},
		"lls:a none lls x-lls.required":         {Reason: BadTarget, Required: true},
		"/dev/mf/a none swap x-lls.auto":        {Reason: BadTarget},
		"/dev/sda1 /data lls":                   {Reason: BadName},
		"LABEL=other /data ext4 x-lls.required": {Reason: NotFound, Required: true},
		"LABEL=mine / ext4 x-lls.required":      {Reason: Forbidden, Required: true},
		"UUID=1-2 /data ext4 bind,x-lls.auto":   {Reason: BadOption, Better: "UUID=1-2 /data ext4 noauto,x-lls.auto 0 0"},
		"lls:a data lls":                        {Reason: BadTarget},
		`lls:a /d\012ata lls`:                   {Reason: BadTarget},
		"lls:a / lls":                           {Reason: Forbidden},
		"lls:a /.. lls":                         {Reason: Forbidden},
		"lls:a /proc lls":                       {Reason: Forbidden},
		"lls:a /data/../sys/fs lls":             {Reason: Forbidden},
		"lls:a /dev/x lls":                      {Reason: Forbidden},
		"lls:a /lls/bin lls":                    {Reason: Forbidden},
		"lls:a /run lls":                        {Reason: Shadowed},
		"lls:a /run/x lls x-lls.required":       {Reason: Shadowed, Required: true},
		"lls:a /tmp/x lls":                      {Reason: Shadowed},
		"lls:a /dev/shm lls":                    {Reason: Shadowed},
		"/dev/mf/a /data btrfs ro":              {Reason: BadType, Better: "lls:a /data lls noauto,x-lls.auto,ro 0 0"},
		"LABEL=mine /data ext4,ntfs x-lls.auto": {Reason: BadType, Better: "LABEL=mine /data auto noauto,x-lls.auto 0 0"},
		"lls:a /data lls x-lls.requird":         {Reason: BadOption, Better: "lls:a /data lls noauto,x-lls.auto 0 0"},
		`lls:a /data lls x-a="b,ro"`:            {Reason: BadOption, Better: "lls:a /data lls noauto,x-lls.auto 0 0"},
		"lls:" + long + " /data lls suid":       {Reason: BadOption},
		"lls:a /" + long + " lls suid":          {Reason: BadOption},
		long + " /data lls suid":                {Reason: BadName},
	} {
		t.Run(line, func(t *testing.T) {
			plan := Parse([]byte("\n" + line + "\n")).Plan(labels)
			if len(plan.Mounts) != 0 || len(plan.Refused) != 1 {
				t.Fatalf("got %+v", plan)
			}
			got := plan.Refused[0]
			want.Line, want.Text, want.Name, want.Target = 2, got.Text, got.Name, got.Target
			if got != want || got.Text == "" {
				t.Errorf("got %+v, want %+v", got, want)
			}
			checkPlan(t, plan)
		})
	}
}

func TestPlanRefusesOptionsThatAreDangerousOrUnknown(t *testing.T) {
	for _, option := range []string{
		"dev", "suid", "bind", "rbind", "loop", "loop=/dev/loop0", "remount", "move", "offset=512", "sizelimit=1", "uid=0", "gid=0", "umask=0", "mode=777",
		"journal_path=/dev/x", "journal_dev=1", "data=other", "barrier=2", "usrquota", "prjquota", "context=x", "fscontext=x", "errors=continue", "errors=panic", "noload", "norecovery",
		"logdev=/dev/x", "rtdev=/dev/x", "shared", "rshared", "X-mount.mkdir", "X-mount.subdir=x", "X-mount.idmap=x", "sb=1", "ro=1", "x-lls.", "RO", " ", "\x1b[2J",
	} {
		plan := Parse([]byte("lls:a /data lls ro," + Escape(option) + ",x-lls.auto\n")).Plan(nil)
		if len(plan.Mounts) != 0 || len(plan.Refused) != 1 || plan.Refused[0].Reason != BadOption {
			t.Errorf("%q: got %+v", option, plan)
		}
		checkPlan(t, plan)
	}
}

func TestPlanLooksForNoLabelWhoseVolumeCouldNotBeMounted(t *testing.T) {
	var asked []string
	plan := Parse([]byte(`LABEL=cloudimg-rootfs / ext4 defaults 0 1
UUID=1-9 /boot/efi vfat umask=0077 0 1
UUID=1-8 none swap sw 0 0
UUID=1-7 /tmp ext4
LABEL=a /a ext4 dev
LABEL=b /b lls noauto
LABEL=mine /data auto nofail
UUID=1-2 /srv ext4 nofail
UUID="1-2" /opt ext4 nofail
LABEL=other /more ext4
`)).Plan(func(wanted []Tag) map[Tag]string {
		asked = append(asked, fmt.Sprint(wanted))
		return labels(wanted)
	})
	if want := []string{"[{LABEL mine} {UUID 1-2} {LABEL other}]"}; !slices.Equal(asked, want) {
		t.Errorf("looked for %v, want %v", asked, want)
	}
	if len(plan.Mounts) != 3 || len(plan.Refused) != 0 || !slices.Equal(plan.Unfound, []int{10}) {
		t.Errorf("got %+v", plan)
	}
	Parse([]byte("lls:a /a lls\nLABEL=root / ext4\n")).Plan(func(wanted []Tag) map[Tag]string {
		t.Errorf("looked for %v", wanted)
		return nil
	})
}

func TestARefusalNamesVolumeAndTarget(t *testing.T) {
	for line, want := range map[string][2]string{
		"lls:mine /run/x lls":                 {"mine", "/run/x"},
		"lls:c1/mine /data lls suid":          {"c1/mine", "/data"},
		"/dev/mf/mine /data btrfs":            {"mine", "/data"},
		"LABEL=other /data ext4 x-lls.auto":   {"", "/data"},
		"LABEL=mine /data btrfs x-lls.auto":   {"", "/data"},
		"lls:a\x1b[2J /da\x1b[2Jta lls":       {"a?[2J", "/da?[2Jta"},
		"lls:mine /x lls\nlls:other /x/ lls":  {"other", "/x/"},
		"lls:mine /x lls\nLABEL=mine /x auto": {"mine", "/x"},
	} {
		plan := Parse([]byte(line)).Plan(labels)
		if len(plan.Refused) != 1 || plan.Refused[0].Name != want[0] || plan.Refused[0].Target != want[1] {
			t.Errorf("%q: %+v, want %q", line, plan.Refused, want)
		}
	}
}

func TestPlanMountsParentsFirstAndElseInTheOrderOfTheLines(t *testing.T) {
	plan := Parse([]byte("lls:a /z/y/x lls\nlls:b /z lls\nlls:c /a/b lls\nlls:d /z/y lls\nlls:e /a lls\n")).Plan(nil)
	var got []string
	for _, m := range plan.Mounts {
		got = append(got, fmt.Sprint(m.Line, m.Target))
	}
	if want := []string{"2/z", "5/a", "3/a/b", "4/z/y", "1/z/y/x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPlanKeepsTheFirstOfTwoLinesForATarget(t *testing.T) {
	for name, c := range map[string]struct {
		text                    string
		required, fails, second bool // the first is required; the refusal fails the start; it is a refusal at all
	}{
		"other volume":           {"lls:a /x lls\nlls:b /x/ lls\n", false, false, true},
		"other volume, required": {"lls:a /x lls\nlls:b /x lls x-lls.required\n", false, true, true},
		"same volume, required":  {"lls:a /x lls\n/dev/mf/a /x lls x-lls.required\n", true, false, true},
		"a line for by hand":     {"lls:a /x lls\nlls:b /x lls noauto\n", false, false, false},
		"a refused first line":   {"lls:b /x lls dev\nlls:a /x lls\n", false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			plan := Parse([]byte(c.text)).Plan(nil)
			if len(plan.Mounts) != 1 || plan.Mounts[0].Name != "a" || plan.Mounts[0].Required != c.required {
				t.Fatalf("mounts: %+v", plan.Mounts)
			}
			last := slices.DeleteFunc(plan.Refused, func(n Notice) bool { return n.Reason != Duplicate })
			if len(last) == 1 != c.second || c.second && last[0].Required != c.fails {
				t.Errorf("refused: %+v", plan.Refused)
			}
		})
	}
}

func TestPlanRefusesWhatAnotherLineHides(t *testing.T) {
	const ours = "lls:a /srv/data lls noauto,x-lls.auto 0 0\n"
	for name, c := range map[string]struct {
		text             string
		refused, covered bool
	}{
		"tmpfs above":                     {"tmpfs /srv tmpfs defaults 0 0\n" + ours, true, false},
		"tmpfs above, and later":          {ours + "tmpfs /srv/x/../ tmpfs\n", true, false},
		"a bind mount above":              {"/home /srv none bind\n" + ours, true, false},
		"one that is sure of two":         {"/dev/sda1 /srv ext4\ntmpfs /srv tmpfs\n" + ours, true, false},
		"a sure one above one that isn't": {"tmpfs /srv/data tmpfs\ntmpfs /srv tmpfs\n" + ours, true, false},
		"its own target":                  {"tmpfs /srv/data tmpfs\n" + ours, false, true}, // systemd takes ours for it
		"a device of another machine":     {"UUID=1-9 /srv ext4 defaults 0 2\n" + ours, false, true},
		"a device above":                  {"/dev/sda1 /srv ext4 defaults 0 2\n" + ours, false, true},
		"nofail above":                    {"server:/x /srv nfs nofail\n" + ours, false, true},
		"noauto above":                    {"tmpfs /srv tmpfs noauto\n" + ours, false, false},
		"the root directory":              {"rootfs / rootfs rw 0 1\noverlay //. overlay\n" + ours, false, false},
		"below":                           {ours + "tmpfs /srv/data/x tmpfs\n", false, false},
		"beside":                          {"tmpfs /sr tmpfs\ntmpfs /srv/dat tmpfs\n" + ours, false, false},
		"swap":                            {"/swap none swap sw\n/swap /srv swap sw\n" + ours, false, false},
		"no entry":                        {"tmpfs /srv\n#tmpfs /srv tmpfs\ntmpfs srv tmpfs\n" + ours, false, false},
		"a volume above":                  {"lls:b /srv lls\nLABEL=mine /srv/ auto x-lls.auto\n" + ours, false, false},
		"a volume's label above":          {"LABEL=mine /srv auto\n" + ours, false, false},
		"the kernel's":                    {"proc /proc proc\nsysfs /sys sysfs\ntmpfs /tmp tmpfs\n" + ours, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			file := Parse([]byte(c.text))
			plan := file.Plan(labels)
			checkPlan(t, plan)
			count := func(list []Notice, reason Reason) (n int) {
				for _, x := range list {
					if x.Reason == reason {
						n++
					}
				}
				return n
			}
			mounted := slices.ContainsFunc(plan.Mounts, func(m Mount) bool { return m.Target == "/srv/data" })
			if mounted == c.refused || count(plan.Refused, Shadowed) == 1 != c.refused || count(plan.Warnings, Covered) == 1 != c.covered {
				t.Errorf("got %+v", plan)
			}
			if _, _, err := Add(file, Entry{Name: "a", Target: "/srv/data/more"}); (err != nil) != c.refused && name != "its own target" {
				t.Errorf("added: %v", err)
			}
		})
	}
	plan := Parse([]byte("# x\ntmpfs /srv tmpfs defaults 0 0\n" + ours)).Plan(nil)
	if want := `line 3: cannot mount at "/srv/data": line 2 mounts "tmpfs" at "/srv", over it`; len(plan.Refused) != 1 || plan.Refused[0].String() != want {
		t.Errorf("refused %+v, want %s", plan.Refused, want)
	}
	plan = Parse([]byte("/dev/sda1 /srv ext4\n" + ours)).Plan(nil)
	if want := `line 2: "/srv/data" is hidden if line 1 mounts "ext4" at "/srv", over it`; len(plan.Warnings) != 1 || plan.Warnings[0].String() != want {
		t.Errorf("warned %+v, want %s", plan.Warnings, want)
	}
}

func TestPlanWarnsOfLinesThatSystemdStumblesOver(t *testing.T) {
	for line, better := range map[string]string{
		"/dev/mf/a /data ext4 defaults 0 2":                   "lls:a /data lls noauto,x-lls.auto 0 0",
		"/dev/mf/a /my\\040data ext4 ro,noatime,discard 0 2":  "lls:a /my\\040data lls noauto,x-lls.auto,ro,noatime,discard 0 0",
		"/dev/mf/o/a /data lls x-lls.auto,x-lls.required 0 0": "lls:o/a /data lls noauto,x-lls.auto,x-lls.required 0 0",
		"LABEL=mine /data ext4":                               "LABEL=mine /data ext4 noauto,x-lls.auto 0 0",
		"/dev/mf/a /data ext4 noauto":                         "",
		"/dev/mf/a /data ext4 nofail":                         "",
		"lls:a /data ext4 defaults":                           "lls:a /data lls noauto,x-lls.auto 0 0",
		"lls:a /data lls x-lls.auto,x-lls.required,ro":        "lls:a /data lls noauto,x-lls.auto,ro,x-lls.required 0 0",
		"lls:a /data lls noauto,auto":                         "lls:a /data lls noauto,x-lls.auto 0 0",
		"lls:a /data lls noauto,x-lls.auto":                   "",
		"lls:a /data lls nofail":                              "",
	} {
		plan := Parse([]byte(line)).Plan(labels)
		var got string
		for _, w := range plan.Warnings {
			if (w.Reason == Fails) == strings.HasPrefix(line, SourcePrefix) && strings.HasPrefix(w.Text, "systemd ") {
				got = w.Better
			}
		}
		if len(plan.Mounts) != 1 || got != better {
			t.Errorf("%s: better %q, want %q; %+v", line, got, better, plan)
		}
		if better == "" {
			continue
		}
		again := Parse([]byte(better)).Plan(labels)
		if !reflect.DeepEqual(again.Mounts, plan.Mounts) || len(again.Warnings) > 0 {
			t.Errorf("%s: the better line mounts %+v, warns %+v", line, again.Mounts, again.Warnings)
		}
	}
}

func TestPlanWarnsOfWhatIsNotGiven(t *testing.T) {
	for _, option := range []string{"noexec", "sync", "dirsync", "data=journal", "commit=60", "allocsize=64k"} {
		plan := Parse([]byte("lls:a /data lls nofail," + option)).Plan(nil)
		if len(plan.Mounts) != 1 || len(plan.Warnings) != 1 || plan.Warnings[0].Reason != Dropped {
			t.Errorf("%s: got %+v", option, plan)
		}
	}
}

func TestPlanHasLimits(t *testing.T) {
	var lines strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&lines, "LABEL=%d /a%d ext4 noexec\nlls:a /b%d lls dev\n", i, i, i)
	}
	lines.WriteString("lls:last /last lls bind,x-lls.required\n")
	asked := 0
	plan := Parse([]byte(lines.String())).Plan(func(wanted []Tag) map[Tag]string { asked += len(wanted); return anything(wanted) })
	if len(plan.Mounts) != MaxMounts || asked != MaxLookups || len(plan.Refused) != MaxNotices || len(plan.Warnings) != MaxNotices {
		t.Errorf("%d mounts, %d lookups, %d refused, %d warnings", len(plan.Mounts), asked, len(plan.Refused), len(plan.Warnings))
	}
	if last := plan.Refused[MaxNotices-1]; last.Reason != TooMuch || !last.Required {
		t.Errorf("the last refusal forgets that a required line is among those it stands for: %+v", last)
	}
	plan = Parse([]byte(strings.Repeat("/dev/mf/a /a auto\n", 1) + manyLines(MaxMounts) + "lls:z /z lls x-lls.required\n")).Plan(nil)
	if last := plan.Refused[len(plan.Refused)-1]; len(plan.Mounts) != MaxMounts || last.Reason != TooMuch || !last.Required {
		t.Errorf("%d mounts, last refusal %+v", len(plan.Mounts), last)
	}
}

func manyLines(n int) string {
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "lls:a /m%d lls\n", i)
	}
	return lines.String()
}

// checkPlan fails unless what must hold for any bytes holds.
func checkPlan(t *testing.T, plan Plan) {
	t.Helper()
	depth, seen := 0, map[string]bool{}
	for _, m := range plan.Mounts {
		d := strings.Count(m.Target, "/")
		if d < depth {
			t.Errorf("%q comes after deeper ones", m.Target)
		}
		depth = d
		if m.Name == "" || hasControl(m.Name) || hasControl(m.Target) || path.Clean(m.Target) != m.Target || !path.IsAbs(m.Target) || seen[m.Target] {
			t.Errorf("bad mount %+v", m)
		}
		seen[m.Target] = true
		for _, no := range []string{"/proc", "/sys", "/dev", "/lls", "/run", "/tmp"} {
			if m.Target == "/" || m.Target == no || strings.HasPrefix(m.Target, no+"/") {
				t.Errorf("forbidden target %q", m.Target)
			}
		}
	}
	if len(plan.Mounts) > MaxMounts || len(plan.Refused) > MaxNotices || len(plan.Warnings) > MaxNotices {
		t.Errorf("%d mounts, %d refused, %d warnings", len(plan.Mounts), len(plan.Refused), len(plan.Warnings))
	}
	for _, n := range slices.Concat(plan.Refused, plan.Warnings) {
		if n.Reason == "" || n.Text == "" || n.Line < 1 || len(n.Text) > 2000 || len(n.String()) > 2300 || !utf8.ValidString(n.String()) ||
			strings.ContainsFunc(n.String(), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("bad notice %+v", n)
		}
		if again := Parse([]byte(n.Better)).Plan(anything); n.Better != "" && (len(again.Mounts) != 1 || len(again.Warnings) > 0) {
			t.Errorf("the better line %q gives %+v", n.Better, again)
		}
	}
}
