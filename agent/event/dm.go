package event

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// dmControl is where device-mapper takes orders.
const dmControl = "/dev/mapper/control"

// DeviceMapper hears of thin pools that pass their low-water mark, run full or fail, of which udev says nothing: device-mapper counts
// the events of each device and wakes who waits for any. No dmeventd is needed.
type DeviceMapper struct {
	fd   int
	seen map[string]uint32 // event numbers of pools, by UUID, or by name where the kernel tells no UUID
}

// OpenDeviceMapper begins to listen: what happens from now on is kept for Run. The caller closes it.
func OpenDeviceMapper() (*DeviceMapper, error) {
	fd, err := unix.Open(dmControl, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot listen to device-mapper: cannot open %s: %w", dmControl, err)
	}
	m := &DeviceMapper{fd: fd}
	if _, err := m.look(); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("cannot listen to device-mapper: %w", err)
	}
	return m, nil
}

// Close ends listening. Run must have returned.
func (m *DeviceMapper) Close() error { return unix.Close(m.fd) }

// Run calls emit for each event until ctx ends; then it returns nil. emit must not take long.
func (m *DeviceMapper) Run(ctx context.Context, emit func(Event)) error {
	for {
		if err := waitReadable(ctx, m.fd); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("cannot listen to device-mapper: %w", err)
		}
		events, err := m.look()
		if err != nil {
			return fmt.Errorf("cannot listen to device-mapper: %w", err)
		}
		for _, e := range events {
			emit(e)
		}
	}
}

// look arms the poll and then finds what changed since the last look; what happens after the arming ends the next poll.
func (m *DeviceMapper) look() ([]Event, error) {
	if err := armPoll(m.fd); err != nil {
		return nil, err
	}
	devices, err := listDevices(m.fd)
	if err != nil {
		return nil, err
	}
	var events []Event
	events, m.seen = compare(m.seen, devices)
	return events, nil
}

// compare finds the pools whose event number is another than before, or not 0 when they are new. Of the first list nothing is new.
func compare(before map[string]uint32, devices []dmDevice) ([]Event, map[string]uint32) {
	var events []Event
	now := map[string]uint32{}
	for _, d := range devices {
		if !d.pool() {
			continue
		}
		key := d.uuid
		if key == "" {
			key = d.name
		}
		now[key] = d.eventNr
		if before != nil && before[key] != d.eventNr {
			events = append(events, PoolChanged{Name: d.name, Device: d.device})
		}
	}
	return events, now
}
