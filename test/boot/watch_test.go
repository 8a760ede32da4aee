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
	next   int // the first event that soon has not gone past
}

// seen is one event.
type seen struct{ What, Name string }

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
			var s seen
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
	// It says nothing when it begins, so there is something to hear until it does.
	own(t, c, "heard")
	defer c.Purge(t, "heard")
	kit.Eventually(t, "lls watch hears", func() bool {
		c.Do(t, "set", "heard", "--access", "ro")
		c.Do(t, "set", "heard", "--access", "rw")
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.events) > 0
	})
	return w
}

// soon waits until the next event of this kind has been seen, and fails the test when that was long after began.
func (w *watcher) soon(t *testing.T, began time.Time, what, name string) {
	t.Helper()
	soon(t, began, "lls watch says "+what+" "+name, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, e := range w.events[w.next:] {
			if e.What == what && e.Name == name {
				w.next += i + 1
				return true
			}
		}
		return false
	})
}
