package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/godbus/dbus/v5"

	"lls/agent/event"
)

// Who is listened to. Nothing is ever sent to lvmdbusd, which the bus would start for it.
const (
	busDaemon = "org.freedesktop.DBus"

	lvmdbusd = "com.redhat.lvmdbus1"

	logind         = "org.freedesktop.login1"
	logindPath     = "/org/freedesktop/login1"
	logindManager  = "org.freedesktop.login1.Manager"
	aboutToGoDown  = "PrepareForShutdown"
	goingDown      = "PreparingForShutdown" // the property
	inhibitor      = "LLS"
	inhibitorCause = "Finishing work on volumes"
)

// Watcher hears from lvmdbusd, where it runs, that something changed, and from logind that the machine goes down. It holds logind's
// delay lock, so that the machine waits (5 s, if logind.conf does not say otherwise) until Release.
type Watcher struct {
	opts Options
	log  *slog.Logger

	mu       sync.Mutex
	lock     *os.File
	released bool // the machine goes down, and we are done

	told bool // of a shutdown that goes on, as far as was heard; Run's own
}

// NewWatcher makes a watcher. Run listens.
func NewWatcher(o Options) *Watcher { return &Watcher{opts: o, log: o.Log} }

// Release lets the machine go down. It is called when work is done, after a Shutdown that starts, and not after one that does not.
func (w *Watcher) Release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.released = true
	w.dropLock()
}

func (w *Watcher) dropLock() {
	if w.lock != nil {
		_ = w.lock.Close() // a pipe: there is nothing to lose
		w.lock = nil
	}
}

// Run calls emit for Hint and Shutdown events until ctx ends, and gets back on the bus whenever it falls off. emit must not take long.
func (w *Watcher) Run(ctx context.Context, emit func(event.Event)) {
	var last string
	keep(ctx, func() error { return w.session(ctx, emit) }, func(err error) {
		if last != err.Error() {
			last = err.Error()
			w.log.Warn("not listening to the message bus", "error", err)
		}
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropLock()
}

// stay is one stay on the bus.
type stay struct {
	w      *Watcher
	conn   *dbus.Conn
	emit   func(event.Event)
	owners map[string]string // unique names of those listened to: any process could send signals in their name to us alone
}

func (w *Watcher) session(ctx context.Context, emit func(event.Event)) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	s := &stay{w: w, conn: conn, emit: emit, owners: map[string]string{}}
	news := make(chan *dbus.Signal, 64) // closed with the connection
	conn.Signal(news)
	if err := s.subscribe(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case signal, ok := <-news:
			if !ok {
				return errGone
			}
			s.hear(ctx, signal)
		}
	}
}

// connect gets on the bus, able to take the lock's descriptor.
func (w *Watcher) connect(ctx context.Context) (*dbus.Conn, error) {
	conn, err := dbus.Dial(address(w.opts.Address), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, fmt.Errorf("cannot reach the message bus: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, setupDeadline)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err = conn.Auth(nil); err == nil {
		err = conn.Hello()
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("cannot get on the message bus: %w", err)
	}
	return conn, nil
}

// subscribe asks for the signals, and then who is there.
func (s *stay) subscribe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	from, iface, member := dbus.WithMatchSender, dbus.WithMatchInterface, dbus.WithMatchMember
	for _, match := range [][]dbus.MatchOption{
		{from(busDaemon), iface(busDaemon), member("NameOwnerChanged"), dbus.WithMatchArg(0, lvmdbusd)},
		{from(busDaemon), iface(busDaemon), member("NameOwnerChanged"), dbus.WithMatchArg(0, logind)},
		{from(lvmdbusd), iface(objectManager)},
		{from(lvmdbusd), iface(propertiesInterface), member("PropertiesChanged")},
		{from(logind), iface(logindManager), member(aboutToGoDown), dbus.WithMatchObjectPath(logindPath)},
	} {
		if err := s.conn.AddMatchSignalContext(ctx, match...); err != nil {
			return fmt.Errorf("cannot listen to the message bus: %w", err)
		}
	}
	for _, name := range []string{lvmdbusd, logind} {
		var owner string
		err := s.conn.BusObject().CallWithContext(ctx, busDaemon+".GetNameOwner", 0, name).Store(&owner)
		var refused dbus.Error
		if err != nil && !errors.As(err, &refused) { // refused: nobody has the name
			return fmt.Errorf("cannot listen to the message bus: %w", err)
		}
		s.owners[name] = owner
	}
	if s.owners[logind] != "" {
		s.meetLogind(ctx)
	}
	return nil
}

// hear makes events of a signal.
func (s *stay) hear(ctx context.Context, signal *dbus.Signal) {
	switch {
	case signal.Sender == busDaemon && signal.Name == busDaemon+".NameOwnerChanged":
		var name, before, now string
		if dbus.Store(signal.Body, &name, &before, &now) != nil {
			return
		}
		s.owners[name] = now
		if name == logind && now != "" {
			s.meetLogind(ctx)
		}
	case signal.Sender == "":
	case signal.Sender == s.owners[lvmdbusd]:
		s.emit(event.Hint{Source: lvmdbusd})
	case signal.Sender == s.owners[logind] && signal.Name == logindManager+"."+aboutToGoDown:
		var starting bool
		if dbus.Store(signal.Body, &starting) != nil {
			return
		}
		s.shutdown(ctx, starting)
	}
}

// meetLogind takes the lock of a logind that is new to us, and asks whether the machine goes down already. One that does not know of the
// shutdown that the one before it began will never say that it is called off.
func (s *stay) meetLogind(ctx context.Context) {
	s.takeLock(ctx)
	down, err := s.goingDown(ctx)
	if err != nil {
		s.w.log.Warn("cannot ask whether the host is going down", "error", err)
		return
	}
	if down || s.w.told {
		s.shutdown(ctx, down)
	}
}

func (s *stay) goingDown(ctx context.Context) (down bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	var value dbus.Variant
	err = s.conn.Object(logind, logindPath).
		CallWithContext(ctx, propertiesInterface+".Get", dbus.FlagNoAutoStart, logindManager, goingDown).Store(&value)
	if err != nil {
		return false, err
	}
	err = value.Store(&down)
	return down, err
}

// shutdown tells that one starts, or is called off.
func (s *stay) shutdown(ctx context.Context, starting bool) {
	s.w.told = starting
	s.emit(event.Shutdown{Starting: starting}) // first: what Release lets go of is never the lock against the next one
	if starting {
		return
	}
	s.w.mu.Lock()
	s.w.released = false
	s.w.mu.Unlock()
	s.takeLock(ctx)
}

// takeLock has logind wait for us. Where it will not, the agent's unit still stops in order.
func (s *stay) takeLock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	var fd dbus.UnixFD
	err := s.conn.Object(logind, logindPath).
		CallWithContext(ctx, logindManager+".Inhibit", dbus.FlagNoAutoStart, "shutdown", inhibitor, inhibitorCause, "delay").Store(&fd)
	if err != nil {
		s.w.log.Warn("a shutdown will not wait for work to be finished", "error", err)
		return
	}
	lock := os.NewFile(uintptr(fd), "inhibitor lock")
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.dropLock()
	if s.w.released {
		_ = lock.Close()
		return
	}
	s.w.lock = lock
}
