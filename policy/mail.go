package policy

import (
	"fmt"
	"net"
	"net/mail"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mail reads [mail]. What it takes, agent/notify can send: a test there holds the two together.
func (t *table) mail(m *Mail) {
	getList(t, "mail.to", &m.To, textWhere(address))
	get(t, "mail.from", &m.From, textWhere(func(s string) error {
		if s == "" {
			return nil
		}
		return address(s)
	}))
	get(t, "mail.relay", &m.Relay, textWhere(relay))
	get(t, "mail.sendmail", &m.Sendmail, textWhere(func(s string) error {
		if s != "" && !filepath.IsAbs(s) {
			return fmt.Errorf("%q is no absolute path", s)
		}
		return nil
	}))
	if m.Sendmail == "" && m.Relay == "" && len(m.To) > 0 {
		t.wrongAt("mail.sendmail", "mail could go nowhere: there is no relay either; for no mail at all, set to = []")
	}
	get(t, "mail.every", &m.Every, duration)
	getList(t, "mail.levels", &m.Levels, admission)
	slices.Sort(m.Levels)
	m.Levels = slices.Compact(m.Levels)
}

// address is a user of this host, or USER@HOST: in ASCII, which any mail server takes, and with nothing that would need quotes.
func address(s string) error {
	full := s
	if !strings.Contains(s, "@") {
		full += "@localhost"
	}
	odd := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"\(),:;<>[]`, r) }
	a, err := mail.ParseAddress(full)
	if err != nil || a.Address != full || s[0] == '-' || strings.ContainsFunc(s, odd) {
		return fmt.Errorf("%q is no mail address", s)
	}
	return nil
}

// relay is HOST:PORT, or nothing.
func relay(s string) error {
	if s == "" {
		return nil
	}
	host, digits, err := net.SplitHostPort(s)
	if err != nil || host == "" || digits == "" {
		return fmt.Errorf("%q is no HOST:PORT", s)
	}
	if port, err := strconv.ParseUint(digits, 10, 16); err != nil || port == 0 {
		return fmt.Errorf("%q is no HOST:PORT: a port is a number from 1 to 65535, mostly 25", s)
	}
	odd := func(r rune) bool {
		return r != '.' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}
	if net.ParseIP(host) == nil && (len(host) > 253 || host[0] == '-' || strings.ContainsFunc(host, odd)) {
		return fmt.Errorf("%q is no HOST:PORT: no host can be called %q", s, host)
	}
	return nil
}
