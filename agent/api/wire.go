package api

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// The client's side of HTTP, by hand: net/http and net would treble the size of a static client and double the
// time it takes to start. It speaks HTTP/1.0, in which the end of an answer is the end of the connection: an answer cut
// short is seen by its JSON, which is then not complete.

const (
	// connectTimeout, in seconds, bounds the wait for an agent whose queue of callers is full.
	connectTimeout = 10
	// maxHead bounds the status line and headers of an answer.
	maxHead = 16 << 10
)

// connect opens a connection to the Unix socket at path. The error is a plain errno. The caller closes the file.
func connect(path string) (*os.File, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	// A blocking connect waits while the queue is full, where a non-blocking one would fail with EAGAIN.
	tv := syscall.Timeval{Sec: connectTimeout}
	err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &tv)
	for err == nil {
		if err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err == nil {
			break
		}
		if errors.Is(err, syscall.EINTR) {
			err = nil
		}
	}
	if err == nil {
		err = syscall.SetNonblock(fd, true) // so that the file below heeds deadlines
	}
	if err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// writeRequest sends a whole request. target holds no byte that could end the request line: it is made of this
// package's paths and an encoded query.
func writeRequest(w io.Writer, method, target string, body []byte) error {
	req := make([]byte, 0, 256+len(body))
	req = append(req, method+" "+target+" HTTP/1.0\r\nHost: lls\r\n"...)
	if body != nil {
		req = append(req, "Content-Type: application/json\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n"...)
	}
	req = append(req, "\r\n"...)
	req = append(req, body...)
	_, err := w.Write(req)
	return err
}

// readHead reads the status line and the headers of an answer. The reader it returns gives the body.
func readHead(r io.Reader) (status int, body io.Reader, err error) {
	head := bufio.NewReader(r)
	left := maxHead
	for first := true; ; first = false {
		line, err := head.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		if left -= len(line); left < 0 {
			return 0, nil, errors.New("the answer's head is too long")
		}
		text := strings.TrimRight(string(line), "\r\n")
		switch {
		case first:
			if status, err = parseStatus(text); err != nil {
				return 0, nil, err
			}
		case text == "":
			return status, head, nil
		case strings.HasPrefix(strings.ToLower(text), "transfer-encoding:"):
			return 0, nil, errors.New("the answer is chunked, which HTTP/1.0 does not know")
		}
	}
}

// parseStatus takes the status out of a status line: "HTTP/1.1 200 OK".
func parseStatus(line string) (int, error) {
	proto, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if !strings.HasPrefix(proto, "HTTP/1.") || err != nil || len(code) != 3 || status < 100 {
		return 0, errors.New("the answer is not HTTP")
	}
	return status, nil
}
