// Package policy fills pools and volumes in the lab's guest and sees them grow by themselves: under a writer at full speed, with and
// without the agent, up to what lls.toml allows; and reads the mail that comes of it.
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lls/test/kit"
)

// The pool that all tests share, small enough to be filled.
const (
	group, poolLV = "small", "pool"
	poolSize      = "256M"
	metadataSize  = "2M"
)

const mib = 1 << 20

var setUp sync.Once

// scene makes the pool, once, and has LLS take it in. Mail is for the server that a test starts.
func scene(t *testing.T) {
	t.Helper()
	kit.Guest(t)
	setUp.Do(func() {
		kit.Must(t, "vgcreate", "-s", "1M", group, kit.Disk(t))
		kit.Must(t, "lvcreate", "--type", "thin-pool", "-L", poolSize, "--poolmetadatasize", metadataSize, "-c", "64K", "-n", poolLV, group)
		kit.Must(t, "lls-agent", "init", "--vg", group, "--pool", poolLV)
		config, err := os.ReadFile(kit.Config)
		if err != nil {
			t.Fatal(err)
		}
		config = append(config, "\n[mail]\nrelay = \"localhost:25\"\nevery = \"2s\"\n\n[[rules]]\nlimits = { operations_per_minute = 0, snapshots_per_minute = 0 }\n"...)
		if err := os.WriteFile(kit.Config, config, 0o644); err != nil {
			t.Fatal(err)
		}
		kit.Agent(t, "reload").Want(t, 0)
	})
	if kit.Run(t, "lvs", group+"/"+poolLV).Exit != 0 {
		t.Fatal("the pool could not be made; an earlier test says why")
	}
}

// pool is what LVM says of it. Sizes are bytes.
type pool struct {
	size, metadata       int64
	data, metadataFilled float64
	profile, health      string
}

func look(t *testing.T) pool {
	t.Helper()
	var report struct {
		Report []struct {
			LV []map[string]string `json:"lv"`
		} `json:"report"`
	}
	out := kit.Must(t, "lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", "lv_size,lv_metadata_size,data_percent,metadata_percent,lv_profile,lv_health_status", group+"/"+poolLV)
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Report) != 1 || len(report.Report[0].LV) != 1 {
		t.Fatalf("cannot read the report: %v\n%s", err, out)
	}
	row := report.Report[0].LV[0]
	number := func(key string) float64 {
		n, err := strconv.ParseFloat(row[key], 64)
		if err != nil {
			t.Fatalf("%s is %q", key, row[key])
		}
		return n
	}
	return pool{int64(number("lv_size")), int64(number("lv_metadata_size")), number("data_percent"), number("metadata_percent"), row["lv_profile"], row["lv_health_status"]}
}

// volume makes a volume of the host and mounts it, until the test ends.
func volume(t *testing.T, name, size string) (dir string) {
	t.Helper()
	kit.Agent(t, "create", name, "--size", size).Want(t, 0)
	dir = filepath.Join("/mnt", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kit.Run(t, "lls-agent", "umount", dir)
		kit.Purge(t, name)
	})
	kit.Agent(t, "mount", name, dir).Want(t, 0)
	return dir
}

// block is what the writer writes as its n-th MiB.
func block(n int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%07d\n", n), mib/8) }

// write writes so many MiB to a new file at full speed, each on the disk before the next.
func write(file string, blocks int) error { return writeCounting(file, blocks, new(atomic.Int64)) }

func writeCounting(file string, blocks int, done *atomic.Int64) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_SYNC, 0o600)
	if err != nil {
		return err
	}
	for n := 0; n < blocks && err == nil; n++ {
		if _, err = f.Write(block(n)); err == nil {
			err = f.Sync()
		}
		if err == nil {
			done.Add(1)
		}
	}
	return errors.Join(err, f.Close())
}

// written reads it all back, from the disk.
func written(t *testing.T, file string, blocks int) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // read only
	buf := make([]byte, mib)
	for n := range blocks {
		if _, err := io.ReadFull(f, buf); err != nil || !bytes.Equal(buf, block(n)) {
			t.Fatalf("MiB %d of %s is not what was written (%v)", n, file, err)
		}
	}
}

const mailbox = "/var/mail/root"

// server starts the mail server, which does not run in the guest until then.
func server(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { stopServer(t) })
	kit.Must(t, "systemctl", "start", "postfix.service")
	kit.Eventually(t, "the mail server answers", answers)
}

func stopServer(t *testing.T) {
	t.Helper()
	kit.Must(t, "systemctl", "stop", "postfix.service", "postfix@-.service")
	kit.Eventually(t, "the mail server is down", func() bool { return !answers() })
}

func answers() bool {
	c, err := net.DialTimeout("tcp", "localhost:25", time.Second)
	return err == nil && c.Close() == nil
}

// mails is the text of all that is in root's mailbox, each with its white space made single.
func mails(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile(mailbox)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, part := range strings.Split("\n\n"+string(text), "\n\nFrom ")[1:] {
		_, raw, _ := strings.Cut(part, "\n")
		m, err := mail.ReadMessage(strings.NewReader(raw))
		if err != nil {
			t.Fatalf("%v of %q", err, raw)
		}
		body := m.Body
		if m.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			body = quotedprintable.NewReader(body)
		}
		plain, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m.Header.Get("Subject")+"\n"+strings.Join(strings.Fields(string(plain)), " "))
	}
	return all
}

// mailed waits until all these words were mailed, and gives how often the first of them were.
func mailed(t *testing.T, words ...string) (times int) {
	t.Helper()
	kit.Eventually(t, fmt.Sprintf("mail says %q", words), func() bool {
		all := strings.Join(mails(t), "\n")
		for _, w := range words {
			if !strings.Contains(all, w) {
				return false
			}
		}
		times = strings.Count(all, words[0])
		return true
	})
	return times
}
