package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bootPlan is what a backend needs to boot a guest. A plan may be booted several
// times, one after the other: the disks keep what the guest wrote.
type bootPlan struct {
	image  string // folder of the guest image
	run    string // the run's folder; its lab/ is the guest's /lab
	share  string // absolute path of the folder for the guest's /share
	disk   string // the empty disk
	memory int64  // bytes
	cpu    int    // CPU to pin to, where one is enough
}

// backend is a way to run a guest.
type backend interface {
	// disk is the empty disk's name in the guest.
	disk() string
	// powerCut is how long the guest takes to go down when it cuts its own
	// power; 0 if it has to be killed for that.
	powerCut() time.Duration
	// command returns the program that is the guest. It inherits the line to
	// the guest as file descriptor 3 and writes the console to stdout and
	// stderr.
	command(plan bootPlan) (*exec.Cmd, error)
}

// machine is a running guest.
type machine struct {
	cmd     *exec.Cmd
	line    *os.File // frames, both ways
	console *console
	done    chan struct{} // closed when the guest's process has ended
	err     error         // how it ended, valid after done
}

// boot starts a guest. It dies with this process, however this process ends,
// and with ctx. The caller must call kill.
func boot(ctx context.Context, b backend, plan bootPlan, con *console) (*machine, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make the line to the guest: %w", err)
	}
	// Only our end: the guest sets its own as it likes it.
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return nil, errors.Join(err, unix.Close(pair[0]), unix.Close(pair[1]))
	}
	line, theirs := os.NewFile(uintptr(pair[0]), "line"), os.NewFile(uintptr(pair[1]), "guest's line")
	defer theirs.Close()
	cmd, err := b.command(plan)
	if err != nil {
		line.Close()
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stdout, cmd.Stderr = con, con
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// Out of the terminal's foreground group: Ctrl-C is ours to handle.
	cmd.SysProcAttr.Setpgid = true
	m := &machine{cmd: cmd, line: line, console: con, done: make(chan struct{})}
	started := make(chan error)
	go m.supervise(ctx, started)
	if err := <-started; err != nil {
		line.Close()
		return nil, fmt.Errorf("cannot start the guest: %w", err)
	}
	return m, nil
}

// supervise starts the guest and waits for its end. The thread stays locked
// because the kernel sends the parent death signal when the thread that started
// the child ends.
func (m *machine) supervise(ctx context.Context, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := m.cmd.Start(); err != nil {
		started <- err
		return
	}
	stop := context.AfterFunc(ctx, m.kill)
	defer stop()
	started <- nil
	m.err = m.cmd.Wait()
	close(m.done)
}

// kill cuts the guest's power. It may be called at any time and again.
func (m *machine) kill() {
	// Process.Kill knows when the process is gone already.
	_ = m.cmd.Process.Kill()
}

// close kills the guest and waits until nothing of it is left.
func (m *machine) close() {
	m.kill()
	<-m.done
	m.line.Close()
}

// console keeps a guest's console: all of it in a file, the end in memory.
type console struct {
	mu   sync.Mutex
	file io.Writer
	tail []byte
}

const consoleTail = 16 << 10

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail = append(c.tail, p...)
	if len(c.tail) > 2*consoleTail {
		c.tail = append([]byte(nil), c.tail[len(c.tail)-consoleTail:]...)
	}
	if _, err := c.file.Write(p); err != nil {
		// A full disk must not stop the guest: the tail remains.
		c.file = io.Discard
	}
	return len(p), nil
}

// last returns the console's last n lines.
func (c *console) last(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return lastLines(string(bytes.ReplaceAll(c.tail, []byte("\r"), nil)), n)
}
