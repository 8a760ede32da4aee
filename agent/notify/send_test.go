package notify

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/internal/run"
)

// server is an SMTP server that answers as a test wants: say gives its reply to a command, which begins a line like "RCPT TO:<a@b>", "GREET",
// or "END" for the end of a mail. The reply "drop" closes the connection, "hang" is none.
type server struct {
	address string
	say     func(command string) string
	tls     *tls.Config

	mu       sync.Mutex
	commands []string
	mails    []string
}

func serve(t *testing.T, certificate *tls.Config, say func(string) string) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{address: l.Addr().String(), say: say, tls: certificate}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				s.talk(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); work.Wait() })
	return s
}

// reply answers a command, and says whether the talk goes on.
func (s *server) reply(c net.Conn, command, usual string) bool {
	s.mu.Lock()
	s.commands = append(s.commands, command)
	s.mu.Unlock()
	answer := s.say(command)
	switch answer {
	case "":
		answer = usual
	case "hang":
		return true
	case "drop":
		return false
	}
	_, err := fmt.Fprintf(c, "%s\r\n", answer)
	return err == nil && !strings.HasPrefix(answer, "421") // RFC 5321, 3.8: it closes
}

func (s *server) talk(c net.Conn) {
	if !s.reply(c, "GREET", "220 test") {
		return
	}
	offer := s.tls
	for in := bufio.NewReader(c); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		usual := "250 fine"
		switch {
		case strings.HasPrefix(line, "EHLO") && offer != nil:
			usual = "250-test\r\n250 STARTTLS"
		case line == "DATA":
			usual = "354 go on"
		case line == "STARTTLS":
			usual = "220 go on"
		}
		if !s.reply(c, line, usual) {
			return
		}
		switch {
		case line == "STARTTLS" && offer != nil:
			c, offer = tls.Server(c, offer), nil
			in = bufio.NewReader(c)
		case line == "DATA" && s.say("DATA") == "":
			var text strings.Builder
			for line, err = in.ReadString('\n'); err == nil && line != ".\r\n"; line, err = in.ReadString('\n') {
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			if !s.reply(c, "END", "250 taken") {
				return
			}
			s.mu.Lock()
			s.mails = append(s.mails, text.String())
			s.mu.Unlock()
		case line == "QUIT":
			return
		}
	}
}

// answers gives a server's replies by the beginning of the command.
func answers(table map[string]string) func(string) string {
	return func(command string) string {
		for begin, reply := range table {
			if strings.HasPrefix(command, begin) {
				return reply
			}
		}
		return ""
	}
}

func dot() message {
	return message{ID: "lls.x1", At: at(14, 3, 5), Subject: "[lls lab] a subject", Body: "one = 1\n.\n..two\n"}
}

func deliver(t *testing.T, c Config) error {
	t.Helper()
	way, err := newSender(c, lab, run.New())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	return way.send(ctx, dot())
}

func TestARelayGetsTheMail(t *testing.T) {
	s := serve(t, nil, answers(nil))
	if err := deliver(t, Config{To: []string{"root", "Me <me@example.org>"}, Relay: s.address}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mails) != 2 {
		t.Fatalf("mails are %q", s.mails)
	}
	for i, to := range []string{"<root@lab.example>", `"Me" <me@example.org>`} {
		head, body, _ := strings.Cut(s.mails[i], "\r\n\r\n")
		want := []string{"Subject: [lls lab] a subject", "To: " + to, "From: <root@lab.example>", "Message-ID: <lls.x1@lab.example>",
			"Auto-Submitted: auto-generated", "Content-Type: text/plain; charset=UTF-8", "Content-Transfer-Encoding: 8bit"}
		for _, line := range want {
			if !strings.Contains("\r\n"+head+"\r\n", "\r\n"+line+"\r\n") {
				t.Errorf("no %q in\n%s", line, head)
			}
		}
		if body != "one = 1\r\n.\r\n..two\r\n" {
			t.Errorf("body is %q", body)
		}
	}
	if all := strings.Join(s.commands, "\n"); !strings.Contains(all, "EHLO lab.example\n") || !strings.Contains(all, "MAIL FROM:<root@lab.example>") {
		t.Errorf("it said %s", all)
	}
}

func TestHowARelayFails(t *testing.T) {
	for _, c := range []struct {
		name    string
		say     map[string]string
		taken   bool   // by some, so that it counts as sent
		unsure  bool   // it may have been taken
		lacking string // who may get it another time
		want    string // of the error; empty: none
	}{
		{name: "a goodbye that fails", say: map[string]string{"QUIT": "drop"}},
		{name: "a reset that fails after the last", say: map[string]string{"RSET": "550 no"}},
		{name: "a busy one", say: map[string]string{"GREET": "421 come back later"}, want: `421 "come back later"`},
		{name: "one that closes at once", say: map[string]string{"GREET": "drop"}, want: "EOF"},
		{name: "one that knows none of them", say: map[string]string{"RCPT": "550 no such user"}, want: `550 "no such user"`},
		{name: "one that knows one of them", say: map[string]string{"RCPT TO:<a@": "550 no such user"}, want: `550 "no such user"`, taken: true},
		{name: "one that wants one of them later", say: map[string]string{"RCPT TO:<a@": "450 4.2.0 greylisted"}, want: "greylisted", taken: true, lacking: "a@lab.example"},
		{name: "one that wants all of them later", say: map[string]string{"RCPT": "450 4.2.0 greylisted"}, want: "greylisted", lacking: "a@lab.example b"},
		{name: "one that wants one later and knows no other", say: map[string]string{"RCPT TO:<a@": "450 later", "RCPT TO:<b@": "550 who"}, want: "later", lacking: "a@lab.example"},
		{name: "one that closes between two", say: map[string]string{"RCPT TO:<b@": "421 bye"}, want: "421", taken: true, lacking: "b"},
		{name: "one that breaks between two", say: map[string]string{"RCPT TO:<b@": "drop"}, want: "EOF", taken: true, lacking: "b"},
		{name: "one that refuses the sender", say: map[string]string{"MAIL": "553 not you"}, want: `553 "not you"`},
		{name: "one that refuses the text", say: map[string]string{"END": "554 spam"}, want: `554 "spam"`},
		{name: "one without room", say: map[string]string{"DATA": "452 disk full"}, want: `452 "disk full"`, lacking: "a@lab.example b"},
		{name: "one that breaks before its answer", say: map[string]string{"END": "drop"}, want: "EOF", unsure: true, lacking: "a@lab.example b"},
		{name: "one that hangs before its answer", say: map[string]string{"END": "hang"}, want: "lab.example", unsure: true, lacking: "a@lab.example b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, nil, answers(c.say))
			way, err := newSender(Config{To: []string{"a@lab.example", "b"}, Relay: s.address}, lab, nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			err = way.send(ctx, dot())
			unsent := &unsentError{}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "127.0.0.1")) {
				t.Errorf("error is %v", err)
			}
			errors.As(err, &unsent)
			if lacking := strings.Join(unsent.Lacking, " "); unsent.Taken != c.taken || lacking != c.lacking || errors.Is(err, errUnsure) != c.unsure {
				t.Errorf("taken by some: %v, still for %s, unsure: %v: %v", unsent.Taken, lacking, errors.Is(err, errUnsure), err)
			}
		})
	}
}

func TestNoServerIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	err = deliver(t, Config{To: []string{"root"}, Relay: l.Addr().String()})
	if err == nil || errors.Is(err, errUnsure) || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error is %v", err)
	}
}

func TestTheContextsEndEndsATalk(t *testing.T) {
	s := serve(t, nil, answers(map[string]string{"MAIL": "hang"}))
	way, err := newSender(Config{To: []string{"root"}, Relay: s.address}, lab, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	began := time.Now()
	if err := way.send(ctx, dot()); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("error is %v after %v", err, time.Since(began))
	}
}

// selfSigned is a certificate nobody vouches for, as a mail server's package makes it.
func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"other"}}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func TestTLSIsSpokenWhereTheRelayCan(t *testing.T) {
	s := serve(t, selfSigned(t), answers(nil))
	if err := deliver(t, Config{To: []string{"root"}, Relay: s.address}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := strings.Join(s.commands, " ")
	if i := strings.Index(all, "STARTTLS"); len(s.mails) != 1 || i < 0 || i > strings.Index(all, "MAIL FROM") {
		t.Errorf("it said %s", all)
	}
}

func TestWhereTLSFailsMailGoesWithout(t *testing.T) {
	for _, say := range []map[string]string{{"STARTTLS": "454 no TLS today"}, {"STARTTLS": "drop"}, {"STARTTLS": "hang"}, {"STARTTLS": "220 but not really"}} {
		s := serve(t, &tls.Config{}, answers(say)) // without a certificate no handshake ends
		if err := deliver(t, Config{To: []string{"root"}, Relay: s.address}); err != nil {
			t.Errorf("%v: %v", say, err)
		}
		s.mu.Lock()
		if len(s.mails) != 1 {
			t.Errorf("%v: it said %q", say, s.commands)
		}
		s.mu.Unlock()
	}
	s := serve(t, &tls.Config{}, answers(map[string]string{"STARTTLS": "454 no TLS today", "MAIL": "530 TLS first"}))
	err := deliver(t, Config{To: []string{"root"}, Relay: s.address})
	if err == nil || !strings.Contains(err.Error(), "TLS first") || !strings.Contains(err.Error(), "no TLS today") {
		t.Errorf("error is %v", err)
	}
}

// fakeProgram is a sendmail that writes its arguments and its input to files, and then does what the script says.
func fakeProgram(t *testing.T, script string) (path, dir string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, "sendmail")
	text := "#!/bin/sh\nfor a; do echo \"$a\"; done >" + dir + "/args\ncat >" + dir + "/in\n" + script + "\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, dir
}

func TestSendmailGetsTheMail(t *testing.T) {
	for from, want := range map[string]string{"": "-i\n--\nroot\nme@example.org\n", "lls": "-i\n-f\nlls\n--\nroot\nme@example.org\n"} {
		path, dir := fakeProgram(t, "exit 0")
		if err := deliver(t, Config{To: []string{"root", "Me <me@example.org>"}, From: from, Sendmail: path}); err != nil {
			t.Fatal(err)
		}
		args, err := os.ReadFile(dir + "/args")
		if err != nil || string(args) != want {
			t.Errorf("arguments are %q, want %q; %v", args, want, err)
		}
		in, err := os.ReadFile(dir + "/in")
		head, body, _ := strings.Cut(string(in), "\n\n")
		if err != nil || body != "one = 1\n.\n..two\n" || strings.Contains(head, "\r") || !strings.Contains(head, "To: <root@lab.example>, \"Me\" <me@example.org>") {
			t.Errorf("input is %q; %v", in, err)
		}
	}
}

func TestHowSendmailFails(t *testing.T) {
	for script, want := range map[string]string{
		"echo 'sendmail: queue is full' >&2; exit 75": "exit status 75: sendmail: queue is full (it wants another try later)",
		"exit 3":        "exit status 3",
		"kill -KILL $$": errUnsure.Error(),
	} {
		path, _ := fakeProgram(t, script)
		if err := deliver(t, Config{To: []string{"root"}, Sendmail: path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v", script, err)
		}
	}
	err := deliver(t, Config{To: []string{"root"}, Sendmail: "/nosuch/sendmail"})
	want := "/nosuch/sendmail: program not installed: install a mail server that has it, like postfix, or name a relay in mail.relay"
	if err == nil || err.Error() != want || !errors.Is(err, run.ErrNotInstalled) {
		t.Errorf("without it: %v", err)
	}
}
