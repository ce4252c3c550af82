package hubtest

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"modelfs/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// client makes requests without following redirects.
type client struct {
	t testing.TB
	*http.Client
}

func newClient(t testing.TB) *client { return clientOn(t, nil) }

// clientOn is newClient on an in-memory network; nil: loopback.
func clientOn(t testing.TB, n *Network) *client {
	transport := &http.Transport{DisableCompression: true}
	if n != nil {
		transport.DialContext = n.Dial
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{t, &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func header(kv ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(kv); i += 2 {
		h.Set(kv[i], kv[i+1])
	}
	return h
}

func (c *client) send(method, url string, h http.Header) *http.Response {
	c.t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header = h
	if h == nil {
		req.Header = http.Header{}
	}
	resp, err := c.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp
}

// get is a whole answer.
func (c *client) get(url string, h http.Header) (*http.Response, string) {
	c.t.Helper()
	resp := c.send(http.MethodGet, url, h)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("GET %s: %v", url, err)
	}
	return resp, string(b)
}

// location is where the answer to url redirects to.
func location(c *client, url string) string {
	c.t.Helper()
	resp, _ := c.get(url, nil)
	to := resp.Header.Get("Location")
	if to == "" {
		c.t.Fatalf("GET %s: %s, no redirect", url, resp.Status)
	}
	return to
}

// recorder is a TB that keeps what a test would have failed with.
type recorder struct {
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (r *recorder) failed() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failures
}

func (r *recorder) end() {
	for _, f := range r.cleanups {
		f()
	}
}
