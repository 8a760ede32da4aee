package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
)

// What one socket takes. A container's root can hold these much, and nothing else of the agent.
const (
	maxConns      = 128          // at once, of those who may be served; more wait in the socket's backlog
	maxStrangers  = 8            // at once, of all others; more are closed
	maxWork       = 8            // requests that are worked on at once, watching aside; the next ones wait
	maxWatchers   = maxConns / 2 // at once; the next one is refused, so that the others are still answered
	maxHeader     = 16 << 10
	maxBody       = 64 << 10
	headerTimeout = 10 * time.Second
	writeTimeout  = 10 * time.Second // of one line of an answer
)

// socketServer answers on one socket, which is who the caller is: a guest's, or the sysadmin's when guest is nil.
type socketServer struct {
	agent   *Agent
	journal *throttle
	guest   *guest
	ln      *limitListener
	http    *http.Server
	work    chan struct{} // one element for each request of a container that is worked on
	watches chan struct{} // one element for each watcher
	turn    chan struct{} // holds one token while a request of the container has, or waits for, a volume group's writer
}

func newSocketServer(a *Agent, ln *net.UnixListener, g *guest) *socketServer {
	who := catalog.Host()
	if g != nil {
		who = g.Owner
	}
	s := &socketServer{agent: a, guest: g, journal: a.journals.of(who.String()),
		work: make(chan struct{}, maxWork), watches: make(chan struct{}, maxWatchers), turn: make(chan struct{}, 1)}
	s.ln = &limitListener{UnixListener: ln, slots: make(chan struct{}, maxConns), strangers: make(chan struct{}, maxStrangers), done: make(chan struct{}),
		admits: func(p peer) bool { return s.admit(p, a.config()) == nil }}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.handle),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       headerTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, c.(*limitConn).peer)
		},
	}
	return s
}

// serve answers until close.
func (s *socketServer) serve() {
	if err := s.http.Serve(s.ln); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		s.agent.log.Error("cannot serve a socket", "error", err)
	}
}

// close ends the service at once: what is under way goes on, but nobody hears of it.
func (s *socketServer) close() { _ = s.http.Close() }

// drain ends the service when what is under way is done, or ctx ends.
func (s *socketServer) drain(ctx context.Context) { _ = s.http.Shutdown(ctx) }

// limitListener accepts no more than so many connections at once. A container's users are not its root: they share a few places to be
// refused in, and cannot take those of who may be served.
type limitListener struct {
	*net.UnixListener
	admits    func(peer) bool // by the configuration of now
	slots     chan struct{}   // one element for each connection of who is admitted
	strangers chan struct{}   // one for each of anybody else
	once      sync.Once
	done      chan struct{}
}

// Accept waits for a free slot, but only for the sake of who is admitted.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		p := peerOf(c)
		slots := l.slots
		if l.admits(p) {
			select {
			case slots <- struct{}{}:
			case <-l.done:
				_ = c.Close()
				return nil, net.ErrClosed
			}
		} else {
			slots = l.strangers
			select {
			case slots <- struct{}{}:
			default:
				_ = c.Close()
				continue
			}
		}
		return &limitConn{UnixConn: c, peer: p, release: sync.OnceFunc(func() { <-slots })}, nil
	}
}

// Close ends Accept.
func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.UnixListener.Close()
}

type limitConn struct {
	*net.UnixConn
	peer    peer
	release func()
}

// Close gives the slot back.
func (c *limitConn) Close() error {
	err := c.UnixConn.Close()
	c.release()
	return err
}

// handle is the one way in: it finds the endpoint, checks who is asking, and only then runs it.
func (s *socketServer) handle(w http.ResponseWriter, r *http.Request) {
	a := s.agent
	started := a.opts.Now()
	out := &answer{w: w, rc: http.NewResponseController(w)}
	// Also for a body that is not wanted: the server reads some of it before it answers.
	_ = out.rc.SetReadDeadline(time.Now().Add(headerTimeout))
	p, _ := r.Context().Value(peerKey{}).(peer)
	cfg := a.config()
	e, problem := a.route(r, s.guest == nil)
	if problem == nil {
		if problem = s.admit(p, cfg); problem != nil {
			w.Header().Set("Connection", "close") // nobody keeps a slot by asking again
		}
	}
	if problem != nil {
		out.fail(problem)
		return
	}
	c := &call{agent: a, guest: s.guest, peer: p, config: cfg, request: r, answer: out, doing: e.doing}
	c.asker = a.admin()
	if s.guest != nil {
		c.asker = s.guest.asker()
	}
	body, problem := readBody(out, r)
	if problem == nil && r.Method == http.MethodPost {
		problem = c.tooBusy()
	}
	if problem != nil {
		out.fail(problem)
		return
	}
	ctx, leave, err := s.enter(r.Context(), e)
	if err != nil {
		if errors.As(err, &problem) {
			out.fail(problem)
		}
		return // or the caller went away
	}
	defer leave()
	if r.Method == http.MethodPost {
		inside, leaveGate, ok := a.gate.enter(ctx)
		if !ok {
			out.fail(goingDown(e.doing))
			return
		}
		defer leaveGate()
		ctx = inside
	}
	result, err := c.run(ctx, e, body)
	who := "host"
	if s.guest != nil {
		who = s.guest.Owner.String()
	}
	if err != nil {
		problem = c.explain(err)
		dropped, ok := s.journal.line(a.opts.Now())
		if !ok {
			out.fail(problem)
			return
		}
		a.log.Log(context.WithoutCancel(r.Context()), levelOf(problem), "request refused", "untold", dropped, "from", who, "uid", p.Uid, "pid", p.Pid, "path", r.URL.Path,
			"code", problem.Code, "message", problem.Message, "cause", problem.Detail)
		out.fail(problem)
		return
	}
	if _, ok := result.(streamed); ok {
		return
	}
	if r.Method == http.MethodPost {
		a.log.Info("request done", "from", who, "uid", p.Uid, "pid", p.Pid, "path", r.URL.Path, "what", c.what, "took", a.opts.Now().Sub(started).Round(time.Millisecond))
	}
	out.done(result, r.Method == http.MethodPost)
}

// enter waits until the container has no more than so many requests under way, so that it cannot crowd out the others. A watcher does not
// wait: that could be for ever.
func (s *socketServer) enter(ctx context.Context, e endpoint) (context.Context, func(), error) {
	if e.path == api.PathWatch {
		select {
		case s.watches <- struct{}{}:
			return ctx, func() { <-s.watches }, nil
		default:
			return ctx, nil, api.Errorf(api.Busy, "cannot watch: %d watch already, and more may not at once", maxWatchers).
				WithHint("end one of them: pgrep -af 'lls.* watch' finds them")
		}
	}
	if s.guest == nil {
		return ctx, func() {}, nil
	}
	select {
	case s.work <- struct{}{}:
		return withTurn(ctx, s.turn), func() { <-s.work }, nil
	case <-ctx.Done():
		return ctx, nil, ctx.Err()
	}
}

// run carries the request out. A mistake of ours ends it alone, not the agent.
func (c *call) run(ctx context.Context, e endpoint, body []byte) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.agent.log.Error("a request made the agent panic", "path", e.path, "panic", p, "stack", string(debug.Stack()))
			err = api.Errorf(api.Failed, "cannot %s: the agent has a bug", c.doing)
		}
	}()
	return e.run(ctx, c, body)
}

func levelOf(e *api.Error) slog.Level {
	if e.Code == api.Failed || e.Code == api.NeedsAdmin {
		return slog.LevelError
	}
	return slog.LevelInfo
}

// route finds the endpoint that a request names.
func (a *Agent) route(r *http.Request, admin bool) (endpoint, *api.Error) {
	path, ok := strings.CutPrefix(r.URL.Path, "/"+api.Version)
	if !ok {
		return endpoint{}, api.Errorf(api.Malformed, "cannot answer %.64q: this agent speaks /%s/…", r.URL.Path, api.Version)
	}
	if path == "" {
		path = api.PathInfo
	}
	for _, e := range a.endpoints {
		if e.path == path && e.method == r.Method && (admin || !e.admin) {
			return e, nil
		}
	}
	return endpoint{}, api.Errorf(api.Malformed, "cannot answer %s %.64q: there is no such request", r.Method, r.URL.Path)
}

// streamed is the result of an endpoint that has written its answer itself.
type streamed struct{}

// answer writes the lines of one answer.
type answer struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	mu      sync.Mutex
	started bool
}

// progress tells the caller of a step. A caller who does not read loses the connection, not the work.
func (o *answer) progress(text string) { o.line(api.Line{Progress: text}, http.StatusOK) }

func (o *answer) fail(e *api.Error) { o.line(api.Line{Error: e}, e.Code.HTTPStatus()) }

func (o *answer) done(result any, line bool) {
	raw, err := json.Marshal(result)
	switch {
	case err != nil:
		o.fail(api.Errorf(api.Failed, "cannot write the answer"))
	case line:
		o.line(api.Line{Result: raw}, http.StatusOK)
	default:
		_ = o.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		o.w.Header().Set("Content-Type", "application/json")
		_, _ = o.w.Write(append(raw, '\n')) // the caller went away
	}
}

func (o *answer) line(l api.Line, status int) {
	o.begin(status)
	_ = o.send(l) // the caller went away
}

// begin sends the head of an answer of lines, once.
func (o *answer) begin(status int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.started {
		return
	}
	o.started = true
	_ = o.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	o.w.Header().Set("Content-Type", "application/x-ndjson")
	o.w.WriteHeader(status)
	_ = o.rc.Flush() // the caller went away
}

// send writes one line. An error says that the caller went away, or does not read.
func (o *answer) send(line any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err := json.NewEncoder(o.w).Encode(line); err != nil {
		return err
	}
	return o.rc.Flush()
}

// readBody reads a small body within the deadline of the request's beginning, which does not hold for the work that follows.
func readBody(out *answer, r *http.Request) ([]byte, *api.Error) {
	body, err := io.ReadAll(http.MaxBytesReader(out.w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch { // what the error itself says is of the host
	case errors.As(err, &large):
		return nil, api.Errorf(api.Malformed, "cannot read the request: it is larger than %d bytes", large.Limit)
	case err != nil:
		return nil, api.Errorf(api.Malformed, "cannot read the request: it did not come whole, or not in time").Because(err)
	}
	_ = out.rc.SetReadDeadline(time.Time{})
	return body, nil
}

// decode reads a request's body into in, which must be all there is in it.
func decode(body []byte, in any) *api.Error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(in)
	if err == nil && dec.More() {
		err = errors.New("there is something behind it")
	}
	if err != nil {
		return api.Errorf(api.Malformed, "cannot read the request: %v", err)
	}
	return nil
}
