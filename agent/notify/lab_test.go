package notify_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"lls/agent/notify"
	"lls/test/kit"
)

var grown = notify.Item{At: time.Date(2026, 11, 22, 14, 3, 5, 0, time.Local), Line: "pool main: data grew from 1.0G to 1.2G, because it was 82% full",
	Details: []notify.Detail{{Name: "left in the group", Text: "3.1G"}, {Name: "forecast", Text: "full again in 3 hours"}}}

func TestLabMailArrivesThroughTheRelay(t *testing.T) {
	server(t)
	n := sending(t, t.TempDir(), relayed(20*time.Second))
	add(t, n, grown)
	within(t, "the first mail arrives", func() bool { return len(inbox(t)) == 1 })
	add(t, n, notify.Item{At: grown.At.Add(time.Minute), Line: "web1/data went to the trash"},
		notify.Item{At: grown.At.Add(2 * time.Minute), Severity: notify.Urgent, Line: "pool main: metadata cannot grow"},
		notify.Item{At: grown.At.Add(3 * time.Minute), Line: "pool main: data is 90% full – größer geht nicht"})
	got := arrived(t, 2)
	zone, _ := grown.At.Zone()
	want := `Sunday, 22 November 2026 on lab (` + zone + `)

14:03:05  pool main: data grew from 1.0G to 1.2G, because it was 82% full
            left in the group: 3.1G
            forecast:          full again in 3 hours

-- ` + `
lls-agent on lab
`
	if got[0].body != want || got[0].Get("Subject") != "[lls lab] "+grown.Line {
		t.Errorf("the first is %v\n%s", got[0].Header, got[0].body)
	}
	t.Logf("mailbox:\n%s", kit.Must(t, "cat", mailbox))
	second := got[1]
	if second.Get("Subject") != "[lls lab] 3 events: URGENT: pool main: metadata cannot grow" || second.Get("To") != "<root@lab>" || second.Get("From") != "<root@lab>" {
		t.Errorf("the second is %v\n%s", second.Header, second.body)
	}
	trash, urgent, full := strings.Index(second.body, "14:04:05  web1/data went"), strings.Index(second.body, "14:05:05  URGENT: pool"), strings.Index(second.body, "14:06:05  pool main: data is 90% full =E2=80=93 gr=C3=B6=C3=9Fer")
	if trash < 0 || urgent < trash || full < urgent {
		t.Errorf("the second has\n%s", second.body)
	}
	if st := n.Status(); st.Queued != 0 || st.LastError != "" || time.Since(st.LastSent) > kit.Patience {
		t.Errorf("status is %+v", st)
	}
}

func TestLabMailArrivesThroughSendmail(t *testing.T) {
	server(t)
	n := sending(t, t.TempDir(), notify.Config{To: []string{"root"}, From: "LLS <lls-agent@lab>"})
	add(t, n, grown)
	first := arrived(t, 1)[0]
	if first.Get("From") != `"LLS" <lls-agent@lab>` || first.Get("Return-Path") != "<lls-agent@lab>" || !strings.Contains(first.body, "14:03:05  pool main: data grew from 1.0G") {
		t.Errorf("it is %v\n%s", first.Header, first.body)
	}
	down(t)
	add(t, n, notify.Item{Line: "while sendmail can only queue"})
	within(t, "sendmail takes it", func() bool { return n.Status().Queued == 0 })
	up(t)
	if second := arrived(t, 2)[1]; !strings.Contains(second.body, "while sendmail can only queue") {
		t.Errorf("it is %v\n%s", second.Header, second.body)
	}
}

func TestLabWhatANameSaysIsOnlyText(t *testing.T) {
	server(t)
	evil := "x\r\nBcc: root@lab\r\n\r\n.\r\nMAIL FROM:<a@b>\x00\x1b[2J"
	for _, c := range []notify.Config{relayed(0), {To: []string{"root"}}} {
		if err := os.Remove(mailbox); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		n := sending(t, t.TempDir(), c)
		add(t, n, notify.Item{Line: evil, Details: []notify.Detail{{Name: evil, Text: ".\r\n" + evil}}})
		got := arrived(t, 1)[0]
		if got.Get("Bcc") != "" || got.Get("Subject") != "[lls lab] x Bcc: root@lab . MAIL FROM:<a@b>??[2J" || strings.ContainsAny(got.body, "\r\x00\x1b") {
			t.Errorf("it is %v\n%q", got.Header, got.body)
		}
	}
}

func TestLabAStoppedServerOnlyDelays(t *testing.T) {
	server(t)
	down(t)
	n := sending(t, t.TempDir(), relayed(time.Hour))
	add(t, n, grown)
	within(t, "the status tells", func() bool { return strings.Contains(n.Status().LastError, "connection refused") })
	add(t, n, notify.Item{Line: "and then more"})
	if st := n.Status(); st.Queued != 2 || !st.OldestAt.Equal(grown.At) || !st.LastSent.IsZero() {
		t.Errorf("status is %+v", st)
	}
	up(t)
	if got := arrived(t, 1)[0]; !strings.Contains(got.body, grown.Line) || !strings.Contains(got.body, "and then more") {
		t.Errorf("it is %v\n%s", got.Header, got.body)
	}
	within(t, "the status tells", func() bool { st := n.Status(); return st.LastError == "" && st.Queued == 0 })
}

// postfixTLS makes the server offer TLS with a certificate nobody vouches for, in this file, until the test's end.
func postfixTLS(t *testing.T, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"other"}}
	cert, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	kit.Must(t, "postconf", "-e", "smtpd_tls_security_level=may", "smtpd_tls_chain_files="+file)
	t.Cleanup(func() { kit.Must(t, "postconf", "-X", "smtpd_tls_security_level", "smtpd_tls_chain_files") })
	down(t)
	up(t)
}

func TestLabARelayWithTLSAndWithBrokenTLS(t *testing.T) {
	server(t)
	file := t.TempDir() + "/lab.pem"
	postfixTLS(t, file)
	n := sending(t, t.TempDir(), relayed(0))
	add(t, n, notify.Item{Line: "with TLS"})
	if got := arrived(t, 1)[0]; !strings.Contains(got.Get("Received"), "with ESMTPS ") {
		t.Errorf("it is %v", got.Header)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	down(t)
	up(t)
	add(t, n, notify.Item{Line: "without TLS"})
	if got := arrived(t, 2)[1]; !strings.Contains(got.Get("Received"), "with ESMTP ") {
		t.Errorf("it is %v", got.Header)
	}
}

func TestLabATestTellsWhatTheServerSays(t *testing.T) {
	server(t)
	n := sending(t, t.TempDir(), relayed(time.Hour))
	if err := n.Test(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := arrived(t, 1)[0]; got.Get("Subject") != "[lls lab] test: mail from lls-agent arrives" {
		t.Errorf("it is %v\n%s", got.Header, got.body)
	}
	n.SetConfig(notify.Config{To: []string{"nobody-of-that-name"}, Relay: "localhost"})
	err := n.Test(t.Context())
	if err == nil || !strings.Contains(err.Error(), "550") || !strings.Contains(err.Error(), "nobody-of-that-name@lab") || strings.Contains(err.Error(), "\n") {
		t.Errorf("of a wrong address it says %v", err)
	}
	t.Log(err)
	down(t)
	err = n.Test(t.Context())
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("of a stopped server it says %v", err)
	}
	t.Log(err)
	n.SetConfig(notify.Config{To: []string{"root"}, Sendmail: "/usr/sbin/no-sendmail"})
	if err := n.Test(t.Context()); err == nil || !strings.Contains(err.Error(), "install a mail server") {
		t.Errorf("without sendmail it says %v", err)
	}
}
