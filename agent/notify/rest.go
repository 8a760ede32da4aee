package notify

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of rests. None keeps another mail waiting.
const (
	maxRests = 20                 // at a time: the oldest gives way
	keepRest = 4 * 24 * time.Hour // RFC 5321, 4.5.4.1, has mail servers try for so long at least
	maxRest  = 16 << 20           // bytes of its file: more than a mail of the most and longest items has
)

// restSuffix ends the name of a rest's file: NUMBER.rest, the mail's number. Once that is there its mail is done with, like by sentName.
const restSuffix = ".rest"

// rest is a mail that some have, while others lack it who may take it another time. The text stays as it was.
type rest struct {
	Message message
	To      []string // who lacks it, as in Config.To
	Why     string   // what was said last

	number   uint64
	failures int
	retryAt  time.Time
}

func (r *rest) name() string { return fmt.Sprintf("%020d%s", r.number, restSuffix) }

// later has it wait for its next try.
func (r *rest) later(now time.Time, err error) {
	r.Why, r.retryAt = err.Error(), now.Add(backoff(r.failures))
	r.failures++
}

// takeRest takes in a file of an earlier process, if it is a rest.
func (q *queue) takeRest(name string) {
	digits, ok := strings.CutSuffix(name, restSuffix)
	if !ok {
		return
	}
	number, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		q.remove(name)
		return
	}
	r := &rest{number: number}
	if q.read(name, r) {
		q.rests = append(q.rests, r)
		q.sent.Last = max(q.sent.Last, number)
	}
}

// keep keeps a rest of the mail that is tried, before that is done. It is in memory whatever the error.
func (q *queue) keep(r *rest) error {
	r.number = q.mail.Last
	for len(q.rests) >= maxRests {
		q.log.Warn("too many mails wait for those who lack them: the oldest is given up", "addresses", q.rests[0].To)
		q.dropRest(q.rests[0])
	}
	q.rests = append(q.rests, r)
	return q.write(r.name(), r)
}

// dropRest forgets a rest.
func (q *queue) dropRest(r *rest) {
	q.remove(r.name())
	q.rests = slices.DeleteFunc(q.rests, func(other *rest) bool { return other == r })
}

// restDue gives the rest that is to be sent now, or in how long to look again: in wait, if no rest is sooner. Who is not mailed to any more
// lacks nothing.
func (n *Notifier) restDue(now time.Time, wait time.Duration) (*rest, time.Duration) {
	for _, r := range slices.Clone(n.queue.rests) {
		to := slices.DeleteFunc(slices.Clone(r.To), func(a string) bool { return !slices.Contains(n.config.To, a) })
		if len(to) == 0 {
			n.log.Info("those who lack a mail are not mailed to any more", "addresses", r.To)
			n.queue.dropRest(r)
			continue
		}
		r.To = to
		d := r.retryAt.Sub(now)
		if d <= 0 {
			return r, 0
		}
		if wait == nothing || d < wait {
			wait = d
		}
	}
	return nil, wait
}

// triedRest notes how a try ended. One that fails when it is old enough is given up.
func (n *Notifier) triedRest(now time.Time, r *rest, err error) {
	var unsent *unsentError
	switch had := len(r.To); {
	case err == nil:
		n.log.Info("mail sent to those who lacked it", "addresses", r.To)
		n.queue.dropRest(r)
		return
	case errors.As(err, &unsent) && len(unsent.Lacking) == 0, now.Sub(r.Message.At) > keepRest:
		n.lastErr = err.Error()
		n.log.Warn("mail is given up for those who lack it", "addresses", r.To, "error", err)
		n.queue.dropRest(r)
		return
	case unsent != nil:
		r.To = unsent.Lacking
		if r.later(now, err); len(r.To) == had {
			break
		}
		if err := n.queue.write(r.name(), r); err != nil {
			n.log.Warn("cannot write to the mail queue: a mail may be sent twice", "error", err)
		}
	default:
		r.later(now, err)
	}
	n.log.Warn("cannot send mail to those who lack it", "addresses", r.To, "error", err, "again in", r.retryAt.Sub(now))
}
