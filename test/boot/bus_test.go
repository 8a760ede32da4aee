package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lls/test/kit"
)

const busName = "org.lls.Agent1"

// TestTheMessageBus sees a volume come, change, be mounted, and go.
func TestTheMessageBus(t *testing.T) {
	scene(t)
	log := filepath.Join(t.TempDir(), "monitor")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	monitor := exec.Command("busctl", "monitor", busName)
	monitor.Stdout, monitor.Stderr = out, out
	if err := monitor.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = monitor.Process.Signal(syscall.SIGTERM)
		_ = monitor.Wait() // by the signal
	}()
	kit.Eventually(t, 10*time.Second, "busctl monitor begins", func() bool { return strings.Contains(getFile(t, log), "Monitoring") })

	heard := func(words ...string) {
		t.Helper()
		soon(t, time.Now(), "the bus says "+strings.Join(words, " "), func() bool {
			for _, message := range strings.Split(getFile(t, log), "\n\n") {
				all := true
				for _, w := range words {
					all = all && strings.Contains(message, w)
				}
				if all {
					return true
				}
			}
			return false
		})
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
	dev.Do(t, "purge", "onbus", "--yes")
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
