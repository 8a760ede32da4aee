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

// sender takes a message, or says why not. An *unsentError says what is known of each address; errUnsure, that the message may have been
// taken.
type sender interface {
	send(ctx context.Context, m message) error
}

// unsentError is what was said about the addresses that did not get a message.
type unsentError struct {
	Err     error
	Taken   bool     // others got it
	Lacking []string // those of them that may get it another time, as in Config.To: what was said of the rest is final
}

func (e *unsentError) Error() string {
	if e.Taken {
		return "not everybody got it: " + e.Err.Error()
	}
	return e.Err.Error()
}

func (e *unsentError) Unwrap() error { return e.Err }

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

// step sends one mail if one is due, or else one to those who lack it, and says in how long to look again.
func (n *Notifier) step(ctx context.Context) time.Duration {
	n.mu.Lock()
	now := time.Now()
	c, m, wait := n.due(now)
	var r *rest
	if m == nil {
		if r, wait = n.restDue(now, wait); r != nil {
			c.To, m = r.To, &r.Message
		}
	}
	n.mu.Unlock()
	if m == nil {
		return wait
	}
	err := n.send(ctx, c, *m)
	n.mu.Lock()
	defer n.mu.Unlock()
	if r != nil {
		n.triedRest(time.Now(), r, err)
	} else {
		n.tried(time.Now(), *m, err)
	}
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

// backoff is how long to wait after so many failures and one more.
func backoff(failures int) time.Duration {
	if failures < 16 {
		return min(firstRetry<<failures, lastRetry)
	}
	return lastRetry
}

// tried notes how a try ended. Once one address has the mail it is done with, but for those who may take it another time.
func (n *Notifier) tried(now time.Time, m message, err error) {
	var unsent *unsentError
	if err != nil && (!errors.As(err, &unsent) || !unsent.Taken) {
		wait := backoff(n.failures)
		n.failures++
		n.retryAt, n.lastErr = now.Add(wait), err.Error()
		n.queue.frozen = n.queue.frozen || errors.Is(err, errUnsure)
		n.log.Warn("cannot send mail", "error", err, "queued", n.queue.waiting(), "again in", wait)
		return
	}
	n.failures, n.retryAt, n.lastErr = 0, time.Time{}, ""
	if err != nil {
		n.log.Warn("mail was not sent to everybody", "error", err, "tried again for", unsent.Lacking)
		if len(unsent.Lacking) == 0 {
			n.lastErr = err.Error()
		} else { // the rest tells why until it is sent
			r := &rest{Message: m, To: unsent.Lacking}
			r.later(now, err)
			if err := n.queue.keep(r); err != nil {
				n.log.Warn("cannot write to the mail queue: some may not get a mail", "error", err)
			}
		}
	}
	if err := n.queue.done(now); err != nil {
		n.log.Warn("cannot write to the mail queue: a mail may be sent twice", "error", err)
	}
	n.log.Info("mail sent", "left", n.queue.waiting())
}
