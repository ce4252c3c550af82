package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// A fakeNet is a network of HTTP servers that are connected with net.Pipe, so
// that it lives on a synctest bubble's time.
type fakeNet struct {
	t     *testing.T
	hosts map[string]*fakeHost

	mu  sync.Mutex // guards log
	log []string
}

// A fakeHost is the listener of one host.
type fakeHost struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (h *fakeHost) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}
func (h *fakeHost) Close() error   { close(h.closed); return nil }
func (h *fakeHost) Addr() net.Addr { return &net.TCPAddr{} }

func newNet(t *testing.T) *fakeNet { return &fakeNet{t: t, hosts: make(map[string]*fakeHost)} }

// serve makes a host. Every request is logged as "METHOD host/path?query Range".
func (n *fakeNet) serve(host string, h http.HandlerFunc) {
	l := &fakeHost{conns: make(chan net.Conn), closed: make(chan struct{})}
	n.hosts[host] = l
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		n.log = append(n.log, strings.TrimSpace(r.Method+" "+r.Host+r.RequestURI+" "+r.Header.Get("Range")))
		n.mu.Unlock()
		h(w, r)
	}), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	n.t.Cleanup(func() { _ = srv.Close(); <-done })
}

func (n *fakeNet) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	l := n.hosts[strings.TrimSuffix(addr, ":80")]
	if l == nil {
		return nil, errors.New("connection refused")
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *fakeNet) requests() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.log...)
}

// door opens a Door on the network: http://hub.test is the endpoint, http on
// cdn.test and cdn2.test is allowed.
func (n *fakeNet) door(change ...func(*Config)) *Door {
	n.t.Helper()
	c := Config{Endpoints: []string{"http://hub.test"}, Allow: []string{"http://cdn.test/*", "http://cdn2.test/*"}, Dial: n.dial}
	for _, f := range change {
		f(&c)
	}
	return openDoor(n.t, c)
}

func openDoor(t *testing.T, c Config) *Door {
	t.Helper()
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func wantKind(t *testing.T, err error, kind model.Kind) {
	t.Helper()
	if !model.IsKind(err, kind) {
		t.Fatalf("error %v, want one of kind %v", err, kind)
	}
}

// wantElapsed checks how long something took in a bubble.
func wantElapsed(t *testing.T, since time.Time, lo, hi time.Duration) {
	t.Helper()
	if d := time.Since(since); d < lo || d > hi {
		t.Fatalf("took %v, want %v to %v", d, lo, hi)
	}
}

// content is n bytes in which no offset looks like another nearby.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13 + i>>16*31)
	}
	return b
}

// A file is a handler that serves ranges of data properly.
type file struct {
	data []byte
	etag string
}

func (f file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.etag != "" {
		w.Header().Set("ETag", `"`+f.etag+`"`)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
}

// span is the range that a request asks for.
func span(t *testing.T, r *http.Request) (from, to int64) {
	t.Helper()
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil {
		t.Errorf("Range %q: %v", r.Header.Get("Range"), err)
	}
	return from, to
}

// part begins an honest 206 for what was asked, and returns its bytes.
func part(t *testing.T, w http.ResponseWriter, r *http.Request, data []byte) []byte {
	t.Helper()
	from, to := span(t, r)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(data)))
	w.Header().Set("Content-Length", fmt.Sprint(to-from+1))
	w.WriteHeader(http.StatusPartialContent)
	return data[from : to+1]
}

// redirectLFS answers as the Hub does for a large file.
func redirectLFS(w http.ResponseWriter, to string, size int) {
	h := w.Header()
	h.Set("X-Linked-Size", fmt.Sprint(size))
	h.Set("X-Linked-Etag", `"`+sha+`"`)
	h.Set("X-Repo-Commit", commit)
	h.Set("Location", to)
	w.WriteHeader(http.StatusFound)
}

const (
	sha    = "cd44947308b4b22228767cab8addd523d1de22abd9b23a10808e5fc295202e4f"
	commit = "bcf51b2ec6fb5bc8215f4b365a0e48532e26abb8"
)

// readRange reads a range to its end or error.
func readRange(ctx context.Context, o *Object, off, n int64) ([]byte, error) {
	s, err := o.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return io.ReadAll(s)
}

func readWhole(ctx context.Context, o *Object) ([]byte, error) {
	s, err := o.Whole(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return io.ReadAll(s)
}

// hang answers nothing until the client has left.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// advance lets time pass, in a bubble.
func advance(d time.Duration) { <-time.After(d) }
