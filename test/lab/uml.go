package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roleJail is the hidden argument that makes this program the root of a guest's
// namespaces.
const roleJail = "jail"

// uml runs the guest in user-mode Linux: a kernel that is an ordinary program.
type uml struct {
	kernel string // folder made by builder.umlKernel
}

func (uml) disk() string { return "/dev/ubdb" }

// powerCut is killing the kernel: its disks are files it writes without delay.
func (uml) powerCut() time.Duration { return 0 }

// jailPlan tells the jail what to mount where, and what to start.
type jailPlan struct {
	Root  string
	Binds map[string]string // by mount point below Root
	CPU   int
	Argv  []string
	Env   []string
}

// jailMountpoints are the folders a kernel image has for the jail. /run is the
// run's folder, /img the guest image.
var jailMountpoints = []string{"proc", "tmp", "dev", "run", "img", "share"}

// command starts this program again, as the first process of a PID and a mount
// namespace of its own: what it mounts, and every process of the guest, is gone
// with it.
func (u uml) command(plan bootPlan) (*exec.Cmd, error) {
	diskName, err := filepath.Rel(plan.run, plan.disk)
	if err != nil {
		return nil, fmt.Errorf("cannot place the disk: %w", err)
	}
	spec, err := json.Marshal(jailPlan{
		Root:  u.kernel,
		Binds: map[string]string{"run": plan.run, "img": plan.image, "share": plan.share},
		CPU:   plan.cpu,
		// TMPDIR must allow exec: the guest's memory is a file there.
		Env: []string{"TMPDIR=/tmp", "HOME=/tmp", "PATH=/usr/bin"},
		Argv: []string{"/usr/bin/linux.uml",
			"mem=" + strconv.FormatInt(plan.memory>>20, 10) + "M",
			"ubd0=/run/root.cow,/img/base.img", "ubd1=/run/" + diskName,
			"root=/dev/ubda", "rw", "seccomp=on",
			"con=null", "con0=null,fd:2", "ssl=null", "ssl0=fd:3",
			"uml_dir=/tmp", "umid=lab", "quiet", "init=/usr/local/sbin/lab-init", "systemd.show_status=0",
		},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot encode the jail's plan: %w", err)
	}
	cmd := exec.Command("/proc/self/exe", roleJail, string(spec))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	return cmd, nil
}

// jailMain mounts what the guest's process needs, starts it in its own root and
// ends with it.
func jailMain(args []string) error {
	// Mounts and the choice of a CPU are the thread's.
	runtime.LockOSThread()
	if len(args) != 1 {
		return fmt.Errorf("%w: jail takes one argument", errUsage)
	}
	var plan jailPlan
	if err := json.Unmarshal([]byte(args[0]), &plan); err != nil {
		return fmt.Errorf("cannot read the jail's plan: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	for name, source := range plan.Binds {
		if err := unix.Mount(source, filepath.Join(plan.Root, name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cannot bind %s: %w", source, err)
		}
	}
	if err := unix.Mount("proc", filepath.Join(plan.Root, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("cannot mount /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", filepath.Join(plan.Root, "tmp"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=100%,mode=1777"); err != nil {
		return fmt.Errorf("cannot mount /tmp: %w", err)
	}
	if err := unix.Mount("/dev", filepath.Join(plan.Root, "dev"), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot bind /dev: %w", err)
	}
	// On two CPUs the kernel's threads wait for one another: ten times slower.
	var set unix.CPUSet
	set.Set(plan.CPU)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("cannot pin to CPU %d: %w", plan.CPU, err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("cannot forbid core dumps: %w", err)
	}
	// A child, because signals do nothing to the first process of a namespace, and
	// a kernel that panics ends with one.
	kernel := exec.Command(plan.Argv[0], plan.Argv[1:]...)
	kernel.Env, kernel.Dir = plan.Env, "/"
	kernel.Stdout, kernel.Stderr = os.Stdout, os.Stderr
	kernel.ExtraFiles = []*os.File{os.NewFile(3, "line")}
	kernel.SysProcAttr = &syscall.SysProcAttr{Chroot: plan.Root}
	if err := kernel.Run(); err != nil {
		return fmt.Errorf("cannot go on: user-mode Linux ended: %w", err)
	}
	return nil
}
