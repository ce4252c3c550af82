package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"time"

	"modelfs/internal/model"
)

const (
	// maxFails is how many attempts in a row may bring no byte.
	maxFails = 4
	// pauseInStream is the longest pause after a 429 that a stream sits out;
	// for a longer one it fails, and its reader may find another origin.
	pauseInStream = time.Minute
)

// Range streams [off, off+n) and delivers exactly n bytes or an error. It
// returns when the first answer's headers have been checked. ctx bounds the
// whole stream. The caller closes it, not while a Read is running (ending ctx
// ends a Read); Read is for one goroutine.
//
// A connection that is silent, broken or ends early is replaced at the same
// offset, 408, 429 and 5xx are tried again, and after 401, 403, 404 or 410
// from the place the origin is asked once for a new one. After 4 attempts in
// a row without a byte the stream fails with Unavailable. Other errors:
// Denied, NotFound, Interrupted; Corrupt where the answer contradicts the known size, or
// is of a file that changed; Invalid for a range outside the file, and, with
// ErrNoRanges in the chain, where the server sends the whole file and off is not 0.
func (o *Object) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n < 0 || off > math.MaxInt64-n {
		return nil, model.Errorf(model.Invalid, "a range of %d bytes at %d", n, off)
	}
	o.door.stats.asked.Add(n)
	return o.stream(ctx, &stream{o: o, off: off, end: off + n, ranged: true})
}

// Whole streams the file from its first byte to its last, for origins without
// ranges and files of unknown length. A connection that breaks is not
// resumed: fewer bytes than stated, like all errors after the first byte, are
// Unavailable. Otherwise it is as Range.
func (o *Object) Whole(ctx context.Context) (io.ReadCloser, error) {
	return o.stream(ctx, &stream{o: o, end: math.MaxInt64})
}

func (o *Object) stream(ctx context.Context, s *stream) (io.ReadCloser, error) {
	s.open = func() (*body, error) { return s.connect(ctx) }
	if s.off == s.end {
		return s, nil
	}
	var err error
	if s.body, err = s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

// A stream is what Range and Whole return.
type stream struct {
	o      *Object
	ranged bool
	open   func() (*body, error) // connects at off, under the context of Range
	body   *body                 // nil between connections
	off    int64                 // of the next byte
	stop   int64                 // where the current answer ends
	end    int64                 // where the stream ends; MaxInt64 while that is not known
	chunks bool                  // the current answer states no length of its own
	err    error                 // why it failed, for every later Read

	fails     int   // attempts since the last byte
	refreshed bool  // the place was asked for anew since the last byte
	last      error // of the last attempt
}

func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	for s.off < s.end {
		if s.body == nil {
			if s.body, s.err = s.open(); s.err != nil {
				return 0, s.err
			}
		}
		n, err := s.body.Read(p[:min(int64(len(p)), s.stop-s.off)])
		s.took(n)
		if err != nil || s.off == s.stop {
			s.err = s.over(err)
		}
		if n > 0 {
			return n, nil
		}
		if s.err != nil {
			return 0, s.err
		}
	}
	return 0, io.EOF
}

func (s *stream) took(n int) {
	if n > 0 {
		s.off += int64(n)
		s.fails, s.refreshed = 0, false
		s.o.door.stats.received.Add(int64(n))
	}
}

// over ends the current answer, which is at its end or broken with err. The
// result is nil where the stream can go on.
func (s *stream) over(err error) error {
	if s.off == s.stop {
		err = s.surplus(err)
	} else if errors.Is(err, io.EOF) {
		if s.end == math.MaxInt64 {
			s.end, err = s.off, nil // the end of a file of unknown length
			if e := s.o.learnEnd(s.off); e != nil {
				err = e
			}
		} else {
			err = model.Errorf(model.Unavailable, "%s: the answer ended at byte %d of %d", redact(s.body.url), s.off, s.stop)
		}
	}
	ended := s.body
	_ = ended.Close()
	s.body = nil
	if err == nil || model.IsKind(err, model.Corrupt) {
		return err
	}
	if !s.ranged {
		return fmt.Errorf("reading a file that can't be resumed: %w", err)
	}
	s.fail(err)
	return nil
}

// surplus: an answer that states no length must not go on past the end.
func (s *stream) surplus(err error) error {
	if err != nil || !s.chunks || s.ranged {
		return nil
	}
	if n, _ := s.body.Read(make([]byte, 1)); n > 0 {
		return model.Errorf(model.Corrupt, "%s: the answer goes on after %d bytes, which is the size of the file", redact(s.body.url), s.off)
	}
	return nil
}

// Close lets go of the connection. Read fails from then on.
func (s *stream) Close() error {
	if s.body != nil {
		_ = s.body.Close()
		s.body = nil
	}
	if s.err == nil {
		s.err = os.ErrClosed
	}
	return nil
}

// fail counts an attempt that was in vain, or a connection that broke.
func (s *stream) fail(err error) {
	s.fails++
	s.last = err
	s.o.door.stats.replaced.Add(1)
	s.o.door.log.Debug("replacing a connection", "url", redact(s.o.url), "offset", s.off, "in_a_row", s.fails, "error", err)
}

// connect makes attempts until one has an answer that is good.
func (s *stream) connect(ctx context.Context) (*body, error) {
	d := s.o.door
	for {
		if s.fails >= maxFails {
			return nil, fmt.Errorf("no byte in %d attempts: %w", maxFails, s.last)
		}
		if s.fails > 0 {
			if err := d.sleep(ctx, backoff(s.fails-1)); err != nil {
				return nil, s.gaveUp(ctx, err)
			}
		}
		b, err := s.attempt(ctx)
		if err == nil {
			return b, nil
		}
		if s.again(ctx, err) {
			continue
		}
		if ctx.Err() != nil {
			err = waitEnded(ctx, redact(s.o.url))
		}
		return nil, err
	}
}

// again prepares another attempt after an error, or reports false.
func (s *stream) again(ctx context.Context, err error) bool {
	var p *pausedError
	var r *refusedError
	var st *statusErr
	switch {
	case errors.As(err, &st) && st.code == http.StatusTooManyRequests:
		// The next attempt finds the pause and sits it out.
		s.fail(err)
		return true
	case errors.As(err, &p):
		return p.left <= pauseInStream && s.o.door.sleep(ctx, p.left) == nil
	case errors.As(err, &r):
		// Not twice in a row: what a new URL is refused for does not change by itself.
		if s.refreshed {
			return false
		}
		s.refreshed = true
		s.o.forget(r.loc)
		s.o.door.stats.replaced.Add(1)
		return true
	case transient(ctx, err):
		s.fail(err)
		return true
	}
	return false
}

// gaveUp is the error of a wait between attempts that was cut short.
func (s *stream) gaveUp(ctx context.Context, err error) error {
	if ctx.Err() != nil && model.IsKind(err, model.Interrupted) {
		return waitEnded(ctx, redact(s.o.url))
	}
	return model.Errorf(model.Unavailable, "%w, after: %v", err, s.last)
}

// A refusedError is the place's refusal of a URL that may have expired.
type refusedError struct {
	loc *location
	err error
}

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// attempt asks for the bytes from off on and checks the answer's headers.
func (s *stream) attempt(ctx context.Context) (*body, error) {
	loc, err := s.o.locate(ctx)
	if err != nil {
		return nil, err
	}
	if s.ranged && s.off > 0 && s.o.ignoresRanges(loc) {
		return nil, noRanges(s.o)
	}
	if size := s.o.sizeAt(loc); s.ranged && size >= 0 && s.end > size {
		return nil, s.outside(loc, size)
	}
	r := request{method: http.MethodGet, url: loc.url, from: loc.from, anonymous: loc.anonymous, class: "range"}
	if s.ranged {
		r.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", s.off, s.end-1)}}
	}
	ctx, w := s.o.door.watch(ctx)
	t, err := s.o.door.follow(ctx, w, r)
	if err != nil {
		w.end()
		return nil, err
	}
	b := &body{rc: t.resp.Body, w: w, url: t.url}
	if err := s.judge(loc, t); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

func noRanges(o *Object) error {
	return model.Errorf(model.Invalid, "%s: %w", redact(o.url), ErrNoRanges)
}
