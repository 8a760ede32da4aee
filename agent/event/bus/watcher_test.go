package bus

import (
	"context"
	"errors"
	"os"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"lls/agent/event"
)

// login stands in for logind on the test's bus: it gives delay locks, and knows which are held.
type login struct {
	conn *dbus.Conn

	mu     sync.Mutex
	down   bool
	given  int
	ours   *os.File // of the last lock: at its end of file all of the other ends are closed
	theirs *os.File // our copy of the other end, until it has arrived
	asker  string
	reason []string
}

// Inhibit is logind's method.
func (l *login) Inhibit(sender dbus.Sender, what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.given, l.ours, l.theirs, l.asker, l.reason = l.given+1, ours, theirs, string(sender), []string{what, who, why, mode}
	return dbus.UnixFD(theirs.Fd()), nil
}

// Get is the method of Properties.
func (l *login) Get(iface, name string) (dbus.Variant, *dbus.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if iface != logindManager || name != goingDown {
		return dbus.Variant{}, dbusError("UnknownProperty", "%s", name)
	}
	return dbus.MakeVariant(l.down), nil
}

// startLogin puts a logind on the bus.
func startLogin(t *testing.T, d *daemon, down bool) *login {
	t.Helper()
	l := &login{conn: d.client(t), down: down}
	for iface, methods := range map[string]map[string]any{logindManager: {"Inhibit": l.Inhibit}, propertiesInterface: {"Get": l.Get}} {
		if err := l.conn.ExportMethodTable(methods, logindPath, iface); err != nil {
			t.Fatal(err)
		}
	}
	own(t, l.conn, logind)
	return l
}

// last is who asked for the last lock, and with what words.
func (l *login) last() (asker string, reason []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asker, l.reason
}

func own(t *testing.T, conn *dbus.Conn, name string) {
	t.Helper()
	if reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("cannot own %s: %v, %v", name, reply, err)
	}
}

func (l *login) say(t *testing.T, starting bool) {
	t.Helper()
	if err := l.conn.Emit(logindPath, logindManager+"."+aboutToGoDown, starting); err != nil {
		t.Fatal(err)
	}
}

// watched is a watcher on a bus, and what it hears.
func watched(t *testing.T, d *daemon) (*Watcher, <-chan event.Event) {
	t.Helper()
	w := NewWatcher(options(d, t))
	events := make(chan event.Event, 100)
	spawn(t, func(ctx context.Context) { w.Run(ctx, func(e event.Event) { events <- e }) })
	return w, events
}

func expect(t *testing.T, events <-chan event.Event, want event.Event) {
	t.Helper()
	if got := next(t, events); !reflect.DeepEqual(got, want) {
		t.Errorf("heard %#v, want %#v", got, want)
	}
}

// lockIs waits until the watcher has been given so many locks, and holds the last or does not, as logind sees it.
func lockIs(t *testing.T, w *Watcher, l *login, given int, held bool) {
	t.Helper()
	eventually(t, "the lock is as wanted", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.given == given && (w.lock != nil) == held
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.theirs.Close() // the watcher has it, or had it
	wait := 100 * time.Millisecond
	if !held {
		wait = 15 * time.Second // until a program that is being started has closed what it inherited
	}
	if err := l.ours.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ours.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) != held {
		t.Errorf("logind sees the lock: %v, want held: %v", err, held)
	}
}

func TestAShutdownWaitsForRelease(t *testing.T) {
	d := newDaemon(t)
	d.start(t)
	l := startLogin(t, d, false)
	w, events := watched(t, d)
	lockIs(t, w, l, 1, true)
	if _, reason := l.last(); !reflect.DeepEqual(reason, []string{"shutdown", inhibitor, inhibitorCause, "delay"}) {
		t.Errorf("asked for %q", reason)
	}
	l.say(t, true)
	expect(t, events, event.Shutdown{Starting: true})
	lockIs(t, w, l, 1, true)
	w.Release()
	lockIs(t, w, l, 1, false)
	l.say(t, false)
	expect(t, events, event.Shutdown{Starting: false})
	lockIs(t, w, l, 2, true)
}

// Until a shutdown that is called off was told of, its work may end, which lets go of the lock: never of that against the next one.
func TestAReleaseThatComesLateLeavesTheNextLock(t *testing.T) {
	d := newDaemon(t)
	d.start(t)
	l := startLogin(t, d, false)
	w := NewWatcher(options(d, t))
	spawn(t, func(ctx context.Context) {
		w.Run(ctx, func(e event.Event) {
			if e == (event.Shutdown{Starting: false}) {
				w.Release()
			}
		})
	})
	lockIs(t, w, l, 1, true)
	l.say(t, true)
	l.say(t, false)
	lockIs(t, w, l, 2, true)
}

func TestALogindThatComesLaterIsMetToo(t *testing.T) {
	d := newDaemon(t)
	w, events := watched(t, d)
	d.start(t)
	l := startLogin(t, d, true)
	lockIs(t, w, l, 1, true)
	expect(t, events, event.Shutdown{Starting: true})
}

// Nobody says of a shutdown that does not happen that it is called off, when the logind that announced it is gone.
func TestAShutdownThatLogindForgotIsCalledOff(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, d *daemon, l *login){
		"logind is replaced": func(_ *testing.T, _ *daemon, l *login) { _ = l.conn.Close() },
		"the bus is replaced": func(t *testing.T, d *daemon, _ *login) {
			d.stop()
			d.start(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t)
			d.start(t)
			l := startLogin(t, d, false)
			w, events := watched(t, d)
			lockIs(t, w, l, 1, true)
			l.say(t, true)
			expect(t, events, event.Shutdown{Starting: true})
			w.Release()
			lockIs(t, w, l, 1, false)
			lose(t, d, l)
			l = startLogin(t, d, false)
			expect(t, events, event.Shutdown{Starting: false})
			lockIs(t, w, l, 2, true) // the first was given back: it was of the shutdown that was told of
			l.say(t, true)
			expect(t, events, event.Shutdown{Starting: true})
		})
	}
}

func TestOnlyLogindAnnouncesAShutdown(t *testing.T) {
	d := newDaemon(t)
	d.start(t)
	l := startLogin(t, d, false)
	w, events := watched(t, d)
	lockIs(t, w, l, 1, true)
	asker, _ := l.last()
	forged := &dbus.Message{Type: dbus.TypeSignal, Body: []any{true}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(asker), dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(logindPath)),
		dbus.FieldInterface: dbus.MakeVariant(logindManager), dbus.FieldMember: dbus.MakeVariant(aboutToGoDown),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(true)),
	}}
	stranger := d.client(t)
	if call := stranger.Send(forged, nil); call != nil && call.Err != nil {
		t.Fatal(call.Err)
	}
	var ignored string
	if err := stranger.BusObject().Call(busDaemon+".GetId", 0).Store(&ignored); err != nil { // the daemon has passed it on by now
		t.Fatal(err)
	}
	l.say(t, false)
	expect(t, events, event.Shutdown{Starting: false})
}

func TestLvmdbusdIsHeardButNeverStarted(t *testing.T) {
	d := newDaemon(t)
	d.start(t)
	l := startLogin(t, d, false)
	w, events := watched(t, d)
	lockIs(t, w, l, 1, true) // it listens
	lvm := d.client(t)
	if _, err := os.Stat(d.dir + "/started"); err == nil {
		t.Error("lvmdbusd was started")
	}
	own(t, lvm, lvmdbusd)
	for _, signal := range []string{objectManager + ".InterfacesAdded", objectManager + ".InterfacesRemoved", propertiesInterface + ".PropertiesChanged"} {
		if err := lvm.Emit("/com/redhat/lvmdbus1", signal); err != nil {
			t.Fatal(err)
		}
		expect(t, events, event.Hint{Source: lvmdbusd})
	}
}
