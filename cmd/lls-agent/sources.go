package main

import (
	"context"

	"lls/agent"
	"lls/agent/event"
	"lls/agent/event/bus"
)

// sources are where the agent hears of the host. Each opens anew what it listens to whenever it runs.
func sources(watcher *bus.Watcher) []agent.Source {
	return []agent.Source{
		{Name: "udev", Volumes: true, Run: func(ctx context.Context, emit func(event.Event)) error {
			u, err := event.OpenUdev()
			if err != nil {
				return err
			}
			defer u.Close()
			return u.Run(ctx, emit)
		}},
		{Name: "device-mapper", Run: func(ctx context.Context, emit func(event.Event)) error {
			m, err := event.OpenDeviceMapper()
			if err != nil {
				return err
			}
			defer func() { _ = m.Close() }()
			return m.Run(ctx, emit)
		}},
		{Name: "the message bus", Run: func(ctx context.Context, emit func(event.Event)) error {
			watcher.Run(ctx, emit)
			return ctx.Err()
		}},
	}
}
