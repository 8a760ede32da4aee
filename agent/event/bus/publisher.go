package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// queueLength is how many signals may wait for the bus daemon. Objects are not counted: of several trees only the last is kept.
const queueLength = 4096

// Options say which bus, and who speaks.
type Options struct {
	Address string // as DBUS_SYSTEM_BUS_ADDRESS has it; empty for the system bus
	Version string // of the agent; a Publisher's
	Log     *slog.Logger
}

// Publisher shows a tree on the bus.
type Publisher struct {
	opts  Options
	log   *slog.Logger
	shelf *shelf
	wake  chan struct{}

	mu     sync.Mutex
	latest objects // as of the last Update
	queue  []todo  // while on the bus
	online bool
	lost   int   // signals that found the queue full
	err    error // why not on the bus
}

// todo is a signal to send, or objects to show.
type todo struct {
	event   Event
	objects objects // nil for a signal
}

// NewPublisher makes a publisher. Run gets it on the bus.
func NewPublisher(o Options) *Publisher {
	return &Publisher{
		opts: o, log: o.Log, shelf: &shelf{version: o.Version}, wake: make(chan struct{}, 1), latest: objects{},
		err: errors.New("not on the message bus yet"),
	}
}

// Update shows another tree, and has the differences signalled. It never waits.
func (p *Publisher) Update(t Tree) {
	now := objectsOf(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latest = now
	if !p.online {
		return
	}
	if n := len(p.queue); n > 0 && p.queue[n-1].objects != nil {
		p.queue[n-1].objects = now
	} else {
		p.queue = append(p.queue, todo{objects: now})
	}
	p.awake()
}

// Emit signals that something happened, after the updates before it. It never waits; while there is no bus nobody is told.
func (p *Publisher) Emit(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.online {
		return
	}
	if len(p.queue) >= queueLength {
		p.lost++
		return
	}
	p.queue = append(p.queue, todo{event: e})
	p.awake()
}

func (p *Publisher) awake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Err says why the publisher is not on the bus, nil when it is.
func (p *Publisher) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Run keeps the publisher on the bus until ctx ends, and tries again whenever it cannot be.
func (p *Publisher) Run(ctx context.Context) {
	keep(ctx, func() error { return p.session(ctx) }, func(err error) {
		if p.leave(err) {
			p.log.Warn("not on the message bus", "name", Name, "error", err)
		}
	})
	p.leave(errors.New("stopped"))
}

// leave notes why we are not on the bus, and says whether that is news.
func (p *Publisher) leave(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	news := p.err == nil || p.err.Error() != err.Error()
	p.err, p.online, p.queue = err, false, nil
	return news
}

// keep calls session until ctx ends, later and later while it fails at once. failed hears why each one ended before.
func keep(ctx context.Context, session func() error, failed func(error)) {
	wait := retryFirst
	for {
		began := time.Now()
		err := session()
		if ctx.Err() != nil {
			return
		}
		failed(err)
		if time.Since(began) > retryLast {
			wait = retryFirst
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
			wait = min(2*wait, retryLast)
		}
	}
}

// session is one stay on the bus.
func (p *Publisher) session(ctx context.Context) error {
	conn, settled, err := dial(address(p.opts.Address))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	news := make(chan *dbus.Signal, 16) // closed with the connection
	conn.Signal(news)
	if err := p.shelf.export(conn); err != nil {
		return err
	}
	if err := p.join(ctx, conn); err != nil {
		return err
	}
	if err := settled(); err != nil {
		return fmt.Errorf("cannot get on the message bus: %w", err)
	}
	p.log.Info("on the message bus", "name", Name)
	for {
		select {
		case <-ctx.Done():
			return p.flush(conn) // what was said before the end is heard
		case <-p.wake:
			if err := p.flush(conn); err != nil {
				return err
			}
		case s, ok := <-news:
			if !ok {
				return errGone
			}
			if s.Sender == "org.freedesktop.DBus" && s.Name == "org.freedesktop.DBus.NameLost" && slices.Equal(s.Body, []any{Name}) {
				return fmt.Errorf("the name %s was taken away", Name)
			}
		}
	}
}

// join shows the latest objects and takes the name: who sees the name sees the objects.
func (p *Publisher) join(ctx context.Context, conn *dbus.Conn) error {
	p.mu.Lock()
	p.shelf.put(p.latest)
	p.queue, p.online = nil, true
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	var reply uint32
	call := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.RequestName", 0, Name, uint32(dbus.NameFlagDoNotQueue))
	if err := call.Store(&reply); err != nil {
		return fmt.Errorf("cannot take the name %s: %w", Name, err)
	}
	if reply != uint32(dbus.RequestNameReplyPrimaryOwner) {
		return fmt.Errorf("cannot take the name %s: another process has it", Name)
	}
	p.mu.Lock()
	p.err = nil
	p.mu.Unlock()
	return nil
}

// flush sends what waits.
func (p *Publisher) flush(conn *dbus.Conn) error {
	p.mu.Lock()
	queue, lost := p.queue, p.lost
	p.queue, p.lost = nil, 0
	p.mu.Unlock()
	if lost > 0 {
		p.log.Warn("signals were not sent: the message bus is slow", "signals", lost)
	}
	for _, next := range queue {
		messages := []message{next.event.message()}
		if next.objects != nil {
			messages = diff(p.shelf.put(next.objects), next.objects)
		}
		for _, m := range messages {
			if err := conn.Emit(m.path, m.name, m.body...); err != nil {
				return fmt.Errorf("cannot signal on the message bus: %w", err)
			}
		}
	}
	return nil
}
