package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// makeRaw makes a terminal pass every byte as it is, and returns how it was.
func makeRaw(fd int) (*unix.Termios, error) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("cannot read terminal settings: %w", err)
	}
	raw := *old
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON | unix.IXOFF
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("cannot make terminal raw: %w", err)
	}
	return old, nil
}

// isTerminal tells whether fd is a terminal.
func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// terminalOf describes the terminal at fd.
func terminalOf(fd int) (Terminal, error) {
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return Terminal{}, fmt.Errorf("cannot read the terminal's size: %w", err)
	}
	return Terminal{Tty: true, Rows: size.Row, Cols: size.Col, Term: os.Getenv("TERM")}, nil
}

// startTty starts a job on a pseudo terminal of its own.
func (g *guest) startTty(cmd *exec.Cmd, t Terminal) (*guestRunning, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open a terminal: %w", err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("cannot unlock a terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("cannot name a terminal: %w", err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open a terminal: %w", err)
	}
	defer slave.Close()
	resize := func(t Terminal) {
		// A wrong size is ugly, not wrong.
		_ = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: t.Rows, Col: t.Cols})
	}
	resize(t)
	cmd.Env = append(cmd.Env, "TERM="+t.Term)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		master.Close()
		return nil, err
	}
	go g.feed(master, resize)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		// Ends with an error when the last process has left the terminal.
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			if g.out.send(frameStdout, buf[:n]) != nil {
				return
			}
		}
	}()
	ended := wait(cmd)
	status := make(chan int, 1)
	go func() {
		s := <-ended
		select {
		case <-drained:
		case <-time.After(outputPatience):
		}
		status <- s
	}()
	return &guestRunning{cmd.Process.Pid, status}, nil
}
