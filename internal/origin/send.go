package origin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"modelfs/internal/model"
)

// maxHops is how many redirects one request follows. The Hub needs three at
// most (renamed repository, resolve cache, CDN).
const maxHops = 5

// A request is what follow asks.
type request struct {
	method    string
	url       *url.URL
	from      *url.URL // the hop that led to url, or nil
	header    http.Header
	anonymous bool
	class     string
	// stop, if set, is asked before a redirect is followed; true ends the trail there.
	stop func(to *url.URL) bool
}

// A trail is where a request ended.
type trail struct {
	resp *http.Response // the last answer, its body open
	url  *url.URL       // that answered
	from *url.URL       // the hop before it, or nil
	to   *url.URL       // where resp redirects to, if stop ended the trail there
	hops []Hop
}

// follow sends a request and follows redirects, each checked before it is
// dialled. The caller closes trail.resp.Body. w limits each hop's silence.
func (d *Door) follow(ctx context.Context, w *watch, r request) (trail, error) {
	t := trail{url: r.url, from: r.from}
	for {
		w.wait()
		resp, err := d.send(ctx, r, t) //nolint:bodyclose // it is drained here, or the caller of follow closes it
		if err != nil {
			return trail{}, w.fault(t.url, err)
		}
		to, err := redirectOf(t.url, resp)
		if to == nil && err == nil {
			w.rest()
			t.resp = resp
			return t, nil
		}
		drain(resp.Body)
		if err != nil {
			return trail{}, err
		}
		t.hops = append(t.hops, hopOf(t.url, resp))
		if r.stop != nil && r.stop(to) {
			t.resp, t.to = resp, to
			return t, nil
		}
		if len(t.hops) > maxHops {
			return trail{}, model.Errorf(model.Invalid, "%s: redirected more than %d times", redact(r.url), maxHops)
		}
		t.from, t.url = t.url, to
	}
}

// send makes the request of one hop.
func (d *Door) send(ctx context.Context, r request, t trail) (*http.Response, error) {
	pm, err := d.allow.check(t.from, t.url)
	if err != nil {
		return nil, err
	}
	if err := d.paused.check(pauseKey{pm.site, r.class}); err != nil {
		return nil, err
	}
	req := (&http.Request{Method: r.method, URL: t.url, Host: t.url.Host, Header: d.headers(r.header)}).WithContext(ctx)
	if err := d.authorize(req, pm.site, r.anonymous); err != nil {
		return nil, err
	}
	rt, err := d.transportFor(req, pm)
	if err != nil {
		return nil, err
	}
	d.stats.requests.Add(1)
	resp, err := rt.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusTooManyRequests {
		d.pause(pauseKey{pm.site, r.class}, resp.Header)
	}
	return resp, err
}

// headers are the extra ones, without those that could carry a credential
// past Config.Credentials, and the two that every request has.
func (d *Door) headers(extra http.Header) http.Header {
	h := extra.Clone()
	if h == nil {
		h = make(http.Header, 4)
	}
	for _, k := range []string{"Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key"} {
		h.Del(k)
	}
	h.Set("Accept-Encoding", "identity")
	h.Set("User-Agent", d.agent)
	return h
}

// authorize adds the credential of this hop's site, if there is one.
func (d *Door) authorize(req *http.Request, s site, anonymous bool) error {
	ask := d.tokens[s]
	if anonymous || ask == nil {
		return nil
	}
	token, err := ask()
	if err != nil {
		return model.Errorf(model.Unavailable, "getting the credential for %s: %w", s.bare(), err)
	}
	token = strings.TrimSpace(token)
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return model.Errorf(model.Denied, "the credential for %s has characters that no credential has; is it the right file?", s.bare())
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return nil
}

// transportFor picks by what the allow-list said of this URL, so that a host
// that was found through a wildcard never gets a connection that was made
// without the check.
func (d *Door) transportFor(req *http.Request, pm permit) (*http.Transport, error) {
	if pm.exact {
		return d.named, nil
	}
	proxy, err := d.proxy(req)
	if err != nil {
		return nil, model.Errorf(model.Unavailable, "the proxy that the environment names can't be used; check HTTPS_PROXY")
	}
	if proxy == nil {
		return d.guarded, nil
	}
	return d.named, checkBehindProxy(pm.site.host)
}

// redirectOf is where an answer redirects to, or nil.
func redirectOf(u *url.URL, resp *http.Response) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	loc := resp.Header.Get("Location")
	if loc == "" {
		return nil, model.Errorf(model.Invalid, "%s: status %d without a Location", redact(u), resp.StatusCode)
	}
	to, err := u.Parse(loc)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "%s: status %d with a Location that can't be parsed", redact(u), resp.StatusCode)
	}
	to.Fragment, to.RawFragment = "", ""
	return to, nil
}

// hopOf is a redirect as it is shown to sources: a signed URL stays in here.
func hopOf(u *url.URL, resp *http.Response) Hop {
	h := resp.Header.Clone()
	if loc, err := u.Parse(h.Get("Location")); err == nil {
		h.Set("Location", redact(loc))
	}
	return Hop{Status: resp.StatusCode, Header: h, URL: redact(u)}
}

// drain reads what little a redirect or an error has for a body, so that the
// connection can be used again, and closes it.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 4<<10)
	_ = body.Close()
}

// plain refuses an answer that is compressed although identity was asked for:
// its length and ranges are those of something else.
func plain(u *url.URL, resp *http.Response) error {
	if ce := resp.Header.Get("Content-Encoding"); ce != "" && !strings.EqualFold(ce, "identity") {
		return model.Errorf(model.Invalid, "%s: the answer is compressed (%.20q) although that was not asked for", redact(u), ce)
	}
	return nil
}

// A statusErr is in the chain of an error that a status was the cause of.
type statusErr struct {
	code int
	text string
}

func (e *statusErr) Error() string { return e.text }

// statusError is what an unwelcome status means to somebody who wants a file.
func statusError(u *url.URL, resp *http.Response) error {
	kind := model.Unavailable
	switch status := resp.StatusCode; {
	case forPeople(resp):
		// An outage of the file's own server is not its absence.
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		kind = model.Denied
	case status == http.StatusNotFound, status == http.StatusGone:
		kind = model.NotFound
	case status == http.StatusRequestedRangeNotSatisfiable:
		kind = model.Corrupt
	}
	text := fmt.Sprintf("%s: status %d%s", redact(u), resp.StatusCode, explain(resp, kind))
	return model.Errorf(kind, "%w", &statusErr{resp.StatusCode, text})
}

// forPeople reports whether an answer is a page for people: of a proxy, a
// login portal or a server that is being mended, not of one that holds files.
// The Hub's own word comes with a code.
func forPeople(resp *http.Response) bool {
	return strings.Contains(strings.ToLower(resp.Header.Get("Content-Type")), "html") && resp.Header.Get("X-Error-Code") == ""
}

// explain is what the server says of an error, if it is the Hub, and what can
// be done about a refusal.
func explain(resp *http.Response, kind model.Kind) string {
	var s string
	if m := resp.Header.Get("X-Error-Message"); m != "" {
		s = fmt.Sprintf(" (%.200q)", m)
	}
	if kind != model.Denied {
		return s
	}
	if resp.Request != nil && resp.Request.Header.Get("Authorization") != "" {
		return s + "; the configured credential does not give access"
	}
	return s + "; no credential was sent to this host"
}
