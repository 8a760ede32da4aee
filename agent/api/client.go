package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"syscall"
	"time"
)

// Line is one line of the answer to a POST: any number of Progress lines, then one Result or one Error.
type Line struct {
	Progress string          `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

const (
	// maxAnswer bounds what the client reads of one answer: a list of ten thousand volumes is about 5 MB.
	maxAnswer = 64 << 20
	// getTimeout is how long an answer may take that only tells.
	getTimeout = time.Minute
)

// Client speaks to one agent. Make it with [Dial]; it needs no closing.
type Client struct {
	socket string
	// Progress, when set, is told of each step of long work.
	Progress func(text string)
}

// Dial makes a client of the agent at socket. Nothing is sent yet.
func Dial(socket string) *Client { return &Client{socket: socket} }

// Get asks for what path tells and decodes it into out. The error is an *[Error], or the cause of
// ctx's end.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	late := Errorf(Unreachable, "cannot ask the agent: it did not answer in %v", getTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, getTimeout, late)
	defer cancel()
	target := "/" + Version + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	return c.exchange(ctx, "GET", target, nil, func(status int, dec *json.Decoder) error {
		if status != 200 {
			var line Line
			if err := dec.Decode(&line); err != nil || line.Error == nil {
				return unreadable(status)
			}
			return line.Error
		}
		if err := dec.Decode(out); err != nil {
			return cut(ctx, err)
		}
		return nil
	})
}

// Post has the agent do what path says with in, and decodes the result into out, which may be nil. The error is an
// *[Error], or ctx's.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("cannot ask the agent: %w", err)
	}
	return c.exchange(ctx, "POST", "/"+Version+path, body, func(status int, dec *json.Decoder) error {
		for {
			var line Line
			if err := dec.Decode(&line); err != nil {
				if status != 200 && ctx.Err() == nil {
					return unreadable(status)
				}
				return cut(ctx, err)
			}
			switch {
			case line.Error != nil:
				return line.Error
			case line.Result != nil:
				if out == nil {
					return nil
				}
				if err := json.Unmarshal(line.Result, out); err != nil {
					return Errorf(Failed, "cannot read the agent's answer: %v", err)
				}
				return nil
			case c.Progress != nil:
				c.Progress(line.Progress)
			}
		}
	})
}

// Watch hands each event of the agent's stream to each, until that or ctx ends it, or the agent does: then the error's
// code is Interrupted.
func (c *Client) Watch(ctx context.Context, each func(Event) error) error {
	return c.exchange(ctx, "GET", "/"+Version+PathWatch, nil, func(status int, dec *json.Decoder) error {
		if status != 200 {
			var line Line
			if err := dec.Decode(&line); err != nil || line.Error == nil {
				return unreadable(status)
			}
			return line.Error
		}
		for {
			var e Event
			if err := dec.Decode(&e); err != nil {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				return Errorf(Interrupted, "cannot watch any longer: the agent ended the stream").
					WithHint("begin anew, and see what happened meanwhile: lls list").Because(err)
			}
			if err := each(e); err != nil {
				return err
			}
		}
	})
}

// exchange sends one request on a connection of its own and has read take the answer's body.
func (c *Client) exchange(ctx context.Context, method, target string, body []byte, read func(int, *json.Decoder) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	conn, err := connect(c.socket)
	if err != nil {
		return c.unreachable(err)
	}
	defer func() { _ = conn.Close() }()
	// A ctx that ends makes every read and write fail at once; cut then answers with ctx's own error.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	// An agent that refuses the request unread has answered before it closed: what it said is still to be read.
	if err := writeRequest(conn, method, target, body); err != nil && !errors.Is(err, syscall.EPIPE) {
		return cut(ctx, err)
	}
	status, answer, err := readHead(conn)
	if err != nil {
		return cut(ctx, err)
	}
	return read(status, json.NewDecoder(io.LimitReader(answer, maxAnswer)))
}

// unreachable is the error of a request that was never sent.
func (c *Client) unreachable(err error) error {
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
		return Errorf(Denied, "cannot reach the agent at %s: %v", c.socket, err).Because(err).
			WithHint("become root; in a container, members of the groups that lxc.client_groups in the host's lls.toml names may as well")
	}
	return Errorf(Unreachable, "cannot reach the agent at %s: %v", c.socket, err).Because(err)
}

// cut is the error of an answer that ended too early: the work may or may not have been done. It tells a dead agent
// from a caller who gave up.
func cut(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return Errorf(Interrupted, "cannot tell whether it was done: the agent stopped in the middle").Because(err)
}

func unreadable(status int) error {
	return Errorf(Failed, "cannot read the agent's answer: HTTP status %d", status)
}
