package notify_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/mail"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/agent/notify"
	"lls/internal/run"
	"lls/test/kit"
)

func open(dir string, c notify.Config) (*notify.Notifier, error) {
	return notify.Open(notify.Options{Dir: dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Run: run.New()}, c)
}

func relayed(every time.Duration) notify.Config {
	return notify.Config{To: []string{"root"}, Relay: "localhost:25", Every: every}
}

const mailbox = "/var/mail/root"

// server gives a running mail server and an empty mailbox, and stops it after the test.
func server(t *testing.T) {
	t.Helper()
	kit.Guest(t)
	t.Cleanup(func() { down(t) })
	up(t)
	within(t, "nothing of earlier tests is to be delivered any more", func() bool { return strings.Contains(kit.Must(t, "postqueue", "-p"), "is empty") })
	if err := os.Remove(mailbox); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func answers() bool {
	c, err := net.DialTimeout("tcp", "localhost:25", time.Second)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

func up(t *testing.T) {
	t.Helper()
	kit.Must(t, "systemctl", "start", "postfix.service")
	within(t, "the mail server answers", answers)
}

func down(t *testing.T) {
	t.Helper()
	kit.Must(t, "systemctl", "stop", "postfix.service", "postfix@-.service") // bookworm's instance stops after its parent did
	within(t, "the mail server is down", func() bool { return !answers() })
}

func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(kit.Patience); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s; the mailbox:\n%v", kit.Patience, what, inbox(t))
		}
	}
}

// letter is a mail as it lies in the mailbox.
type letter struct {
	mail.Header
	body string
}

// inbox reads root's mailbox, in the mbox format.
func inbox(t *testing.T) []letter {
	t.Helper()
	text, err := os.ReadFile(mailbox)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []letter
	for _, part := range strings.Split("\n\n"+string(text), "\n\nFrom ")[1:] {
		_, raw, _ := strings.Cut(part, "\n")
		m, err := mail.ReadMessage(strings.NewReader(raw))
		if err != nil {
			t.Fatalf("%v of %q", err, raw)
		}
		body, err := io.ReadAll(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, letter{m.Header, strings.TrimRight(string(body), "\n") + "\n"})
	}
	return all
}

// arrived waits for so many mails, and then for one more, which must not come.
func arrived(t *testing.T, count int) []letter {
	t.Helper()
	within(t, fmt.Sprint(count, " mails arrive"), func() bool { return len(inbox(t)) >= count })
	time.Sleep(2 * time.Second)
	got := inbox(t)
	if len(got) != count {
		t.Errorf("%d mails arrived, want %d:\n%v", len(got), count, got)
	}
	return got
}

// sending is a notifier that runs until the test's end.
func sending(t *testing.T, dir string, c notify.Config) *notify.Notifier {
	t.Helper()
	n, err := open(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); work.Wait() })
	return n
}

func add(t *testing.T, n *notify.Notifier, items ...notify.Item) {
	t.Helper()
	for _, it := range items {
		if err := n.Add(it); err != nil {
			t.Fatal(err)
		}
	}
}
