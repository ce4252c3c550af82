package origin

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// reply is a handler that answers with a status and headers ("K: v").
func reply(status int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, h := range headers {
			k, v, _ := strings.Cut(h, ": ")
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
	}
}

// byMethod answers HEAD and GET differently.
func byMethod(head, get http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			head(w, r)
			return
		}
		get(w, r)
	}
}

func TestResolve(t *testing.T) {
	small := file{content(186), "e5698f9a721147f2090edf7da4892e23da00d5be"}
	cdn := "Location: http://cdn.test/f?sig=1"
	linked := []string{"X-Linked-Size: 5000", `X-Linked-Etag: "` + sha + `"`, "X-Repo-Commit: " + commit}
	for name, c := range map[string]struct {
		hub  http.HandlerFunc
		cdn  http.HandlerFunc
		want Info
		host string
		log  []string // requests; nil: not compared
	}{
		"LFS file": {
			hub: reply(302, append(linked, cdn, `ETag: "of the redirect"`)...), host: "http://cdn.test:80",
			want: Info{5000, sha, sha, commit, false}, log: []string{"HEAD hub.test/f"},
		},
		"LFS file, sha in capitals and weak": {
			hub: reply(302, cdn, "X-Linked-Size: 5000", `X-Linked-Etag: W/"`+strings.ToUpper(sha)+`"`), host: "http://cdn.test:80",
			want: Info{5000, "", sha, "", false},
		},
		"small file": {
			hub: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Repo-Commit", commit)
				small.ServeHTTP(w, r)
			}, host: "http://hub.test:80",
			want: Info{186, small.etag, "", commit, false}, log: []string{"HEAD hub.test/f"},
		},
		"resolve cache": {
			hub: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/f" {
					reply(307, "Location: /api/resolve-cache/f?etag=%22x%22", "X-Repo-Commit: "+commit)(w, r)
					return
				}
				small.ServeHTTP(w, r)
			}, host: "http://hub.test:80",
			want: Info{186, small.etag, "", commit, false}, log: []string{"HEAD hub.test/f", "HEAD hub.test/api/resolve-cache/f?etag=%22x%22"},
		},
		"renamed, then LFS": {
			hub: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/f" {
					reply(307, "Location: /org/f")(w, r)
					return
				}
				reply(302, append(linked, cdn)...)(w, r)
			}, host: "http://cdn.test:80",
			want: Info{5000, sha, sha, commit, false}, log: []string{"HEAD hub.test/f", "HEAD hub.test/org/f"},
		},
		"weak ETag":   {hub: file{content(7), ""}.weak, host: "http://hub.test:80", want: Info{Size: 7}},
		"no ranges":   {hub: reply(200, "Content-Length: 7", "Accept-Ranges: none"), host: "http://hub.test:80", want: Info{Size: 7, NoRanges: true}},
		"HEAD is 405": {hub: byMethod(reply(405), small.ServeHTTP), host: "http://hub.test:80", want: Info{186, small.etag, "", "", false}, log: []string{"HEAD hub.test/f", "GET hub.test/f bytes=0-0"}},
		"HEAD is 501": {hub: byMethod(reply(501), small.ServeHTTP), host: "http://hub.test:80", want: Info{186, small.etag, "", "", false}, log: []string{"HEAD hub.test/f", "GET hub.test/f bytes=0-0"}},
		"signed for GET": {hub: byMethod(reply(403), small.ServeHTTP), host: "http://hub.test:80", want: Info{186, small.etag, "", "", false},
			log: []string{"HEAD hub.test/f", "GET hub.test/f bytes=0-0"}},
		"GET only, ignores ranges":     {hub: byMethod(reply(405), reply(200, "Content-Length: 70000")), host: "http://hub.test:80", want: Info{Size: 70000, NoRanges: true}},
		"GET only, empty":              {hub: byMethod(reply(405), reply(416, "Content-Range: bytes */0")), host: "http://hub.test:80", want: Info{Size: 0}},
		"GET only, empty, says a page": {hub: byMethod(reply(405), reply(416, "Content-Range: bytes */0", "Content-Type: text/html")), host: "http://hub.test:80", want: Info{Size: 0}},
		"no length anywhere": {hub: func(w http.ResponseWriter, r *http.Request) { _ = http.NewResponseController(w).Flush() }, host: "http://hub.test:80", want: Info{Size: -1, NoRanges: true},
			log: []string{"HEAD hub.test/f", "GET hub.test/f bytes=0-0"}},
		"the place has to say": {
			hub: reply(302, cdn), cdn: file{content(77), "place"}.ServeHTTP, host: "http://cdn.test:80",
			want: Info{Size: 77}, log: []string{"HEAD hub.test/f", "GET cdn.test/f?sig=1 bytes=0-0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				n.serve("hub.test", c.hub)
				if c.cdn != nil {
					n.serve("cdn.test", c.cdn)
				}
				o := n.door().Object("http://hub.test/f", Want{Size: -1})
				if got := o.Host(); got != "http://hub.test:80" {
					t.Errorf("host before: %s", got)
				}
				for range 2 { // the second time it is known
					info, err := o.Resolve(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(c.want, info); diff != "" {
						t.Fatal(diff)
					}
				}
				if got := o.Host(); got != c.host {
					t.Errorf("host %s, want %s", got, c.host)
				}
				if diff := cmp.Diff(c.log, n.requests()); c.log != nil && diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// Where only HEAD may be asked, a size that it does not state stays unknown,
// unless the file is somewhere else.
func TestResolveHeadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		unstated := func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() }
		n.serve("hub.test", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/here" {
				unstated(w, r)
				return
			}
			reply(302, "Location: http://cdn.test/f")(w, r)
		})
		n.serve("cdn.test", byMethod(unstated, reply(206, "Content-Range: bytes 0-0/5000")))
		door := n.door()
		for path, want := range map[string]int64{"/here": -1, "/there": 5000} {
			info, err := door.Object("http://hub.test"+path, Want{Size: -1, HeadOnly: true}).Resolve(context.Background())
			if err != nil || info.Size != want {
				t.Errorf("%s: %+v, %v, want size %d", path, info, err, want)
			}
		}
		for _, q := range n.requests() {
			if strings.HasPrefix(q, "GET hub.test") {
				t.Errorf("%s was asked", q)
			}
		}
	})
}

func (f file) weak(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `W/"x"`)
	f.ServeHTTP(w, r)
}

func TestResolveFails(t *testing.T) {
	for name, c := range map[string]struct {
		hub   http.HandlerFunc
		want  int64
		kind  model.Kind
		calls int
	}{
		"401":                   {reply(401), -1, model.Denied, 1},
		"403, gated":            {reply(403, "X-Error-Code: GatedRepo", "X-Error-Message: Access to model X is restricted"), -1, model.Denied, 1},
		"403":                   {reply(403), -1, model.Denied, 2},
		"404":                   {reply(404, "X-Error-Code: EntryNotFound"), -1, model.NotFound, 1},
		"410":                   {reply(410), -1, model.NotFound, 1},
		"416":                   {byMethod(reply(405), reply(416)), -1, model.Corrupt, 2},
		"400":                   {reply(400), -1, model.Unavailable, 1},
		"500":                   {reply(500), -1, model.Unavailable, 3},
		"429":                   {reply(429), -1, model.Unavailable, 1},
		"another size":          {reply(200, "Content-Length: 5"), 6, model.Corrupt, 1},
		"another linked size":   {reply(302, "X-Linked-Size: 5", "Location: http://cdn.test/"), 6, model.Corrupt, 1},
		"two sizes":             {reply(200, "X-Linked-Size: 5", "Content-Length: 6"), -1, model.Corrupt, 1},
		"CDN is not allowed":    {reply(302, "X-Linked-Size: 5", "Location: http://evil.test/?sig=secret"), -1, model.Denied, 1},
		"compressed":            {reply(200, "Content-Encoding: gzip"), -1, model.Invalid, 1},
		"loop":                  {reply(302, "Location: /f"), -1, model.Invalid, 6},
		"no Location":           {reply(302), -1, model.Invalid, 1},
		"first byte is another": {byMethod(reply(405), reply(206, "Content-Range: bytes 1-1/5")), -1, model.Unavailable, 4},
		"silent":                {hang, -1, model.Unavailable, 2},
		"silent in the redirect": {byMethod(reply(405), func(w http.ResponseWriter, r *http.Request) {
			reply(302, "Location: /f", "Content-Length: 9")(w, r)
			_ = http.NewResponseController(w).Flush()
			hang(w, r)
		}), -1, model.Unavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, d := hub(t, c.hub)
				begin := time.Now()
				_, err := d.Object("http://hub.test/f", Want{Size: c.want}).Resolve(t.Context())
				wantKind(t, err, c.kind)
				if got := len(n.requests()); got != c.calls && c.calls > 0 {
					t.Errorf("%d requests, want %d (%v)", got, c.calls, err)
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("a secret is in the error: %v", err)
				}
				wantElapsed(t, begin, 0, 30*time.Second)
			})
		})
	}
}

func TestObjectWithBadURL(t *testing.T) {
	d := openDoor(t, Config{})
	for _, bad := range []string{"http://[/?sig=secret", "gopher://x/", ""} {
		o := d.Object(bad, Want{})
		_, err := o.Resolve(t.Context())
		_, errRange := o.Range(t.Context(), 0, 1)
		if err == nil || errRange == nil || strings.Contains(err.Error(), "secret") || o.Host() != "" {
			t.Errorf("%q: %v, %v, host %q", bad, err, errRange, o.Host())
		}
	}
}

// Whoever asks while a request is under way waits for that one, and leaves
// alone. The request goes on for the others.
func TestResolveSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := hub(t, func(w http.ResponseWriter, r *http.Request) {
			advance(10 * time.Second)
			reply(200, "Content-Length: 5")(w, r)
		})
		o := d.Object("http://hub.test/f", Want{Size: -1})
		first, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		_, err := o.Resolve(first)
		wantKind(t, err, model.Interrupted)
		wantElapsed(t, begin, time.Second, time.Second)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if info, err := o.Resolve(t.Context()); err != nil || info.Size != 5 {
					t.Errorf("%+v, %v", info, err)
				}
			})
		}
		wg.Wait()
		wantElapsed(t, begin, 10*time.Second, 10*time.Second)
		if got := n.requests(); len(got) != 1 {
			t.Errorf("requests %q", got)
		}
	})
}

func TestCloseEndsResolve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d := hub(t, hang)
		o := d.Object("http://hub.test/f", Want{Size: -1})
		time.AfterFunc(time.Second, d.Close)
		begin := time.Now()
		_, err := o.Resolve(t.Context())
		wantElapsed(t, begin, time.Second, time.Second)
		if err == nil {
			t.Fatal("no error")
		}
		_, err = o.Resolve(t.Context())
		wantKind(t, err, model.Unavailable)
	})
}

// The location is used until shortly before it expires by the server's clock,
// which may be wrong.
func TestResolveExpires(t *testing.T) {
	for name, c := range map[string]struct {
		query func(now time.Time) string
		skew  time.Duration // of the server's clock
		life  time.Duration
	}{
		"CloudFront":      {func(now time.Time) string { return fmt.Sprintf("Expires=%d", now.Add(time.Hour).Unix()) }, 0, time.Hour},
		"clock is ahead":  {func(now time.Time) string { return fmt.Sprintf("Expires=%d", now.Add(time.Hour).Unix()) }, 5 * time.Hour, time.Hour},
		"clock is behind": {func(now time.Time) string { return fmt.Sprintf("Expires=%d", now.Add(time.Hour).Unix()) }, -5 * time.Hour, time.Hour},
		"S3": {func(now time.Time) string {
			return "X-Amz-Expires=600&X-Amz-Date=" + now.UTC().Format("20060102T150405Z")
		}, time.Hour, 10 * time.Minute},
		"both, the sooner": {func(now time.Time) string {
			return fmt.Sprintf("Expires=%d&X-Amz-Expires=600&X-Amz-Date=%s", now.Add(time.Hour).Unix(), now.UTC().Format("20060102T150405Z"))
		}, 0, 10 * time.Minute},
		"not stated":      {func(now time.Time) string { return "Expires=never" }, 0, 50 * time.Minute},
		"expired already": {func(now time.Time) string { return "Expires=1" }, 0, 5 * time.Second},
		"for ever":        {func(now time.Time) string { return "Expires=99999999999" }, 0, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int64
				n := newNet(t)
				n.serve("hub.test", func(w http.ResponseWriter, r *http.Request) {
					asked.Add(1)
					now := time.Now().Add(c.skew)
					w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
					redirectLFS(w, "http://cdn.test/f?"+c.query(now), 5)
				})
				o := n.door().Object("http://hub.test/f", Want{Size: 5})
				resolve := func(want int64) {
					t.Helper()
					if _, err := o.Resolve(t.Context()); err != nil || asked.Load() != want {
						t.Fatalf("asked %d times, want %d, error %v", asked.Load(), want, err)
					}
				}
				resolve(1)
				advance(c.life*9/10 - time.Minute)
				if c.life > time.Minute {
					resolve(1)
				}
				advance(c.life/10 + 2*time.Minute)
				resolve(2)
			})
		})
	}
}

// A later answer about another content is an error, for good.
func TestResolveNoticesChange(t *testing.T) {
	base := []string{"X-Linked-Size: 5", `X-Linked-Etag: "a"`, "X-Repo-Commit: 1", "Location: http://cdn.test/"}
	for name, c := range map[string]struct {
		first, later []string
		changed      bool
	}{
		"same":                       {base, base, false},
		"another validator":          {base, []string{"X-Linked-Size: 5", `X-Linked-Etag: "b"`, "X-Repo-Commit: 1", base[3]}, true},
		"another size":               {base, []string{"X-Linked-Size: 6", `X-Linked-Etag: "a"`, "X-Repo-Commit: 1", base[3]}, true},
		"another commit, same file":  {base, []string{"X-Linked-Size: 5", `X-Linked-Etag: "a"`, "X-Repo-Commit: 2", base[3]}, false},
		"another commit, who knows":  {[]string{base[0], base[2], base[3]}, []string{"X-Linked-Size: 5", "X-Repo-Commit: 2", base[3]}, true},
		"validator is no more given": {base, []string{"X-Linked-Size: 5", base[3]}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int64
				_, d := hub(t, func(w http.ResponseWriter, r *http.Request) {
					if asked.Add(1) == 1 {
						reply(302, c.first...)(w, r)
						return
					}
					reply(302, c.later...)(w, r)
				})
				o := d.Object("http://hub.test/f", Want{Size: -1})
				if _, err := o.Resolve(t.Context()); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					advance(time.Hour)
					_, err := o.Resolve(t.Context())
					if c.changed {
						wantKind(t, err, model.Corrupt)
					} else if err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

// What was stated of a file before, in another process maybe, holds from the
// first answer on: bytes that are kept of it are not mixed with another's.
func TestResolveHoldsToTheStatedValidator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etag := "a"
		_, d := hub(t, func(w http.ResponseWriter, r *http.Request) {
			reply(200, "Content-Length: 5", `ETag: "`+etag+`"`)(w, r)
		})
		o := d.Object("http://hub.test/f", Want{Size: 5, Validator: "b"})
		_, err := o.Resolve(t.Context())
		wantKind(t, err, model.Corrupt)
		etag = "b" // as it was: an origin's passing confusion ends with it
		if _, err := o.Resolve(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// Where nobody states the file's length, a page for people is no file, unless
// the file's own name says that it is one.
func TestAPageOfUnknownLength(t *testing.T) {
	page := func(headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for _, h := range append(headers, "Content-Type: text/html; charset=utf-8") {
				k, v, _ := strings.Cut(h, ": ")
				w.Header().Set(k, v)
			}
			_, _ = w.Write([]byte("<html>")) // without a length, but for those in headers
			_ = http.NewResponseController(w).Flush()
		}
	}
	bytesOf := file{content(6), ""}.ServeHTTP
	lengthless := func(http.ResponseWriter, *http.Request) {}
	for name, c := range map[string]struct {
		path   string
		answer http.HandlerFunc
		ok     bool
	}{
		"a page":                       {"/model.gguf", page(), false},
		"with a length of its own":     {"/model.gguf", page("Content-Length: 6"), false},
		"to HEAD":                      {"/model.gguf", byMethod(page("Content-Length: 6"), bytesOf), false},
		"to GET":                       {"/model.gguf", byMethod(lengthless, page()), false},
		"a part of one":                {"/model.gguf", byMethod(lengthless, reply(206, "Content-Type: text/html", "Content-Range: bytes 0-0/6")), false},
		"of another address":           {"/model.gguf", reply(302, "Location: http://cdn.test/login.html"), false},
		"a file that is one":           {"/docs/index.html", page(), true},
		"a file that is one, shouted":  {"/INDEX.HTM", page(), true},
		"the length of it is stated":   {"/model.gguf", page("X-Linked-Size: 6", "Content-Length: 6"), true},
		"a name that only contains it": {"/index.html.gguf", page(), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				n.serve("hub.test", c.answer)
				n.serve("cdn.test", page())
				o := n.door().Object("http://hub.test"+c.path, Want{Size: -1})
				_, resolved := o.Resolve(t.Context())
				got, read := readWhole(t.Context(), o)
				if c.ok && (resolved != nil || read != nil || len(got) != 6) {
					t.Errorf("%v; %d bytes, %v", resolved, len(got), read)
				}
				if !c.ok {
					wantKind(t, read, model.Unavailable)
				}
			})
		})
	}
}

// An answer without a validator does not show that it is of the file that a
// validator was stated of.
func TestAStatedValidatorIsMissing(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"no ETag":               reply(200, "Content-Length: 5"),
		"a weak one":            reply(200, "Content-Length: 5", `ETag: W/"b"`),
		"the redirect's own":    reply(302, "X-Linked-Size: 5", `ETag: "b"`, "Location: http://cdn.test/f"),
		"a weak one of another": reply(302, "X-Linked-Size: 5", `X-Linked-Etag: W/"b"`, "Location: http://cdn.test/f"),
		"to GET neither":        byMethod(reply(405), reply(206, "Content-Range: bytes 0-0/5")),
		"a date":                reply(200, "Content-Length: 5", "Last-Modified: Mon, 02 Jan 2006 15:04:05 GMT"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				there := false
				_, d := hub(t, func(w http.ResponseWriter, r *http.Request) {
					if there {
						file{content(5), "b"}.ServeHTTP(w, r)
						return
					}
					answer(w, r)
				})
				o := d.Object("http://hub.test/f", Want{Size: 5, Validator: "b"})
				_, err := o.Resolve(t.Context())
				wantKind(t, err, model.Unavailable)
				there = true
				if _, err := o.Resolve(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// The same holds for the answers that bring bytes, where the validator is their
// own: one node of a server may have another file than the one that was asked.
func TestAnAnswerWithoutTheStatedValidator(t *testing.T) {
	data := content(5000)
	for name, stated := range map[string]string{"stated": "b", "nothing stated": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, d := hub(t, func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodHead {
						w.Header().Set("ETag", `"b"`)
					}
					file{data, ""}.ServeHTTP(w, r)
				})
				o := d.Object("http://hub.test/f", Want{Size: 5000, Validator: stated})
				_, whole := readWhole(t.Context(), o)
				_, part := readRange(t.Context(), o, 1000, 1000)
				for _, err := range []error{whole, part} {
					if stated != "" {
						wantKind(t, err, model.Unavailable)
					} else if err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// A token that the Hub refuses does not close files that need none.
func TestResolveWithBadToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		n.serve("hub.test", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				reply(401, "X-Error-Message: Invalid credentials in Authorization header")(w, r)
				return
			}
			file{content(5), ""}.ServeHTTP(w, r)
		})
		d := n.door(func(c *Config) {
			c.Credentials = []Credential{{"http://hub.test", func() (string, error) { return "old", nil }}}
		})
		o := d.Object("http://hub.test/f", Want{Size: -1})
		if got, err := readRange(t.Context(), o, 0, 5); err != nil || len(got) != 5 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		want := []string{"HEAD hub.test/f", "HEAD hub.test/f", "GET hub.test/f bytes=0-4"}
		if diff := cmp.Diff(want, n.requests()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestLifeOf(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	for query, want := range map[string]time.Duration{
		"":                            unstatedLife - 30*time.Second,
		"Expires=1790003600":          time.Hour - 30*time.Second,
		"Expires=1790000100":          90 * time.Second,
		"Expires=-5":                  unstatedLife - 30*time.Second,
		"Expires=0":                   minLife,
		"Expires=9223372036854775807": maxLife - 30*time.Second,
		"X-Goog-Expires=600&X-Goog-Date=" + now.UTC().Format("20060102T150405Z"): 570 * time.Second,
	} {
		if got := lifeOf(&url.URL{RawQuery: query}, http.Header{}, now); got != want {
			t.Errorf("%q: %v, want %v", query, got, want)
		}
	}
}
