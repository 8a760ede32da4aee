package bus

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
)

// Interfaces of the specification of D-Bus.
const (
	objectManager       = "org.freedesktop.DBus.ObjectManager"
	propertiesInterface = "org.freedesktop.DBus.Properties"
	introspectable      = "org.freedesktop.DBus.Introspectable"
)

const versionProperty = "Version"

// shelf holds what is on the bus now, and answers who reads it. Each answer is of one moment.
type shelf struct {
	version string

	mu      sync.Mutex
	objects objects // never changed, only replaced
}

func (s *shelf) get() objects {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects
}

// put replaces what is there and gives what was.
func (s *shelf) put(now objects) (before objects) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.objects = s.objects, now
	return before
}

// export has conn answer for every path there is. godbus looks for the nearest exported ancestor but never finds "/" that way.
func (s *shelf) export(conn *dbus.Conn) error {
	tables := map[string]map[string]any{
		objectManager:       {"GetManagedObjects": s.managedObjects},
		propertiesInterface: {"Get": s.property, "GetAll": s.properties, "Set": s.refuse},
		introspectable:      {"Introspect": s.introspect},
	}
	for _, top := range []dbus.ObjectPath{"/", "/org"} {
		for iface, methods := range tables {
			if err := conn.ExportSubtreeMethodTable(methods, top, iface); err != nil {
				return fmt.Errorf("cannot answer on the message bus: %w", err)
			}
		}
	}
	return nil
}

func dbusError(name, format string, args ...any) *dbus.Error {
	return dbus.NewError("org.freedesktop.DBus.Error."+name, []any{fmt.Sprintf(format, args...)})
}

// pathOf is the object that a call is for.
func pathOf(msg dbus.Message) dbus.ObjectPath {
	path, _ := msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	return path
}

func (s *shelf) managedObjects(msg dbus.Message) (map[dbus.ObjectPath]map[string]map[string]dbus.Variant, *dbus.Error) {
	if path := pathOf(msg); path != dbus.ObjectPath(Root) {
		return nil, dbusError("UnknownInterface", "%s does not manage objects; %s does", path, Root)
	}
	all := map[dbus.ObjectPath]map[string]map[string]dbus.Variant{}
	for path, o := range s.get() {
		all[path] = map[string]map[string]dbus.Variant{o.iface: o.variants()}
	}
	return all, nil
}

// find is the object that a call is for, if it has the interface asked for.
func (s *shelf) find(msg dbus.Message, iface string) (object, *dbus.Error) {
	path := pathOf(msg)
	o, ok := s.get()[path]
	if path == dbus.ObjectPath(Root) {
		o, ok = object{iface: ManagerInterface, props: map[string]any{versionProperty: s.version}}, true
	}
	switch {
	case !ok:
		return object{}, dbusError("UnknownObject", "no object %s", path)
	case iface != o.iface && iface != "":
		return object{}, dbusError("UnknownInterface", "%s has no properties of %s", path, iface)
	}
	return o, nil
}

func (s *shelf) property(msg dbus.Message, iface, name string) (dbus.Variant, *dbus.Error) {
	o, err := s.find(msg, iface)
	if err != nil {
		return dbus.Variant{}, err
	}
	value, ok := o.props[name]
	if !ok {
		return dbus.Variant{}, dbusError("UnknownProperty", "no property %s", name)
	}
	return dbus.MakeVariant(value), nil
}

func (s *shelf) properties(msg dbus.Message, iface string) (map[string]dbus.Variant, *dbus.Error) {
	o, err := s.find(msg, iface)
	if err != nil {
		if err.Name == "org.freedesktop.DBus.Error.UnknownInterface" && slices.Contains(standardInterfaces(), iface) {
			return map[string]dbus.Variant{}, nil // busctl introspect asks for those of every interface
		}
		return nil, err
	}
	return o.variants(), nil
}

func standardInterfaces() []string {
	return []string{objectManager, propertiesInterface, introspectable, introspect.PeerData.Name}
}

func (s *shelf) refuse(msg dbus.Message, iface, name string, _ dbus.Variant) *dbus.Error {
	if _, err := s.property(msg, iface, name); err != nil {
		return err
	}
	return dbusError("PropertyReadOnly", "nothing is changed here; use lls-agent")
}

// introspect tells what can be asked of an object, and which are below it.
func (s *shelf) introspect(msg dbus.Message) (string, *dbus.Error) {
	path := pathOf(msg)
	all := s.get()
	node := &introspect.Node{}
	for _, child := range children(path, all) {
		node.Children = append(node.Children, introspect.Node{Name: child})
	}
	o, ok := all[path]
	switch {
	case path == dbus.ObjectPath(Root):
		node.Interfaces = []introspect.Interface{describeManager(), describeProperties(), describeObjectManager()}
	case ok:
		node.Interfaces = []introspect.Interface{describeInterface(o.iface), describeProperties()}
	case len(node.Children) == 0 && !isFolder(path):
		return "", dbusError("UnknownObject", "no object %s", path)
	}
	return string(introspect.NewIntrospectable(node)), nil // which adds Introspectable and Peer
}

// folders are the paths that are there even when nothing is below them.
func folders() []dbus.ObjectPath {
	var all []dbus.ObjectPath
	for _, name := range []Path{"pools", "volumes", "containers"} {
		all = append(all, dbus.ObjectPath(Root+"/"+name))
	}
	return all
}

func isFolder(path dbus.ObjectPath) bool { return slices.Contains(folders(), path) }

// children are the names right below a path.
func children(path dbus.ObjectPath, all objects) []string {
	prefix := strings.TrimSuffix(string(path), "/") + "/"
	found := map[string]bool{}
	add := func(p dbus.ObjectPath) {
		if rest, ok := strings.CutPrefix(string(p), prefix); ok {
			name, _, _ := strings.Cut(rest, "/")
			found[name] = true
		}
	}
	for p := range all {
		add(p)
	}
	for _, p := range folders() {
		add(p)
	}
	var names []string
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func describeProperties() introspect.Interface {
	return introspect.Interface{
		Name: propertiesInterface,
		Methods: []introspect.Method{
			{Name: "Get", Args: []introspect.Arg{{Name: "interface", Type: "s", Direction: "in"}, {Name: "property", Type: "s", Direction: "in"}, {Name: "value", Type: "v", Direction: "out"}}},
			{Name: "GetAll", Args: []introspect.Arg{{Name: "interface", Type: "s", Direction: "in"}, {Name: "properties", Type: "a{sv}", Direction: "out"}}},
			{Name: "Set", Args: []introspect.Arg{{Name: "interface", Type: "s", Direction: "in"}, {Name: "property", Type: "s", Direction: "in"}, {Name: "value", Type: "v", Direction: "in"}}},
		},
		Signals: []introspect.Signal{
			{Name: "PropertiesChanged", Args: []introspect.Arg{{Name: "interface", Type: "s"}, {Name: "changed", Type: "a{sv}"}, {Name: "invalidated", Type: "as"}}},
		},
	}
}

func describeObjectManager() introspect.Interface {
	return introspect.Interface{
		Name: objectManager,
		Methods: []introspect.Method{
			{Name: "GetManagedObjects", Args: []introspect.Arg{{Name: "objects", Type: "a{oa{sa{sv}}}", Direction: "out"}}},
		},
		Signals: []introspect.Signal{
			{Name: "InterfacesAdded", Args: []introspect.Arg{{Name: "object", Type: "o"}, {Name: "interfaces", Type: "a{sa{sv}}"}}},
			{Name: "InterfacesRemoved", Args: []introspect.Arg{{Name: "object", Type: "o"}, {Name: "interfaces", Type: "as"}}},
		},
	}
}
