package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"modelfs/internal/model"
)

var (
	errStalled = errors.New("the connection was silent for too long")
	errClosed  = errors.New("modelfs is stopping")
)

// A watch ends one exchange when its caller's context or the Door ends, or
// when no byte has come for the stall time while somebody waited for one.
// Time that nobody waits does not count: a reader may be slow.
type watch struct {
	stall  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
	unhook func() bool
	ended  func() error // why the exchange was ended, or nil
}

// watch derives the context of an exchange. The caller calls end.
func (d *Door) watch(parent context.Context) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &watch{stall: d.stall, cancel: cancel}
	w.unhook = context.AfterFunc(d.owner, func() { cancel(errClosed) })
	if d.owner.Err() != nil {
		cancel(errClosed) // now: what AfterFunc has started may run after the exchange
	}
	w.timer = time.AfterFunc(d.stall, func() { cancel(errStalled) })
	w.ended = func() error {
		if cause := context.Cause(ctx); errors.Is(cause, errStalled) || errors.Is(cause, errClosed) {
			return cause
		}
		return ctx.Err()
	}
	return ctx, w
}

// wait begins to wait for the network, rest stops.
func (w *watch) wait() { w.timer.Reset(w.stall) }
func (w *watch) rest() { w.timer.Stop() }

// end releases what the watch holds and breaks a connection that is still in
// the middle of an answer.
func (w *watch) end() {
	w.timer.Stop()
	w.unhook()
	w.cancel(nil)
}

// fault is an error of the exchange with a kind: that of the error if it has
// one, else Interrupted where the caller left, else Unavailable.
func (w *watch) fault(u *url.URL, err error) error {
	var kinded *model.Error
	if errors.As(err, &kinded) {
		if err == error(kinded) { //nolint:errorlint // whether it is the outermost one
			return err
		}
		return fmt.Errorf("%s: %w", u.Hostname(), err)
	}
	ended := w.ended()
	switch {
	case ended == nil:
		return model.Errorf(model.Unavailable, "%s: %w", redact(u), &unquoted{err})
	case errors.Is(ended, context.Canceled):
		return model.Errorf(model.Interrupted, "%s: %w", redact(u), ended)
	}
	return model.Errorf(model.Unavailable, "%s: %w", redact(u), ended)
}

// maxCause is how much of a transport's error is shown, in bytes.
const maxCause = 200

// An unquoted error is one of the transport's without what it quotes: lines
// of a malformed answer, in which there may be a signed URL, and any amount of it.
type unquoted struct{ err error }

func (e *unquoted) Error() string {
	text, _, quotes := strings.Cut(e.err.Error(), `"`)
	var line textproto.ProtocolError
	switch {
	case errors.As(e.err, &line):
		return "the answer has a malformed header"
	case quotes || len(text) > maxCause:
		return strings.ToValidUTF8(text[:min(len(text), maxCause)], "") + "..."
	}
	return text
}

func (e *unquoted) Unwrap() error { return e.err }

// A body is the body of an answer under a watch.
type body struct {
	rc  io.ReadCloser
	w   *watch
	url *url.URL
}

func (b *body) Read(p []byte) (int, error) {
	b.w.wait()
	n, err := b.rc.Read(p)
	b.w.rest()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.w.fault(b.url, err)
	}
	return n, err
}

// Close lets go of the answer. The connection is kept for the next request
// only if the body was read to its end.
func (b *body) Close() error {
	b.w.end()
	return b.rc.Close()
}

// backoff is the wait before the n-th retry, counted from 0: 200 ms doubling
// to 6.4 s, and up to half of it more so that many don't come back as one.
func backoff(n int) time.Duration {
	d := 200 * time.Millisecond << min(n, 5)
	return d + rand.N(d/2)
}

// sleep waits. It ends early, with an error, when ctx or the Door ends, and
// at once if ctx would end before the time is up.
func (d *Door) sleep(ctx context.Context, t time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= t {
		return context.DeadlineExceeded
	}
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-d.owner.Done():
		return model.Errorf(model.Unavailable, "%w", errClosed)
	}
}
