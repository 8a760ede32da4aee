package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// Line is one line of the answer to a POST: any number of Progress lines, then one Result or one Error.
type Line struct {
	Progress string          `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

// maxAnswer bounds what the client reads of one answer: a list of ten thousand volumes is about 5 MB.
const maxAnswer = 64 << 20

// Client speaks to one agent. Make it with [Dial]; it needs no closing.
type Client struct {
	http   *http.Client
	socket string
	// Progress, when set, is told of each step of long work.
	Progress func(text string)
}

// Dial makes a client of the agent at socket. Nothing is sent yet.
func Dial(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: dial, DisableKeepAlives: true, DisableCompression: true,
	}}}
}

// Get asks for what path tells and decodes it into out. The error is an *[Error], or ctx's.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	u := c.url(path)
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return fmt.Errorf("cannot ask the agent: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	dec := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode != http.StatusOK {
		var line Line
		if err := dec.Decode(&line); err != nil || line.Error == nil {
			return Errorf(Failed, "cannot read the agent's answer: HTTP status %d", resp.StatusCode)
		}
		return line.Error
	}
	if err := dec.Decode(out); err != nil {
		return c.cut(ctx, err)
	}
	return nil
}

// Post has the agent do what path says with in, and decodes the result into out, which may be nil. The error is an
// *[Error], or ctx's.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("cannot ask the agent: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url(path), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("cannot ask the agent: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	dec := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	for {
		var line Line
		if err := dec.Decode(&line); err != nil {
			return c.cut(ctx, err)
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
}

func (c *Client) url(path string) string { return "http://lls/" + Version + path }

// unreachable tells a dead agent from a caller who gave up.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return Errorf(Unreachable, "cannot reach the agent at %s: %v", c.socket, op.Err).Because(err)
	}
	return c.cut(ctx, err)
}

// cut is the error of an answer that ended too early: the work may or may not have been done.
func (c *Client) cut(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return Errorf(Interrupted, "cannot tell whether it was done: the agent stopped in the middle").Because(err)
}
