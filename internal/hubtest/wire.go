package hubtest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// response is a ResponseWriter that applies a plan's faults, the host's rate
// limit and the log to whatever a handler answers.
type response struct {
	http.ResponseWriter
	req  *http.Request
	host *host
	plan *plan
	rec  *record

	wrote  bool
	isJSON bool // the body is held in page until finish, to be rewritten
	page   bytes.Buffer
	zip    *gzip.Writer
	start  int64 // offset in the file of the body's first byte
	pos    int64 // bytes of body given to the connection
	left   int64 // bytes of body that ShortBody lets through; -1: all
}

func newResponse(w http.ResponseWriter, r *http.Request, h *host, p *plan, rec *record) *response {
	return &response{ResponseWriter: w, req: r, host: h, plan: p, rec: rec, left: -1}
}

// abort ends the connection without another byte.
func abort() { panic(http.ErrAbortHandler) }

// await blocks until the channel is closed; the end of the connection or of
// the site aborts.
func (r *response) await(released <-chan struct{}) {
	select {
	case <-released:
	case <-r.req.Context().Done():
		abort()
	}
}

func (r *response) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.req.Context().Done():
		abort()
	}
}

// WriteHeader sends the status and the headers, with the plan's lies.
func (r *response) WriteHeader(status int) {
	if r.wrote {
		return
	}
	r.wrote = true
	header := r.Header()
	r.start = rangeStart(header)
	r.plan.begin(r.start)
	for _, edit := range r.plan.headers {
		edit(r.req, status, header)
	}
	r.prepareBody(header)
	r.rec.update(func(q *Request) { q.Status, q.Offset = status, r.start })
	r.ResponseWriter.WriteHeader(status)
	if r.plan.noLength {
		r.Flush()
	}
}

// prepareBody makes the length that is stated agree with the body faults.
func (r *response) prepareBody(header http.Header) {
	if r.plan.page != nil && strings.HasPrefix(header.Get("Content-Type"), "application/json") {
		r.isJSON = true
		header.Del("Content-Length")
	}
	if n, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64); err == nil && r.plan.short > 0 {
		r.left = max(n-r.plan.short, 0)
		header.Set("Content-Length", strconv.FormatInt(r.left, 10))
	}
	if r.plan.gzip {
		header.Set("Content-Encoding", "gzip")
		r.zip, _ = gzip.NewWriterLevel(wire{r}, gzip.BestSpeed)
	}
	if r.plan.gzip || r.plan.noLength {
		header.Del("Content-Length")
	}
}

// rangeStart is the first byte that a Content-Range states, else 0.
func rangeStart(h http.Header) int64 {
	_, rest, _ := strings.Cut(h.Get("Content-Range"), "bytes ")
	first, _, _ := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Write sends a part of the body; it blocks as long as the faults, the rate
// limit and the client want it to.
func (r *response) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	switch {
	case r.req.Method == http.MethodHead:
		return len(b), nil
	case r.isJSON:
		return r.page.Write(b)
	}
	return r.body(b)
}

func (r *response) body(b []byte) (int, error) {
	keep := b
	if r.left >= 0 {
		keep = b[:min(int64(len(b)), r.left)]
		r.left -= int64(len(keep))
	}
	if r.zip != nil {
		if _, err := r.zip.Write(keep); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	if err := (wire{r}).all(keep); err != nil {
		return 0, err
	}
	return len(b), nil
}

// finish ends the body: what was held back is sent.
func (r *response) finish() {
	r.WriteHeader(http.StatusOK)
	if r.isJSON && r.req.Method != http.MethodHead {
		if err := r.plan.page(r.page.Bytes(), func(b []byte) error { _, err := r.body(b); return err }); err != nil {
			abort()
		}
	}
	if r.zip != nil {
		_ = r.zip.Close()
	}
	for r.plan.reached(r.pos) == 0 {
		r.stop()
	}
}

// Flush sends what is buffered; without a stated length the body is chunked
// from then on.
func (r *response) Flush() {
	if f, ok := r.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// wire is the last step to the connection: stops, corruption, pace, count.
type wire struct{ r *response }

func (w wire) Write(b []byte) (int, error) {
	if err := w.all(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (w wire) all(b []byte) error {
	r := w.r
	for len(b) > 0 {
		for r.plan.reached(r.pos) == 0 {
			r.stop()
		}
		rate := r.rate()
		n := int64(len(b))
		if next := r.plan.reached(r.pos); next > 0 {
			n = min(n, next)
		}
		if rate > 0 {
			n = min(n, pieceSize, max(rate/50, 1))
			r.pace(n, rate)
		}
		if err := r.piece(b[:n]); err != nil {
			return fmt.Errorf("send a body: %w", err)
		}
		if rate > 0 {
			r.Flush()
		}
		b = b[n:]
	}
	return nil
}

// piece gives b to the connection. It is counted before it goes, so that a
// client that has it finds it in the log.
func (r *response) piece(b []byte) error {
	b = r.plan.corrupted(b, r.start+r.pos)
	before := r.pos
	r.pos += int64(len(b))
	r.rec.update(func(q *Request) { q.Sent = r.pos })
	n, err := r.ResponseWriter.Write(b)
	if err != nil {
		r.rec.update(func(q *Request) { q.Sent = before + int64(n) })
	}
	return err
}

// stop is at a byte where the plan stalls or cuts: what was sent so far gets
// out first.
func (r *response) stop() {
	r.Flush()
	if s := r.plan.stop(r.pos); s.cut == nil {
		r.await(s.released)
	} else {
		s.cut(r.conn().Conn)
		abort()
	}
}

func (r *response) conn() *conn { return r.req.Context().Value(connKey{}).(*conn) }

// rate is the limit for the next piece, in bytes a second; 0: none.
func (r *response) rate() int64 {
	if r.plan.drip > 0 {
		return r.plan.drip
	}
	return r.host.rate.Load()
}

// lag is how far a connection may fall behind its schedule and catch up.
const lag = 100 * time.Millisecond

// pace waits until the connection may send n more bytes.
func (r *response) pace(n, rate int64) {
	c, now := r.conn(), time.Now()
	if c.due.Before(now.Add(-lag)) {
		c.due = now
	}
	c.due = c.due.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	r.sleep(c.due.Sub(now))
}

// reset closes a connection so that the client sees a reset where the network
// has such a thing.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
