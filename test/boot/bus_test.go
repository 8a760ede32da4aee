package boot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lls/test/kit"
)

const busName = "org.lls.Agent1"

// monitor writes what is said on the bus to a file, until the test ends.
func monitor(t *testing.T) (log string) {
	t.Helper()
	log = filepath.Join(t.TempDir(), "monitor")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command("busctl", "monitor", busName)
	run.Stdout, run.Stderr = out, out
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = run.Process.Signal(syscall.SIGTERM)
		_ = run.Wait() // by the signal
		_ = out.Close()
	})
	kit.Eventually(t, "busctl monitor begins", func() bool { return strings.Contains(getFile(t, log), "Monitoring") })
	return log
}

// place is which message of a log, the first being 0, is the first with all these words in it, or -1.
func place(t *testing.T, log string, words ...string) int {
	t.Helper()
	return slices.IndexFunc(strings.Split(getFile(t, log), "\n\n"), func(message string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(message, w) })
	})
}

// TestTheBusHearsOfContainers starts and stops a container, and mounts a volume in it, while nothing changes in LVM that would have the
// agent look. Each signal comes when what is shown is so already.
func TestTheBusHearsOfContainers(t *testing.T) {
	scene(t)
	c := kit.TempContainer(t, "onbus")
	c.Do(t, "create", "still", "--size", "64M")
	t.Cleanup(func() {
		kit.Run(t, "lxc-stop", "-k", "-n", c.Name)
		kit.Agent(t, "delete", "onbus/still")
		kit.Eventually(t, "its volume can be purged", func() bool { return kit.Agent(t, "purge", "onbus/still", "--yes").Exit == 0 })
	})
	var listed struct {
		Data []map[string]map[string]map[string]any
	}
	object := ""
	kit.Eventually(t, "the container is on the bus", func() bool {
		kit.Run(t, "busctl", "--json=short", "call", busName, "/org/lls/Agent1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects").JSON(t, &listed)
		if len(listed.Data) != 1 {
			t.Fatalf("busctl says %+v", listed)
		}
		for path, interfaces := range listed.Data[0] {
			if strings.Contains(fmt.Sprint(interfaces[busName+".Container"]["Name"]), "onbus") {
				object = path
			}
		}
		return object != ""
	})
	property := func(name string) string {
		t.Helper()
		return kit.Must(t, "busctl", "get-property", busName, object, busName+".Container", name)
	}
	// promptly waits for both messages, and fails the test unless the first came first.
	promptly := func(what string, first, second []string, do func()) {
		t.Helper()
		log := monitor(t)
		do()
		kit.Eventually(t, what, func() bool { return place(t, log, first...) >= 0 && place(t, log, second...) >= 0 })
		if place(t, log, first...) > place(t, log, second...) {
			t.Errorf("%s: the signal comes before the property", what)
		}
	}
	changed := func(name, value string) []string {
		return []string{"Member=PropertiesChanged", "Path=" + object, `"` + name + `"`, value}
	}
	signal := func(name string) []string { return []string{"Member=" + name, `"onbus"`} }
	c.Do(t, "mount", "still", "/mnt") // has its device appear
	kit.Eventually(t, "the mount is counted", func() bool { return property("Mounts") == "x 1" })
	time.Sleep(3 * time.Second) // until the last event of it was heard
	promptly("another mount of what is active", changed("Mounts", "2"), []string{"Member=Mounted", `"/data"`}, func() { c.Do(t, "mount", "still", "/data") })
	promptly("its end", changed("Mounts", "1"), []string{"Member=Unmounted", `"/data"`}, func() { c.Do(t, "umount", "/data") })
	promptly("a stop", changed("State", `"stopped"`), signal("ContainerStopped"), func() { kit.Must(t, "lxc-stop", "-k", "-n", c.Name) })
	if got := property("PID"); got != "x 0" {
		t.Errorf("its PID is %s", got)
	}
	promptly("a start", changed("State", `"running"`), signal("ContainerStarted"), func() { c.Start(t) })
	if got := property("PID"); got != fmt.Sprint("x ", c.PID(t)) {
		t.Errorf("its PID is %s, and should be %d", got, c.PID(t))
	}
}

// TestTheMessageBus sees a volume come, change, be mounted, and go.
func TestTheMessageBus(t *testing.T) {
	scene(t)
	log := monitor(t)
	heard := func(words ...string) {
		t.Helper()
		soon(t, time.Now(), "the bus says "+strings.Join(words, " "), func() bool { return place(t, log, words...) >= 0 })
	}
	dev.Do(t, "create", "onbus", "--size", "64M")
	v := kit.FindLV(t, "dev", "onbus")
	object := "/org/lls/Agent1/volumes/" + v.Name[strings.LastIndex(v.Name, ".")+1:]
	property := func(name string) string {
		t.Helper()
		return kit.Must(t, "busctl", "get-property", busName, object, busName+".Volume", name)
	}
	heard("Member=VolumeCreated", object, `"dev/onbus"`)
	heard("Member=InterfacesAdded", object)
	if tree := kit.Must(t, "busctl", "tree", "--list", busName); !strings.Contains(tree, object+"\n") && !strings.HasSuffix(tree, object) {
		t.Errorf("busctl tree does not show %s:\n%s", object, tree)
	}
	if got := property("Name"); got != `s "dev/onbus"` {
		t.Errorf("its Name is %s", got)
	}
	dev.Do(t, "mount", "onbus", "/data")
	heard("Member=Mounted", object, `"/data"`)
	soon(t, time.Now(), "the mount is a property", func() bool { return property("Mounts") == `a(ssb) 1 "dev" "/data" false` })
	dev.Do(t, "set", "onbus", "--visibility", "visible")
	heard("Member=VolumeChanged", object)
	heard("Member=PropertiesChanged", object, "Visibility", `"visible"`)
	kit.Must(t, "lvextend", "-L", "+64M", kit.VG+"/"+v.Name)
	heard("Member=VolumeResized", object, `"134217728"`)
	dev.Do(t, "umount", "onbus")
	heard("Member=Unmounted", object, `"/data"`)
	soon(t, time.Now(), "the mount is no property any more", func() bool { return property("Mounts") == `a(ssb) 0` })
	dev.Do(t, "delete", "onbus")
	heard("Member=VolumeDeleted", object)
	dev.Do(t, "undelete", "onbus")
	heard("Member=VolumeUndeleted", object)
	dev.Purge(t, "onbus")
	heard("Member=VolumePurged", object)
	heard("Member=InterfacesRemoved", object)
	if tree := kit.Must(t, "busctl", "tree", "--list", busName); strings.Contains(tree, object) || !strings.Contains(tree, "/org/lls/Agent1/pools/main") || !strings.Contains(tree, "/org/lls/Agent1/containers/dev") {
		t.Errorf("busctl tree shows:\n%s", tree)
	}

	for _, args := range [][]string{
		{"busctl", "tree", busName},
		{"busctl", "call", busName, "/org/lls/Agent1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"},
		{"busctl", "monitor", busName},
	} {
		r := kit.Run(t, append([]string{"timeout", "10", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, args...)...)
		if strings.Contains(r.Stdout, "volumes") || r.Exit == 124 || !strings.Contains(strings.ToLower(r.Stdout+r.Stderr), "access denied") {
			t.Errorf("a user could talk to the agent: %v", r)
		}
	}
}
