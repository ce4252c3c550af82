package resolver

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"modelfs/internal/model"
)

const (
	// tripAfter is how many failures in a row make a source known to be down.
	tripAfter = 5

	// retryAfter is how long a source that is down is left alone, or not
	// waited for if it is a tree; then one question finds out whether it is back.
	retryAfter = 5 * time.Second

	// silence is how long a source may take to answer before that counts as a
	// failure. It is above every deadline, so that a slow source is served by
	// the next try instead of being shut out.
	silence = 3 * time.Second
)

// A breaker knows whether a source is down. A source of the network is not
// asked while it is. Trees are always asked (the tree's own package bounds
// that), so that a file that is here is found again at once; they are not
// waited for. A local tree is down only if it is silent: a disk that can't read
// one directory reads the next one.
type breaker struct {
	gate  *gobreaker.TwoStepCircuitBreaker[struct{}] // nil for a tree
	local bool

	mu       sync.Mutex // guards what follows
	failures int        // in a row
	silences int        // in a row
	err      error      // of the last failure
	errAt    time.Time
	okAt     time.Time
	took     time.Duration // of the last answer
}

func newBreaker(kind model.SourceKind, onChange func(from, to string)) *breaker {
	b := &breaker{local: kind == model.Local}
	if kind.InPlace() {
		return b
	}
	b.gate = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:       retryAfter,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
		IsSuccessful:  answered,
		IsExcluded:    spared,
		OnStateChange: func(_ string, from, to gobreaker.State) { onChange(from.String(), to.String()) },
	})
	return b
}

// answered reports whether a source said something about a name.
func answered(err error) bool {
	return err == nil || model.IsKind(err, model.NotFound) || model.IsKind(err, model.Denied)
}

// throttled is implemented by errors of sources that did not ask because of a
// limit of their own (a quota for lookups, a pause that the server wished):
// they say nothing about whether the source is up.
type throttled interface{ Throttled() bool }

// spared reports whether an error says nothing about the source's health.
func spared(err error) bool {
	var t throttled
	return errors.Is(err, context.Canceled) || errors.As(err, &t) && t.Throttled()
}

// errDown is what a source that is known to be down is taken to say.
var errDown = model.Errorf(model.Unavailable, "known to be down, not asked")

// errSilent is what a source says that has said nothing for so long.
var errSilent = model.Errorf(model.Unavailable, "no answer within %v", silence)

// allow admits one question; the caller calls report with its outcome, more
// than once if it likes: the first call counts.
func (b *breaker) allow() (report func(error), err error) {
	done := func(error) {}
	if b.gate != nil {
		if done, err = b.gate.Allow(); err != nil {
			return nil, errDown
		}
	}
	began := time.Now()
	var once sync.Once
	return func(err error) {
		once.Do(func() {
			done(err)
			b.note(err, time.Since(began))
		})
	}, nil
}

func (b *breaker) note(err error, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case spared(err):
	case answered(err):
		b.failures, b.silences, b.okAt, b.took = 0, 0, time.Now(), took
	default:
		b.failures++
		b.silences++
		if !errors.Is(err, errSilent) {
			b.silences = 0
		}
		b.err, b.errAt = err, time.Now()
	}
}

// down reports whether the source is known to be down.
func (b *breaker) down() bool {
	if b.gate != nil {
		return b.gate.State() == gobreaker.StateOpen
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	failures := b.failures
	if b.local {
		failures = b.silences
	}
	return failures >= tripAfter && time.Since(b.errAt) < retryAfter
}

// state is the word for status and explain.
func (b *breaker) state() string {
	switch {
	case b.gate != nil:
		return b.gate.State().String()
	case b.down():
		return gobreaker.StateOpen.String()
	}
	return gobreaker.StateClosed.String()
}
