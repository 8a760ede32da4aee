package kit

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Names of what Init makes, and of what LLS's package holds.
const (
	VG     = "lls"
	PoolLV = "pool"
	Config = "/etc/lls/lls.toml"
	Socket = "/run/lls/agent.sock"
	Unit   = "lls-agent.service"
)

var initOnce sync.Once

// Init makes LLS's pool on the lab's empty disk, once for all tests of the process. A guest that has it already is left as it is.
func Init(t testing.TB) {
	t.Helper()
	Guest(t)
	JournalIfFailed(t, "--since=@"+strconv.FormatInt(time.Now().Unix(), 10))
	initOnce.Do(func() {
		if Run(t, "vgs", VG).Exit == 0 {
			return
		}
		Must(t, "lls-agent", "init", "--device", Disk(t))
		unhurried(t)
	})
	if Run(t, "vgs", VG).Exit != 0 {
		t.Fatal("LLS could not be initialised; an earlier test says why")
	}
}

// unhurried takes away the limits that a test would meet only because it is faster than anybody types, on a disk smaller than anybody
// has. A test of them sets them again: later rules win.
func unhurried(t testing.TB) {
	t.Helper()
	old, err := os.ReadFile(Config)
	if err != nil {
		t.Fatal(err)
	}
	text := "\n[[rules]]\nlimits = { operations_per_minute = 0, snapshots_per_minute = 0, overcommit = 0 }\n"
	if err := os.WriteFile(Config, append(old, text...), 0o644); err != nil {
		t.Fatal(err)
	}
	Agent(t, "reload").Want(t, 0)
}

// Disk is the lab's empty disk.
func Disk(t testing.TB) string {
	t.Helper()
	disk := os.Getenv("LLS_LAB_DISK")
	if disk == "" {
		t.Fatal("LLS_LAB_DISK does not name the lab's empty disk")
	}
	return disk
}

// Agent runs lls-agent with these words.
func Agent(t testing.TB, args ...string) Result {
	t.Helper()
	return Run(t, append([]string{"lls-agent"}, args...)...)
}

// Purge destroys a volume as the sysadmin: the live one of that name, or else the latest in the trash.
func Purge(t testing.TB, name string) {
	t.Helper()
	Agent(t, "delete", name) // it may be in the trash already
	Agent(t, "purge", name, "--yes").Want(t, 0)
}

// AgentPID is the daemon's process, or 0 when none runs.
func AgentPID(t testing.TB) int {
	t.Helper()
	pid, err := strconv.Atoi(Must(t, "systemctl", "show", "--property", "MainPID", "--value", Unit))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// UnitTime is when something happened to a unit, after the boot; 0 when it did not. It is a property of systemd's whose name ends in
// TimestampMonotonic.
func UnitTime(t testing.TB, unit, property string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(Must(t, "systemctl", "show", "--property", property, "--value", unit) + "us")
	if err != nil {
		t.Fatalf("%s of %s: %v", property, unit, err)
	}
	return d
}

// WantAgentBeforeContainers fails the test unless the agent was ready, at the boot of the guest, before LXC began to start containers.
func WantAgentBeforeContainers(t testing.TB) {
	t.Helper()
	ready, began := UnitTime(t, Unit, "ActiveEnterTimestampMonotonic"), UnitTime(t, "lxc.service", "ExecMainStartTimestampMonotonic")
	if ready == 0 || began == 0 || ready > began {
		t.Errorf("the agent was ready %v after the boot, and lxc.service began to start containers at %v", ready, began)
	}
}

// KillAgent kills the daemon with SIGKILL and waits until systemd has started it again and it answers.
func KillAgent(t testing.TB) {
	t.Helper()
	old := AgentPID(t)
	if old == 0 {
		t.Fatal("the agent does not run")
	}
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	AgentBack(t, old)
	// systemd gives up on a unit that starts too often; the tests do not count.
	Must(t, "systemctl", "reset-failed", Unit)
}

// AgentBack waits until systemd has started the agent again after the process old, and all containers are served.
func AgentBack(t testing.TB, old int) {
	t.Helper()
	Eventually(t, "systemd starts the agent again", func() bool {
		pid := AgentPID(t)
		return pid != 0 && pid != old && Run(t, "systemctl", "is-active", "--quiet", Unit).Exit == 0 && Agent(t, "status").Exit == 0
	})
}

// StopAgent stops the daemon, and starts it again when the test ends.
func StopAgent(t testing.TB) {
	t.Helper()
	Must(t, "systemctl", "stop", Unit)
	t.Cleanup(func() { StartAgent(t) })
}

// StartAgent starts the daemon and waits until it says that it is ready.
func StartAgent(t testing.TB) {
	t.Helper()
	Run(t, "systemctl", "reset-failed", Unit)
	Must(t, "systemctl", "start", Unit)
}

// WithConfig adds text to lls.toml, has the daemon read it, and takes it away again when the test ends.
func WithConfig(t testing.TB, text string) {
	t.Helper()
	ChangeConfig(t, func(old string) string { return old + text })
}

// ChangeConfig changes lls.toml, has the daemon read it, and puts it back when the test ends.
func ChangeConfig(t testing.TB, change func(old string) string) {
	t.Helper()
	old, err := os.ReadFile(Config)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(Config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		Agent(t, "reload").Want(t, 0)
	}
	t.Cleanup(func() { write(string(old)) })
	write(change(string(old)))
}

// LV is a logical volume as LVM tells it.
type LV struct {
	VG       string `json:"vg_name"`
	Name     string `json:"lv_name"`
	UUID     string `json:"lv_uuid"`
	Attr     string `json:"lv_attr"`
	Size     string `json:"lv_size"` // bytes, with a B
	Origin   string `json:"origin"`
	Pool     string `json:"pool_lv"`
	TagList  string `json:"lv_tags"`
	Major    string `json:"lv_kernel_major"`
	Minor    string `json:"lv_kernel_minor"`
	Writable string `json:"lv_permissions"`
}

// Tags are the volume's tags.
func (v LV) Tags() []string {
	return strings.FieldsFunc(v.TagList, func(r rune) bool { return r == ',' })
}

// Tag is the value of a tag KEY=VALUE, or nothing.
func (v LV) Tag(key string) string {
	for _, t := range v.Tags() {
		if value, ok := strings.CutPrefix(t, key+"="); ok {
			return value
		}
	}
	return ""
}

// Active and Open read the fifth and sixth of LVM's attributes, lvs(8).
func (v LV) Active() bool { return len(v.Attr) > 5 && v.Attr[4] == 'a' }

// Open says whether the volume's device is in use.
func (v LV) Open() bool { return len(v.Attr) > 5 && v.Attr[5] == 'o' }

// Bytes is the volume's size.
func (v LV) Bytes(t testing.TB) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.TrimSuffix(v.Size, "B"), 10, 64)
	if err != nil {
		t.Fatalf("size of %s: %v", v.Name, err)
	}
	return n
}

// Device is MAJOR:MINOR of an active volume, as mountinfo writes it.
func (v LV) Device() string { return v.Major + ":" + v.Minor }

// LVs are all logical volumes of the guest, hidden ones included, as `lvs -a` tells.
func LVs(t testing.TB) []LV {
	t.Helper()
	out := Must(t, "lvs", "-a", "--reportformat", "json", "--units", "b", "-o",
		"vg_name,lv_name,lv_uuid,lv_attr,lv_size,origin,pool_lv,lv_tags,lv_kernel_major,lv_kernel_minor,lv_permissions")
	var report struct {
		Report []struct {
			LV []LV `json:"lv"`
		} `json:"report"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Report) != 1 {
		t.Fatalf("cannot decode the report of lvs: %v\n%s", err, out)
	}
	return report.Report[0].LV
}

// FindLVs are the volumes with this LLS name, by their tag; owner is a container's name, "host", or "" for anybody's. Those in the
// trash are among them.
func FindLVs(t testing.TB, owner, name string) []LV {
	t.Helper()
	var found []LV
	for _, v := range LVs(t) {
		who, _, _ := strings.Cut(v.Tag("lls.o"), "#")
		if v.Tag("lls.n") == name && (owner == "" || who == owner) {
			found = append(found, v)
		}
	}
	return found
}

// FindLV is the one volume with this LLS name.
func FindLV(t testing.TB, owner, name string) LV {
	t.Helper()
	found := FindLVs(t, owner, name)
	if len(found) != 1 {
		t.Fatalf("LVM knows %d volumes %s of %q, want 1: %+v", len(found), name, owner, found)
	}
	return found[0]
}

// Loop makes a loop device of a new sparse file, and takes both away when the test ends.
func Loop(t testing.TB, size int64) (device string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	device = Must(t, "losetup", "--find", "--show", file)
	t.Cleanup(func() { Must(t, "losetup", "--detach", device) })
	return device
}
