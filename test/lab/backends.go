package main

import (
	"context"
	"fmt"
)

// needTools installs what building and running takes, one run at a time.
func (b *builder) needTools(ctx context.Context, programs map[string]string) error {
	lock, err := waitLock(ctx, b.cache.file("tools.lock"), func() { b.say("waiting for another run to install packages") })
	if err != nil {
		return err
	}
	defer lock.Close()
	return b.host.need(ctx, programs)
}

// backend makes the named backend ready to boot image.
func (b *builder) backend(ctx context.Context, name backendName, image string) (backend, error) {
	switch name {
	case backendUML:
		kernel, err := b.umlKernel(ctx)
		return uml{kernel}, err
	}
	return nil, fmt.Errorf("cannot run backend %q", name)
}
