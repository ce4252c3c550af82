// Package hubtest answers: what do the Hugging Face Hub, its CDN and a model
// router say? It is a scripted stand-in for all three, with faults, limits and
// a log of every request, for tests and for "modelfs demo".
//
// Invariants:
//
//  1. The Hub and its CDN are different hosts (127.0.0.1 and 127.0.0.2), so a
//     client that confuses them, or carries a credential across, is seen. An
//     Authorization header at the CDN is a violation: the test fails.
//  2. Without faults every answer is as the real service documents it: status,
//     headers, body text, range arithmetic, entity tags and hashes.
//  3. A fault changes the answers that it matches and nothing else; faults are
//     counted in the order in which requests arrive.
//  4. The size of a file costs no memory, neither here nor in the log.
//  5. Close ends every goroutine, whatever hangs, and waits for them.
//
// It does not speak Xet, TLS or HTTP/2, serves no datasets or spaces, and keeps
// nothing on disk. What it cannot reproduce of the real services (regional
// hosts, real signatures) no client may rely on.
package hubtest

import (
	"net/http"
	"net/url"
	"sync"
	"time"
)

// TB is what a test gives to New; *testing.T and *testing.B have it.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// A Hub is a scripted Hub with its CDN. Its methods may be called at any time
// and from any goroutine.
type Hub struct {
	*Site
	hub, cdn *host

	mu       sync.Mutex         // guards all below; leaf
	repos    map[string]*repo   // by true id
	aliases  map[string]string  // earlier name -> true id
	tokens   map[string]*access // by token
	objects  map[string]*object // by path at the CDN
	buckets  map[string]*bucket // by "bucket caller"
	quotas   map[string]quota   // by bucket; overrides the documented ones
	pageSize int                // entries of a page of the tree; 0: as documented
	secret   string             // signs CDN URLs; ExpireURLs replaces it
	urlLife  time.Duration      // of a signed URL
	issued   map[string]bool    // signed URLs by what they mean; nil: they count only as they are written
	requests int                // counts X-Request-Id
}

// An Option changes how New, NewRouter and their Start forms make a server.
type Option func(*settings)

type settings struct {
	network *Network
}

// On puts the servers on an in-memory network instead of the loopback
// interface, which a synctest bubble needs.
func On(n *Network) Option { return func(s *settings) { s.network = n } }

// New starts a Hub that is closed at the end of the test, which fails if the
// Hub saw a violation.
func New(t TB, opts ...Option) *Hub {
	t.Helper()
	h, err := Start(opts...)
	if err != nil {
		t.Fatalf("hubtest: %v", err)
	}
	h.Site.reportTo(t)
	return h
}

// Start starts a Hub outside of a test. The caller closes it and may ask for
// Violations.
func Start(opts ...Option) (*Hub, error) {
	h := &Hub{
		Site:    newSite(opts),
		repos:   map[string]*repo{},
		aliases: map[string]string{},
		tokens:  map[string]*access{},
		objects: map[string]*object{},
		buckets: map[string]*bucket{},
		quotas:  map[string]quota{},
		secret:  "0",
		urlLife: time.Hour,
	}
	h.hub = h.newHost(AtHub, http.HandlerFunc(h.serveHub), hubTarget)
	h.cdn = h.newHost(AtCDN, http.HandlerFunc(h.serveCDN), h.cdnTarget)
	if err := h.Site.open("127.0.0.1", h.hub); err != nil {
		return nil, err
	}
	if err := h.Site.open("127.0.0.2", h.cdn); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// URL is the Hub's endpoint, "http://127.0.0.1:port", without a final slash.
func (h *Hub) URL() string { return h.hub.url() }

// CDN is the CDN's base URL, "http://127.0.0.2:port", without a final slash.
func (h *Hub) CDN() string { return h.cdn.url() }

// ResolveURL is the address of a file at the Hub, each segment escaped.
func (h *Hub) ResolveURL(id, rev, path string) string {
	return h.URL() + "/" + id + "/resolve/" + url.PathEscape(rev) + "/" + escapePath(path)
}
