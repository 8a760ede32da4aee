package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// post is a mail server that tests switch.
type post struct {
	mu    sync.Mutex
	fails error
	says  map[string]string // to addresses that it does not serve, with a code; not nil: in place of fails
	slow  time.Duration     // every answer takes so long
	tried []message
	mails []received
}

type received struct {
	message
	at time.Duration // since the beginning
	to string        // when the server has says
}

func (p *post) set(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = err
}

func (p *post) got() (mails []received, tried []message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]received(nil), p.mails...), append([]message(nil), p.tried...)
}

// scene is a notifier that runs in a bubble of its own time.
type scene struct {
	*Notifier
	post  *post
	dir   string
	began time.Time
	stop  func()
}

type senderFunc func(context.Context, message) error

func (f senderFunc) send(ctx context.Context, m message) error { return f(ctx, m) }

func five() Config { return Config{To: []string{"root"}, Every: 5 * time.Minute} }

func play(t *testing.T, dir string, c Config, p *post) *scene {
	t.Helper()
	n, err := Open(Options{Dir: dir, Host: "lab", Domain: "lab", Log: quiet()}, c)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{Notifier: n, post: p, dir: dir, began: time.Now()}
	n.via = func(c Config) (sender, error) {
		return senderFunc(func(ctx context.Context, m message) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.tried = append(p.tried, m)
			if p.slow > 0 {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(p.slow):
				}
			}
			if p.says != nil {
				return p.deliver(c.To, m, time.Since(s.began))
			}
			var unsent *unsentError
			if p.fails == nil || errors.As(p.fails, &unsent) {
				p.mails = append(p.mails, received{message: m, at: time.Since(s.began)})
			}
			return p.fails
		}), nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	s.stop = func() { cancel(); work.Wait() }
	t.Cleanup(s.stop)
	synctest.Wait()
	return s
}

func (s *scene) tell(t *testing.T, line string) {
	t.Helper()
	if err := s.Add(Item{Line: line}); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestTheFirstAtOnceThenOneInSoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, t.TempDir(), five(), &post{})
		s.tell(t, "one")
		if mails, _ := s.post.got(); len(mails) != 1 || mails[0].at != 0 {
			t.Fatalf("at once there are %+v", mails)
		}
		for n := range 4 {
			pass(time.Minute)
			s.tell(t, fmt.Sprint("more ", n))
		}
		if mails, _ := s.post.got(); len(mails) != 1 || s.Status().Queued != 4 || !s.Status().OldestAt.Equal(s.began.Add(time.Minute)) {
			t.Fatalf("within five minutes there are %+v; %+v", mails, s.Status())
		}
		pass(time.Minute)
		mails, _ := s.post.got()
		if len(mails) != 2 || mails[1].at != 5*time.Minute || mails[1].Subject != "[lls lab] 4 events: more 3" {
			t.Fatalf("after five there are %+v", mails)
		}
		last := -1
		for n := range 4 {
			if i := strings.Index(mails[1].Body, fmt.Sprint("more ", n)); i > last {
				last = i
			} else {
				t.Errorf("more %d is not in its place in\n%s", n, mails[1].Body)
			}
		}
		pass(time.Hour)
		if st := s.Status(); st.Queued != 0 || !st.OldestAt.IsZero() || !st.LastSent.Equal(s.began.Add(5*time.Minute)) || st.LastError != "" {
			t.Errorf("status is %+v", st)
		}
		s.tell(t, "later")
		if mails, _ := s.post.got(); len(mails) != 3 || mails[2].at != 65*time.Minute {
			t.Errorf("later there are %+v", mails)
		}
	})
}

func TestADownServerIsTriedLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, t.TempDir(), five(), &post{fails: errors.New("connection refused")})
		s.tell(t, "one")
		pass(30 * time.Second) // at 0, 1, 3, 7, 15 s
		if _, tried := s.post.got(); len(tried) != 5 {
			t.Errorf("%d tries in half a minute", len(tried))
		}
		for range 100 {
			s.tell(t, "news does not hurry it")
		}
		if _, tried := s.post.got(); len(tried) != 5 {
			t.Errorf("%d tries after news", len(tried))
		}
		pass(time.Hour)
		_, before := s.post.got()
		pass(time.Hour)
		if _, after := s.post.got(); len(after)-len(before) != 12 || !strings.Contains(s.Status().LastError, "cannot send mail: connection refused") {
			t.Errorf("%d tries in an hour; %+v", len(after)-len(before), s.Status())
		}
		s.post.set(nil)
		pass(5 * time.Minute)
		mails, _ := s.post.got()
		if len(mails) != 1 || !strings.Contains(mails[0].Subject, "101 events") || s.Status().LastError != "" || s.Status().Queued != 0 {
			t.Errorf("then there are %+v; %+v", mails, s.Status())
		}
	})
}

func TestAnotherConfigurationIsTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, t.TempDir(), five(), &post{fails: errors.New("no route")})
		s.tell(t, "one")
		pass(20 * time.Minute)
		s.post.set(nil)
		s.SetConfig(five())
		synctest.Wait()
		if mails, _ := s.post.got(); len(mails) != 1 || mails[0].at != 20*time.Minute {
			t.Errorf("there are %+v", mails)
		}
	})
}

func TestWhatMayHaveBeenTakenIsRepeatedUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &post{fails: fmt.Errorf("%w: reset", errUnsure)}
		s := play(t, t.TempDir(), five(), p)
		s.tell(t, "one")
		s.tell(t, "two")
		pass(10 * time.Second)
		p.set(nil)
		pass(time.Minute)
		mails, tried := p.got()
		if len(mails) != 1 || len(tried) != 5 || s.Status().Queued != 1 {
			t.Fatalf("there are %+v after %d tries; %+v", mails, len(tried), s.Status())
		}
		for _, m := range tried {
			if m != mails[0].message {
				t.Errorf("a try was %+v, the last %+v", m, mails[0])
			}
		}
		pass(5 * time.Minute)
		if mails, _ = p.got(); len(mails) != 2 || mails[1].ID == mails[0].ID || strings.Contains(mails[1].Body, "one") {
			t.Errorf("then there are %+v", mails)
		}
	})
}

func TestARestartSendsWhatIsQueuedAndNoMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, t.TempDir(), five(), &post{})
		s.tell(t, "one")
		pass(time.Minute)
		s.tell(t, "two")
		s.stop()
		p := &post{}
		s = play(t, s.dir, five(), p)
		pass(3 * time.Minute)
		if mails, _ := p.got(); len(mails) != 0 || s.Status().Queued != 1 {
			t.Fatalf("too early there are %+v; %+v", mails, s.Status())
		}
		pass(time.Minute)
		if mails, _ := p.got(); len(mails) != 1 || mails[0].Subject != "[lls lab] two" {
			t.Errorf("there are %+v", mails)
		}
	})
}

// A time of this process has a monotonic part, which no clock that is set changes. One of an earlier process has none.
func TestAClockThatIsSetBackDelaysNoMailForLong(t *testing.T) {
	for _, back := range []time.Duration{2 * time.Hour, 10 * 365 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, t.TempDir(), five(), &post{})
			s.tell(t, "one")
			s.stop()
			p := &post{}
			s = play(t, s.dir, five(), p)
			s.mu.Lock()
			s.queue.sent.At = s.queue.sent.At.Add(back) // as it looks to a clock that is so much earlier
			s.mu.Unlock()
			if err := s.Add(Item{Line: "two", Severity: Urgent}); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				pass(time.Minute)
				s.poke() // whatever wakes it starts no new wait
			}
			synctest.Wait()
			if mails, _ := p.got(); len(mails) != 1 || !strings.HasSuffix(mails[0].Subject, "two") {
				t.Errorf("%v back: there are %+v; %+v", back, mails, s.Status())
			}
		})
	}
}

func TestAnEndWhileSendingLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, t.TempDir(), five(), &post{slow: time.Minute})
		s.tell(t, "one")
		pass(time.Second)
		s.stop()
		p := &post{}
		play(t, s.dir, five(), p)
		if mails, _ := p.got(); len(mails) != 1 || mails[0].Subject != "[lls lab] one" {
			t.Errorf("there are %+v", mails)
		}
	})
}

func TestAServerThatNeverAnswersIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, t.TempDir(), five(), &post{slow: 24 * time.Hour})
		s.tell(t, "one")
		pass(patience + time.Millisecond)
		if st := s.Status(); st.Queued != 1 || !strings.Contains(st.LastError, "deadline") {
			t.Errorf("status is %+v", st)
		}
	})
}

func TestOneWrongAddressDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, t.TempDir(), five(), &post{fails: &unsentError{Err: errors.New("550 no such user"), Taken: true}})
		s.tell(t, "one")
		pass(time.Hour)
		if mails, tried := s.post.got(); len(mails) != 1 || len(tried) != 1 || s.Status().Queued != 0 || !strings.Contains(s.Status().LastError, "550") {
			t.Errorf("there are %+v; %+v", mails, s.Status())
		}
	})
}

func TestWithNobodyToMailToNothingIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, t.TempDir(), Config{}, &post{})
		s.tell(t, "one")
		if st := s.Status(); st.Queued != 0 || files(t, s.dir) != "" {
			t.Errorf("status is %+v, files %s", st, files(t, s.dir))
		}
		if err := s.Test(t.Context()); !errors.Is(err, errNobody) {
			t.Errorf("test says %v", err)
		}
		s.SetConfig(five())
		s.post.set(errors.New("down"))
		s.tell(t, "two")
		s.SetConfig(Config{})
		synctest.Wait()
		if st := s.Status(); st.Queued != 0 || files(t, s.dir) != "" {
			t.Errorf("status is %+v, files %s", st, files(t, s.dir))
		}
	})
}

func TestATestGoesPastTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, t.TempDir(), five(), &post{})
		s.tell(t, "one")
		s.tell(t, "two")
		if err := s.Test(t.Context()); err != nil {
			t.Error(err)
		}
		if mails, _ := s.post.got(); len(mails) != 2 || mails[1].Subject != "[lls lab] test: mail from lls-agent arrives" || s.Status().Queued != 1 {
			t.Errorf("there are %+v", mails)
		}
		s.post.set(errors.New("554 go\naway"))
		if err := s.Test(t.Context()); err == nil || err.Error() != "cannot send mail: 554 go away" {
			t.Errorf("test says %v", err)
		}
	})
}
