package notify

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Times of sending.
const (
	firstRetry = time.Second     // after a failure, doubled each time
	lastRetry  = 5 * time.Minute // but never longer
	patience   = 2 * time.Minute // of one try
)

// sender takes a message, or says why not. A *refusedError says that it was taken for some addresses but not for others; errUnsure, that
// it may have been taken.
type sender interface {
	send(ctx context.Context, m message) error
}

// refusedError is what was said about the addresses that were refused, while others were not.
type refusedError struct{ Err error }

func (e *refusedError) Error() string { return "some addresses were refused: " + e.Err.Error() }
func (e *refusedError) Unwrap() error { return e.Err }

// errUnsure says that the message may have been taken although something failed.
var errUnsure = errors.New("it may have been sent")

// Run sends what is queued until the context ends, and then returns nil. Only one may run.
func (n *Notifier) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		case <-timer.C:
		}
		if wait := n.step(ctx); wait >= 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// nothing waits for news alone.
const nothing time.Duration = -1

// step sends one mail if one is due, and says in how long to look again.
func (n *Notifier) step(ctx context.Context) time.Duration {
	n.mu.Lock()
	c, m, wait := n.due(time.Now())
	n.mu.Unlock()
	if m == nil {
		return wait
	}
	err := n.send(ctx, c, *m)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tried(time.Now(), err)
	return 0
}

// send tries to send a message once.
func (n *Notifier) send(ctx context.Context, c Config, m message) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	to, err := n.via(c)
	if err == nil {
		err = to.send(ctx, m)
	}
	if err != nil {
		return lineError{fmt.Errorf("cannot send mail: %w", err)}
	}
	return nil
}

// lineError tells on one line what a server may have said on several.
type lineError struct{ error }

func (e lineError) Error() string { return oneLine(e.error.Error(), maxText) }
func (e lineError) Unwrap() error { return e.error }

// due gives the mail that is to be sent now, or how long nothing is.
func (n *Notifier) due(now time.Time) (Config, *message, time.Duration) {
	c := n.config
	if n.queue.waiting() == 0 {
		return c, nil, nothing
	}
	if len(c.To) == 0 {
		n.log.Warn("nobody to mail to any more: the queue is dropped", "items", n.queue.waiting())
		n.queue.drop()
		return c, nil, nothing
	}
	n.queue.clock(now) // the time that an earlier process noted is one of the wall clock
	wait := n.retryAt.Sub(now)
	if !n.queue.sent.At.IsZero() {
		wait = max(wait, n.queue.sent.At.Add(c.Every).Sub(now))
	}
	if wait > 0 {
		return c, nil, wait
	}
	d, items, err := n.queue.draft(now)
	if err != nil { // it is sent all the same: a full disk is news
		n.log.Warn("cannot write to the mail queue", "error", err)
	}
	m := n.host.compose(d.ID, d.At, items, d.LeftOut)
	return c, &m, 0
}

// tried notes how a try ended.
func (n *Notifier) tried(now time.Time, err error) {
	var refused *refusedError
	if err != nil && !errors.As(err, &refused) {
		wait := lastRetry
		if n.failures < 16 {
			wait = min(firstRetry<<n.failures, lastRetry)
		}
		n.failures++
		n.retryAt, n.lastErr = now.Add(wait), err.Error()
		n.queue.frozen = n.queue.frozen || errors.Is(err, errUnsure)
		n.log.Warn("cannot send mail", "error", err, "queued", n.queue.waiting(), "again in", wait)
		return
	}
	n.failures, n.retryAt, n.lastErr = 0, time.Time{}, ""
	if err != nil {
		n.lastErr = err.Error()
		n.log.Warn("mail was not sent to everybody", "error", err)
	}
	if err := n.queue.done(now); err != nil {
		n.log.Warn("cannot write to the mail queue: a mail may be sent twice", "error", err)
	}
	n.log.Info("mail sent", "left", n.queue.waiting())
}
