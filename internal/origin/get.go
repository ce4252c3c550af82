package origin

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"modelfs/internal/model"
)

const (
	defaultMaxBody = 32 << 20
	getRetries     = 2
)

// GetOptions says how Get asks. The zero value is a GET of class "api".
type GetOptions struct {
	MaxBody   int64       // bytes; 0: 32 MiB
	Class     string      // what a 429 pauses together with the host; "": "api"
	Anonymous bool        // send no credential
	Head      bool        // HEAD instead of GET
	Header    http.Header // more headers; credentials in it are dropped
}

// An Answer is what a server said, whatever its status.
type Answer struct {
	Status int
	Header http.Header
	URL    string // of the last hop, without its query
	Body   []byte // nil for HEAD, and for an error that came compressed
	Hops   []Hop  // the redirects that led here, in order
}

// A Hop is a redirect that was followed.
type Hop struct {
	Status int
	Header http.Header // as received, but Location is absolute and without its query
	URL    string      // that answered with the redirect, without its query
}

// Get makes one request and reads the whole answer. Any status is an Answer;
// an error says that there is none: Denied by the allow-list or for a bad
// address, Unavailable for broken connections, silence, pauses after a 429 and
// deadlines, Interrupted when ctx was cancelled, Invalid for what can't be an
// answer (too large, redirected without end).
//
// 408, 5xx and broken connections are tried twice more, as long as ctx lasts.
// A 429 is an Answer, and pauses this host for this class: until it is over
// Gets fail at once.
func (d *Door) Get(ctx context.Context, rawURL string, opt GetOptions) (*Answer, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		a, err := d.getOnce(ctx, u, opt)
		again := err != nil && transient(ctx, err) || err == nil && worthRetrying(a.Status)
		if !again || try == getRetries || d.sleep(ctx, backoff(try)) != nil {
			return a, err
		}
		d.log.Debug("asking again", "url", redact(u), "try", try+1, "error", err)
	}
}

func (d *Door) getOnce(ctx context.Context, u *url.URL, opt GetOptions) (*Answer, error) {
	ctx, w := d.watch(ctx)
	defer w.end()
	r := request{method: http.MethodGet, url: u, header: opt.Header, anonymous: opt.Anonymous, class: cmp.Or(opt.Class, "api")}
	if opt.Head {
		r.method = http.MethodHead
	}
	t, err := d.follow(ctx, w, r)
	if err != nil {
		return nil, err
	}
	b := &body{rc: t.resp.Body, w: w, url: t.url}
	defer func() { _ = b.Close() }() // it was read to its end, or is of no use
	a := &Answer{Status: t.resp.StatusCode, Header: t.resp.Header, URL: redact(t.url), Hops: t.hops}
	if err := plain(t.url, t.resp); err != nil {
		if a.Status >= 300 {
			err = nil
		}
		return a, err
	}
	if !opt.Head {
		a.Body, err = readAll(b, cmp.Or(opt.MaxBody, defaultMaxBody))
	}
	return a, err
}

func readAll(b *body, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(b, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = model.Errorf(model.Invalid, "%s: the answer is larger than %d bytes", redact(b.url), limit)
	}
	return data, err
}

// transient reports whether an error can be different next time: broken
// connections, silence and 5xx, but not a pause, a refusal or a caller that left.
func transient(ctx context.Context, err error) bool {
	var p *pausedError
	var s *statusErr
	switch {
	case ctx.Err() != nil || !model.IsKind(err, model.Unavailable) || errors.As(err, &p) || errors.Is(err, errClosed):
		return false
	case errors.As(err, &s):
		return worthRetrying(s.code)
	}
	return true
}

// worthRetrying reports whether a status can be different a moment later. A
// 429 says itself when; 501 and 505 are about what the server can do at all.
func worthRetrying(status int) bool {
	switch status {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status == http.StatusRequestTimeout || status >= 500
}
