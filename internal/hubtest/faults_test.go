package hubtest

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const faultSize = 300_000

// faulty is a Hub, a client and a good CDN URL of org/public/sub/model.gguf.
func faulty(t *testing.T) (*Hub, *client, string) {
	h := newStage(t)
	c := newClient(t)
	return h, c, location(c, h.ResolveURL("org/public", "main", "sub/model.gguf"))
}

// read is as much of the body as comes, and the error that ended it.
func (c *client) read(url string, h http.Header) (*http.Response, []byte, error) {
	c.t.Helper()
	resp := c.send(http.MethodGet, url, h)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, b, err
}

func TestBodyFaults(t *testing.T) {
	flipped := PatternAt(Pattern(1, faultSize), 0, faultSize)
	flipped[1500] ^= 0xff
	for name, tt := range map[string]struct {
		effect     Effect
		spec       string
		status     int
		body       []byte // nil: what was asked for
		err        error
		header     string // "Key: value" that must be there
		noLength   bool
		wantLength int64
	}{
		"cut clean":           {effect: CutAt(1000, CleanClose), spec: "bytes=0-9999", status: 206, body: flipped[:1000], err: io.ErrUnexpectedEOF, wantLength: 10000},
		"cut reset":           {effect: CutAt(1000, Reset), spec: "bytes=0-9999", status: 206, body: flipped[:1000], err: syscall.ECONNRESET, wantLength: 10000},
		"cut at the first":    {effect: CutAt(0, CleanClose), spec: "bytes=0-9999", status: 206, body: []byte{}, err: io.ErrUnexpectedEOF, wantLength: 10000},
		"short":               {effect: ShortBody(5), spec: "bytes=0-9", status: 206, body: flipped[:5], header: "Content-Range: bytes 0-9/300000", wantLength: 5},
		"corrupt":             {effect: CorruptByte(1500), spec: "bytes=1000-1999", status: 206, body: flipped[1000:2000], wantLength: 1000},
		"corrupt elsewhere":   {effect: CorruptByte(1500), spec: "bytes=2000-2999", status: 206, body: flipped[2000:3000], wantLength: 1000},
		"ignore range":        {effect: IgnoreRange(), spec: "bytes=1000-1009", status: 200, wantLength: faultSize},
		"no length":           {effect: NoLength(), spec: "bytes=1000-1009", status: 206, noLength: true},
		"wrong content range": {effect: WrongContentRange("bytes 5-14/300000"), spec: "bytes=0-9", status: 206, header: "Content-Range: bytes 5-14/300000", wantLength: 10},
		"header":              {effect: SetHeader("Accept-Ranges", "none"), spec: "bytes=0-9", status: 206, header: "Accept-Ranges: none", wantLength: 10},
		"status":              {effect: Status(503, header("Retry-After", "1"), "busy"), status: 503, body: []byte("busy"), header: "Retry-After: 1", wantLength: 4},
		"html":                {effect: HTML(502), status: 502, body: []byte("<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>\n"), header: "Content-Type: text/html", wantLength: 90},
	} {
		t.Run(name, func(t *testing.T) {
			h, c, u := faulty(t)
			fault := h.Fault(Filter{Host: AtCDN, Path: "org/public/*.gguf"}, Always(), tt.effect)
			resp, body, err := c.read(u, header("Range", tt.spec))
			if resp.StatusCode != tt.status || !errors.Is(err, tt.err) || fault.Hits() != 1 {
				t.Errorf("%d, %v; want %d, %v; %d hits", resp.StatusCode, err, tt.status, tt.err, fault.Hits())
			}
			want := tt.body
			if want == nil {
				off, n, _ := parseRange(tt.spec, faultSize)
				if tt.status == 200 {
					off, n = 0, faultSize
				}
				want = PatternAt(Pattern(1, faultSize), off, int(n))
			}
			if !slices.Equal(body, want) {
				t.Errorf("%d bytes that are not the %d wanted", len(body), len(want))
			}
			if k, v, _ := strings.Cut(tt.header, ": "); resp.Header.Get(k) != v && k != "" {
				t.Errorf("%s: %q, want %q", k, resp.Header.Get(k), v)
			}
			if tt.noLength != (resp.ContentLength == -1) || !tt.noLength && resp.ContentLength != tt.wantLength {
				t.Errorf("Content-Length %d, want %d", resp.ContentLength, tt.wantLength)
			}
			fault.Remove()
			if resp, body := c.get(u, header("Range", "bytes=0-9")); resp.StatusCode != 206 || Mismatch(Pattern(1, faultSize), []byte(body), 0) >= 0 {
				t.Errorf("after Remove: %s", resp.Status)
			}
		})
	}
}

func TestGzip(t *testing.T) {
	h, c, u := faulty(t)
	h.Fault(Filter{Host: AtCDN}, Always(), Gzip())
	resp := c.send("GET", u, header("Range", "bytes=0-9"))
	defer resp.Body.Close()
	z, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil || resp.StatusCode != 200 || resp.ContentLength != -1 || resp.Header.Get("Content-Encoding") != "gzip" || len(body) != faultSize || Mismatch(Pattern(1, faultSize), body, 0) >= 0 {
		t.Errorf("%s, length %d, %v, %d bytes", resp.Status, resp.ContentLength, err, len(body))
	}
}

func TestResolveFaults(t *testing.T) {
	h, c, _ := faulty(t)
	u := h.ResolveURL("org/public", "main", "sub/model.gguf")
	first := c.send("HEAD", u, nil)
	first.Body.Close()
	for name, tt := range map[string]struct {
		effect   Effect
		status   int
		location string
	}{
		"redirect":    {Redirect("http://elsewhere.test/x"), 302, "http://elsewhere.test/x"},
		"loop":        {RedirectLoop(), 307, "/org/public/resolve/main/sub/model.gguf"},
		"no location": {NoLocation(), 302, ""},
	} {
		fault := h.Fault(Filter{Host: AtHub}, Always(), tt.effect)
		resp := c.send("HEAD", u, nil)
		resp.Body.Close()
		if resp.StatusCode != tt.status || resp.Header.Get("Location") != tt.location {
			t.Errorf("%s: %d to %q", name, resp.StatusCode, resp.Header.Get("Location"))
		}
		fault.Remove()
	}
	h.Fault(Filter{Host: AtHub}, Always(), FlipETag())
	resp := c.send("HEAD", u, nil)
	resp.Body.Close()
	if a, b := first.Header.Get("X-Linked-Etag"), resp.Header.Get("X-Linked-Etag"); a == b || len(a) != len(b) || a[8:] != b[8:] {
		t.Errorf("tags %q and %q", a, b)
	}
}

func TestDrop(t *testing.T) {
	h, c, u := faulty(t)
	h.Fault(Filter{Host: AtCDN, Method: "GET"}, First(1), Drop(CleanClose))
	req, _ := http.NewRequest("GET", u, nil)
	// A new connection, or net/http would ask again by itself.
	c.CloseIdleConnections()
	if _, err := c.Do(req); !errors.Is(err, io.EOF) {
		t.Errorf("dropped: %v", err)
	}
	if resp, _ := c.get(u, nil); resp.StatusCode != 200 {
		t.Errorf("after it: %s", resp.Status)
	}
}

func TestRateLimitForms(t *testing.T) {
	h, c, _ := faulty(t)
	for form, want := range map[LimitForm]http.Header{
		LimitHeader:   header("RateLimit", `"api";r=0;t=2`, "Retry-After", ""),
		RetryAfter:    header("RateLimit", ``, "Retry-After", "2"),
		LimitUnstated: header("RateLimit", ``, "Retry-After", ""),
	} {
		fault := h.Fault(Filter{Path: "/api/*"}, Always(), RateLimited(form, 2*time.Second))
		resp, _ := c.get(h.URL()+"/api/models", nil)
		got := header("RateLimit", resp.Header.Get("RateLimit"), "Retry-After", resp.Header.Get("Retry-After"))
		if d := cmp.Diff(want, got); d != "" || resp.StatusCode != 429 {
			t.Errorf("form %d: %s (-want +got):\n%s", form, resp.Status, d)
		}
		fault.Remove()
	}
}

func TestJSONFaults(t *testing.T) {
	h, c, _ := faulty(t)
	list, one := h.URL()+"/api/models/org/public/tree/main", h.URL()+"/api/models/org/public"
	empty := h.URL() + "/api/models?author=nobody"
	fault := h.Fault(Filter{}, Always(), HugeJSON(1<<20))
	for _, u := range []string{list, one, empty} {
		_, body := c.get(u, nil)
		if decode[any](t, body); len(body) < 1<<20 {
			t.Errorf("%s: only %d bytes", u, len(body))
		}
	}
	fault.Remove()
	h.Fault(Filter{}, Always(), WrongTypes())
	_, body := c.get(list, nil)
	if got := decode[[]anyMap](t, body)[0]; got["path"] != 42.0 || got["size"] != "many" {
		t.Errorf("wrong types: %v", got)
	}
	_, body = c.get(one, nil)
	if got := decode[anyMap](t, body); got["id"] != 42.0 || cmp.Diff(got["private"], anyMap{}) != "" {
		t.Errorf("wrong types: %v", got)
	}
}

func TestEndlessPages(t *testing.T) {
	h, c, _ := faulty(t)
	h.Fault(Filter{Path: "*/tree/*"}, Always(), EndlessPages())
	seen := map[string]bool{}
	u := h.URL() + "/api/models/org/public/tree/main?recursive=true"
	for range 5 {
		resp, body := c.get(u, nil)
		if len(decode[[]any](t, body)) != 4 || seen[u] {
			t.Fatalf("page %s of %q; seen: %v", body, u, seen[u])
		}
		seen[u] = true
		u, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	}
	h.ClearFaults()
	h.SetPageSize(1)
	h.Fault(Filter{}, Always(), MirrorLinks())
	resp, _ := c.get(h.URL()+"/api/models/org/public/tree/main", nil)
	if got := resp.Header.Get("Link"); !strings.HasPrefix(got, "<https://huggingface.co/api/models/org/public/tree/main?cursor=") || !strings.HasSuffix(got, `>; rel="next"`) {
		t.Errorf("a mirror's link: %q", got)
	}
}

func TestWhen(t *testing.T) {
	for name, tt := range map[string]struct {
		when When
		want string
	}{
		"always": {Always(), "111111"}, "nth": {Nth(3), "001000"}, "first": {First(2), "110000"}, "after": {After(4), "000011"},
	} {
		t.Run(name, func(t *testing.T) {
			h, c, u := faulty(t)
			h.Fault(Filter{Host: AtCDN, Method: "GET"}, tt.when, Status(500, nil, ""))
			if got := hits(h, c, u, 6); got != tt.want {
				t.Errorf("hits %s, want %s", got, tt.want)
			}
		})
	}
	chance := func(seed uint64) string {
		h, c, u := faulty(t)
		h.Fault(Filter{Host: AtCDN}, Chance(0.5, seed), Status(500, nil, ""))
		return hits(h, c, u, 64)
	}
	if a, b := chance(1), chance(1); a != b || a == chance(2) || strings.Count(a, "1") < 16 || strings.Count(a, "1") > 48 {
		t.Errorf("chances %s, %s", a, b)
	}
}

// hits asks n times and writes 1 for each failure. A HEAD in between must not count.
func hits(h *Hub, c *client, url string, n int) string {
	var out strings.Builder
	for range n {
		resp, _ := c.get(url, header("Range", "bytes=0-0"))
		fmt.Fprint(&out, map[bool]int{true: 1}[resp.StatusCode == 500])
		c.get(h.URL()+"/api/models", nil)
	}
	return out.String()
}

func TestDoRunsBeforeTheAnswer(t *testing.T) {
	h, c, _ := faulty(t)
	first := h.Commit("org/public", "main")
	h.Fault(Filter{Path: "/api/models/org/public"}, Nth(2), Do(func() { h.Push("org/public", File{Path: "new"}) }))
	for i, moved := range []bool{false, true} {
		_, body := c.get(h.URL()+"/api/models/org/public", nil)
		if got := decode[anyMap](t, body)["sha"]; (got != first) != moved {
			t.Errorf("call %d: commit %v, first was %s", i+1, got, first)
		}
	}
}

func TestRefuseAndAccept(t *testing.T) {
	h, c, u := faulty(t)
	before := h.CDN()
	h.Refuse(AtCDN)
	req, _ := http.NewRequest("GET", u, nil)
	if _, err := c.Do(req); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while refusing: %v", err)
	}
	if resp, _ := c.get(h.URL()+"/api/models", nil); resp.StatusCode != 200 {
		t.Errorf("the Hub, while the CDN refuses: %s", resp.Status)
	}
	if err := h.Accept(); err != nil || h.CDN() != before {
		t.Fatalf("Accept: %v; %s, was %s", err, h.CDN(), before)
	}
	if resp, _ := c.get(u, nil); resp.StatusCode != 200 {
		t.Errorf("after Accept: %s", resp.Status)
	}
	h.Close()
	if err := h.Accept(); err == nil {
		t.Error("Accept after Close: no error")
	}
}

// bubble runs f in a synctest bubble with a Hub on an in-memory network.
func bubble(t *testing.T, f func(t *testing.T, h *Hub, c *client, url string)) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		h := newStage(t, On(n))
		c := clientOn(t, n)
		f(t, h, c, location(c, h.ResolveURL("org/public", "main", "sub/model.gguf")))
	})
}

func TestLatencyAndDelay(t *testing.T) {
	bubble(t, func(t *testing.T, h *Hub, c *client, u string) {
		took := func() time.Duration {
			start := time.Now()
			c.get(u, header("Range", "bytes=0-9"))
			return time.Since(start)
		}
		h.SetLatency(50*time.Millisecond, AtCDN)
		if d := took(); d != 50*time.Millisecond {
			t.Errorf("latency of 50 ms: %v", d)
		}
		h.Fault(Filter{Host: AtCDN}, Nth(1), Delay(time.Second))
		if d := took(); d != 1050*time.Millisecond {
			t.Errorf("with a delay of 1 s: %v", d)
		}
		h.SetLatency(0)
		if d := took(); d != 0 {
			t.Errorf("without: %v", d)
		}
	})
}

func TestRates(t *testing.T) {
	for name, limit := range map[string]func(*Hub){
		"connection": func(h *Hub) { h.SetConnRate(100_000) },
		"drip":       func(h *Hub) { h.Fault(Filter{Host: AtCDN}, Always(), DripRate(100_000)) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *Hub, c *client, u string) {
				limit(h)
				start := time.Now()
				resp := c.send("GET", u, nil)
				defer resp.Body.Close()
				half := make([]byte, faultSize/2)
				if _, err := io.ReadFull(resp.Body, half); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(start); d < 1400*time.Millisecond || d > 1600*time.Millisecond {
					t.Errorf("half of 300 kB at 100 kB/s took %v", d)
				}
				h.SetConnRate(0)
				h.ClearFaults()
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(start); name == "connection" && d > 1700*time.Millisecond {
					t.Errorf("the rest, without a limit, was there only after %v", d)
				}
			})
		})
	}
}

func TestStallAndHang(t *testing.T) {
	for name, effect := range map[string]func() Effect{"stall": func() Effect { return StallAt(1000) }, "hang": Hang} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *Hub, c *client, u string) {
				fault := h.Fault(Filter{Host: AtCDN}, Nth(1), effect())
				go func() {
					<-time.After(time.Minute)
					if sent := h.BytesSent(""); name == "stall" && sent != 1000 || name == "hang" && sent != 0 {
						t.Errorf("%d bytes were sent before the release", sent)
					}
					fault.Release()
				}()
				start := time.Now()
				resp, body := c.get(u, nil)
				if d := time.Since(start); d != time.Minute || resp.StatusCode != 200 || len(body) != faultSize {
					t.Errorf("after %v: %s, %d bytes", d, resp.Status, len(body))
				}
			})
		})
	}
}

// What lies before a place in the file comes, in whatever ranges it is asked
// for; nothing from there on does.
func TestStallFrom(t *testing.T) {
	bubble(t, func(t *testing.T, h *Hub, c *client, u string) {
		for at, want := range map[string]time.Duration{"bytes=0-999": 0, "bytes=500-999": 0, "bytes=0-1000": time.Minute, "bytes=2000-2999": time.Minute} {
			h.ClearFaults()
			fault := h.Fault(Filter{Host: AtCDN}, Always(), StallFrom(1000))
			start := time.Now()
			go func() {
				<-time.After(time.Minute)
				fault.Release()
			}()
			c.get(u, http.Header{"Range": {at}})
			if d := time.Since(start); d != want {
				t.Errorf("%s came after %v, want %v", at, d, want)
			}
			<-time.After(time.Minute - time.Since(start) + 1)
		}
	})
}

func TestCloseEndsWhatHangs(t *testing.T) {
	h, c, u := faulty(t)
	arrived := make(chan struct{}, 3)
	h.Fault(Filter{Host: AtCDN}, Always(), Do(func() { arrived <- struct{}{} }))
	h.Fault(Filter{Host: AtCDN}, Nth(1), Hang())
	h.Fault(Filter{Host: AtCDN}, Nth(2), StallAt(0))
	h.Fault(Filter{Host: AtCDN}, Nth(3), DripRate(1))
	ended := make(chan error)
	for range 3 {
		go func() {
			resp, err := c.Client.Get(u)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			ended <- err
		}()
		<-arrived
	}
	h.Close()
	for range 3 {
		if err := <-ended; err == nil {
			t.Error("a request ended as if it were complete")
		}
	}
}
