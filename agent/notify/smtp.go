package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// smtp sends to a relay. Each address gets a mail of its own, with the same Message-ID: a wrong one must not keep it from the others.
type smtp struct {
	host   string
	port   int
	from   *mail.Address
	to     []*mail.Address
	texts  []string // to, as in Config.To
	domain string
}

// send speaks TLS where the relay can, and goes without where that fails, as mail servers do among themselves (RFC 7435).
func (s smtp) send(ctx context.Context, m message) error {
	t, tlsErr := s.open(ctx, gomail.TLSOpportunistic)
	if tlsErr != nil && t.conn != nil {
		t.close()
		var err error
		if t, err = s.open(ctx, gomail.NoTLS); err == nil {
			err = s.say(t, m)
		}
		if err != nil && err.Error() != tlsErr.Error() { // a relay may insist on TLS
			err = fmt.Errorf("%w; and with TLS %w", err, tlsErr)
		}
		t.close()
		return err
	}
	defer t.close()
	if tlsErr != nil {
		return tlsErr
	}
	return s.say(t, m)
}

// talk is a connection to a relay.
type talk struct {
	client *gomail.Client
	conn   net.Conn // nil: it was not had
	stop   func() bool
}

func (t talk) close() {
	if t.conn != nil { // the library leaves it open after an error
		t.stop()
		_ = t.conn.Close()
	}
}

// open says hello. It takes half of the time there is, so that another try without TLS has as much. A certificate proves nothing, since
// without TLS the mail would go too; no password is ever sent.
func (s smtp) open(ctx context.Context, policy gomail.TLSPolicy) (talk, error) {
	t := talk{stop: func() bool { return true }}
	dial := func(dialing context.Context, network, address string) (conn net.Conn, err error) {
		if conn, err = (&net.Dialer{}).DialContext(dialing, network, address); err == nil {
			t.conn, t.stop = conn, context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		return conn, err
	}
	left := patience
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	client, err := gomail.NewClient(s.host, gomail.WithPort(s.port), gomail.WithHELO(s.domain), gomail.WithTimeout(max(left/2, time.Second)),
		gomail.WithTLSPolicy(policy), gomail.WithDialContextFunc(dial), gomail.WithoutNoop(), gomail.WithoutSMTPUTF8(), // the headers are ASCII
		gomail.WithTLSConfig(&tls.Config{ServerName: s.host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}))
	if err != nil {
		return t, err
	}
	t.client = client
	if err := client.DialWithContext(ctx); err != nil {
		return t, fmt.Errorf("mail relay %s: %w", net.JoinHostPort(s.host, fmt.Sprint(s.port)), err)
	}
	return t, nil
}

// say sends the mails.
func (s smtp) say(t talk, m message) error {
	var mails []*gomail.Msg
	for _, to := range s.to {
		mails = append(mails, build(m, s.domain, s.from, to))
	}
	_ = t.client.Send(mails...) // each mail knows how it ended
	_ = t.client.Close()        // what was taken is taken, whatever the goodbye
	return s.outcome(mails)
}

// outcome is success when the relay took every mail. What a relay says with 5xx is final for an address. All else is not: 4xx, and a
// connection that broke, where it may have been taken: better twice than never.
func (s smtp) outcome(mails []*gomail.Msg) error {
	var failed []error
	var lacking []string
	unsure := false
	for i, g := range mails {
		if g.IsDelivered() {
			continue
		}
		err := g.SendError()
		if err == nil {
			err = errors.New("not tried")
		}
		var e *gomail.SendError
		if !errors.As(err, &e) || e.ErrorCode()/100 != 5 {
			lacking = append(lacking, s.texts[i])
		}
		if e != nil && e.ErrorCode() == 0 && e.Reason == gomail.ErrSMTPDataClose { // the answer to the whole of it is what never came
			unsure = true
		}
		failed = append(failed, fmt.Errorf("mail relay %s: %s: %w", s.host, s.to[i].Address, err))
	}
	if len(failed) == 0 {
		return nil
	}
	err := errors.Join(failed...)
	if unsure {
		err = fmt.Errorf("%w: %w", errUnsure, err)
	}
	return &unsentError{Err: err, Taken: len(failed) < len(mails), Lacking: lacking}
}
