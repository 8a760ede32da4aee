package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roleGuest is the hidden argument that makes this program the guest's side.
const roleGuest = "guest"

const (
	guestRun       = "/run/lab"
	guestPID       = guestRun + "/pid"
	guestOrder     = guestRun + "/order.json"
	guestDeb       = "/lab/lls.deb"
	guestDebLog    = "/var/log/lab-install.log"
	guestHasDeb    = "/var/lib/lab-has-lls"
	portVirtio     = "/dev/virtio-ports/lab"
	portSerial     = "/dev/ttyS0"
	outputPatience = 3 * time.Second
)

// guest is the guest's side of the lab: it asks the machine for a job, runs it
// and reports.
type guest struct {
	line *os.File
	out  *frameWriter
}

func guestMain() error {
	// Before hello: lab-reboot may follow at once.
	orders := make(chan os.Signal, 1)
	signal.Notify(orders, syscall.SIGUSR1)
	if err := os.MkdirAll(guestRun, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(guestPID, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	line, err := openLine()
	if err != nil {
		return err
	}
	g := &guest{line: line, out: &frameWriter{w: line}}
	if err := g.out.send(frameHello, nil); err != nil {
		return err
	}
	if err := g.serve(orders); err != nil {
		return errors.Join(err, g.out.send(frameFailed, []byte(err.Error())))
	}
	// The machine cuts the power now. Ending here would let systemd go on.
	sleepForEver()
	return nil
}

// openLine opens the line to the machine.
func openLine() (*os.File, error) {
	if line, err := os.OpenFile(portVirtio, os.O_RDWR, 0); !errors.Is(err, fs.ErrNotExist) {
		return line, err
	}
	line, err := os.OpenFile(portSerial, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the line to the machine: %w", err)
	}
	if _, err := makeRaw(int(line.Fd())); err != nil {
		return nil, err
	}
	return line, nil
}

// serve runs the job, or carries out the order to reboot that comes instead.
func (g *guest) serve(orders <-chan os.Signal) error {
	kind, payload, err := readFrame(g.line)
	if err != nil {
		return fmt.Errorf("cannot read the job: %w", err)
	}
	if kind != frameJob {
		return fmt.Errorf("cannot read the job: got frame %q", kind)
	}
	var j job
	if err := json.Unmarshal(payload, &j); err != nil {
		return fmt.Errorf("cannot read the job: %w", err)
	}
	if err := checkInstalled(); err != nil {
		return err
	}
	run, err := g.start(j)
	if err != nil {
		fmt.Fprintf(stream{g.out, frameStderr}, "lab: %v\n", err)
		return g.out.sendJSON(frameExit, exitReport{startStatus(err)})
	}
	select {
	case status := <-run.status:
		// What the command left in the share must survive the power cut.
		unix.Sync()
		return g.out.sendJSON(frameExit, exitReport{status})
	case <-orders:
		return g.reboot(run)
	}
}

// reboot ends the command and everything it started in its process group, and
// has the machine boot this guest again.
func (g *guest) reboot(run *guestRunning) error {
	payload, err := os.ReadFile(guestOrder)
	if err != nil {
		return fmt.Errorf("cannot read the order to reboot: %w", err)
	}
	var order rebootOrder
	if err := json.Unmarshal(payload, &order); err != nil {
		return fmt.Errorf("cannot read the order to reboot: %w", err)
	}
	if order.Hard {
		// The share is not part of the machine that loses power.
		if err := syncShare(); err != nil {
			return err
		}
		if err := g.out.send(frameReboot, payload); err != nil || g.line.Name() != portVirtio {
			return err
		}
		// No sync, no shutdown. User-mode Linux would start again by itself: it is
		// killed instead.
		return os.WriteFile("/proc/sysrq-trigger", []byte("b"), 0o200)
	}
	if err := syscall.Kill(-run.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot end the command: %w", err)
	}
	if err := g.out.send(frameReboot, payload); err != nil {
		return err
	}
	if out, err := exec.Command("systemctl", "--no-block", "poweroff").CombinedOutput(); err != nil {
		return fmt.Errorf("cannot power off: %w: %s", err, out)
	}
	return nil
}

func syncShare() error {
	dir, err := os.Open("/share")
	if err != nil {
		return fmt.Errorf("cannot open the share: %w", err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("cannot sync the share: %w", err)
	}
	return nil
}

// checkInstalled makes sure that lab-init could install LLS's package.
func checkInstalled() error {
	if _, err := os.Stat(guestDeb); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(guestHasDeb); err != nil {
		log, _ := os.ReadFile(guestDebLog)
		return fmt.Errorf("cannot install LLS's package:\n%s", log)
	}
	return nil
}

// guestRunning is a command that runs.
type guestRunning struct {
	pid    int // also its process group
	status <-chan int
}

// start starts the job with its streams connected to the line.
func (g *guest) start(j job) (*guestRunning, error) {
	for _, entry := range j.Env {
		if path, ok := strings.CutPrefix(entry, "PATH="); ok {
			// exec looks the command up in our own PATH.
			os.Setenv("PATH", path)
		}
	}
	cmd := exec.Command(j.Command[0], j.Command[1:]...)
	cmd.Env = j.Env
	cmd.Dir = "/root"
	// Processes the command left behind may hold its output open for ever.
	cmd.WaitDelay = outputPatience
	if j.Tty {
		return g.startTty(cmd, j.Terminal)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = stream{g.out, frameStdout}, stream{g.out, frameStderr}
	stdin, input, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	cmd.Stdin = stdin
	if err := cmd.Start(); err != nil {
		input.Close()
		return nil, err
	}
	go g.feed(input, nil)
	return &guestRunning{cmd.Process.Pid, wait(cmd)}, nil
}

// feed passes input on until the line ends, which is when the power does.
func (g *guest) feed(input io.WriteCloser, resize func(Terminal)) {
	for {
		kind, payload, err := readFrame(g.line)
		if err != nil {
			fmt.Fprintf(os.Stderr, "lab guest: line: %v\n", err)
			return
		}
		switch kind {
		case frameStdin:
			// A command that does not read its input is no fault.
			_, _ = input.Write(payload)
		case frameStdinEnd:
			input.Close()
		case frameResize:
			var size Terminal
			if json.Unmarshal(payload, &size) == nil && resize != nil {
				resize(size)
			}
		}
	}
}

// wait reports the command's status when it and its output have ended.
func wait(cmd *exec.Cmd) <-chan int {
	status := make(chan int, 1)
	go func() {
		err := cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
			fmt.Fprintf(os.Stderr, "lab guest: wait: %v\n", err)
		}
		status <- exitStatus(cmd.ProcessState)
	}()
	return status
}

// exitStatus is a process's status as a shell tells it.
func exitStatus(state *os.ProcessState) int {
	ws, ok := state.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}

// startStatus is the status of a command that could not be started, as a shell
// tells it.
func startStatus(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return 127
	}
	return 126
}

// rebootMain is lab-reboot: it asks the guest's side for a reboot and waits for
// the end.
func rebootMain(args []string) error {
	var order rebootOrder
	if len(args) > 0 && args[0] == "--hard" {
		order.Hard, args = true, args[1:]
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return fmt.Errorf("%w: lab-reboot [--hard] COMMAND [ARGS]", errUsage)
	}
	order.Command = args
	payload, err := json.Marshal(order)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(guestPID)
	if err != nil {
		return fmt.Errorf("cannot find the lab's guest side: %w", err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return fmt.Errorf("cannot find the lab's guest side: %w", err)
	}
	if err := os.WriteFile(guestOrder, payload, 0o600); err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		return fmt.Errorf("cannot tell the lab's guest side: %w", err)
	}
	// The caller must not go on: it ends with the guest.
	sleepForEver()
	return nil
}

// sleepForEver is not select{}, which the runtime takes for a deadlock.
func sleepForEver() {
	for {
		time.Sleep(time.Hour)
	}
}
