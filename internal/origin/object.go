package origin

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	"modelfs/internal/model"
)

// ErrNoRanges is in the chain of the error of a Range that the server
// answered with the whole file.
var ErrNoRanges = errors.New("the server does not serve ranges")

// resolveTimeout bounds the work of a Resolve, whoever waits for it.
const resolveTimeout = 30 * time.Second

// Want is what is known of a remote file before it is asked for.
type Want struct {
	Size int64 // bytes, which every answer's total must equal; -1: unknown
	// HeadOnly leaves a size unknown that the file's own site does not state in
	// its answer to HEAD. Without it the first byte is asked for, for which a
	// server without ranges sends the file.
	HeadOnly bool
	// Validator, if not "", is that of Info which every answer must have: bytes
	// of the file are kept from earlier, and must not be mixed with others. An
	// answer without one is Unavailable.
	Validator string
}

// Info is what the origin says of a file.
type Info struct {
	Size      int64  // bytes; -1 where nobody states it
	Validator string // strong validator of the origin's own answer (X-Linked-Etag or ETag), unquoted; "" for none
	SHA256    string // X-Linked-Etag where it is 64 hex digits, in lower case, else ""
	Commit    string // X-Repo-Commit, or ""
	NoRanges  bool   // the server is known to ignore Range, or says that it does
}

// An Object is one remote file. It is safe for concurrent use and cheap to
// keep: it holds no connection, and needs no closing.
type Object struct {
	door *Door
	url  *url.URL // nil if bad
	bad  error    // why the URL can't be used
	want Want

	mu       sync.Mutex // guards all below; a leaf
	cur      *location  // where the bytes are; nil: to be asked
	first    *Info      // what the first answer said; later ones must agree
	flight   *flight    // the resolve request that is under way, or nil
	noRanges bool       // learnt from answers
	doubted  bool       // the place's ETag changed, and the origin is being asked whether the file did
	vouched  bool       // it said no: the place's ETags mean nothing
	noHead   bool       // the server does not answer HEAD
	failed   error      // of the last answer to a resolve request; nil while there is none, and after a good one
}

// A location is where an object's bytes can be asked for, for a while.
type location struct {
	url       *url.URL // may be signed
	from      *url.URL // the hop that led to url, or nil
	anonymous bool     // the credential was refused, and the answer came without it
	ownWord   bool     // info.Validator is url's own ETag

	// Object.mu guards what follows, once the location is an object's.

	info    Info
	expires time.Time // on the monotonic clock
	etag    string    // strong ETag that url answers with; "" until it is seen
}

// A flight is one resolve request that any number of callers wait for.
type flight struct {
	done chan struct{} // closed when loc and err are set
	loc  *location
	err  error
}

// Object names a remote file. Nothing is asked yet, and a URL that can't be
// used is reported by the methods.
func (d *Door) Object(rawURL string, want Want) *Object {
	u, err := parseURL(rawURL)
	return &Object{door: d, url: u, bad: err, want: want}
}

// Resolve asks the origin where the bytes are and what it says of the file.
// One request serves all callers, and its answer is used again until the
// signed URL in it expires. A caller that leaves does not end the request;
// it is over within 30 s.
//
// Errors: Denied for 401, 403 and the allow-list, NotFound for 404 and 410,
// Corrupt where the size is not the wanted one or the file has become
// another, Interrupted when ctx was cancelled, else Unavailable or Invalid.
func (o *Object) Resolve(ctx context.Context) (Info, error) {
	loc, err := o.locate(ctx)
	if err != nil {
		return Info{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	info := loc.info
	info.NoRanges = info.NoRanges || o.noRanges
	return info, nil
}

// Trouble is why the resolve request that is under way has been given no
// good answer so far, or the last one was not; nil where there is none, good or bad.
// It waits for nothing.
func (o *Object) Trouble() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

func (o *Object) fails(err error) {
	o.mu.Lock()
	o.failed = err
	o.mu.Unlock()
}

// Host is the scheme://host:port that ranges go to: the one of the URL until
// the first Resolve. "" for a URL that can't be used.
func (o *Object) Host() string {
	if o.bad != nil {
		return ""
	}
	u := o.url
	o.mu.Lock()
	if o.cur != nil {
		u = o.cur.url
	}
	o.mu.Unlock()
	s, err := siteOf(u)
	if err != nil {
		return ""
	}
	return s.String()
}

// locate returns a location that has not expired.
func (o *Object) locate(ctx context.Context) (*location, error) {
	if o.bad != nil {
		return nil, o.bad
	}
	loc, f, mine := o.join()
	if loc != nil {
		return loc, nil
	}
	if mine && !o.door.start(func() { o.fly(f) }) {
		o.land(f, nil, model.Errorf(model.Unavailable, "%s: %w", redact(o.url), errClosed))
	}
	select {
	case <-f.done:
		return f.loc, f.err
	case <-ctx.Done():
		return nil, waitEnded(ctx, "waiting for "+redact(o.url))
	}
}

// join returns the current location, or the flight to wait for and whether
// the caller has to start it.
func (o *Object) join() (loc *location, f *flight, mine bool) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cur != nil && now.Before(o.cur.expires) {
		return o.cur, nil, false
	}
	if o.flight == nil {
		o.flight, mine = &flight{done: make(chan struct{})}, true
		o.failed = nil
	}
	return nil, o.flight, mine
}

// fly does the work of a flight. Its context is the Door's, not a caller's.
func (o *Object) fly(f *flight) {
	ctx, cancel := context.WithTimeout(o.door.owner, resolveTimeout)
	defer cancel()
	loc, err := o.resolve(ctx)
	o.land(f, loc, err)
}

// land ends a flight.
func (o *Object) land(f *flight, loc *location, err error) {
	o.mu.Lock()
	if err == nil {
		err = o.accept(loc)
	}
	o.flight = nil
	o.mu.Unlock()
	if err == nil {
		f.loc = loc
	}
	f.err = err
	close(f.done)
}

// accept makes loc the current location if it is of the same file as before.
// The caller holds o.mu.
func (o *Object) accept(loc *location) error {
	if o.first == nil {
		info := loc.info
		info.Validator = cmp.Or(o.want.Validator, info.Validator)
		o.first = &info
	}
	if o.first.contradicts(loc.info) {
		return changed(o.url)
	}
	o.vouched = o.vouched || o.doubted && loc.info.Validator != "" && !loc.ownWord
	o.doubted = false
	if loc.info.Size < 0 {
		loc.info.Size = o.first.Size // it may have been learnt since
	}
	if o.cur != nil && o.cur.url.String() == loc.url.String() {
		loc.etag = o.cur.etag
	}
	o.cur = loc
	return nil
}

// contradicts reports whether two answers can't be about the same content.
// The commit of an unpinned revision may move without the file: it counts
// only where there is no validator.
func (i *Info) contradicts(later Info) bool {
	if i.Size >= 0 && later.Size >= 0 && i.Size != later.Size {
		return true
	}
	if i.Validator != "" && later.Validator != "" {
		return i.Validator != later.Validator
	}
	return differ(i.Commit, later.Commit)
}

func differ(a, b string) bool { return a != "" && b != "" && a != b }

func changed(u *url.URL) error {
	return model.Errorf(model.Corrupt, "%s: the file changed while it was being read", redact(u))
}

// forget drops a location that was refused, unless somebody already has.
func (o *Object) forget(loc *location) {
	o.mu.Lock()
	if o.cur == loc {
		// The ETag is kept for the case that the same URL is answered again.
		loc.expires = time.Time{}
	}
	o.mu.Unlock()
}

// learn takes in the total size (-1: not stated) and the ETag of an answer
// from loc, or says that they contradict what is known. An ETag that changed is
// a reason to ask the origin, if it has a word of its own on the content: a
// refusedError. Where that is the same the places differ and the file does not.
func (o *Object) learn(loc *location, total int64, etag string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if total >= 0 && loc.info.Size < 0 {
		loc.info.Size, o.first.Size = total, total
	}
	if total >= 0 && loc.info.Size != total {
		return model.Errorf(model.Corrupt, "%s: the answer is of a file of %d bytes, expected %d", redact(loc.url), total, loc.info.Size)
	}
	if o.vouched {
		return nil
	}
	if differ(loc.etag, etag) {
		if loc.info.Validator == "" || loc.ownWord {
			return changed(loc.url)
		}
		o.doubted = true
		return &refusedError{loc, changed(loc.url)}
	}
	if etag != "" {
		loc.etag = etag
	}
	return nil
}

// sizeAt is the size that is known, or -1.
func (o *Object) sizeAt(loc *location) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return loc.info.Size
}

func (o *Object) setNoRanges() {
	o.mu.Lock()
	o.noRanges = true
	o.mu.Unlock()
}

// ignoresRanges reports whether the server is known to.
func (o *Object) ignoresRanges(loc *location) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.noRanges || loc.info.NoRanges
}

// waitEnded is the error of a wait whose context ended.
func waitEnded(ctx context.Context, doing string) error {
	kind := model.Interrupted
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		kind = model.Unavailable
	}
	return model.Errorf(kind, "%s: %w", doing, ctx.Err())
}
