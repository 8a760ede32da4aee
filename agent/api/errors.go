package api

import (
	"errors"
	"fmt"
	"time"
)

// Code classes an error; it is part of the protocol. [Code.Exit] gives the exit status that goes with it.
type Code string

// The codes. A client decides on these alone, never on a message.
const (
	Failed      Code = "failed"      // our fault, or the machine's
	Malformed   Code = "malformed"   // a name, size or option that cannot be read
	NotFound    Code = "not-found"   // it is not there, or not the asker's to know
	Busy        Code = "busy"        // somebody uses it, or is changing it
	Denied      Code = "denied"      // policy or rights say no
	Full        Code = "full"        // a quota or a pool has no room
	Unreachable Code = "unreachable" // no agent answers; made by the client
	NeedsAdmin  Code = "needs-admin" // only the sysadmin can mend this
	Exists      Code = "exists"      // the name is taken
	BadPath     Code = "bad-path"    // the mount path cannot be used
	Interrupted Code = "interrupted" // the agent stopped in the middle; made by the client
)

type codeFacts struct {
	exit, status int
	hint         string
}

// facts is the one table of the codes: exit status, HTTP status (in numbers, because the client does without net/http)
// and the hint for an error that brings none.
func facts() map[Code]codeFacts {
	return map[Code]codeFacts{
		Failed:      {1, 500, "on the host, see why: journalctl -u lls-agent"},
		Malformed:   {2, 400, "see: lls --help"},
		NotFound:    {10, 404, "see what there is: lls list --all"},
		Busy:        {11, 409, "see who uses it: lls info NAME"},
		Denied:      {12, 403, "see what you may do with it: lls info NAME"},
		Full:        {13, 507, "see what you use: lls usage"},
		Unreachable: {14, 503, "the LLS agent does not answer; on the host, see why: systemctl status lls-agent"},
		NeedsAdmin:  {15, 503, "on the host, see what is wrong: lls-agent status"},
		Exists:      {16, 409, "choose another name, or see what there is: lls list --all"},
		BadPath:     {17, 422, "give an existing directory of this container: mkdir -p /data"},
		Interrupted: {14, 503, "see whether it was done: lls list"},
	}
}

// Exit is the exit status of a command that ends with this code; an unknown code is 1.
func (c Code) Exit() int {
	if f, ok := facts()[c]; ok {
		return f.exit
	}
	return facts()[Failed].exit
}

// HTTPStatus is the status of an answer that is this error.
func (c Code) HTTPStatus() int {
	if f, ok := facts()[c]; ok {
		return f.status
	}
	return 500
}

// Hint is what to type next after an error with this code that brings no hint of its own.
func (c Code) Hint() string { return facts()[c].hint }

// Error is a failure as it crosses the socket. Message reads "cannot VERB OBJECT: why" and names nothing of the host;
// Hint says what to type.
type Error struct {
	Code    Code     `json:"code"`
	Message string   `json:"message"`
	Hint    string   `json:"hint,omitempty"`
	Holders []Holder `json:"holders,omitempty"` // who makes it busy
	// Problems are what else there is to say, one line each: every mistake where Message only counts them, or what was done all the same.
	Problems []string `json:"problems,omitempty"`
	// RetryAfter is the seconds after which it is no longer so by itself; 0 where that is not known.
	RetryAfter int64 `json:"retry_after,omitempty"`
	// Detail is for the agent's journal and the sysadmin: it never crosses a container's socket.
	Detail error `json:"-"`
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives the inner cause, so that errors.Is sees through.
func (e *Error) Unwrap() error { return e.Detail }

// Errorf makes an error of this code; the hint is the code's own.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Hint: code.Hint()}
}

// WithHint gives e another hint and returns it.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// After notes when it is no longer so by itself and returns e.
func (e *Error) After(wait time.Duration) *Error {
	e.RetryAfter = int64((wait + time.Second - 1) / time.Second)
	return e
}

// Because keeps the inner cause for the journal and returns e.
func (e *Error) Because(err error) *Error {
	e.Detail = err
	return e
}

// Is says whether err is an Error of this code; nil is of none.
func (c Code) Is(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == c
}

// AsError finds the Error in err's chain; anything else becomes a Failed one. err is not nil.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Errorf(Failed, "%s", err.Error()).Because(err)
}
