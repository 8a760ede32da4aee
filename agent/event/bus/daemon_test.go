package bus

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// busConfig is like Debian's system.conf, with the policy that is shipped, and with a service file that must never be used.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=%[1]s/bus</listen>
  <auth>EXTERNAL</auth>
  <servicedir>%[1]s/services</servicedir>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
  </policy>
  <policy user="root">
    <allow own="com.redhat.lvmdbus1"/>
    <allow own="org.freedesktop.login1"/>
    <allow send_destination="com.redhat.lvmdbus1"/>
    <allow send_destination="org.freedesktop.login1"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
  <include>%[2]s</include>
</busconfig>
`

// daemon is a bus daemon of the test's own.
type daemon struct {
	dir, address string
	cmd          *exec.Cmd
}

// newDaemon prepares a bus; start starts it.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	t.Parallel() // they mostly wait
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("needs dbus-daemon")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, whom the shipped policy is for")
	}
	dir, err := os.MkdirTemp("", "lls-bus-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // another user comes here too
		t.Fatal(err)
	}
	policy, err := filepath.Abs("../../../packaging/dbus/org.lls.Agent1.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "services"), 0o755); err != nil {
		t.Fatal(err)
	}
	service := fmt.Sprintf("[D-BUS Service]\nName=%s\nExec=/usr/bin/touch %s/started\nUser=root\n", lvmdbusd, dir)
	for name, text := range map[string]string{"bus.conf": fmt.Sprintf(busConfig, dir, policy), "services/" + lvmdbusd + ".service": service} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := &daemon{dir: dir, address: "unix:path=" + dir + "/bus"}
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) start(t *testing.T) {
	t.Helper()
	d.cmd = exec.Command("dbus-daemon", "--config-file="+d.dir+"/bus.conf", "--nofork", "--nopidfile", "--nosyslog", "--print-address=1")
	d.cmd.Stderr = testWriter{t}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("dbus-daemon said %q: %v", line, err)
	}
}

func (d *daemon) stop() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait() // killed
	_ = os.Remove(d.dir + "/bus")
	d.cmd = nil
}

// client is another of root's programs on the bus.
func (d *daemon) client(t *testing.T) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(d.address, dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// spawn runs something until the test ends.
func spawn(t *testing.T, run func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { run(ctx) })
	t.Cleanup(func() { cancel(); work.Wait() })
}

func options(d *daemon, t *testing.T) Options {
	return Options{Address: d.address, Version: "1.2.3", Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// eventually waits for something to be so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

// next is the next signal that comes.
func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case s := <-from:
		return s
	case <-time.After(15 * time.Second):
		t.Fatal("nothing came within 15 s")
		panic("unreachable")
	}
}
