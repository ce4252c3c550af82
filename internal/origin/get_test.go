package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// hub makes a network with one host, http://hub.test, that h serves.
func hub(t *testing.T, h http.HandlerFunc) (*fakeNet, *Door) {
	n := newNet(t)
	n.serve("hub.test", h)
	return n, n.door()
}

func TestGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d := hub(t, func(w http.ResponseWriter, r *http.Request) {
			for k, want := range map[string]string{"Accept-Encoding": "identity", "User-Agent": "modelfs", "Accept": "application/json", "Authorization": "", "Cookie": "", "X-Api-Key": ""} {
				if got := r.Header.Get(k); got != want {
					t.Errorf("%s: %q, want %q", k, got, want)
				}
			}
			w.Header().Set("X-Total-Count", "3")
			w.WriteHeader(404)
			_, _ = io.WriteString(w, "body")
		})
		extra := http.Header{"Accept": {"application/json"}, "Authorization": {"Bearer x"}, "Cookie": {"x"}, "X-Api-Key": {"x"}}
		a, err := d.Get(t.Context(), "http://hub.test/a?b=c", GetOptions{Header: extra})
		if err != nil {
			t.Fatal(err)
		}
		if a.Status != 404 || a.Header.Get("X-Total-Count") != "3" || a.URL != "http://hub.test/a" || string(a.Body) != "body" || a.Hops != nil {
			t.Fatalf("%+v", a)
		}
		if len(extra) != 4 {
			t.Fatal("the caller's header was changed")
		}
	})
}

func TestGetRetries(t *testing.T) {
	for _, c := range []struct {
		status, calls int
		ok            bool
	}{{200, 1, true}, {400, 1, true}, {401, 1, true}, {403, 1, true}, {404, 1, true}, {408, 3, true}, {429, 1, true}, {500, 3, true}, {501, 1, true}, {502, 3, true},
		{503, 3, true}, {504, 3, true}, {0, 3, false}} {
		synctest.Test(t, func(t *testing.T) {
			n, d := hub(t, func(w http.ResponseWriter, r *http.Request) {
				if c.status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(c.status)
			})
			begin := time.Now()
			a, err := d.Get(t.Context(), "http://hub.test/", GetOptions{})
			if c.ok && (err != nil || a.Status != c.status) {
				t.Errorf("%d: %+v, %v", c.status, a, err)
			}
			if !c.ok {
				wantKind(t, err, model.Unavailable)
			}
			if got := len(n.requests()); got != c.calls {
				t.Errorf("%d: %d requests, want %d", c.status, got, c.calls)
			}
			if c.calls == 3 {
				wantElapsed(t, begin, 600*time.Millisecond, 900*time.Millisecond)
			} else {
				wantElapsed(t, begin, 0, 0)
			}
		})
	}
}

// A server that recovers is not noticed; a deadline that a retry can't meet
// is not waited for.
func TestGetRetryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		_, d := hub(t, func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1) < 3 {
				w.WriteHeader(503)
			}
		})
		if a, err := d.Get(t.Context(), "http://hub.test/", GetOptions{}); err != nil || a.Status != 200 {
			t.Errorf("%+v, %v", a, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		_, d := hub(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) })
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if a, err := d.Get(ctx, "http://hub.test/", GetOptions{}); err != nil || a.Status != 503 {
			t.Errorf("%+v, %v", a, err)
		}
		wantElapsed(t, begin, 0, 0)
	})
}

// No server, no context and no Door can make Get wait for ever.
func TestGetEnds(t *testing.T) {
	trickle := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "x")
		_ = http.NewResponseController(w).Flush()
		hang(w, r)
	}
	for name, h := range map[string]http.HandlerFunc{"headers": hang, "body": trickle} {
		for end, c := range map[string]struct {
			kind   model.Kind
			lo, hi time.Duration
			with   func(t *testing.T, d *Door) (context.Context, context.CancelFunc)
		}{
			"stall": {model.Unavailable, 45 * time.Second, 46 * time.Second, func(t *testing.T, d *Door) (context.Context, context.CancelFunc) { return t.Context(), func() {} }},
			"deadline": {model.Unavailable, time.Second, time.Second, func(t *testing.T, d *Door) (context.Context, context.CancelFunc) {
				return context.WithTimeout(t.Context(), time.Second)
			}},
			"cancel": {model.Interrupted, time.Second, time.Second, func(t *testing.T, d *Door) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { cancel(fmt.Errorf("the reader left")) })
				return ctx, func() { cancel(nil) }
			}},
			"close": {model.Unavailable, time.Second, time.Second, func(t *testing.T, d *Door) (context.Context, context.CancelFunc) {
				time.AfterFunc(time.Second, d.Close)
				return t.Context(), func() {}
			}},
		} {
			t.Run(name+"/"+end, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					_, d := hub(t, h)
					ctx, cancel := c.with(t, d)
					defer cancel()
					begin := time.Now()
					_, err := d.Get(ctx, "http://hub.test/", GetOptions{})
					wantKind(t, err, c.kind)
					wantElapsed(t, begin, c.lo, c.hi)
				})
			})
		}
	}
}

func TestGetRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		kind    model.Kind
		handler http.HandlerFunc
		calls   int
	}{
		"too large":   {model.Invalid, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, 101)) }, 1},
		"compressed":  {model.Invalid, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Encoding", "gzip") }, 1},
		"loop":        {model.Invalid, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, 307) }, 6},
		"no Location": {model.Invalid, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(302) }, 1},
		"Location is no URL": {model.Invalid, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://[/?sig=secret")
			w.WriteHeader(302)
		}, 1},
		"not allowed": {model.Denied, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://evil.test/?sig=secret", 302) }, 1},
		"no http": {model.Denied, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd?sig=secret", 302)
		}, 1},
		"a user": {model.Denied, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://secret:secret@hub.test/", 302)
		}, 1},
		"dots": {model.Denied, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://hub.test/%2e%2e/x?sig=secret")
			w.WriteHeader(302)
		}, 1},
		"nobody there": {model.Unavailable, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://cdn.test/?sig=secret", 302) }, 3},
		"broken in the body": {model.Unavailable, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "50")
			_, _ = w.Write([]byte("x"))
		}, 3},
		"malformed header": {model.Unavailable, raw("HTTP/1.1 302 Found\r\nLocation: http://cdn.test/?sig=secret\x01\r\n\r\n"), 3},
		"malformed length": {model.Unavailable, raw("HTTP/1.1 200 OK\r\nContent-Length: secret\r\n\r\n"), 3},
		"malformed status": {model.Unavailable, raw("HTTP/1.1 secret\r\n\r\n"), 3},
		"too much header":  {model.Unavailable, raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("secret", 1<<20)), 3},
		"not HTTP":         {model.Unavailable, raw("secret\r\n\r\n"), 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, d := hub(t, c.handler)
				_, err := d.Get(t.Context(), "http://hub.test/a?sig=secret", GetOptions{MaxBody: 100})
				wantKind(t, err, c.kind)
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("a secret is in the error: %v", err)
				}
				if got := len(n.requests()); got != c.calls {
					t.Errorf("%d requests, want %d (%v)", got, c.calls, err)
				}
			})
		})
	}
}

// raw answers with bytes as they are.
func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_, _ = io.WriteString(c, answer)
			_ = c.Close()
		}
	}
}

func TestGetOddAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d := hub(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(403)
			_, _ = w.Write(make([]byte, 1<<20))
		})
		a, err := d.Get(t.Context(), "http://hub.test/", GetOptions{MaxBody: 10})
		if err != nil || a.Status != 403 || a.Body != nil {
			t.Fatalf("an error page that is compressed: %+v, %v", a, err)
		}
		a, err = d.Get(t.Context(), "http://hub.test/", GetOptions{Head: true})
		if err != nil || a.Status != 403 {
			t.Fatalf("HEAD: %+v, %v", a, err)
		}
		for _, bad := range []string{"http://hub.test/%zz?sig=secret", "://", ""} {
			if _, err := d.Get(t.Context(), bad, GetOptions{}); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: %v", bad, err)
			}
		}
	})
}

func TestGetFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		n.serve("hub.test", func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/api/gpt2":
				w.Header().Set("X-Repo-Commit", commit)
				http.Redirect(w, r, "/api/openai/gpt2?x=1", http.StatusTemporaryRedirect)
			case "/api/openai/gpt2":
				// A signature must arrive as it was written, however odd.
				w.Header().Set("Location", "http://cdn.test/f%2Fg?b=%7e&a=+%20;&&sig=a/b%2fc==")
				w.WriteHeader(http.StatusSeeOther)
			}
		})
		n.serve("cdn.test", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") })
		d := n.door()
		a, err := d.Get(t.Context(), "http://hub.test/api/gpt2", GetOptions{})
		if err != nil || string(a.Body) != "ok" || a.URL != "http://cdn.test/f%2Fg" {
			t.Fatalf("%+v, %v", a, err)
		}
		want := []string{"GET hub.test/api/gpt2", "GET hub.test/api/openai/gpt2?x=1", "GET cdn.test/f%2Fg?b=%7e&a=+%20;&&sig=a/b%2fc=="}
		if diff := cmp.Diff(want, n.requests()); diff != "" {
			t.Fatal(diff)
		}
		if len(a.Hops) != 2 || a.Hops[0].Status != 307 || a.Hops[0].URL != "http://hub.test/api/gpt2" || a.Hops[0].Header.Get("X-Repo-Commit") != commit ||
			a.Hops[0].Header.Get("Location") != "http://hub.test/api/openai/gpt2" || a.Hops[1].Header.Get("Location") != "http://cdn.test/f%2Fg" {
			t.Fatalf("hops %+v", a.Hops)
		}
	})
}

// A 429 is an answer, and then nobody of that class asks that host until it
// is over; others do.
func TestGetPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		n := newNet(t)
		n.serve("hub.test", func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1) == 1 {
				w.Header().Set("RateLimit", `"api";r=0;t=200`)
				w.WriteHeader(429)
			}
		})
		n.serve("cdn.test", func(w http.ResponseWriter, r *http.Request) {})
		d := n.door()
		get := func(url, class string) (*Answer, error) { return d.Get(t.Context(), url, GetOptions{Class: class}) }
		if a, err := get("http://hub.test/", ""); err != nil || a.Status != 429 {
			t.Fatalf("%+v, %v", a, err)
		}
		begin := time.Now()
		advance(time.Second)
		_, err := get("http://hub.test/other", "api")
		wantKind(t, err, model.Unavailable)
		if at := begin.Add(200 * time.Second).Format(time.TimeOnly); !strings.Contains(err.Error(), at) || !strings.Contains(err.Error(), "3m19s") {
			t.Errorf("%v does not say until when (%s)", err, at)
		}
		wantElapsed(t, begin, time.Second, time.Second)
		for _, other := range [][2]string{{"http://hub.test/", "lookup"}, {"http://cdn.test/", "api"}} {
			if _, err := get(other[0], other[1]); err != nil {
				t.Errorf("%v: %v", other, err)
			}
		}
		advance(199 * time.Second)
		if a, err := get("http://hub.test/", ""); err != nil || a.Status != 200 {
			t.Fatalf("%+v, %v", a, err)
		}
	})
}

// A request that is not made because of a pause is no sign of an outage.
func TestPausedIsThrottled(t *testing.T) {
	var p pauses
	p.set(pauseKey{class: "a"}, time.Minute)
	var throttled interface{ Throttled() bool }
	if err := p.check(pauseKey{class: "a"}); !errors.As(err, &throttled) || !throttled.Throttled() {
		t.Errorf("got %v", err)
	}
}

// What is paused is forgotten when it is over.
func TestPausesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pauses
		for i := range 1000 {
			p.set(pauseKey{class: fmt.Sprint(i)}, time.Second)
			advance(time.Second)
		}
		if len(p.until) != 1 {
			t.Errorf("%d pauses are kept", len(p.until))
		}
		p.set(pauseKey{class: "a"}, time.Minute)
		p.set(pauseKey{class: "a"}, time.Second)
		advance(30 * time.Second)
		if p.check(pauseKey{class: "a"}) == nil {
			t.Error("a shorter pause ended a longer one")
		}
	})
}
