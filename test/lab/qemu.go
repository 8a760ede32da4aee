package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// qemu runs the guest with its own Debian kernel in a whole virtual machine.
type qemu struct {
	kvm bool // else every instruction is translated
}

func (qemu) disk() string { return "/dev/vdb" }

// powerCut is longer than nothing: the guest resets itself, and QEMU, which
// takes that for its end, first writes the overlay's tables that it holds in
// memory. What the guest's kernel had not written is lost all the same.
func (qemu) powerCut() time.Duration { return 20 * time.Second }

func (q qemu) command(plan bootPlan) (*exec.Cmd, error) {
	overlay := filepath.Join(plan.run, "root.qcow2")
	if _, err := os.Stat(overlay); errors.Is(err, fs.ErrNotExist) {
		out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw",
			"-b", filepath.Join(plan.image, "base.img"), overlay).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("cannot make the guest's root disk: %w: %s", err, out)
		}
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-m", strconv.FormatInt(plan.memory>>20, 10) + "M",
		"-kernel", filepath.Join(plan.image, "vmlinuz"), "-initrd", filepath.Join(plan.image, "initrd.img"),
		"-append", "root=/dev/vda rw console=ttyS0 panic=-1 quiet init=/usr/local/sbin/lab-init systemd.show_status=0 net.ifnames=0",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=line,fd=3", "-device", "virtio-serial-pci",
		"-device", "virtserialport,chardev=line,name=lab",
		"-device", "virtio-rng-pci",
	}
	// The host never loses power here: flushes to its disk would only cost time.
	for _, drive := range []string{"format=qcow2,file=" + quoteComma(overlay), "format=raw,discard=unmap,file=" + quoteComma(plan.disk)} {
		args = append(args, "-drive", "if=virtio,cache=unsafe,"+drive)
	}
	for tag, dir := range map[string]string{"lab": filepath.Join(plan.run, "lab"), "share": plan.share} {
		args = append(args, "-virtfs", "local,security_model=none,multidevs=remap,mount_tag="+tag+",path="+quoteComma(dir))
	}
	if q.kvm {
		args = append(args, "-machine", "q35,accel=kvm", "-cpu", "host", "-smp", "2")
	} else {
		// One CPU: on two, QEMU 7.2 trips over the kernel patching its own code
		// (an int3 oops at boot, now and then). Five-level page tables cost
		// translated code a lot.
		args = append(args, "-machine", "q35", "-accel", "tcg", "-smp", "1", "-cpu", "max,la57=off")
	}
	return exec.Command("qemu-system-x86_64", args...), nil
}

// quoteComma escapes a value in QEMU's lists of options.
func quoteComma(s string) string { return strings.ReplaceAll(s, ",", ",,") }
