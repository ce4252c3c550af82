package origin

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"modelfs/internal/model"
)

// Where the origin states no size, the first answer that has one settles it.
func TestSizeIsLearnt(t *testing.T) {
	data := content(1000)
	synctest.Test(t, func(t *testing.T) {
		var gets atomic.Int64
		_, d := hub(t, byMethod(reply(405), func(w http.ResponseWriter, r *http.Request) {
			if gets.Add(1) == 1 {
				reply(206, "Content-Range: bytes 0-0/*")(w, r)
				return
			}
			file{data, ""}.ServeHTTP(w, r)
		}))
		o := d.Object("http://hub.test/f", Want{Size: -1})
		if info, err := o.Resolve(t.Context()); err != nil || info.Size != -1 {
			t.Fatalf("%+v, %v", info, err)
		}
		if got, err := readRange(t.Context(), o, 10, 10); err != nil || !bytes.Equal(got, data[10:20]) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if info, err := o.Resolve(t.Context()); err != nil || info.Size != 1000 {
			t.Fatalf("%+v, %v", info, err)
		}
	})
}

// The first answer of a file of unknown size may say that the range is
// outside the file, or turn out to be unusable.
func TestRangeOfUnknownSize(t *testing.T) {
	data := content(100)
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		off, n  int64
		kind    model.Kind
	}{
		"part of a shorter file": {func(w http.ResponseWriter, r *http.Request) { partOf(w, data, 50, 99, 100) }, 50, 100, model.Invalid},
		"a shorter file, whole":  {reply(200, "Content-Length: 100"), 0, 200, model.Invalid},
		"whole file, compressed": {reply(200, "Content-Encoding: gzip"), 0, 50, model.Invalid},
		"whole file, cut, no more": {func(w http.ResponseWriter, r *http.Request) {
			reply(200, "Content-Length: 100")(w, r)
			_, _ = w.Write(data[:10])
		}, 0, 50, model.Invalid},
		"outside": {reply(416, "Content-Range: bytes */100"), 200, 10, model.Corrupt},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var gets atomic.Int64
				_, d := hub(t, byMethod(reply(405), func(w http.ResponseWriter, r *http.Request) {
					if gets.Add(1) == 1 {
						reply(206, "Content-Range: bytes 0-0/*")(w, r)
						return
					}
					c.handler(w, r)
				}))
				_, err := readRange(t.Context(), d.Object("http://hub.test/f", Want{Size: -1}), c.off, c.n)
				wantKind(t, err, c.kind)
			})
		})
	}
}

// A whole file in place of its first bytes must be of the known size too.
func TestWholeForRangeChecksSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, o := hubFile(t, 100, reply(200, "Content-Length: 99"))
		_, err := readRange(t.Context(), o, 0, 10)
		wantKind(t, err, model.Corrupt)
	})
}

// A place may redirect each request on: then its answers' ETags are not
// compared, and the size comes from where the bytes do.
func TestPlaceThatRedirects(t *testing.T) {
	data := content(500)
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		n.serve("hub.test", reply(302, "Location: http://cdn.test/f?sig=1"))
		var served atomic.Int64
		n.serve("cdn.test", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, fmt.Sprintf("http://cdn2.test/%d", served.Add(1)), http.StatusFound)
		})
		n.serve("cdn2.test", func(w http.ResponseWriter, r *http.Request) { file{data, r.URL.Path}.ServeHTTP(w, r) })
		o := n.door().Object("http://hub.test/f", Want{Size: -1})
		for i := range int64(3) {
			if got, err := readRange(t.Context(), o, i*100, 100); err != nil || !bytes.Equal(got, data[i*100:][:100]) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
		}
		if info, _ := o.Resolve(t.Context()); info.Size != 500 || info.Validator != "" {
			t.Fatalf("%+v", info)
		}
	})
}

// A place that can't be asked for the size makes the resolve request fail.
func TestProbeFails(t *testing.T) {
	for name, c := range map[string]struct {
		cdn  http.HandlerFunc
		kind model.Kind
	}{"silent": {hang, model.Unavailable}, "403": {reply(403), model.Denied}, "broken": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, model.Unavailable}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				n.serve("hub.test", reply(302, "Location: http://cdn.test/f?sig=1"))
				n.serve("cdn.test", c.cdn)
				_, err := n.door().Object("http://hub.test/f", Want{Size: -1}).Resolve(t.Context())
				wantKind(t, err, c.kind)
			})
		})
	}
}

// Streams whose URL expires at the same moment cause one resolve request.
func TestExpiredForMany(t *testing.T) {
	data := content(20_000)
	synctest.Test(t, func(t *testing.T) {
		var expired atomic.Bool
		n, _, o := hubFile(t, len(data), func(w http.ResponseWriter, r *http.Request) {
			if expired.Load() && r.URL.RawQuery == "sig=1" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			file{data, r.URL.RawQuery}.ServeHTTP(w, r)
		})
		if _, err := o.Resolve(t.Context()); err != nil {
			t.Fatal(err)
		}
		expired.Store(true)
		var wg sync.WaitGroup
		for i := range int64(20) {
			wg.Go(func() {
				if got, err := readRange(t.Context(), o, i*1000, 1000); err != nil || !bytes.Equal(got, data[i*1000:][:1000]) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
		wg.Wait()
		heads := 0
		for _, r := range n.requests() {
			if r == "HEAD hub.test/f" {
				heads++
			}
		}
		if heads != 2 {
			t.Errorf("%d resolve requests, want 2", heads)
		}
	})
}

// Two readings of a file of unknown length that end at different places
// can't both be right.
func TestWholeTwiceDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gets atomic.Int64
		_, d := hub(t, byMethod(func(w http.ResponseWriter, r *http.Request) { _ = http.NewResponseController(w).Flush() }, func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(make([]byte, 100*gets.Add(1)))
		}))
		o := d.Object("http://hub.test/f", Want{Size: -1})
		a, errA := o.Whole(t.Context())
		b, errB := o.Whole(t.Context())
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		defer a.Close()
		defer b.Close()
		if _, err := io.ReadAll(a); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadAll(b)
		wantKind(t, err, model.Corrupt)
	})
}
