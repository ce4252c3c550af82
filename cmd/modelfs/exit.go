package main

import (
	"errors"

	"modelfs/internal/model"
)

// The exit codes. Scripts and units depend on them.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // command line, environment or config file
	exitMount  = 3 // the mount point can't be mounted on
	exitInUse  = 4 // another process owns the backing dir
)

// An exitError is an error that decides the exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// withCode gives err an exit code; nil stays nil.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

// exitCode is the outermost code in err's chain, else that of its kind.
func exitCode(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &e):
		return e.code
	case model.IsKind(err, model.InUse):
		return exitInUse
	}
	return exitFailed
}
