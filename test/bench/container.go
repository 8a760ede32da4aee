package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// order is a command for the copy of this program in the container, answer how it went: a stream of JSON each way.
type (
	order  struct{ Argv []string }
	answer struct {
		Took   time.Duration
		Output string
		Exit   int
	}
)

// serveCommands is the part in the container: it starts each command and times it to its exit, so that entering the container is not
// in the figures.
func serveCommands(in io.Reader, out io.Writer) int {
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			return 0 // there are no more
		}
		cmd := exec.Command(o.Argv[0], o.Argv[1:]...)
		began := time.Now()
		text, err := cmd.CombinedOutput()
		a := answer{Took: time.Since(began), Output: string(text)}
		if err != nil {
			a.Exit = 1
			a.Output += err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return 1
		}
	}
}

// container is the copy of this program in a container.
type container struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	orders  *json.Encoder
	answers *json.Decoder
}

func enter(name string) (*container, error) {
	cmd := exec.Command("lab-exec", name, guest, inside)
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot enter the container: %w", err)
	}
	return &container{cmd: cmd, in: in, orders: json.NewEncoder(in), answers: json.NewDecoder(out)}, nil
}

func (c *container) close() {
	_ = c.in.Close()
	_ = c.cmd.Wait() // its answers have been read
}

// time runs a command in the container and says how long it took; it must end well.
func (c *container) time(argv ...string) (time.Duration, error) {
	var a answer
	if err := errors.Join(c.orders.Encode(order{argv}), c.answers.Decode(&a)); err != nil {
		return 0, fmt.Errorf("cannot run %s in the container: %w", strings.Join(argv, " "), err)
	}
	if a.Exit != 0 {
		return 0, fmt.Errorf("%s in the container: %s", strings.Join(argv, " "), a.Output)
	}
	return a.Took, nil
}
