// Package notify mails the sysadmin what happened. What is added is on disk before Add returns; one goroutine sends it, the first
// piece of news at once and then at most one mail in so long, and tries again until a mail server takes it: for one address at least, and
// then for some days, beside later mail, for those that it would not serve at the time. A mail keeps its Message-ID over all tries and
// restarts, so that what was sent twice can be told.
package notify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"lls/internal/run"
)

// Severity is how soon the sysadmin has to act. The subject of a mail is about what is most severe in it.
type Severity int

const (
	Info   Severity = iota // all is well
	Warn                   // something has to be done in time
	Urgent                 // something has to be done now; the mail says so
)

// Item is one thing that happened. Its texts may come from anywhere: what does not print is replaced, white space becomes one space,
// and what is too long is cut.
type Item struct {
	At       time.Time // zero: when it is added
	Severity Severity
	Line     string   // what happened, before and after, and why: one sentence
	Subject  string   // the same in short, for the mail's subject; empty: Line
	Of       string   `json:",omitempty"` // whose doing it is, like a container's: only so many of one's are listed; empty: the host's own
	Details  []Detail `json:",omitempty"`
}

// Detail is something to know about an item, like what is left, or who writes most.
type Detail struct {
	Name string // like "left in the group", without a colon
	Text string
}

// Config says where mail goes.
type Config struct {
	To       []string      // addresses; a name without @ is a user of this host. Nobody: what is added is dropped
	From     string        // empty: root of this host
	Relay    string        // host:port, or a host's port 25, of an SMTP server; empty: the host's sendmail
	Sendmail string        // the path of that program; empty: DefaultSendmail
	Every    time.Duration // at most one mail in so long
}

// DefaultSendmail is where every mail server of a Linux host puts it (Linux Standard Base 3.0, 17.2).
const DefaultSendmail = "/usr/sbin/sendmail"

// Options say what does not change while the agent runs.
type Options struct {
	Dir    string // of the queue, one process's own; made if it is not there
	Host   string // what the host is called in mail; empty: its host name
	Domain string // what comes after the @ of its users; empty: /etc/mailname, else Host
	Log    *slog.Logger
	Run    *run.Runner
}

// Status is what waits, and how sending goes.
type Status struct {
	Queued    int       // items that no server has taken yet, those that were left out included
	OldestAt  time.Time // when the first of them happened; zero if none waits
	LastSent  time.Time // when a server last took a mail; zero: never
	LastError string    // of the last try to send, empty when that went well and nobody lacks a mail that others have
}

// Notifier queues and sends. Its methods may be called from several goroutines.
type Notifier struct {
	log  *slog.Logger
	host identity
	via  func(Config) (sender, error) // for tests to replace
	wake chan struct{}

	mu       sync.Mutex
	config   Config
	queue    *queue
	failures int       // tries in a row that failed
	retryAt  time.Time // not before; after a failure
	lastErr  string
}

// Open reads the queue of an earlier process. A file there that cannot be read is logged and removed; only a directory that cannot
// be had is an error.
func Open(o Options, c Config) (*Notifier, error) {
	if o.Host == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("cannot open mail queue: %w", err)
		}
		o.Host = name
	}
	q, err := openQueue(o.Dir, o.Log)
	if err != nil {
		return nil, fmt.Errorf("cannot open mail queue: %w", err)
	}
	n := &Notifier{log: o.Log, host: identify(o.Host, o.Domain), wake: make(chan struct{}, 1), config: c, queue: q}
	n.via = func(c Config) (sender, error) { return newSender(c, n.host, o.Run) }
	return n, nil
}

// SetConfig puts another configuration in force. A mail that waits is tried at once.
func (n *Notifier) SetConfig(c Config) {
	n.mu.Lock()
	n.config, n.failures, n.retryAt = c, 0, time.Time{}
	for _, r := range n.queue.rests {
		r.failures, r.retryAt = 0, time.Time{}
	}
	n.mu.Unlock()
	n.poke()
}

// Add queues an item durably; Run sends it. A queue that is full counts what it leaves out. After an error the item is still sent,
// unless the process ends before.
func (n *Notifier) Add(it Item) error {
	if it.At.IsZero() {
		it.At = time.Now()
	}
	it = it.clean()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.config.To) == 0 {
		n.log.Info("nobody to mail to", "news", it.Line)
		return nil
	}
	defer n.poke()
	if err := n.queue.add(it); err != nil {
		return fmt.Errorf("cannot queue mail: %w", err)
	}
	return nil
}

// poke makes Run look again.
func (n *Notifier) poke() {
	select {
	case n.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Status tells how it goes.
func (n *Notifier) Status() Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := Status{Queued: n.queue.waiting(), LastSent: n.queue.sent.At, LastError: n.lastErr}
	if len(n.queue.items) > 0 {
		s.OldestAt = n.queue.items[0].At
	}
	if rests := n.queue.rests; s.LastError == "" && len(rests) > 0 {
		s.LastError = rests[0].Why
	}
	return s
}

// errNobody says that there is no address to send to.
var errNobody = errors.New("no address to send to: name one in mail.to")

// Test sends one mail now, past the queue. The error is what the server, or sendmail, said; also when it refused only one of several
// addresses.
func (n *Notifier) Test(ctx context.Context) error {
	n.mu.Lock()
	c := n.config
	n.mu.Unlock()
	if len(c.To) == 0 {
		return fmt.Errorf("cannot send mail: %w", errNobody)
	}
	now := time.Now()
	it := Item{At: now, Line: "This is a test: mail from lls-agent arrives.", Subject: "test: mail from lls-agent arrives"}
	return n.send(ctx, c, n.host.compose(newID(), now, []Item{it}, leftOut{}))
}

// newID is the part of a Message-ID before the @.
func newID() string { return "lls." + rand.Text() }
