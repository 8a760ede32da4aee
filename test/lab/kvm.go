package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// kvmPatience is how long a guest with KVM may take to speak. One that works
// needs a few seconds.
const kvmPatience = 30 * time.Second

// kvmWorks tells whether a guest really boots with KVM: /dev/kvm may be there
// and still hang. The answer is kept until the machine is booted anew.
func kvmWorks(ctx context.Context, c cache, plan bootPlan) (bool, error) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return false, nil
	}
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return false, fmt.Errorf("cannot tell this boot from others: %w", err)
	}
	lock, err := waitLock(ctx, c.file("kvm.lock"), func() { say("waiting for another run to try KVM") })
	if err != nil {
		return false, err
	}
	defer lock.Close()
	file := c.file("kvm-works")
	id := strings.TrimSpace(string(bootID))
	if text, err := os.ReadFile(file); err == nil {
		known, answer, _ := bytes.Cut(bytes.TrimSpace(text), []byte(" "))
		if string(known) == id {
			return string(answer) == "yes", nil
		}
	}
	say("trying KVM, for %s at most", kvmPatience)
	works, err := tryKVM(ctx, plan)
	if err != nil {
		return false, err
	}
	answer := "no"
	if works {
		answer = "yes"
	}
	say("KVM works: %s", answer)
	if err := os.WriteFile(file, []byte(id+" "+answer+"\n"), 0o600); err != nil {
		return false, fmt.Errorf("cannot remember whether KVM works: %w", err)
	}
	return works, nil
}

// tryKVM boots the guest as far as its first word. The overlay it used is
// thrown away.
func tryKVM(ctx context.Context, plan bootPlan) (bool, error) {
	defer os.Remove(filepath.Join(plan.run, "root.qcow2"))
	ctx, cancel := context.WithTimeout(ctx, kvmPatience)
	defer cancel()
	m, err := boot(ctx, qemu{kvm: true}, plan, &console{file: io.Discard})
	if err != nil {
		return false, err
	}
	defer m.close()
	kind, _, err := readFrame(m.line)
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return false, context.Canceled
	}
	return err == nil && kind == frameHello, nil
}
