package notify

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// deliver answers for each address as a relay does.
func (p *post) deliver(to []string, m message, at time.Duration) error {
	e := &unsentError{}
	for _, a := range to {
		switch say := p.says[a]; {
		case say == "":
			p.mails, e.Taken = append(p.mails, received{m, at, a}), true
			continue
		case !strings.HasPrefix(say, "5"):
			e.Lacking = append(e.Lacking, a)
			fallthrough
		default:
			e.Err = fmt.Errorf("%s: %s", a, say)
		}
	}
	if e.Err == nil {
		return nil
	}
	return e
}

func (p *post) say(a, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.says[a] = text
}

// had are the subjects of what an address got.
func (p *post) had(a string) string {
	mails, _ := p.got()
	var all []string
	for _, m := range mails {
		if m.to == a {
			all = append(all, strings.TrimPrefix(m.Subject, "[lls lab] "))
		}
	}
	return strings.Join(all, ", ")
}

func two() Config { return Config{To: []string{"root@lab", "temp@lab"}, Every: 5 * time.Minute} }

const grey = "450 4.2.0 greylisted"

func TestWhoIsRefusedForATimeGetsEachMailLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &post{says: map[string]string{"temp@lab": grey}}
		s := play(t, t.TempDir(), two(), p)
		s.tell(t, "one")
		pass(5 * time.Minute)
		s.tell(t, "two")
		if mails, _ := p.got(); p.had("root@lab") != "one, two" || len(mails) != 2 || mails[1].at != 5*time.Minute {
			t.Fatalf("there are %+v", mails)
		}
		if st := s.Status(); st.Queued != 0 || !strings.Contains(st.LastError, grey) {
			t.Errorf("status is %+v", st)
		}
		pass(time.Hour)
		s.stop()
		sent, _ := p.got()
		p = &post{says: map[string]string{"temp@lab": grey}}
		s = play(t, s.dir, two(), p)
		if st := s.Status(); !strings.Contains(st.LastError, grey) {
			t.Errorf("after a restart status is %+v", st)
		}
		p.say("temp@lab", "")
		pass(5 * time.Minute)
		mails, _ := p.got()
		if p.had("root@lab") != "" || p.had("temp@lab") != "one, two" {
			t.Fatalf("then there are %+v", mails)
		}
		for n, m := range mails {
			if m.ID != sent[n].ID || m.Body != sent[n].Body {
				t.Errorf("it is %+v, to others it was %+v", m.message, sent[n].message)
			}
		}
		if st := s.Status(); st.LastError != "" || files(t, s.dir) != sentName {
			t.Errorf("in the end status is %+v, files %s", st, files(t, s.dir))
		}
	})
}

func TestWhatEndsTheTriesForOneAddress(t *testing.T) {
	for name, tt := range map[string]struct {
		then func(s *scene)
		lost string // in the status
	}{
		"it is refused for good":  {func(s *scene) { s.post.say("temp@lab", "550 no such user"); pass(time.Hour) }, "550"},
		"it is not mailed to":     {func(s *scene) { c := two(); c.To = c.To[:1]; s.SetConfig(c); synctest.Wait() }, ""},
		"nobody is mailed to":     {func(s *scene) { s.SetConfig(Config{}); synctest.Wait() }, ""},
		"it takes none for days":  {func(s *scene) { pass(keepRest + time.Hour) }, grey},
		"the relay is not spoken": {func(s *scene) { s.post.set(fmt.Errorf("down")); s.post.quiet(); pass(keepRest + time.Hour) }, "down"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &post{says: map[string]string{"temp@lab": grey}}
				s := play(t, t.TempDir(), two(), p)
				s.tell(t, "one")
				if !strings.Contains(files(t, s.dir), restSuffix) {
					t.Fatalf("there are %s", files(t, s.dir))
				}
				tt.then(s)
				_, before := p.got()
				pass(time.Hour)
				if _, after := p.got(); len(after) != len(before) || files(t, s.dir) != sentName {
					t.Errorf("%d tries more, files %s", len(after)-len(before), files(t, s.dir))
				}
				if st := s.Status(); tt.lost != "" && !strings.Contains(st.LastError, tt.lost) || p.had("root@lab") != "one" {
					t.Errorf("status is %+v", st)
				}
			})
		})
	}
}

// quiet has the server say to all what fails.
func (p *post) quiet() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.says = nil
}

func TestAnAddressThatIsNeverServedKeepsOnlySoManyMails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &post{says: map[string]string{"temp@lab": grey}}
		s := play(t, t.TempDir(), two(), p)
		var all []string
		for n := range maxRests + 5 {
			s.tell(t, fmt.Sprint("event ", n))
			pass(5 * time.Minute)
			all = append(all, fmt.Sprint("event ", n))
		}
		if got := strings.Count(files(t, s.dir), restSuffix); got != maxRests || p.had("root@lab") != strings.Join(all, ", ") {
			t.Errorf("%d wait, root has %s", got, p.had("root@lab"))
		}
		p.say("temp@lab", "")
		pass(5 * time.Minute)
		if got := strings.Count(p.had("temp@lab"), "event"); got != maxRests || strings.Contains(p.had("temp@lab"), "event 4,") || files(t, s.dir) != sentName {
			t.Errorf("it got %s, files %s", p.had("temp@lab"), files(t, s.dir))
		}
	})
}

func TestACrashOnceSomeHaveAMailSendsItToNoneOfThem(t *testing.T) {
	dir := t.TempDir()
	q := reopen(t, dir)
	fill(t, q, 1, 2)
	d, _ := lines(t, q)
	if err := q.keep(&rest{Message: message{ID: d.ID}, To: []string{"temp@lab"}}); err != nil {
		t.Fatal(err)
	}
	fill(t, q, 3, 3)
	again := reopen(t, copyDir(t, dir)) // before it was noted as sent
	if next, got := lines(t, again); got != "3" || next.ID == d.ID || next.Last <= d.Last {
		t.Errorf("the next is %s, %+v", got, next)
	}
	if len(again.rests) != 1 || again.rests[0].Message.ID != d.ID || again.rests[0].To[0] != "temp@lab" {
		t.Errorf("there are %+v", again.rests)
	}
	for name, text := range map[string]string{"x.rest": "{}", "00000000000000000001.rest": "half", "00000000000000000002.rest": strings.Repeat(" ", maxRest+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if broken := reopen(t, dir); len(broken.rests) != 1 || strings.Count(files(t, dir), restSuffix) != 1 {
		t.Errorf("there are %+v, %s", broken.rests, files(t, dir))
	}
}

func TestAGreylistedAddressGetsTheMailOnceAndTheOthersToo(t *testing.T) {
	var first sync.Once
	relay := serve(t, nil, func(command string) (answer string) {
		if strings.HasPrefix(command, "RCPT TO:<temp@") {
			first.Do(func() { answer = grey })
		}
		return answer
	})
	c := two()
	c.Relay = relay.address
	n, err := Open(Options{Dir: t.TempDir(), Host: "lab", Domain: "lab", Log: quiet()}, c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { _ = n.Run(ctx) })
	defer func() { cancel(); work.Wait() }()
	if err := n.Add(Item{Line: "one"}); err != nil {
		t.Fatal(err)
	}
	taken := func() string {
		relay.mu.Lock()
		defer relay.mu.Unlock()
		return strings.Join(relay.mails, "\n")
	}
	for end := time.Now().Add(time.Minute); !strings.Contains(taken(), "To: <temp@lab>") || n.Status().LastError != ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("status is %+v, the relay has %s", n.Status(), taken())
		}
	}
	if all := taken(); strings.Count(all, "To: <root@lab>") != 1 || strings.Count(all, "To: <temp@lab>") != 1 {
		t.Errorf("the relay has %s", all)
	}
}
