package agent

import (
	"errors"
	"sync"
	"time"

	"lls/agent/container"
)

// stepTime is how long anybody waits for a step, and for his turn at one. A step takes milliseconds, but for the copy of the client.
const stepTime = 5 * time.Second

// errStuck means that a container has a step wait, or had an earlier one.
var errStuck = errors.New("its /lls and /dev/mf do not answer: something in it has the host's access to them wait")

// steps are what is done in the file systems that containers see at /lls and /dev/mf. A privileged container's root can have each opening
// of a file there wait for him (FAN_OPEN_PERM, fanotify_mark(2)) as long as he likes. So each step has a goroutine of its own, one at a
// time for each container: a container whose step is late gets no other before that has ended. A late step belongs to nobody but its
// container, and ends with the agent at the latest, since the kernel lets a process that waits so be killed.
type steps struct {
	// For tests: how long a step may take, and what does it.
	patience func(key string) <-chan time.Time
	run      func(key string, f func() error) error

	stuck, answers func(c container.Container) // told that a step is late, and that it has ended; not nil

	mu  sync.Mutex
	now map[string]*step // under way, by the container's key
}

// step is one under way. Its steps' mutex guards what changes.
type step struct {
	late  chan struct{} // closed when it is late
	done  chan struct{} // closed when it and what comes after it has ended
	after []func()      // done in its goroutine, when it has ended
}

func newSteps(stuck, answers func(container.Container)) *steps {
	return &steps{
		patience: func(string) <-chan time.Time { return time.After(stepTime) },
		run:      func(_ string, f func() error) error { return f() },
		stuck:    stuck, answers: answers, now: map[string]*step{},
	}
}

// do does a step. errStuck means that it was late, or that an earlier one is. What f works on must be nobody else's until f ends, which
// may be after do; late, if it is not nil, is called when f has ended late, before the container's next step.
func (s *steps) do(c container.Container, f func() error, late func()) error {
	turn := s.patience(c.Key())
	result := make(chan error, 1)
	for {
		mine, other := s.begin(c, func() { result <- s.run(c.Key(), f) })
		if mine != nil {
			if s.wait(c, mine) || s.tooLate(c, mine, late) {
				return <-result
			}
			return errStuck
		}
		select {
		case <-other.done:
			continue
		case <-other.late:
		case <-turn:
		}
		return errStuck
	}
}

// last does what must be done, and in no case while a step is under way: after it, when that is late.
func (s *steps) last(c container.Container, f func()) {
	mine, other := s.begin(c, f)
	if mine == nil {
		ended := make(chan struct{})
		if s.append(other, func() { defer close(ended); f() }) {
			select {
			case <-ended:
			case <-other.late:
			}
			return
		}
		s.last(c, f) // that one has just ended
		return
	}
	if !s.wait(c, mine) {
		s.tooLate(c, mine, nil)
	}
}

// begin begins a step, unless another is under way.
func (s *steps) begin(c container.Container, f func()) (mine, other *step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.now[c.Key()]; other != nil {
		return nil, other
	}
	mine = &step{late: make(chan struct{}), done: make(chan struct{})}
	s.now[c.Key()] = mine
	go func() {
		f()
		s.end(c, mine)
	}()
	return mine, nil
}

// wait says whether a step ends in time.
func (s *steps) wait(c container.Container, x *step) bool {
	select {
	case <-x.done:
		return true
	case <-s.patience(c.Key()):
		return false
	}
}

// append has f done after a step; false when that has ended.
func (s *steps) append(x *step, f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if isClosed(x.done) {
		return false
	}
	x.after = append(x.after, f)
	return true
}

// tooLate marks a step as late; true when it has ended just now.
func (s *steps) tooLate(c container.Container, x *step, after func()) (ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if isClosed(x.done) {
		return true
	}
	if after != nil {
		x.after = append(x.after, after)
	}
	close(x.late)
	s.stuck(c)
	return false
}

func (s *steps) end(c container.Container, x *step) {
	for {
		s.mu.Lock()
		if len(x.after) == 0 {
			break
		}
		next := x.after[0]
		x.after = x.after[1:]
		s.mu.Unlock()
		next()
	}
	defer s.mu.Unlock()
	delete(s.now, c.Key())
	close(x.done)
	if isClosed(x.late) {
		s.answers(c)
	}
}

// isLate says whether a container has a step wait.
func (s *steps) isLate(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.now[key]
	return x != nil && isClosed(x.late)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// newAgentSteps are those of an agent: the journal tells when a container begins to have them wait and when that ends, and then all that
// was not done meanwhile is.
func newAgentSteps(a *Agent) *steps {
	told := func(c container.Container) bool {
		_, ok := a.journals.of(c.Owner.String()).line(a.opts.Now())
		return ok
	}
	return newSteps(func(c container.Container) {
		if told(c) {
			a.log.Warn("a container's /lls and /dev/mf do not answer, and are left alone until they do", "container", c.Owner)
		}
	}, func(c container.Container) {
		if told(c) {
			a.log.Info("a container's /lls and /dev/mf answer again", "container", c.Owner)
		}
		poke(a.again)
	})
}

// touch does a step at a guest's /lls or /dev/mf. Until one succeeds after a late one, its status tells of that, so that all of it is done
// again. The caller keeps them from being closed until touch returns; what is late then is ended before they are.
func (a *Agent) touch(g *guest, f func() error) error {
	err := a.steps.do(g.Container, f, nil)
	if errors.Is(err, errStuck) {
		g.mu.Lock()
		g.broken = errStuck
		g.mu.Unlock()
		poke(a.herald.wake)
	}
	return err
}

// complain writes what failed at a container's /lls or /dev/mf into the journal, which knows already when they do not answer.
func (a *Agent) complain(text string, c container.Container, err error) {
	if err != nil && !errors.Is(err, errStuck) {
		a.log.Warn(text, "container", c.Owner, "error", err)
	}
}
