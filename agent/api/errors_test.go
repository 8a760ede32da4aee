package api_test

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"testing"

	"lls/agent/api"
)

// The exit statuses are a promise to scripts: this is the table of the manual.
func TestEveryCodeHasItsExitStatusAndAHint(t *testing.T) {
	want := map[api.Code]int{
		api.Failed: 1, api.Malformed: 2, api.NotFound: 10, api.Busy: 11, api.Denied: 12, api.Full: 13, api.Unreachable: 14,
		api.NeedsAdmin: 15, api.Exists: 16, api.BadPath: 17, api.Interrupted: 14,
	}
	command := regexp.MustCompile(`: (lls|lls-agent|systemctl|journalctl|mkdir) `)
	for code, exit := range want {
		if code.Exit() != exit {
			t.Errorf("%s exits %d, want %d", code, code.Exit(), exit)
		}
		if !command.MatchString(code.Hint()) {
			t.Errorf("the hint of %s holds no command to type: %q", code, code.Hint())
		}
		if s := code.HTTPStatus(); s < 400 || s > 599 {
			t.Errorf("%s has HTTP status %d", code, s)
		}
	}
	if c := api.Code("of a newer agent"); c.Exit() != 1 || c.HTTPStatus() != 500 || c.Hint() != "" {
		t.Errorf("an unknown code exits %d with status %d and hint %q", c.Exit(), c.HTTPStatus(), c.Hint())
	}
}

func TestAsErrorFindsTheErrorInAChain(t *testing.T) {
	inner := api.Errorf(api.Busy, "cannot delete x: mounted").Because(io.ErrClosedPipe)
	if got := api.AsError(fmt.Errorf("while at it: %w", inner)); got != inner {
		t.Errorf("got %v", got)
	}
	if !errors.Is(inner, io.ErrClosedPipe) {
		t.Error("the cause is not seen through")
	}
	if got := api.AsError(io.ErrUnexpectedEOF); got.Code != api.Failed || got.Hint == "" || !errors.Is(got, io.ErrUnexpectedEOF) {
		t.Errorf("a plain error becomes %+v", got)
	}
}
