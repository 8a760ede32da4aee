package api_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/api/cli/clitest"
)

func TestPostShowsProgressAndDecodesTheResult(t *testing.T) {
	a := clitest.Serve(t, map[string]clitest.Answer{
		"POST /create": {Progress: []string{"one", "two"}, Result: api.Volume{Name: "x", Size: 5}},
		"POST /delete": {Progress: []string{"one"}, Err: api.Errorf(api.Busy, "cannot delete x: busy")},
		"POST /reload": {Result: api.Empty{}},
	})
	c := api.Dial(a.Socket)
	var steps []string
	c.Progress = func(s string) { steps = append(steps, s) }
	var v api.Volume
	if err := c.Post(t.Context(), api.PathCreate, api.CreateRequest{Name: "x"}, &v); err != nil || v.Name != "x" || v.Size != 5 {
		t.Errorf("create gives %+v, %v", v, err)
	}
	if !slices.Equal(steps, []string{"one", "two"}) {
		t.Errorf("the progress was %q", steps)
	}
	if err := c.Post(t.Context(), api.PathDelete, api.NameRequest{Name: "x"}, nil); api.AsError(err).Code != api.Busy {
		t.Errorf("an error after progress is %v", err)
	}
	if err := c.Post(t.Context(), api.PathReload, api.Empty{}, nil); err != nil {
		t.Errorf("an empty result that nobody wants is %v", err)
	}
}

func TestGetSendsTheQueryWhateverItHolds(t *testing.T) {
	a := clitest.Serve(t, map[string]clitest.Answer{"GET /volume": {Result: api.Volume{Name: "x"}}})
	for _, name := range []string{"x", "", "../..", "a b\r\nHost: evil\r\n\r\nGET /", "a?b#c&d=e%41", "\x00", "é\u2028"} {
		var v api.Volume
		if err := api.Dial(a.Socket).Get(t.Context(), api.PathVolume, url.Values{"name": {name}}, &v); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		want := "GET /volume?name=" + url.QueryEscape(name)
		if got := a.Requests(); len(got) != 1 || got[0] != want {
			t.Errorf("%q arrives as %q", name, got)
		}
	}
	if err := api.Dial(a.Socket).Get(t.Context(), api.PathStatus, nil, nil); api.AsError(err).Code != api.NotFound {
		t.Errorf("an error is %v", err)
	}
}

// raw serves one connection with bytes of its own and then closes it. What it gives is the socket's path.
func raw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lls")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := l.Accept(); err == nil {
			serve(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		_ = os.RemoveAll(dir)
	})
	return path
}

func TestAnswersThatAreCutOrStrange(t *testing.T) {
	const ok = "HTTP/1.0 200 OK\r\n\r\n"
	for name, test := range map[string]struct {
		answer string
		want   api.Code
	}{
		"nothing":           {"", api.Interrupted},
		"half a head":       {"HTTP/1.0 200", api.Interrupted},
		"no body":           {ok, api.Interrupted},
		"only progress":     {ok + `{"progress":"x"}` + "\n", api.Interrupted},
		"half a result":     {ok + `{"result":{"name":"x`, api.Interrupted},
		"not HTTP":          {"SSH-2.0-x\r\n\r\n", api.Interrupted},
		"endless head":      {"HTTP/1.0 200 OK\r\n" + strings.Repeat("A: b\r\n", 4000), api.Interrupted},
		"endless line":      {"HTTP/1.0 200 OK\r\nA: " + strings.Repeat("b", 1<<20), api.Interrupted},
		"chunked":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", api.Interrupted},
		"plain 404":         {"HTTP/1.0 404 Not Found\r\n\r\n404 page not found\n", api.Failed},
		"of the wrong type": {ok + `{"result":{"name":7}}`, api.Failed},
		"an error":          {"HTTP/1.0 409 Conflict\r\n\r\n" + `{"error":{"code":"exists","message":"m"}}`, api.Exists},
		"an unread request": {"HTTP/1.0 413 Too Large\r\n\r\n" + `{"error":{"code":"malformed","message":"m"}}`, api.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			path := raw(t, func(c net.Conn) {
				if name != "an unread request" {
					_, _ = c.Read(make([]byte, 4096))
				}
				_, _ = c.Write([]byte(test.answer))
			})
			var v api.Volume
			err := api.Dial(path).Post(t.Context(), api.PathCreate, api.CreateRequest{}, &v)
			if got := api.AsError(err).Code; err == nil || got != test.want {
				t.Errorf("the error is %v (%s), want %s", err, got, test.want)
			}
		})
	}
}

func TestACallerWhoGivesUpIsToldWhy(t *testing.T) {
	release := make(chan struct{})
	path := raw(t, func(c net.Conn) { <-release })
	defer close(release)
	why := errors.New("no more")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	if err := api.Dial(path).Post(ctx, api.PathCreate, api.Empty{}, nil); !errors.Is(err, why) {
		t.Errorf("the error is %v", err)
	}
	if err := api.Dial(path).Get(ctx, api.PathVolumes, nil, nil); !errors.Is(err, why) {
		t.Errorf("the error of a context that ended before is %v", err)
	}
}

func TestNoAgentThere(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), file, strings.Repeat("long", 40), ""} {
		err := api.Dial(path).Post(t.Context(), api.PathCreate, api.Empty{}, nil)
		if e := api.AsError(err); e.Code != api.Unreachable || e.Hint == "" {
			t.Errorf("%q: %v (%s)", path, err, e.Code)
		}
	}
}
