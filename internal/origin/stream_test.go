package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// hubFile makes a network on which http://hub.test/f redirects to
// http://cdn.test/f?sig=1, served by cdn, and returns the object.
func hubFile(t *testing.T, size int, cdn http.HandlerFunc) (*fakeNet, *Door, *Object) {
	n := newNet(t)
	var signed atomic.Int64
	n.serve("hub.test", func(w http.ResponseWriter, r *http.Request) {
		redirectLFS(w, fmt.Sprintf("http://cdn.test/f?sig=%d", signed.Add(1)), size)
	})
	n.serve("cdn.test", cdn)
	d := n.door()
	return n, d, d.Object("http://hub.test/f", Want{Size: int64(size)})
}

func TestRange(t *testing.T) {
	data := content(300_000)
	for _, c := range []struct{ off, n int64 }{{0, 0}, {0, 1}, {0, 300_000}, {1, 299_999}, {299_999, 1}, {300_000, 0}, {65536, 65536}} {
		synctest.Test(t, func(t *testing.T) {
			_, d, o := hubFile(t, len(data), file{data, "x"}.ServeHTTP)
			got, err := readRange(t.Context(), o, c.off, c.n)
			if err != nil || !bytes.Equal(got, data[c.off:c.off+c.n]) {
				t.Fatalf("%d bytes at %d: got %d bytes, error %v", c.n, c.off, len(got), err)
			}
			if s := d.Stats(); s.BytesAsked != c.n || s.BytesReceived != c.n || s.Replaced != 0 {
				t.Fatalf("stats %+v", s)
			}
		})
	}
}

// One resolve request serves all ranges of a file, and one connection serves
// ranges that follow one another.
func TestRangesShareResolveAndConnection(t *testing.T) {
	data := content(5000)
	synctest.Test(t, func(t *testing.T) {
		var conns atomic.Int64
		n, _, o := hubFile(t, len(data), file{data, "x"}.ServeHTTP)
		dial := o.door.named.DialContext
		o.door.named.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conns.Add(1)
			return dial(ctx, network, addr)
		}
		for i := range 5 {
			if _, err := readRange(t.Context(), o, int64(i)*1000, 1000); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"HEAD hub.test/f", "GET cdn.test/f?sig=1 bytes=0-999", "GET cdn.test/f?sig=1 bytes=1000-1999", "GET cdn.test/f?sig=1 bytes=2000-2999",
			"GET cdn.test/f?sig=1 bytes=3000-3999", "GET cdn.test/f?sig=1 bytes=4000-4999"}
		if diff := cmp.Diff(want, n.requests()); diff != "" {
			t.Fatal(diff)
		}
		if conns.Load() != 2 {
			t.Fatalf("%d connections, want one to each host", conns.Load())
		}
	})
}

// A server that stops in the middle, in whatever way, is asked for the rest.
func TestRangeResumes(t *testing.T) {
	data := content(100_000)
	write := func(w http.ResponseWriter, b []byte) {
		_, _ = w.Write(b)
		_ = http.NewResponseController(w).Flush()
	}
	faults := map[string]http.HandlerFunc{
		"stall in the body":        func(w http.ResponseWriter, r *http.Request) { write(w, part(t, w, r, data)[:40_000]); hang(w, r) },
		"stall before the headers": hang,
		"cut in the body": func(w http.ResponseWriter, r *http.Request) {
			write(w, part(t, w, r, data)[:40_000])
			panic(http.ErrAbortHandler)
		},
		"cut before the headers":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"503":                       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"408":                       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(408) },
		"429 without a time":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
		"403, the URL has expired":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
		"410":                       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) },
		"a range that starts wrong": func(w http.ResponseWriter, _ *http.Request) { partOf(w, data, 1, 99_999, 100_000) },
		"no Content-Range":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206) },
		"clean close, chunked": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-99989/100000")
			w.WriteHeader(206)
			write(w, data[:40_000])
		},
		"a shorter range": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-39999/100000")
			w.WriteHeader(206)
			write(w, data[:40_000])
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				_, d, o := hubFile(t, len(data), func(w http.ResponseWriter, r *http.Request) {
					if calls.Add(1) == 1 {
						fault(w, r)
						return
					}
					file{data, ""}.ServeHTTP(w, r)
				})
				begin := time.Now()
				got, err := readRange(t.Context(), o, 0, 99_990)
				if err != nil || !bytes.Equal(got, data[:99_990]) {
					t.Fatalf("got %d bytes, error %v", len(got), err)
				}
				wantElapsed(t, begin, 0, 16*time.Second)
				if s := d.Stats(); s.BytesReceived != 99_990 || calls.Load() != 2 {
					t.Fatalf("%d requests, stats %+v", calls.Load(), s)
				}
			})
		})
	}
}

func partOf(w http.ResponseWriter, data []byte, from, to, total int) {
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, total))
	w.WriteHeader(206)
	_, _ = w.Write(data[from : to+1])
}

// What a second attempt can't change ends the stream at once.
func TestRangeFails(t *testing.T) {
	data := content(1000)
	for name, c := range map[string]struct {
		kind    model.Kind
		handler http.HandlerFunc
		calls   int64
	}{
		"whole file instead": {model.Invalid, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(data) }, 1},
		"another total":      {model.Corrupt, func(w http.ResponseWriter, r *http.Request) { partOf(w, data, 100, 199, 2000) }, 1},
		"another length": {model.Unavailable, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "50")
			partOf(w, data, 100, 199, 1000)
		}, 4},
		"416": {model.Corrupt, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(416) }, 1},
		"400": {model.Unavailable, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(400) }, 1},
		"204": {model.Unavailable, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, 1},
		"gzip": {model.Invalid, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			partOf(w, data, 100, 199, 1000)
		}, 1},
		"403 twice":            {model.Denied, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) }, 2},
		"404 twice":            {model.NotFound, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }, 2},
		"500 for ever":         {model.Unavailable, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }, 4},
		"silence for ever":     {model.Unavailable, hang, 4},
		"nonsense for ever":    {model.Unavailable, func(w http.ResponseWriter, r *http.Request) { partOf(w, data, 0, 99, 1000) }, 4},
		"headers but no bytes": {model.Unavailable, func(w http.ResponseWriter, r *http.Request) { part(t, w, r, data); panic(http.ErrAbortHandler) }, 4},
		"redirect loop":        {model.Invalid, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/f", 302) }, 6},
		"redirect to nowhere":  {model.Invalid, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(302) }, 1},
		"redirect outside":     {model.Denied, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://evil.test/?sig=secret", 302) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				_, _, o := hubFile(t, len(data), func(w http.ResponseWriter, r *http.Request) { calls.Add(1); c.handler(w, r) })
				_, err := readRange(t.Context(), o, 100, 100)
				wantKind(t, err, c.kind)
				if calls.Load() != c.calls {
					t.Errorf("%d requests, want %d (%v)", calls.Load(), c.calls, err)
				}
				if strings.Contains(err.Error(), "sig=") {
					t.Errorf("a signature is in the error: %v", err)
				}
			})
		})
	}
}

func TestRangeArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, o := hubFile(t, 1000, file{content(1000), ""}.ServeHTTP)
		for _, c := range []struct{ off, n int64 }{{-1, 5}, {0, -1}, {1, 1<<63 - 1}, {0, 1001}, {1000, 1}, {1 << 40, 1}} {
			_, err := readRange(t.Context(), o, c.off, c.n)
			wantKind(t, err, model.Invalid)
		}
	})
}

// A server without ranges: the head of the file can be had, nothing else, and
// nobody asks again.
func TestNoRanges(t *testing.T) {
	data := content(1000)
	synctest.Test(t, func(t *testing.T) {
		n, _, o := hubFile(t, len(data), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(data)
		})
		got, err := readRange(t.Context(), o, 0, 10)
		if err != nil || !bytes.Equal(got, data[:10]) {
			t.Fatalf("got %d bytes, error %v", len(got), err)
		}
		info, err := o.Resolve(t.Context())
		if err != nil || !info.NoRanges {
			t.Fatalf("info %+v, error %v", info, err)
		}
		asked := len(n.requests())
		_, err = readRange(t.Context(), o, 10, 10)
		wantKind(t, err, model.Invalid)
		if !errors.Is(err, ErrNoRanges) || len(n.requests()) != asked {
			t.Fatalf("error %v, %d requests more", err, len(n.requests())-asked)
		}
		if got, err = readWhole(t.Context(), o); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("whole: got %d bytes, error %v", len(got), err)
		}
	})
}

// The same URL with another ETag may be another file: an origin that has a word
// of its own on the content is asked, once. After a new resolve another ETag is
// just another place.
func TestChangedETag(t *testing.T) {
	data := content(1000)
	same := `X-Linked-Etag: "` + sha + `"`
	for name, c := range map[string]struct {
		first, later string // the origin's word
		changed      bool
	}{
		"the origin says that it is the same": {same, same, false},
		"the origin says that it is another":  {same, `X-Linked-Etag: "other"`, true},
		"the origin says nothing":             {"X: y", "X: y", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				var asked, served atomic.Int64
				n.serve("hub.test", func(w http.ResponseWriter, r *http.Request) {
					word := c.later
					if asked.Add(1) == 1 {
						word = c.first
					}
					reply(302, word, "X-Linked-Size: 1000", "Location: http://cdn.test/f?sig=1")(w, r)
				})
				n.serve("cdn.test", func(w http.ResponseWriter, r *http.Request) { // each answer comes from another node
					file{data, fmt.Sprint(served.Add(1))}.ServeHTTP(w, r)
				})
				o := n.door().Object("http://hub.test/f", Want{Size: int64(len(data))})
				for i := range int64(5) {
					got, err := readRange(t.Context(), o, i*10, 10)
					if !c.changed || i == 0 {
						if err != nil || !bytes.Equal(got, data[i*10:][:10]) {
							t.Fatalf("range %d: %d bytes, %v", i, len(got), err)
						}
						continue
					}
					wantKind(t, err, model.Corrupt)
					if !strings.Contains(err.Error(), "changed while it was being read") {
						t.Fatal(err)
					}
				}
				if !c.changed && asked.Load() != 2 {
					t.Errorf("the origin was asked %d times, want 2", asked.Load())
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		_, _, o := hubFile(t, len(data), func(w http.ResponseWriter, r *http.Request) {
			file{data, r.URL.RawQuery}.ServeHTTP(w, r)
		})
		for i := range 2 {
			if _, err := readRange(t.Context(), o, 0, 10); err != nil {
				t.Fatal(i, err)
			}
			advance(51 * time.Minute) // virtual: the URL states no expiry
		}
	})
}

// A pause that is short is sat out; a long one is the reader's business.
func TestRangePaused(t *testing.T) {
	data := content(1000)
	for _, c := range []struct {
		seconds int
		ok      bool
	}{{7, true}, {59, true}, {300, false}} {
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int64
			_, _, o := hubFile(t, len(data), func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1) == 1 {
					w.Header().Set("RateLimit", fmt.Sprintf(`"cdn";r=0;t=%d`, c.seconds))
					w.WriteHeader(429)
					return
				}
				file{data, ""}.ServeHTTP(w, r)
			})
			begin := time.Now()
			_, err := readRange(t.Context(), o, 0, 1000)
			if c.ok {
				if err != nil {
					t.Fatal(err)
				}
				wait := time.Duration(c.seconds) * time.Second
				wantElapsed(t, begin, wait, wait+time.Second)
				return
			}
			wantKind(t, err, model.Unavailable)
			wantElapsed(t, begin, 0, time.Second)
		})
	}
}

// A slow reader is not a silent server, and a slow server that sends
// something now and then is not one either.
func TestSlowIsNotStalled(t *testing.T) {
	data := content(6)
	synctest.Test(t, func(t *testing.T) {
		_, d, o := hubFile(t, len(data), func(w http.ResponseWriter, r *http.Request) {
			for _, b := range part(t, w, r, data) {
				advance(14 * time.Second) // virtual
				_, _ = w.Write([]byte{b})
				_ = http.NewResponseController(w).Flush()
			}
		})
		s, err := o.Range(t.Context(), 0, 6)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var got []byte
		for buf := make([]byte, 1); ; {
			n, err := s.Read(buf)
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 3 {
				advance(time.Hour) // virtual: the reader is busy
			}
		}
		if !bytes.Equal(got, data) || d.Stats().Replaced != 0 {
			t.Fatalf("got %v, stats %+v", got, d.Stats())
		}
	})
}

// The end of the context ends a stream wherever it waits.
func TestStreamEndsWithContext(t *testing.T) {
	data := content(1000)
	waits := map[string]http.HandlerFunc{
		"headers": hang,
		"body": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(part(t, w, r, data)[:10])
			_ = http.NewResponseController(w).Flush()
			hang(w, r)
		},
		"backoff": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) },
		"pause":   func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(429) },
	}
	for name, h := range waits {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, _, o := hubFile(t, len(data), h)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel)
				begin := time.Now()
				_, err := readRange(ctx, o, 0, 1000)
				wantKind(t, err, model.Interrupted)
				wantElapsed(t, begin, 0, 100*time.Millisecond)
			})
			synctest.Test(t, func(t *testing.T) {
				_, _, o := hubFile(t, len(data), h)
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				begin := time.Now()
				_, err := readRange(ctx, o, 0, 1000)
				wantKind(t, err, model.Unavailable)
				wantElapsed(t, begin, 0, 100*time.Millisecond)
			})
			synctest.Test(t, func(t *testing.T) {
				_, d, o := hubFile(t, len(data), h)
				time.AfterFunc(100*time.Millisecond, d.Close)
				begin := time.Now()
				_, err := readRange(t.Context(), o, 0, 1000)
				wantKind(t, err, model.Unavailable)
				wantElapsed(t, begin, 0, 100*time.Millisecond)
			})
		})
	}
}

func TestStreamAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, o := hubFile(t, 1000, file{content(1000), ""}.ServeHTTP)
		s, err := o.Range(t.Context(), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
			t.Fatalf("read %d, %v", n, err)
		}
		d.Close()
		_, err = readRange(t.Context(), o, 0, 1)
		wantKind(t, err, model.Unavailable)
	})
}

func TestWhole(t *testing.T) {
	data := content(5000)
	send := func(length string, n int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			} else if r.Method == http.MethodGet {
				_ = http.NewResponseController(w).Flush()
			}
			_, _ = w.Write(data[:n])
		}
	}
	for name, c := range map[string]struct {
		want    int64
		handler http.HandlerFunc
		kind    model.Kind // Internal: none
		size    int64      // that Resolve says afterwards
	}{
		"stated":                    {-1, send("5000", 5000), model.Internal, 5000},
		"stated and wanted":         {5000, send("5000", 5000), model.Internal, 5000},
		"not stated":                {-1, send("", 4000), model.Internal, 4000},
		"not stated, wanted":        {4000, send("", 4000), model.Internal, 4000},
		"shorter than stated":       {-1, send("5000", 4000), model.Unavailable, 5000},
		"not stated, short":         {5000, send("", 4000), model.Unavailable, 5000},
		"not stated, too long":      {4000, send("", 5000), model.Corrupt, 4000},
		"stated, wanted is another": {4000, send("5000", 5000), model.Corrupt, -2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				n.serve("hub.test", c.handler)
				o := n.door().Object("http://hub.test/f", Want{Size: c.want})
				got, err := readWhole(t.Context(), o)
				if c.kind != model.Internal {
					wantKind(t, err, c.kind)
				} else if err != nil || !bytes.Equal(got, data[:c.size]) {
					t.Fatalf("got %d bytes, error %v", len(got), err)
				}
				if info, err := o.Resolve(t.Context()); c.size != -2 && (err != nil || info.Size != c.size) {
					t.Fatalf("size %d, error %v", info.Size, err)
				}
			})
		})
	}
}
