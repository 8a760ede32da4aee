package agent

import (
	"context"
	"errors"
	"os"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/filesystem"
)

// How a volume is written out before a snapshot of it. One that its writers fill as fast as it is written never is.
const (
	writeOutPatience = 2 * time.Minute
	writeOutEnough   = 5 * time.Second // what took no longer leaves about as much at the most to be written while it is suspended
	writeOutSilence  = time.Second     // before the caller is told
)

// writeOut has the dirty data of the file system that a plan is to be a snapshot of on its disk, if it is mounted. LVM takes a snapshot of a
// volume that is suspended until that is so, under its lock and our writer: then all others would wait for as long, and whoever may write to
// the volume decides how long that is.
func (c *call) writeOut(ctx context.Context, p *plan, src *catalog.Record, patience time.Duration) error {
	ctx, cancel := c.agent.untilStop(ctx)
	defer cancel()
	path, fs := c.agent.store.lvm.Device(src.LV.VG, src.LV.Name), filesystem.Type(src.FS)
	over := c.soon(writeOutSilence, "waiting until what was written to its origin is on disk")
	err := untilQuick(ctx, patience, writeOutEnough, func(ctx context.Context) error { return c.agent.devices.Sync(ctx, path, fs) })
	over()
	switch {
	case err == nil, errors.Is(err, filesystem.ErrNotMounted), errors.Is(err, os.ErrNotExist): // a device that is not there is not mounted
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, filesystem.ErrSlow):
		return api.Errorf(api.Busy, "cannot %s %s: too much that was written to its origin is not on disk yet", p.verb, p.Name).Because(err).
			WithHint("let what writes there rest for a while, then try again")
	}
	c.agent.log.Info("a volume could not be written out before its snapshot", "volume", src.LV.Name, "error", err)
	return nil
}

// untilQuick does something again until it takes no longer than enough. What does not end within patience is filesystem.ErrSlow.
func untilQuick(ctx context.Context, patience, enough time.Duration, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		start := time.Now()
		if err := do(ctx); err != nil || time.Since(start) <= enough {
			return err
		}
		if ctx.Err() != nil {
			return filesystem.ErrSlow
		}
	}
}

// soon tells the caller of a step that is not over by then. The result ends it, and returns when no more is told.
func (c *call) soon(after time.Duration, format string, args ...any) (over func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // owned by over
		defer close(ended)
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-timer.C:
			c.progress(format, args...)
		case <-done:
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}
