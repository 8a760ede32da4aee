package api

import (
	"io"
	"strings"
	"testing"
)

func FuzzReadHead(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\n\r\nbody", "HTTP/1.0 999\n\n", "HTTP/1.0 -12 x\r\n\r\n", "", "\n\n", "HTTP/1.1 200 OK\r\nA: b\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		status, body, err := readHead(strings.NewReader(s))
		if err != nil {
			return
		}
		if status < 100 || status > 999 {
			t.Errorf("status %d", status)
		}
		rest, err := io.ReadAll(body)
		if err != nil || !strings.HasSuffix(s, string(rest)) {
			t.Errorf("the body is %q, %v", rest, err)
		}
	})
}
