package origin

import (
	"cmp"
	"context"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"modelfs/internal/model"
)

// resolve asks until there is an answer that settles it, within ctx.
func (o *Object) resolve(ctx context.Context) (*location, error) {
	for try := 0; ; try++ {
		loc, err := o.ask(ctx)
		o.fails(err)
		if err == nil || !transient(ctx, err) || try == getRetries || o.door.sleep(ctx, backoff(try)) != nil {
			return loc, err
		}
		o.door.log.Debug("resolving again", "url", redact(o.url), "try", try+1, "error", err)
	}
}

// ask makes the resolve request, in the way that this server is known to
// answer or, at most once each, in another: GET where it does not answer
// HEAD or states no size there, and without a credential that it refuses.
func (o *Object) ask(ctx context.Context) (*location, error) {
	anonymous := false
	for {
		noHead := o.asksWithGet()
		t, err := o.question(ctx, noHead, anonymous)
		if err != nil {
			return nil, err
		}
		switch {
		case !noHead && headRefused(t.resp):
			o.askWithGet()
			continue
		case !anonymous && credentialRefused(t.resp):
			o.door.log.Debug("the credential is refused; asking without it", "host", t.url.Host)
			anonymous = true
			continue
		}
		loc, err := o.locationOf(t, anonymous)
		if err == nil && loc.info.Size < 0 && (t.to != nil || !noHead && !o.want.HeadOnly) {
			err = o.probe(ctx, loc)
		}
		if err == nil {
			err = o.fit(loc)
		}
		return loc, err
	}
}

func (o *Object) asksWithGet() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.noHead
}

func (o *Object) askWithGet() {
	o.mu.Lock()
	o.noHead = true
	o.mu.Unlock()
}

// question makes the request and follows it to the last answer of the same
// site. The answer's body is closed.
func (o *Object) question(ctx context.Context, noHead, anonymous bool) (trail, error) {
	home, err := siteOf(o.url)
	if err != nil {
		return trail{}, err
	}
	r := request{method: http.MethodHead, url: o.url, anonymous: anonymous, class: "resolve"}
	if noHead {
		r.method, r.header = http.MethodGet, firstByte()
	}
	r.stop = func(to *url.URL) bool {
		s, err := siteOf(to)
		return err != nil || s != home
	}
	ctx, w := o.door.watch(ctx)
	defer w.end()
	t, err := o.door.follow(ctx, w, r)
	if err == nil {
		w.wait()
		finish(t.resp)
	}
	return t, err
}

func firstByte() http.Header { return http.Header{"Range": {"bytes=0-0"}} }

// finish closes an answer of which only the headers count. A short one is
// read, so that its connection stays usable.
func finish(resp *http.Response) {
	if resp.ContentLength >= 0 && resp.ContentLength <= 4<<10 {
		drain(resp.Body)
		return
	}
	_ = resp.Body.Close()
}

// headRefused: the method is not known, or the URL was signed for GET only.
// A Hub that refuses a file says why in X-Error-Code.
func headRefused(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return resp.StatusCode == http.StatusForbidden && resp.Header.Get("X-Error-Code") == ""
}

// credentialRefused: a 401 that is about the credential and not about the file.
func credentialRefused(resp *http.Response) bool {
	return resp.StatusCode == http.StatusUnauthorized && resp.Header.Get("X-Error-Code") == "" &&
		resp.Request.Header.Get("Authorization") != ""
}

// locationOf reads the last answer of the file's own site.
func (o *Object) locationOf(t trail, anonymous bool) (*location, error) {
	loc := &location{info: Info{Size: -1}, url: t.url, from: t.from, anonymous: anonymous}
	for _, h := range t.hops {
		loc.info.linked(h.Header)
	}
	loc.info.linked(t.resp.Header)
	if t.to != nil {
		// That the CDN is allowed is found out now, not at the first read.
		if _, err := o.door.allow.check(t.url, t.to); err != nil {
			return nil, err
		}
		loc.url, loc.from = t.to, t.url
	} else {
		if err := o.direct(loc, t.resp); err != nil {
			return nil, err
		}
		loc.ownWord = loc.info.Validator == ""
		loc.info.Validator = cmp.Or(loc.info.Validator, loc.etag)
	}
	loc.expires = time.Now().Add(lifeOf(loc.url, t.resp.Header, time.Now()))
	return loc, nil
}

// linked reads the Hub's headers about a file that is kept elsewhere. They
// may be on any hop of the Hub's own; the last word counts.
func (i *Info) linked(h http.Header) {
	if c := h.Get("X-Repo-Commit"); c != "" {
		i.Commit = c
	}
	if n, ok := digits(h.Get("X-Linked-Size")); ok {
		i.Size = n
	}
	tag := h.Get("X-Linked-Etag")
	if tag == "" {
		return
	}
	i.Validator = strong(tag)
	i.SHA256 = ""
	bare := strings.ToLower(strings.Trim(strings.TrimPrefix(tag, "W/"), `"`))
	if _, err := hex.DecodeString(bare); err == nil && len(bare) == 64 {
		i.SHA256 = bare
	}
}

// direct reads an answer of the place itself: to HEAD, or to a GET of the first
// byte.
func (o *Object) direct(l *location, resp *http.Response) error {
	if err := plain(l.url, resp); err != nil {
		return err
	}
	var size int64
	switch resp.StatusCode {
	case http.StatusOK:
		size = resp.ContentLength
		l.info.NoRanges = resp.Request.Method == http.MethodGet || resp.Header.Get("Accept-Ranges") == "none"
	case http.StatusPartialContent:
		start, _, total, ok := ParseContentRange(resp.Header.Get("Content-Range"))
		if !ok || start != 0 {
			return model.Errorf(model.Unavailable, "%s: the answer to the first byte is of another range", redact(l.url))
		}
		size = total
	case http.StatusRequestedRangeNotSatisfiable:
		// An empty file has no first byte.
		if _, _, total, ok := ParseContentRange(resp.Header.Get("Content-Range")); !ok || total != 0 {
			return statusError(l.url, resp)
		}
		size = 0
	default:
		return statusError(l.url, resp)
	}
	stated := o.want.Size
	if stated < 0 {
		stated = l.info.Size
	}
	if resp.StatusCode < 300 { // the others say of the file that it is empty, in whatever page
		if err := o.isFile(l.url, resp, size, stated); err != nil {
			return err
		}
	}
	if l.info.Size < 0 {
		l.info.Size = size
	} else if size >= 0 && size != l.info.Size {
		return model.Errorf(model.Corrupt, "%s: the answer is of a file of %d bytes, its origin says %d", redact(l.url), size, l.info.Size)
	}
	l.etag = strong(resp.Header.Get("ETag"))
	return nil
}

// isFile refuses a page for people in the place of the file: an answer that says
// that the file has length bytes, where size are stated (-1: unknown). Where
// none are, only a file's own name says that it is such a page.
func (o *Object) isFile(u *url.URL, resp *http.Response, length, size int64) error {
	name := strings.ToLower(o.url.Path)
	page := strings.HasSuffix(name, ".html") || strings.HasSuffix(name, ".htm")
	if !forPeople(resp) || size >= 0 && length == size || size < 0 && page {
		return nil
	}
	return model.Errorf(model.Unavailable, "%s: a page for people came, not the file", redact(u))
}

// probe asks the place for its first byte, to learn the size that nobody has
// stated so far.
func (o *Object) probe(ctx context.Context, loc *location) error {
	if o.want.Size >= 0 {
		return nil
	}
	ctx, w := o.door.watch(ctx)
	defer w.end()
	t, err := o.door.follow(ctx, w, request{method: http.MethodGet, url: loc.url, from: loc.from, header: firstByte(),
		anonymous: loc.anonymous, class: "range"})
	if err != nil {
		return err
	}
	w.wait()
	finish(t.resp)
	err = o.direct(loc, t.resp)
	if t.url != loc.url {
		loc.etag = "" // it is another place's
	}
	return err
}

// fit compares what the origin says with what is wanted.
func (o *Object) fit(loc *location) error {
	switch {
	case o.want.Validator != "" && loc.info.Validator == "":
		return unvalidated(o.url)
	case o.want.Size < 0:
	case loc.info.Size < 0:
		loc.info.Size = o.want.Size
	case loc.info.Size != o.want.Size:
		return model.Errorf(model.Corrupt, "%s: the origin has a file of %d bytes, expected %d", redact(o.url), loc.info.Size, o.want.Size)
	}
	return nil
}

// unvalidated is the error of an answer that may be of another file than the
// one that a validator was stated of. The next one may say.
func unvalidated(u *url.URL) error {
	return model.Errorf(model.Unavailable, "%s: the answer has no strong ETag, which is all that identifies the file", redact(u))
}

// strong is an entity tag without its quotes, or "" for a weak one or none.
func strong(tag string) string {
	if len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return ""
	}
	return tag[1 : len(tag)-1]
}

const (
	unstatedLife = 50 * time.Minute // the Hub's signatures live for an hour
	minLife      = 5 * time.Second  // a URL just received is used, whatever the clocks say
	maxLife      = 24 * time.Hour
)

// lifeOf is how long a signed URL can be used, from the answer that brought
// it: its expiry less the answer's own Date, and less a margin for requests
// that are on their way.
func lifeOf(u *url.URL, h http.Header, now time.Time) time.Duration {
	life := unstatedLife
	q := u.Query()
	if at, ok := digits(q.Get("Expires")); ok {
		secs := min(at-answeredAt(h, now).Unix(), int64(maxLife/time.Second))
		life = time.Duration(max(secs, 0)) * time.Second
	}
	for _, scheme := range []string{"X-Amz-", "X-Goog-"} {
		signed, errDate := time.Parse("20060102T150405Z", q.Get(scheme+"Date"))
		secs, errSecs := strconv.ParseUint(q.Get(scheme+"Expires"), 10, 31)
		if errDate == nil && errSecs == nil {
			life = min(life, signed.Add(time.Duration(secs)*time.Second).Sub(answeredAt(h, now)))
		}
	}
	life -= min(30*time.Second, life/10)
	return min(max(life, minLife), maxLife)
}
