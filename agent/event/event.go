// Package event hears what happens on the host: udev's news of volumes and physical volumes, and device-mapper's news of pools. What
// the message bus has to say is heard by the package bus below it. An event is only ever a reason to look: what is true is what LVM
// reports afterwards. So a forged, doubled or missing event costs a report, and never more.
package event

// Event is one of the types of this package whose comment says that it is an event.
type Event interface{ event() }

// Action is what happened to a device.
type Action string

// The actions that udev reports and this package passes on.
const (
	Add    Action = "add"
	Change Action = "change"
	Remove Action = "remove"
)

// Device is the number of a block device.
type Device struct{ Major, Minor uint32 }

// VolumeChanged is an event: a logical volume's device came, went, or was resumed (activated, resized, renamed, snapshotted). Of a
// removed device the names and the UUID are empty when nobody remembers them.
type VolumeChanged struct {
	VG, LV    string
	UUID      string // as LVM writes it, with hyphens
	Device    Device
	Action    Action
	Suspended bool
	DiskSeq   uint64 // never used twice since boot; 0 when the kernel does not tell
}

// PoolChanged is an event: something happened to a thin pool. It passed its low-water mark, ran full, changed its mode, or was given
// a new table, as a growth does.
type PoolChanged struct {
	Name   string // of the device, as device-mapper writes it, hyphens doubled: vg-pool-tpool
	Device Device
}

// PhysicalChanged is an event: somebody closed a physical volume after writing to it, or it came or went. That is all there is to hear
// of a change of tags, or of a volume that is not active.
type PhysicalChanged struct {
	Name   string // of the device's node: /dev/sdb
	Device Device
	Action Action
}

// Resync is an event: others were lost, and everything has to be looked at.
type Resync struct{ Why string }

// Hint is an event: a service says that something changed, without saying what that is worth.
type Hint struct{ Source string }

// Shutdown is an event: the machine is about to go down, or, when Starting is false, is not any more.
type Shutdown struct{ Starting bool }

func (VolumeChanged) event()   {}
func (PoolChanged) event()     {}
func (PhysicalChanged) event() {}
func (Resync) event()          {}
func (Hint) event()            {}
func (Shutdown) event()        {}
