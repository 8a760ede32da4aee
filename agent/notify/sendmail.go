package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/mail"

	"lls/internal/run"
)

// program sends with a sendmail command.
type program struct {
	path     string
	envelope string // empty: the program's choice, the user it runs as
	users    []string
	from     *mail.Address
	to       []*mail.Address
	domain   string
	run      *run.Runner
}

func (p program) send(ctx context.Context, m message) error {
	var text bytes.Buffer
	if _, err := build(m, p.domain, p.from, p.to...).WriteTo(&text); err != nil {
		return err
	}
	args := []string{"-i"} // a line with a dot alone does not end it
	if p.envelope != "" {
		args = append(args, "-f", p.envelope)
	}
	args = append(append(args, "--"), p.users...)
	lines := bytes.ReplaceAll(text.Bytes(), []byte("\r\n"), []byte("\n"))
	_, err := p.run.Run(ctx, run.Cmd{Name: p.path, Args: args, Stdin: bytes.NewReader(lines), Limit: 64 << 10})
	return p.explain(err)
}

// statuses are what sendmail programs exit with: sysexits.h.
var statuses = map[int]string{
	64: "it does not understand its arguments", 65: "it does not understand the mail", 67: "no such user", 68: "no such host",
	69: "mail is out of service", 70: "it has a fault", 71: "it lacks something of the system", 73: "it cannot create a file",
	74: "it cannot read or write a file", 75: "it wants another try later", 77: "it may not", 78: "it is not configured well",
}

// explain says what to do about a failure.
func (p program) explain(err error) error {
	if errors.Is(err, run.ErrNotInstalled) {
		return fmt.Errorf("%s: %w: install a mail server that has it, like postfix, or name a relay in mail.relay", p.path, run.ErrNotInstalled)
	}
	var e *run.Error
	if !errors.As(err, &e) {
		return err
	}
	if e.ExitStatus <= 0 { // it was ended, and may have been through
		return fmt.Errorf("%w: %w", errUnsure, err)
	}
	if meaning, ok := statuses[e.ExitStatus]; ok {
		return fmt.Errorf("%w (%s)", err, meaning)
	}
	return err
}
