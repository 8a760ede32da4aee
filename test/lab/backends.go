package main

import "context"

// needTools installs what building and running takes, one run at a time.
func (b *builder) needTools(ctx context.Context, programs map[string]string) error {
	lock, err := waitLock(ctx, b.cache.file("tools.lock"), func() { b.say("waiting for another run to install packages") })
	if err != nil {
		return err
	}
	defer lock.Close()
	return b.host.need(ctx, programs)
}

// backend makes the named backend ready to boot plan.
func (b *builder) backend(ctx context.Context, name backendName, plan bootPlan) (backend, error) {
	if name == backendQEMU {
		kvm, err := kvmWorks(ctx, b.cache, plan)
		return qemu{kvm}, err
	}
	kernel, err := b.umlKernel(ctx)
	return uml{kernel}, err
}
