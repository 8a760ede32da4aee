package bus

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"github.com/godbus/dbus/v5"

	"lls/agent/api"
)

// Tree is all there is to see at one moment, as the sysadmin sees it.
type Tree struct {
	Volumes    []api.Volume
	Pools      []api.Pool
	Containers []api.Container
}

// object is something on the bus: it has one interface of ours.
type object struct {
	iface string
	props map[string]any
}

// objects are what is on the bus, but for the root.
type objects map[dbus.ObjectPath]object

// objectsOf makes the objects of a tree. They share nothing with it.
func objectsOf(t Tree) objects {
	all := objects{}
	for _, v := range t.Volumes {
		all[dbus.ObjectPath(VolumePath(v.ID))] = objectOf(v, VolumeInterface, volumeProperties())
	}
	for _, p := range t.Pools {
		all[dbus.ObjectPath(PoolPath(p.Name))] = objectOf(p, PoolInterface, poolProperties())
	}
	for _, c := range t.Containers {
		all[dbus.ObjectPath(ContainerPath(c.Name, c.Token))] = objectOf(c, ContainerInterface, containerProperties())
	}
	return all
}

func objectOf[T any](of T, iface string, props []property[T]) object {
	o := object{iface: iface, props: make(map[string]any, len(props))}
	for _, p := range props {
		value := p.value(of)
		if s, ok := value.(string); ok {
			value = clean(s)
		}
		o.props[p.name] = value
	}
	return o
}

// variants are the properties as the bus carries them.
func (o object) variants() map[string]dbus.Variant {
	all := make(map[string]dbus.Variant, len(o.props))
	for name, value := range o.props {
		all[name] = dbus.MakeVariant(value)
	}
	return all
}

// message is a signal to send.
type message struct {
	path dbus.ObjectPath
	name string // interface.member
	body []any
}

// diff says what has changed from one set of objects to the next, as the specification of D-Bus has it said: first what went, then
// what came, then what changed.
func diff(before, after objects) []message {
	var gone, came, changed []message
	for _, path := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[path]; !ok {
			gone = append(gone, message{dbus.ObjectPath(Root), objectManager + ".InterfacesRemoved", []any{path, []string{before[path].iface}}})
		}
	}
	for _, path := range slices.Sorted(maps.Keys(after)) {
		now := after[path]
		old, ok := before[path]
		if !ok {
			came = append(came, message{dbus.ObjectPath(Root), objectManager + ".InterfacesAdded",
				[]any{path, map[string]map[string]dbus.Variant{now.iface: now.variants()}}})
			continue
		}
		values := map[string]dbus.Variant{}
		for name, value := range now.props {
			if !reflect.DeepEqual(value, old.props[name]) {
				values[name] = dbus.MakeVariant(value)
			}
		}
		if len(values) > 0 {
			changed = append(changed, message{path, propertiesInterface + ".PropertiesChanged", []any{now.iface, values, []string{}}})
		}
	}
	return slices.Concat(gone, came, changed)
}

// Event is something that happened.
type Event struct {
	Signal  Signal
	Object  Path
	Name    string            // of the object, as the sysadmin types it
	Details map[string]string // or nil
}

// message makes the signal of an event.
func (e Event) message() message {
	details := make(map[string]string, len(e.Details))
	for key, value := range e.Details {
		details[clean(key)] = clean(value)
	}
	object := cmp.Or(e.Object, Root)
	return message{dbus.ObjectPath(Root), ManagerInterface + "." + string(e.Signal), []any{dbus.ObjectPath(object), clean(e.Name), details}}
}
