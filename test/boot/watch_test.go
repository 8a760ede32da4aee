package boot

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"lls/test/kit"
)

// watcher is `lls watch` in a container.
type watcher struct {
	mu     sync.Mutex
	events []seen
}

// seen is one event, and when it was seen.
type seen struct {
	What, Name string
	at         time.Time
}

// watch runs lls watch in a container until the test ends.
func watch(t *testing.T, c *kit.Container) *watcher {
	t.Helper()
	w := &watcher{}
	out, in := io.Pipe()
	cmd := exec.Command("lab-exec", c.Name, "lls", "watch", "--json")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout = in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			s := seen{at: time.Now()}
			if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
				t.Errorf("lls watch says %q: %v", lines.Text(), err)
			}
			w.mu.Lock()
			w.events = append(w.events, s)
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // it was killed
		_ = in.Close()
		<-read
	})
	time.Sleep(time.Second) // it says nothing when it begins
	return w
}

// soon waits until an event has been seen since began, and fails the test when that was not in time.
func (w *watcher) soon(t *testing.T, began time.Time, what, name string) {
	t.Helper()
	soon(t, began, "lls watch says "+what+" "+name, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range w.events {
			// The event may come before the command that led to it has ended.
			if e.What == what && e.Name == name && e.at.After(began.Add(-inTime)) {
				return true
			}
		}
		return false
	})
}
