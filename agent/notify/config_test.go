package notify

import (
	"errors"
	"strings"
	"testing"

	"lls/policy"
)

// configured reads a [mail] section, and says which of its lines were refused.
func configured(text string) (Config, map[int]bool) {
	noSize := func(string) (int64, error) { return 0, errors.New("there is none here") }
	c, err := policy.Parse("lls.toml", []byte(text), noSize)
	if err == nil {
		return Config{To: c.Mail.To, From: c.Mail.From, Relay: c.Mail.Relay, Sendmail: c.Mail.Sendmail, Every: c.Mail.Every}, nil
	}
	refused := map[int]bool{}
	if all, ok := errors.AsType[policy.Problems](err); ok {
		for _, p := range all {
			refused[p.Line] = true
		}
	}
	return Config{}, refused
}

// What cannot be sent would be tried again and again, and nobody would hear of it.
func TestWhatLLSTomlMaySayCanBeSent(t *testing.T) {
	for _, tt := range []struct {
		line string
		good bool
	}{
		{`to = ["root", "x@y.example", "a.b+c@localhost", "o'neil@x"]`, true},
		{`to = []`, true},
		{`from = "lls@y.example"`, true},
		{`from = ""`, true},
		{`relay = "mail.example:587"`, true},
		{`relay = "192.0.2.1:25"`, true},
		{`relay = "[2001:db8::1]:25"`, true},
		{`relay = ""`, true},
		{`relay = "mail:65535"`, true},
		{`to = ["root@"]`, false},
		{`to = ["@x"]`, false},
		{`to = ["a@b@c"]`, false},
		{`to = ["müller@x.de"]`, false},
		{`to = ["(x)"]`, false},
		{`to = ["a b"]`, false},
		{`to = [""]`, false},
		{`to = ["-x"]`, false},
		{`to = ["a..b"]`, false},
		{`to = ["a@[192.0.2.1]"]`, false},
		{`to = ["root", "x@"]`, false},
		{`from = "x@[1.2"`, false},
		{`from = "-x"`, false},
		{`relay = "mail.example.com:smtp"`, false},
		{`relay = "mail:99999"`, false},
		{`relay = "mail:0"`, false},
		{`relay = "mail:+25"`, false},
		{`relay = ":25"`, false},
		{`relay = "a b:25"`, false},
		{`relay = "unix:///run/x"`, false},
		{`relay = "[fe80::1%eth0]:25"`, false},
	} {
		c, refused := configured("[mail]\n" + tt.line)
		if (refused == nil) != tt.good || !tt.good && !refused[2] {
			t.Errorf("%s is refused: %v", tt.line, refused)
		}
		if _, err := newSender(c, lab, nil); tt.good && err != nil && !errors.Is(err, errNobody) {
			t.Errorf("%s is taken, and then: %v", tt.line, err)
		}
	}
}

// texts are all of up to so many of these letters.
func texts(letters string, most int) []string {
	all, last := []string{""}, []string{""}
	for range most {
		var next []string
		for _, begin := range last {
			for _, r := range letters {
				next = append(next, begin+string(r))
			}
		}
		all, last = append(all, next...), next
	}
	return all
}

func TestNoShortAddressIsTakenThatCannotBeSent(t *testing.T) {
	all := texts("a@.-[](:<ü", 4)
	_, refused := configured("[mail]\nto = [\n'" + strings.Join(all, "',\n'") + "']\n")
	taken := 0
	for i, text := range all {
		if refused[i+3] {
			continue
		}
		taken++
		if _, err := newSender(Config{To: []string{text}, From: text}, lab, nil); err != nil {
			t.Errorf("%q is taken, and then: %v", text, err)
		}
	}
	if taken < 5 || len(refused) < 1000 {
		t.Errorf("of %d texts %d are taken, and %d lines refused", len(all), taken, len(refused))
	}
}

func TestNoShortRelayIsTakenThatCannotBeReached(t *testing.T) {
	taken, refused := 0, 0
	for _, text := range texts("a1:[]-", 4) {
		c, wrong := configured("[mail]\nrelay = '" + text + "'")
		if wrong != nil {
			refused++
			continue
		}
		taken++
		c.To = []string{"root"}
		if _, err := newSender(c, lab, nil); err != nil {
			t.Errorf("%q is taken, and then: %v", text, err)
		}
	}
	if taken < 5 || refused < 1000 {
		t.Errorf("%d are taken, %d refused", taken, refused)
	}
}
