package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// The lab and its guest speak in frames over one serial line (user-mode Linux)
// or virtio port (QEMU): a kind, a length of four bytes, big endian, and so
// many bytes. One line carries all streams, so their order is kept.
type frameKind byte

const (
	// From the guest.
	frameHello  frameKind = 'h' // the guest is up and asks for its job
	frameStdout frameKind = 'o'
	frameStderr frameKind = 'e'
	frameExit   frameKind = 'x' // JSON exitReport: the command is done, the share is synced
	frameReboot frameKind = 'r' // JSON rebootOrder: the continuation
	frameFailed frameKind = 'f' // text: the guest's side of the lab failed

	// From the machine.
	frameJob      frameKind = 'j' // JSON job
	frameStdin    frameKind = 'i'
	frameStdinEnd frameKind = 'c'
	frameResize   frameKind = 'w' // JSON winsize
)

// maxFrame bounds a frame's payload, so that a line out of step is noticed.
const maxFrame = 64 << 10

// job is what the guest is to run.
type job struct {
	Command []string
	Env     []string
	Terminal
}

// Terminal describes the terminal of an interactive job.
type Terminal struct {
	Tty  bool
	Rows uint16
	Cols uint16
	Term string
}

// exitReport is how the command ended: its status, 128+N if signal N killed it,
// as shells have it.
type exitReport struct {
	Status int
}

// rebootOrder is a continuation: the guest wants to be booted again and then
// run Command. Hard asks for a power cut instead of a clean shutdown.
type rebootOrder struct {
	Command []string
	Hard    bool
}

// frameWriter writes whole frames to one line; safe for concurrent use.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (fw *frameWriter) send(kind frameKind, payload []byte) error {
	for {
		part := payload
		if len(part) > maxFrame {
			part = part[:maxFrame]
		}
		if err := fw.sendOne(kind, part); err != nil {
			return err
		}
		payload = payload[len(part):]
		if len(payload) == 0 {
			return nil
		}
	}
}

func (fw *frameWriter) sendOne(kind frameKind, payload []byte) error {
	buf := make([]byte, 0, 5+len(payload))
	buf = append(buf, byte(kind))
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(payload)))
	buf = append(buf, payload...)
	fw.mu.Lock()
	defer fw.mu.Unlock()
	if _, err := fw.w.Write(buf); err != nil {
		return fmt.Errorf("cannot write frame %q: %w", kind, err)
	}
	return nil
}

func (fw *frameWriter) sendJSON(kind frameKind, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot encode frame %q: %w", kind, err)
	}
	if len(payload) > maxFrame {
		return fmt.Errorf("cannot send frame %q: %d bytes, at most %d", kind, len(payload), maxFrame)
	}
	return fw.sendOne(kind, payload)
}

// stream is an io.Writer whose bytes travel as frames of one kind.
type stream struct {
	fw   *frameWriter
	kind frameKind
}

func (s stream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.fw.send(s.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// readFrame reads one frame. io.EOF means that the line ended between frames.
func readFrame(r io.Reader) (frameKind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("cannot read frame %q: %d bytes, at most %d", head[0], n, maxFrame)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("cannot read frame %q: %w", head[0], io.ErrUnexpectedEOF)
	}
	return frameKind(head[0]), payload, nil
}
