package bus

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"lls/agent/api"
)

// published is a publisher on a bus, and a program of root's that hears all signals of the agent.
func published(t *testing.T) (*daemon, *Publisher, *dbus.Conn, <-chan *dbus.Signal) {
	t.Helper()
	d := newDaemon(t)
	d.start(t)
	p := NewPublisher(options(d, t))
	p.Update(Tree{Volumes: []api.Volume{volume("a")}, Pools: []api.Pool{{Name: "main"}}, Containers: []api.Container{{Name: "dev"}}})
	spawn(t, p.Run)
	eventually(t, "the publisher is on the bus", func() bool { return p.Err() == nil })
	client := d.client(t)
	heard := make(chan *dbus.Signal, 100)
	client.Signal(heard)
	if err := client.AddMatchSignal(dbus.WithMatchSender(Name)); err != nil {
		t.Fatal(err)
	}
	return d, p, client, heard
}

// agents is the next signal that is not the bus daemon's own.
func agents(t *testing.T, heard <-chan *dbus.Signal) *dbus.Signal {
	t.Helper()
	for {
		if s := next(t, heard); s.Sender != busDaemon {
			return s
		}
	}
}

func TestRootReadsWhatThereIs(t *testing.T) {
	_, _, client, _ := published(t)
	var all map[dbus.ObjectPath]map[string]map[string]dbus.Variant
	root := client.Object(Name, dbus.ObjectPath(Root))
	if err := root.Call(objectManager+".GetManagedObjects", 0).Store(&all); err != nil {
		t.Fatal(err)
	}
	if got := all["/org/lls/Agent1/volumes/a"][VolumeInterface]["Size"].Value(); len(all) != 3 || got != int64(1<<30) {
		t.Errorf("%d objects, and a volume of %v bytes", len(all), got)
	}
	object := client.Object(Name, "/org/lls/Agent1/volumes/a")
	if v, err := object.GetProperty(VolumeInterface + ".Owner"); err != nil || v.Value() != "dev" {
		t.Errorf("the owner is %v, %v", v, err)
	}
	if v, err := root.GetProperty(ManagerInterface + ".Version"); err != nil || v.Value() != "1.2.3" {
		t.Errorf("the version is %v, %v", v, err)
	}
	for what, call := range map[string]struct {
		path         dbus.ObjectPath
		method, want string
		args         []any
	}{
		"a change":             {"/org/lls/Agent1/volumes/a", propertiesInterface + ".Set", "PropertyReadOnly", []any{VolumeInterface, "Owner", dbus.MakeVariant("x")}},
		"another object":       {"/org/lls/Agent1/volumes/x", propertiesInterface + ".GetAll", "UnknownObject", []any{VolumeInterface}},
		"another interface":    {"/org/lls/Agent1/volumes/a", propertiesInterface + ".GetAll", "UnknownInterface", []any{PoolInterface}},
		"another property":     {"/org/lls/Agent1/volumes/a", propertiesInterface + ".Get", "UnknownProperty", []any{VolumeInterface, "X"}},
		"the manager of less":  {"/org/lls/Agent1/volumes", objectManager + ".GetManagedObjects", "UnknownInterface", nil},
		"a method of no kind":  {"/org/lls/Agent1", ManagerInterface + ".Delete", "UnknownInterface", nil},
		"a description of air": {"/org/lls/Agent2", introspectable + ".Introspect", "UnknownObject", nil},
	} {
		err := client.Object(Name, call.path).Call(call.method, 0, call.args...).Err
		var refused dbus.Error
		if !errors.As(err, &refused) || refused.Name != "org.freedesktop.DBus.Error."+call.want {
			t.Errorf("%s: %v, want %s", what, err, call.want)
		}
	}
}

func TestChangesAndEventsAreHeardInTheirOrder(t *testing.T) {
	_, p, _, heard := published(t)
	p.Emit(Event{Signal: VolumeCreated, Object: VolumePath("b"), Name: "dev/b", Details: map[string]string{"origin": "a"}})
	p.Update(Tree{Volumes: []api.Volume{volume("a"), volume("b")}})
	p.Emit(Event{Signal: Mounted, Object: VolumePath("b"), Name: "dev/b", Details: map[string]string{"path": "/da\xffta"}})
	want := []struct {
		name string
		body []any // compared as far as it goes
	}{
		{ManagerInterface + ".VolumeCreated", []any{dbus.ObjectPath("/org/lls/Agent1/volumes/b"), "dev/b", map[string]string{"origin": "a"}}},
		{objectManager + ".InterfacesRemoved", []any{dbus.ObjectPath("/org/lls/Agent1/containers/dev"), []string{ContainerInterface}}},
		{objectManager + ".InterfacesRemoved", []any{dbus.ObjectPath("/org/lls/Agent1/pools/main"), []string{PoolInterface}}},
		{objectManager + ".InterfacesAdded", []any{dbus.ObjectPath("/org/lls/Agent1/volumes/b")}},
		{ManagerInterface + ".Mounted", []any{dbus.ObjectPath("/org/lls/Agent1/volumes/b"), "dev/b", map[string]string{"path": "/da\uFFFDta"}}},
	}
	for _, w := range want {
		got := agents(t, heard)
		if got.Name != w.name || len(got.Body) < len(w.body) || !reflect.DeepEqual(got.Body[:len(w.body)], w.body) {
			t.Errorf("heard %s %v, want %s %v", got.Name, got.Body, w.name, w.body)
		}
	}
}

func TestManyUpdatesAtOnceEndWithTheLast(t *testing.T) {
	_, p, client, heard := published(t)
	for n := range 500 {
		p.Update(Tree{Volumes: []api.Volume{volume("a", func(v *api.Volume) { v.Size = int64(n) })}})
	}
	p.Emit(Event{Signal: VolumeChanged, Name: "last"})
	signals := 0
	for agents(t, heard).Name != ManagerInterface+".VolumeChanged" {
		signals++
	}
	if v, err := client.Object(Name, "/org/lls/Agent1/volumes/a").GetProperty(VolumeInterface + ".Size"); err != nil || v.Value() != int64(499) {
		t.Errorf("at the end the size is %v, %v", v, err)
	}
	t.Logf("%d signals for 500 updates", signals)
}

func TestItComesBackWithTheBus(t *testing.T) {
	d := newDaemon(t)
	p := NewPublisher(options(d, t))
	spawn(t, p.Run)
	eventually(t, "the publisher says that there is no bus", func() bool { return strings.Contains(fmt.Sprint(p.Err()), "cannot reach") })
	p.Update(Tree{Volumes: []api.Volume{volume("a")}})
	p.Emit(Event{Signal: VolumeCreated})
	for range 2 {
		d.start(t)
		eventually(t, "the publisher is on the bus", func() bool { return p.Err() == nil })
		if _, err := d.client(t).Object(Name, "/org/lls/Agent1/volumes/a").GetProperty(VolumeInterface + ".Size"); err != nil {
			t.Error(err)
		}
		d.stop()
		eventually(t, "the publisher notices", func() bool { return p.Err() != nil })
	}
}

func TestTheNameIsNotTakenFromAnotherAgent(t *testing.T) {
	d, _, _, _ := published(t)
	second := NewPublisher(options(d, t))
	spawn(t, second.Run)
	eventually(t, "the second publisher says so", func() bool { return strings.Contains(fmt.Sprint(second.Err()), "another process has it") })
}

func TestADaemonThatDoesNotReadIsGivenUp(t *testing.T) {
	d, p, _, _ := published(t)
	if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	paths := make([]api.Mount, 2000)
	for i := range paths {
		paths[i] = api.Mount{Container: "dev", Path: strings.Repeat("x", 1000)}
	}
	for n := range 20 {
		p.Update(Tree{Volumes: []api.Volume{volume("a", func(v *api.Volume) { v.Size, v.Mounts = int64(n), paths[n:] })}})
		time.Sleep(10 * time.Millisecond)
	}
	eventually(t, "the publisher gives up", func() bool { return p.Err() != nil })
	if err := d.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it comes back", func() bool { return p.Err() == nil })
}

func TestBusctlShowsIt(t *testing.T) {
	d, p, _, _ := published(t)
	if _, err := exec.LookPath("busctl"); err != nil {
		t.Skip("needs busctl")
	}
	busctl := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("busctl", append([]string{"--address=" + d.address, "--no-pager"}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("busctl %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	if out := busctl("tree", Name); !strings.Contains(out, "/org/lls/Agent1/volumes/a") || !strings.Contains(out, "/org/lls/Agent1/pools/main") {
		t.Errorf("busctl tree shows\n%s", out)
	}
	for path, want := range map[string]string{"/org/lls/Agent1/volumes/a": ".Size", "/org/lls/Agent1": ".PoolGrown", "/org/lls/Agent1/containers": "Introspectable"} {
		if out := busctl("introspect", Name, path); !strings.Contains(out, want) {
			t.Errorf("busctl introspect %s shows\n%s", path, out)
		}
	}
	monitor := exec.Command("busctl", "--address="+d.address, "monitor", Name)
	out, err := monitor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	monitor.Stderr = testWriter{t}
	if err := monitor.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case lines <- s.Text():
			default: // more than anybody waits for
			}
		}
	}()
	defer func() { _ = monitor.Process.Kill(); _ = monitor.Wait() }()
	eventually(t, "busctl monitor shows a mount", func() bool {
		p.Emit(Event{Signal: Mounted, Object: VolumePath("a"), Name: "dev/a"})
		for {
			select {
			case line := <-lines:
				if strings.Contains(line, "Member=Mounted") {
					return true
				}
			default:
				return false
			}
		}
	})
}

// spyEnv has the test's program be somebody else's program that listens at this address.
const spyEnv = "LLS_TEST_BUS_SPY"

func TestMain(m *testing.M) {
	if address := os.Getenv(spyEnv); address != "" {
		os.Exit(spy(address))
	}
	os.Exit(m.Run())
}

// spy tries to read, and then prints each signal that it hears until its input ends.
func spy(address string) int {
	conn, err := dbus.Connect(address, dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	heard := make(chan *dbus.Signal, 100)
	conn.Signal(heard)
	if err := conn.AddMatchSignal(); err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println("read", conn.Object(Name, dbus.ObjectPath(Root)).Call(objectManager+".GetManagedObjects", 0).Err)
	_, err = conn.RequestName(Name, dbus.NameFlagReplaceExisting)
	fmt.Println("own", err)
	go func() {
		for s := range heard {
			fmt.Println("heard", s.Name)
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func TestNobodyButRootReadsOrHears(t *testing.T) {
	d, p, client, heard := published(t)
	program, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(d.dir+"/spy", program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(d.dir + "/spy")
	cmd.Env = []string{spyEnv + "=" + d.address}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	lines := make(chan string, 100)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	for _, what := range []string{"read", "own"} {
		for {
			line := next(t, lines)
			if strings.HasPrefix(line, "heard ") {
				continue
			}
			if !strings.HasPrefix(line, what) || strings.Contains(line, "<nil>") {
				t.Errorf("another user: %s", line)
			}
			t.Log(line)
			break
		}
	}
	p.Update(Tree{Volumes: []api.Volume{volume("hidden")}})
	p.Emit(Event{Signal: VolumeCreated, Name: "hidden"})
	for agents(t, heard).Name != ManagerInterface+".VolumeCreated" { // root hears it
	}
	if err := client.Emit("/", "lls.test.Everybody"); err != nil {
		t.Fatal(err)
	}
	for line := next(t, lines); line != "heard lls.test.Everybody"; line = next(t, lines) {
		if strings.Contains(line, "org.lls") || strings.Contains(line, "ObjectManager") || strings.Contains(line, "Properties") {
			t.Errorf("another user: %s", line)
		}
	}
}
