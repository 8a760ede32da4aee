package bus

import (
	"strings"
	"time"

	"github.com/godbus/dbus/v5/introspect"

	"lls/agent/api"
)

// property is one property of the objects made of a T. It can be read, and says so when it changes.
type property[T any] struct {
	name, signature, doc string
	value                func(T) any
}

// mountValue is a mount as a(ssb) has it.
type mountValue struct {
	Container, Path string
	ReadOnly        bool
}

func volumeProperties() []property[api.Volume] {
	return []property[api.Volume]{
		{"ID", "s", "Never changes and is never used again.", func(v api.Volume) any { return v.ID }},
		{"Name", "s", "As the sysadmin types it: NAME of the host's, OWNER/NAME of a container's.", func(v api.Volume) any { return v.Name }},
		{"Owner", "s", "A container's name, or host.", func(v api.Volume) any { return v.Owner }},
		{"Orphan", "b", "Whether the owner is gone.", func(v api.Volume) any { return v.Orphan }},
		{"Kind", "s", "dataset, snapshot or volume.", func(v api.Volume) any { return v.Kind }},
		{"Origin", "s", "The volume it is a snapshot of, or empty.", func(v api.Volume) any { return v.Origin }},
		{"Pool", "s", "The name of its pool.", func(v api.Volume) any { return v.Pool }},
		{"LV", "s", "The logical volume, VG/LV.", func(v api.Volume) any { return v.LV }},
		{"FileSystem", "s", "ext4 or xfs.", func(v api.Volume) any { return v.FS }},
		{"Size", "x", "Bytes.", func(v api.Volume) any { return v.Size }},
		{"Used", "x", "Bytes mapped, shared ones included; -1 while that is not known.", func(v api.Volume) any { return orUnknown(v.Used) }},
		{"Visibility", "s", "hidden or visible.", func(v api.Volume) any { return v.Visibility }},
		{"Access", "s", "What others may mount of it: rw, ro or none.", func(v api.Volume) any { return v.Access }},
		{"State", "s", "live, new or trash.", func(v api.Volume) any { return v.State }},
		{"Active", "b", "Whether it has a device.", func(v api.Volume) any { return v.Active }},
		{"ReadOnly", "b", "Whether the logical volume is read-only.", func(v api.Volume) any { return v.ReadOnly }},
		{"Created", "x", "Seconds since 1970, as the next two; 0 for never.", func(v api.Volume) any { return seconds(&v.Created) }},
		{"Deleted", "x", "When it went to the trash.", func(v api.Volume) any { return seconds(v.Deleted) }},
		{"Expires", "x", "When policy may take it away.", func(v api.Volume) any { return seconds(v.Expires) }},
		{"Mounts", "a(ssb)", "Where it is mounted: the container or host, the path, and whether read-only.", func(v api.Volume) any {
			mounts := make([]mountValue, 0, len(v.Mounts))
			for _, m := range v.Mounts {
				mounts = append(mounts, mountValue{clean(m.Container), clean(m.Path), m.ReadOnly})
			}
			return mounts
		}},
	}
}

func poolProperties() []property[api.Pool] {
	return []property[api.Pool]{
		{"Name", "s", "The name in lls.toml.", func(p api.Pool) any { return p.Name }},
		{"LV", "s", "The thin pool, VG/LV.", func(p api.Pool) any { return p.LV }},
		{"Size", "x", "Bytes.", func(p api.Pool) any { return p.Size }},
		{"DataPercent", "d", "How full the pool is.", func(p api.Pool) any { return p.DataPercent }},
		{"MetadataPercent", "d", "How full its metadata is.", func(p api.Pool) any { return p.MetadataPercent }},
		{"Virtual", "x", "Bytes promised to volumes.", func(p api.Pool) any { return p.Virtual }},
		{"GroupFree", "x", "Bytes that the pool can still grow by.", func(p api.Pool) any { return p.GroupFree }},
		{"Problem", "s", "What is wrong with it, or empty.", func(p api.Pool) any { return p.Problem }},
	}
}

func containerProperties() []property[api.Container] {
	return []property[api.Container]{
		{"Name", "s", "LXC's name of it.", func(c api.Container) any { return c.Name }},
		{"LXCPath", "s", "The lxcpath it is in.", func(c api.Container) any { return c.LXCPath }},
		{"Token", "s", "Tells it from others that have or had its name.", func(c api.Container) any { return c.Token }},
		{"State", "s", "running or stopped.", func(c api.Container) any { return c.State }},
		{"PID", "x", "Of its init; 0 while it does not run.", func(c api.Container) any { return int64(c.PID) }},
		{"Privileged", "b", "Whether its root is the host's; false while LLS does not serve it.", func(c api.Container) any { return c.Privileged != nil && *c.Privileged }},
		{"LLS", "s", "ok, or why /lls does not work in it.", func(c api.Container) any { return c.LLS }},
		{"Mounts", "x", "How many volumes are mounted in it.", func(c api.Container) any { return int64(c.Mounts) }},
	}
}

// Signal names something that happened. It is a signal of the root object's ManagerInterface.
type Signal string

// The signals. Each is about one object and has three arguments: the object's path (o), its name as the sysadmin types it (s), and
// details (a{ss}) of which more may be added. Objects and their properties are already as what happened left them, but for VolumePurged,
// which comes right before its object goes.
const (
	VolumeCreated    Signal = "VolumeCreated"
	VolumeDeleted    Signal = "VolumeDeleted"
	VolumeUndeleted  Signal = "VolumeUndeleted"
	VolumePurged     Signal = "VolumePurged"
	VolumeExpiring   Signal = "VolumeExpiring"
	VolumeFull       Signal = "VolumeFull"
	VolumeResized    Signal = "VolumeResized"
	VolumeChanged    Signal = "VolumeChanged"
	Mounted          Signal = "Mounted"
	Unmounted        Signal = "Unmounted"
	PoolWarned       Signal = "PoolWarned"
	PoolGrown        Signal = "PoolGrown"
	ContainerStarted Signal = "ContainerStarted"
	ContainerStopped Signal = "ContainerStopped"
)

type signalDoc struct {
	signal Signal
	doc    string
}

func signals() []signalDoc {
	return []signalDoc{
		{VolumeCreated, "A volume was made, or a snapshot taken."},
		{VolumeDeleted, "A volume went to the trash."},
		{VolumeUndeleted, "A volume came back from the trash."},
		{VolumePurged, "A volume and its data are gone."},
		{VolumeExpiring, "A volume is not used, and goes to the trash some time after."},
		{VolumeFull, "A volume that is to grow by itself is nearly full, and cannot: detail Why."},
		{VolumeResized, "A volume grew: detail Size, in bytes, as it is now."},
		{VolumeChanged, "Its visibility, access, owner, name, lease or limit changed, or it got or lost its device: then the detail Active says which."},
		{Mounted, "A volume was mounted: details Container (host for the host) and Path."},
		{Unmounted, "A volume was unmounted: details Container (host for the host) and Path."},
		{PoolWarned, "A pool cannot grow, and needs the sysadmin: details Part (data or metadata) and Why."},
		{PoolGrown, "A pool grew: details Part (data or metadata), and its size Before and After, in bytes."},
		{ContainerStarted, "A container started, and is served; not for those that run when the agent starts."},
		{ContainerStopped, "A container that was served stopped."},
	}
}

// Doc is what introspection says of the signal. It names the keys of the details as they are sent.
func (s Signal) Doc() string {
	for _, known := range signals() {
		if known.signal == s {
			return known.doc
		}
	}
	return ""
}

func orUnknown(n *int64) int64 {
	if n == nil {
		return -1
	}
	return *n
}

func seconds(t *time.Time) int64 {
	if t == nil || t.IsZero() {
		return 0
	}
	return t.Unix()
}

// clean makes a string that the bus carries: the daemon throws out who sends bytes that are no UTF-8, and a container's root chooses
// the bytes of its paths.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// docString is the annotation that tools show as documentation.
func docString(text string) []introspect.Annotation {
	return []introspect.Annotation{{Name: "org.gtk.GDBus.DocString", Value: text}}
}

func describe[T any](name string, props []property[T]) introspect.Interface {
	i := introspect.Interface{Name: name}
	for _, p := range props {
		i.Properties = append(i.Properties, introspect.Property{Name: p.name, Type: p.signature, Access: "read", Annotations: docString(p.doc)})
	}
	return i
}

// describeManager is the root object's interface.
func describeManager() introspect.Interface {
	i := introspect.Interface{Name: ManagerInterface, Properties: []introspect.Property{{
		Name: versionProperty, Type: "s", Access: "read",
		Annotations: append(docString("Of the agent."), introspect.Annotation{Name: "org.freedesktop.DBus.Property.EmitsChangedSignal", Value: "const"}),
	}}}
	for _, s := range signals() {
		i.Signals = append(i.Signals, introspect.Signal{Name: string(s.signal), Annotations: docString(s.doc), Args: []introspect.Arg{
			{Name: "object", Type: "o"}, {Name: "name", Type: "s"}, {Name: "details", Type: "a{ss}"},
		}})
	}
	return i
}

// describeInterface is one of ours.
func describeInterface(name string) introspect.Interface {
	switch name {
	case VolumeInterface:
		return describe(name, volumeProperties())
	case PoolInterface:
		return describe(name, poolProperties())
	case ContainerInterface:
		return describe(name, containerProperties())
	default:
		return describeManager()
	}
}
