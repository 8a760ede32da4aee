package notify

import (
	"net/mail"
	"strings"

	gomail "github.com/wneessen/go-mail"

	"lls/internal/run"
)

// newSender is the way a configuration says.
func newSender(c Config, h identity, r *run.Runner) (sender, error) {
	if len(c.To) == 0 {
		return nil, errNobody
	}
	from, err := h.from(c)
	if err != nil {
		return nil, err
	}
	var to []*mail.Address
	var users []string
	for _, text := range c.To {
		a, err := h.address(text)
		if err != nil {
			return nil, err
		}
		user, err := h.bare(text)
		if err != nil {
			return nil, err
		}
		to, users = append(to, a), append(users, user)
	}
	if c.Relay == "" {
		s := program{path: c.Sendmail, users: users, from: from, to: to, domain: h.domain, run: r}
		if s.path == "" {
			s.path = DefaultSendmail
		}
		if c.From != "" {
			s.envelope, err = h.bare(c.From)
		}
		return s, err
	}
	host, port, err := relay(c.Relay)
	return smtp{host: host, port: port, from: from, to: to, texts: c.To, domain: h.domain}, err
}

// build makes the mail that is sent over the wire.
func build(m message, domain string, from *mail.Address, to ...*mail.Address) *gomail.Msg {
	g := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	g.FromMailAddress(from)
	g.ToMailAddress(to...)
	g.Subject(m.Subject)
	g.SetDateWithValue(m.At)
	g.SetMessageIDWithValue(m.ID + "@" + domain)
	g.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's vacation answers it
	coding := gomail.EncodingQP
	if isASCII(m.Body) {
		coding = gomail.NoEncoding // so that the file it ends in can be read as it is
	}
	g.SetBodyString(gomail.TypeTextPlain, m.Body, gomail.WithPartEncoding(coding))
	return g
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 })
}
