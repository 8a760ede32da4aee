package notify

import (
	"fmt"
	"net"
	"net/mail"
	"os"
	"strconv"
	"strings"
)

// identity is who writes: the host, and the domain of its users' addresses.
type identity struct{ host, domain string }

// mailnameFile holds the part after the @ of the host's own mail (Debian Policy, 11.6).
const mailnameFile = "/etc/mailname"

func identify(host, domain string) identity {
	if domain == "" {
		text, err := os.ReadFile(mailnameFile)
		if domain = strings.TrimSpace(string(text)); err != nil || !isHostName(domain) {
			domain = host
		}
	}
	if !isHostName(domain) {
		domain = "localhost"
	}
	return identity{host: oneLine(host, 64), domain: domain}
}

// isHostName says whether text is letters, digits, hyphens and dots alone.
func isHostName(text string) bool {
	odd := func(r rune) bool {
		return r != '.' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}
	return text != "" && len(text) <= 253 && text[0] != '-' && !strings.ContainsFunc(text, odd)
}

// address reads an address as the sysadmin writes it: user@host, "Name <user@host>", or a user of this host.
func (h identity) address(text string) (*mail.Address, error) {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f }) { // what goes as it is to any server
		return nil, fmt.Errorf("%q is no mail address", text)
	}
	full := strings.TrimSpace(text)
	if !strings.Contains(full, "@") {
		full += "@" + h.domain
	}
	a, err := mail.ParseAddress(full)
	if err != nil || strings.HasPrefix(a.Address, "-") || strings.ContainsAny(a.Address, " \"\\(),:;<>[]") { // what would need quotes
		return nil, fmt.Errorf("%q is no mail address", text)
	}
	return a, nil
}

// bare is an address for a local program: it knows itself where a user of this host gets mail.
func (h identity) bare(text string) (string, error) {
	a, err := h.address(text)
	if err != nil {
		return "", err
	}
	if !strings.Contains(text, "@") {
		return strings.TrimSuffix(a.Address, "@"+h.domain), nil
	}
	return a.Address, nil
}

// from is the address of the sender.
func (h identity) from(c Config) (*mail.Address, error) {
	if c.From == "" {
		return h.address("root")
	}
	return h.address(c.From)
}

// defaultPort is SMTP's (RFC 5321, 4.5.4.2).
const defaultPort = 25

// relay splits host:port.
func relay(text string) (host string, port int, err error) {
	host, digits, err := net.SplitHostPort(text)
	if err != nil {
		host, digits = strings.Trim(text, "[]"), strconv.Itoa(defaultPort)
	}
	number, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || number == 0 || !isHostName(host) && net.ParseIP(host) == nil {
		return "", 0, fmt.Errorf("%q is no host:port of a mail relay", text)
	}
	return host, int(number), nil
}
