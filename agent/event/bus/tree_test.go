package bus

import (
	"encoding/xml"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"

	"lls/agent/api"
)

func volume(id string, change ...func(*api.Volume)) api.Volume {
	used := int64(7)
	v := api.Volume{ID: id, Name: "dev/" + id, Owner: "dev", Kind: api.KindVolume, Pool: "main", Size: 1 << 30, Used: &used,
		State: api.StateLive, Created: time.Unix(1700000000, 0)}
	for _, c := range change {
		c(&v)
	}
	return v
}

func TestOnlyWhatChangedIsSignalled(t *testing.T) {
	grown := func(v *api.Volume) { v.Size = 2 << 30 }
	idle := func(v *api.Volume) { v.Used = nil }
	mounted := func(v *api.Volume) { v.Mounts = []api.Mount{{Container: "dev", Path: "/data", ReadOnly: true}} }
	tree := func(vs ...api.Volume) Tree { return Tree{Volumes: vs} }
	manager := func(member string) string { return "/org/lls/Agent1 org.freedesktop.DBus.ObjectManager." + member }
	changed := func(path string) string { return path + " org.freedesktop.DBus.Properties.PropertiesChanged" }
	tests := []struct {
		name          string
		before, after Tree
		want          []string
		values        map[string]any // of the last message, for a change
	}{
		{"nothing", tree(volume("a")), tree(volume("a")), nil, nil},
		{"another order", tree(volume("a"), volume("b")), tree(volume("b"), volume("a")), nil, nil},
		{"one more", tree(volume("a")), tree(volume("a"), volume("b")), []string{manager("InterfacesAdded")}, nil},
		{"one less", tree(volume("a"), volume("b")), tree(volume("b")), []string{manager("InterfacesRemoved")}, nil},
		{"a size", tree(volume("a")), tree(volume("a", grown)), []string{changed("/org/lls/Agent1/volumes/a")}, map[string]any{"Size": int64(2 << 30)}},
		{"a fill that is not known any more", tree(volume("a")), tree(volume("a", idle)), []string{changed("/org/lls/Agent1/volumes/a")},
			map[string]any{"Used": int64(-1)}},
		{"a mount", tree(volume("a")), tree(volume("a", mounted)), []string{changed("/org/lls/Agent1/volumes/a")},
			map[string]any{"Mounts": []mountValue{{"dev", "/data", true}}}},
		{"the same mount", tree(volume("a", mounted)), tree(volume("a", mounted)), nil, nil},
		{"all at once", tree(volume("a"), volume("b")), tree(volume("b", grown), volume("c")),
			[]string{manager("InterfacesRemoved"), manager("InterfacesAdded"), changed("/org/lls/Agent1/volumes/b")}, map[string]any{"Size": int64(2 << 30)}},
		{"a pool fills", Tree{Pools: []api.Pool{{Name: "main", DataPercent: 1}}}, Tree{Pools: []api.Pool{{Name: "main", DataPercent: 2.5}}},
			[]string{changed("/org/lls/Agent1/pools/main")}, map[string]any{"DataPercent": 2.5}},
		{"a container stops", Tree{Containers: []api.Container{{Name: "c-1", Token: "t", State: "running", PID: 7}}},
			Tree{Containers: []api.Container{{Name: "c-1", Token: "t", State: "stopped"}}},
			[]string{changed("/org/lls/Agent1/containers/c_2d1_23t")}, map[string]any{"State": "stopped", "PID": int64(0)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			messages := diff(objectsOf(tt.before), objectsOf(tt.after))
			for _, m := range messages {
				got = append(got, string(m.path)+" "+m.name)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			if tt.values == nil {
				return
			}
			values := map[string]any{}
			for name, v := range messages[len(messages)-1].body[1].(map[string]dbus.Variant) {
				values[name] = v.Value()
			}
			if !reflect.DeepEqual(values, tt.values) {
				t.Errorf("changed to %v, want %v", values, tt.values)
			}
		})
	}
}

func TestDifferentNamesAreDifferentPaths(t *testing.T) {
	seen := map[Path]string{}
	for _, name := range []string{"", "_", "a_", "a-", "a.b", "a_2eb", "ä", "a/b", "A", "a", "_5f", "9"} {
		path := PoolPath(name)
		if !dbus.ObjectPath(path).IsValid() {
			t.Errorf("%q became %q, which is no path", name, path)
		}
		if other, ok := seen[path]; ok {
			t.Errorf("%q and %q are both %q", name, other, path)
		}
		seen[path] = name
	}
	if a, b := ContainerPath("web", ""), ContainerPath("web", "x"); a == b {
		t.Errorf("two containers are both %q", a)
	}
}

func TestWhatAContainerChoosesCannotHaveUsThrownOut(t *testing.T) {
	bad := "/da\xffta\x00"
	o := objectsOf(Tree{Volumes: []api.Volume{volume("a", func(v *api.Volume) {
		v.Name = bad
		v.Mounts = []api.Mount{{Container: "dev", Path: bad}}
	})}})[dbus.ObjectPath(VolumePath("a"))]
	strings := []string{o.props["Name"].(string), o.props["Mounts"].([]mountValue)[0].Path}
	m := Event{Signal: Mounted, Name: bad, Details: map[string]string{"path": bad}}.message()
	strings = append(strings, m.body[1].(string), m.body[2].(map[string]string)["path"])
	for _, s := range strings {
		if want := "/da\uFFFDta\uFFFD"; !utf8.ValidString(s) || s != want {
			t.Errorf("sent %q, want %q", s, want)
		}
	}
}

func TestWhatIsDescribedIsWhatIsThere(t *testing.T) {
	used := int64(1)
	now := time.Now()
	all := objectsOf(Tree{
		Volumes:    []api.Volume{{ID: "a", Used: &used, Deleted: &now, Expires: &now, Mounts: []api.Mount{{}}}},
		Pools:      []api.Pool{{Name: "p"}},
		Containers: []api.Container{{Name: "c"}},
	})
	for path, o := range all {
		described := map[string]string{}
		for _, p := range describeInterface(o.iface).Properties {
			described[p.Name] = p.Type
		}
		there := map[string]string{}
		for name, v := range o.variants() {
			there[name] = v.Signature().String()
		}
		if !reflect.DeepEqual(described, there) {
			t.Errorf("%s: described as %v, is %v", path, described, there)
		}
	}
}

func TestTheDescriptionIsXML(t *testing.T) {
	s := &shelf{version: "1", objects: objectsOf(Tree{Volumes: []api.Volume{volume("a")}})}
	for path, children := range map[dbus.ObjectPath]int{
		"/": 1, "/org": 1, "/org/lls": 1, "/org/lls/Agent1": 3, "/org/lls/Agent1/pools": 0, "/org/lls/Agent1/volumes": 1, "/org/lls/Agent1/volumes/a": 0,
	} {
		text, dbusErr := s.introspect(dbus.Message{Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldPath: dbus.MakeVariant(path)}})
		if dbusErr != nil {
			t.Errorf("%s: %v", path, dbusErr)
			continue
		}
		var node introspect.Node
		if err := xml.Unmarshal([]byte(text), &node); err != nil || len(node.Children) != children {
			t.Errorf("%s has %d children, want %d: %v", path, len(node.Children), children, err)
		}
	}
}

func TestAddressesOfBuses(t *testing.T) {
	for addr, want := range map[string]string{
		"unix:path=/run/bus": "/run/bus", "unix:abstract=x,guid=1": "@x", "unix:guid=1,path=/a%20b;tcp:host=x": "/a b",
		"tcp:host=x": "", "unix:": "", "unix:path=%zz": "", "": "",
	} {
		if got, err := socketOf(addr); got != want || (err == nil) != (want != "") {
			t.Errorf("socketOf(%q) = %q, %v, want %q", addr, got, err, want)
		}
	}
}
