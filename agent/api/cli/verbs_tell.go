package cli

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"lls/agent/api"
)

func list(side Side) Command {
	return Command{
		Name: "list", Max: 0,
		Short: pick(side, "show the volumes you have and those you may use", "show every volume"),
		Flags: []Flag{{Name: "all", Help: "those in the trash, too"}},
		Examples: []Example{
			{"list", "what there is"},
			{"list --all", "the trash, too"},
		},
		Run: func(ctx context.Context, c *Call) error {
			query := url.Values{}
			if c.Has("all") {
				query.Set("all", "1")
			}
			volumes := []api.Volume{}
			if err := c.Get(ctx, api.PathVolumes, query, &volumes); err != nil {
				return err
			}
			slices.SortStableFunc(volumes, byNearness)
			if len(volumes) == 0 {
				return c.Show([]api.Volume{}, "there is no volume yet; to make one: "+c.Hint("create", "scratch", "--size", "10G"))
			}
			t := Table{Head: []string{"NAME", "KIND", "ORIGIN", "OWNER", ">SIZE", ">USED", ">FREES", "ACCESS", "MOUNTED", "EXPIRES"}}
			for _, v := range volumes {
				t.Add(v.Name, kind(v), v.Origin, owner(v), Size(v.Size), sizeOrDash(v.Used), sizeOrDash(v.Frees), access(v),
					strings.Join(places(side, v.Mounts), ","), until(v.Expires, c.Now()))
			}
			return c.Show(volumes, append(t.Lines(), oldFrees(volumes, c.Now())...)...)
		},
	}
}

// freesOld is the age from which on a list says how old its FREES are.
const freesOld = 10 * time.Minute

// oldFrees is the footnote of a list whose FREES were not read just now.
func oldFrees(volumes []api.Volume, now time.Time) []string {
	var oldest time.Duration
	for _, v := range volumes {
		if v.FreesAt != nil {
			oldest = max(oldest, now.Sub(*v.FreesAt))
		}
	}
	if oldest <= freesOld {
		return nil
	}
	return []string{"FREES, what a purge gives back, is as of " + ago(now.Add(-oldest), now)}
}

// byNearness puts the asker's own volumes first, then the host's, then those of others. A name of one word is the
// asker's own or the host's.
func byNearness(a, b api.Volume) int {
	distance := func(v api.Volume) int {
		switch {
		case v.Owner == api.HostOwner:
			return 1
		case !strings.Contains(v.Name, "/"):
			return 0
		}
		return 2
	}
	return cmp.Or(cmp.Compare(distance(a), distance(b)), cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Name, b.Name))
}

// kind is what a volume is, and what is unusual about it.
func kind(v api.Volume) string {
	k := v.Kind
	if v.ReadOnly {
		k += ",ro"
	}
	if v.State != api.StateLive && v.State != "" {
		k += "," + v.State
	}
	if v.CutOff {
		k += ",cut-off"
	}
	return k
}

func owner(v api.Volume) string {
	if v.Orphan {
		return v.Owner + " (gone)"
	}
	return v.Owner
}

// access is what others may do with a volume: a hidden one does not exist for them.
func access(v api.Volume) string {
	if v.Visibility == api.Hidden {
		return api.Hidden
	}
	return v.Access
}

// places lists the paths where a volume is mounted, the sysadmin's as CONTAINER:PATH where it is not the host. What is
// mounted where no path is known belongs to others, and is left out.
func places(side Side, mounts []api.Mount) []string {
	var names []string
	for _, m := range mounts {
		switch {
		case m.Path == "":
		case side == Host && m.Container != api.HostOwner:
			names = append(names, m.Container+":"+m.Path)
		default:
			names = append(names, m.Path)
		}
	}
	return names
}

func info(side Side) Command {
	return Command{
		Name: "info", Operands: "NAME", Min: 1, Max: 1,
		Short: "show all there is to know about a volume, and who holds it",
		Examples: pick(side,
			[]Example{{"info mine", "a volume of yours, or of the host"}, {"info web2/build", "another container's"}},
			[]Example{{"info genomes", "a volume of the host"}, {"info web1/mine", "a container's"}}),
		Run: func(ctx context.Context, c *Call) error {
			var v api.Volume
			if err := c.Get(ctx, api.PathVolume, url.Values{"name": {c.Operand(0)}}, &v); err != nil {
				return err
			}
			return c.Show(v, describe(v, c)...)
		},
	}
}

// describe lays out a volume as "name: value" lines; what it does not have is left out.
func describe(v api.Volume, c *Call) []string {
	t := Table{Head: []string{"name:", v.Name}}
	add := func(key, value string) {
		if value != "" {
			t.Rows = append(t.Rows, []string{key + ":", Clean(value)})
		}
	}
	add("owner", owner(v))
	add("kind", kind(v))
	add("origin", v.Origin)
	add("pool", v.Pool)
	add("file system", v.FS)
	add("size", Size(v.Size))
	add("used", sizeOrDash(v.Used))
	if v.Frees != nil && v.FreesAt != nil {
		add("frees", Size(*v.Frees)+" when purged, as of "+ago(*v.FreesAt, c.Now()))
	}
	add("visibility", v.Visibility)
	add("access", v.Access)
	if !v.Created.IsZero() {
		add("created", date(v.Created, c.Now()))
	}
	if v.Deleted != nil {
		add("deleted", date(*v.Deleted, c.Now()))
	}
	if v.Expires != nil {
		add("expires", dateIn(*v.Expires, c.Now()))
	}
	switch {
	case v.Forever:
		add("kept", "without an end")
	case v.Lease != nil:
		add("kept until", dateIn(*v.Lease, c.Now()))
	}
	if v.GrowTo > 0 {
		add("grows to", Size(v.GrowTo))
	}
	for _, m := range v.Mounts {
		where := m.Container
		if m.Path != "" {
			where = m.Path + " in " + m.Container
		}
		if m.ReadOnly {
			where += ", read-only"
		}
		add("mounted", where)
	}
	for _, h := range v.Holders {
		add("held by", holder(h))
	}
	for _, r := range v.Fstab {
		for _, text := range Complaints(r) {
			add("/etc/fstab", text)
		}
	}
	add("id", v.ID)
	add("lv", v.LV)
	return t.Lines()
}

func usageOf(side Side) Command {
	cmd := Command{
		Name: "usage", Max: 0,
		Short:    "show your quota and what you use of it",
		Examples: []Example{{"usage", "by pool"}},
	}
	if side == Host {
		cmd.Operands, cmd.Max = "[CONTAINER]", 1
		cmd.Short = "show what each container uses of its quota"
		cmd.Examples = append(cmd.Examples, Example{"usage web1", "of one container"})
	}
	cmd.Run = func(ctx context.Context, c *Call) error {
		query := url.Values{}
		if c.Operand(0) != "" {
			query.Set("container", c.Operand(0))
		}
		usage := []api.Usage{}
		if err := c.Get(ctx, api.PathUsage, query, &usage); err != nil {
			return err
		}
		if len(usage) == 0 {
			return c.Show([]api.Usage{}, "nothing is used yet; to make a volume: "+c.Hint("create", "scratch", "--size", "10G"))
		}
		t := Table{Head: []string{"CONTAINER", "POOL", ">VOLUMES", ">SNAPSHOTS", ">SIZE", ">TRASH", ">EXCLUSIVE", "AS OF"}}
		for _, u := range usage {
			exclusive, at := "", ""
			if u.Exclusive != nil && u.ExclusiveAt != nil {
				exclusive, at = sizeOf(*u.Exclusive, u.ExclusiveMax), ago(*u.ExclusiveAt, c.Now())
			}
			t.Add(u.Container, u.Pool, of(u.Volumes, u.VolumesMax), of(u.Snapshots, u.SnapshotsMax),
				sizeOf(u.Size, u.SizeMax), strconv.Itoa(u.Trash), exclusive, at)
		}
		return c.Show(usage, t.Lines()...)
	}
	return cmd
}

// of is "3 of 10", or "3" where there is no limit.
func of(n, limit int) string {
	if limit == 0 {
		return strconv.Itoa(n)
	}
	return strconv.Itoa(n) + " of " + strconv.Itoa(limit)
}

func sizeOf(n, limit int64) string {
	if limit == 0 {
		return Size(n)
	}
	return Size(n) + " of " + Size(limit)
}

func watch() Command {
	return Command{
		Name: "watch", Max: 0,
		Short: "show what happens to volumes, as it happens",
		Examples: []Example{
			{"watch", "until it is interrupted"},
			{"watch --json", "one JSON object a line"},
		},
		Run: func(ctx context.Context, c *Call) error {
			return c.client.Watch(ctx, func(e api.Event) error {
				if !c.json {
					return c.Show(e, happened(e, c.Now(), c.Hint("keep", e.Name, "--for", "7d")))
				}
				text, err := encode(e, "")
				if err != nil {
					return err
				}
				c.out.print(text)
				return c.out.err
			})
		},
	}
}

// happened is an event in one line. keep is what to type to keep its volume.
func happened(e api.Event, now time.Time, keep string) string {
	line := e.Time.In(now.Location()).Format("15:04:05") + " " + e.What + " " + e.Name
	switch {
	case e.Path != "":
		line += " at " + e.Path + " in " + e.Container
	case e.Container != "":
		line += " in " + e.Container
	case e.Why != "":
		line += ": " + e.Why
	case e.Expires != nil:
		line += ": nobody uses it, and it goes to the trash on " + dateIn(*e.Expires, now) + "; to keep it: " + keep
	}
	return line
}
