package model

import (
	"context"
	"errors"
	"fmt"
)

// Kind classes an error by what the reader of a file has to be told. The
// errno of each kind is decided in one place, fs/errno.go.
type Kind int

// The kinds of error.
const (
	Internal    Kind = iota // anything that has no kind: a defect, reported as EIO
	NotFound                // an authority says that there is no such thing
	Denied                  // allow-list, gated or private repository, bad credentials, cold_deny
	Unavailable             // it could not be asked, or not in time
	Timeout                 // a cold read whose fill got no byte for the read timeout
	Stale                   // the node's file is no longer what the name means
	NoSpace                 // nothing can be stored and nothing can be streamed
	Corrupt                 // content contradicts its hash or its stated size
	Interrupted             // the caller left
	InUse                   // another process owns it
	Invalid                 // what came from outside can't be used: a malformed listing, a hostile path
)

var kindNames = [...]string{"internal error", "not found", "denied", "unavailable", "timed out", "stale", "no space",
	"corrupt", "interrupted", "in use", "invalid"}

// String is the word used in logs, status and explain.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown kind"
}

// An Error is a cause with a kind. Wrap it with fmt.Errorf("doing x: %w", err)
// to say what was being done.
type Error struct {
	Kind Kind
	Err  error // the cause; its text is the message
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a kind. %w works as in fmt.Errorf.
func Errorf(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// KindOf is the kind of the outermost *Error in err's chain; a context error
// without one is Interrupted (cancelled) or Unavailable (deadline passed).
// nil is Internal: don't ask.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled):
		return Interrupted
	case errors.Is(err, context.DeadlineExceeded):
		return Unavailable
	}
	return Internal
}

// IsKind reports whether err is not nil and of the kind.
func IsKind(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
