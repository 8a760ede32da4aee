package main

import (
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// input passes this process's input to the guest. It is read from the first
// boot on; after a reboot it goes to the continuation.
type input struct {
	mu    sync.Mutex
	to    *frameWriter
	ready *sync.Cond
	ended bool
}

// openInput says where the job's input comes from, and makes the user's
// terminal raw for an interactive job. restore undoes that and may be called
// again.
func (s *session) openInput(j *job) (in *input, restore func(), err error) {
	in = &input{}
	in.ready = sync.NewCond(&in.mu)
	stdin := int(os.Stdin.Fd())
	terminal := isTerminal(stdin)
	if s.opt.verb == verbShell && terminal {
		if j.Terminal, err = terminalOf(stdin); err != nil {
			return nil, nil, err
		}
		old, err := makeRaw(stdin)
		if err != nil {
			return nil, nil, err
		}
		go in.copy(os.Stdin)
		go in.follow(stdin)
		// Nothing can be done about a terminal that is gone.
		return in, func() { _ = unix.IoctlSetTermios(stdin, unix.TCSETS, old) }, nil
	}
	if terminal {
		// A command that runs beside the user's typing does not take it.
		in.ended = true
	} else {
		go in.copy(os.Stdin)
	}
	return in, func() {}, nil
}

// attach directs the input to a guest that has just got its job.
func (in *input) attach(to *frameWriter) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.to = to
	if in.ended {
		// An error means that the guest is gone: its reader tells.
		_ = to.send(frameStdinEnd, nil)
	}
	in.ready.Broadcast()
}

// copy passes r on to the guest. It is left behind, waiting for input, when
// the program ends.
func (in *input) copy(r io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			_ = in.guest().send(frameStdin, buf[:n])
		}
		if err != nil {
			to := in.guest()
			in.mu.Lock()
			in.ended = true
			in.mu.Unlock()
			_ = to.send(frameStdinEnd, nil)
			return
		}
	}
}

// guest waits for a guest and returns the way to it.
func (in *input) guest() *frameWriter {
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.to == nil {
		in.ready.Wait()
	}
	return in.to
}

// follow tells the guest when the user's terminal changes its size.
func (in *input) follow(fd int) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	for range changed {
		if t, err := terminalOf(fd); err == nil {
			_ = in.guest().sendJSON(frameResize, t)
		}
	}
}
