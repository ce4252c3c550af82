// Package origin is the network's door: whom modelfs may talk to, and how it
// gets bytes from there. Every request of modelfs to another machine's HTTP
// server leaves through a [Door].
//
// Invariants:
//
//  1. Every hop of every request passes the allow-list before it is dialled.
//     Redirects are followed by hand, at most [maxHops].
//  2. A host that was reached through a wildcard or a redirect, and that no
//     pattern and no endpoint names exactly, is never a loopback, link-local,
//     private, shared, multicast or metadata address. That is checked after
//     the name was resolved, on the address that is dialled.
//  3. A credential goes to the scheme, host and port that it was configured
//     for, on that hop only, and is in no error and no log line.
//  4. The query of a URL (it may be a signature) is sent byte for byte as it
//     was received, is in no error and no log line, and outlives the process
//     nowhere.
//  5. A stream delivers exactly the bytes that were asked for, or an error.
//     What the server says of a range is checked before its bytes are.
//  6. Nothing waits for ever: every wait ends with its context, with the
//     Door, or when a connection has been silent for Config.Stall.
//
// It knows nothing of models, sources and files on disk; what an answer means
// is for the source that asked.
package origin

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"modelfs/internal/model"
)

// defaultStall is how long a connection may be silent. Clients in the field
// use 10 to 30 s.
const defaultStall = 15 * time.Second

// Config is what New needs. Only Endpoints or Allow must be set for anything
// to be reachable.
type Config struct {
	// Allow holds allow-list patterns; an element may be several, separated by
	// commas. nil means DefaultAllow(Endpoints); empty allows the endpoints only.
	Allow []string
	// Endpoints are configured base URLs (a Hub, a router). The whole origin of
	// each (scheme, host, port) is allowed, whatever its address.
	Endpoints   []string
	Credentials []Credential
	CAFile      string        // a PEM file with roots to trust besides the system's; "" for none
	UserAgent   string        // "" for "modelfs"
	Stall       time.Duration // a connection without a byte for so long is replaced; 0: 15 s
	Log         *slog.Logger  // nil: nothing is logged
	// Dial replaces the system's way to connect, and with it the check of
	// addresses (invariant 2): it is for tests. nil: the system's.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// A Credential is a bearer token for one scheme, host and port.
type Credential struct {
	Base  string                 // "https://huggingface.co"; a path is ignored
	Token func() (string, error) // asked for each request, as a file may change; "" sends nothing
}

// A Door makes requests. It is safe for concurrent use.
type Door struct {
	allow  *allowList
	tokens map[site]func() (string, error)
	stall  time.Duration
	agent  string
	log    *slog.Logger
	stats  counters
	paused pauses

	proxy   func(*http.Request) (*url.URL, error)
	named   *http.Transport // for hosts that are named exactly, and for everything behind a proxy
	guarded *http.Transport // checks the address that it dials; has no proxy, and shares no connection with named

	owner context.Context // ends with Close; every request and flight hangs on it
	end   context.CancelFunc

	mu     sync.Mutex // guards closed, and that nothing starts in flights once it is set
	closed bool

	flights sync.WaitGroup
}

// New opens the door. The caller closes it. The error is of kind Invalid and
// names the setting that can't be used.
func New(c Config) (*Door, error) {
	if c.Allow == nil {
		c.Allow = DefaultAllow(c.Endpoints)
	}
	allow, err := newAllowList(c.Allow, c.Endpoints)
	if err != nil {
		return nil, err
	}
	d := &Door{allow: allow, tokens: make(map[site]func() (string, error)), proxy: http.ProxyFromEnvironment}
	for _, cr := range c.Credentials {
		s, err := parseSite(cr.Base)
		if err != nil {
			return nil, model.Errorf(model.Invalid, "the host of a credential can't be used: %v; write it like https://host", err)
		}
		d.tokens[s] = cr.Token
	}
	if err := d.transports(c); err != nil {
		return nil, err
	}
	d.stall = cmp.Or(c.Stall, defaultStall)
	d.agent = cmp.Or(c.UserAgent, "modelfs")
	if d.log = c.Log; d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.owner, d.end = context.WithCancel(context.Background())
	return d, nil
}

// Close ends every request and stream, waits for the Door's goroutines and
// closes the idle connections. It may be called twice.
func (d *Door) Close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.end()
	d.flights.Wait()
	d.named.CloseIdleConnections()
	d.guarded.CloseIdleConnections()
}

// start runs f in a goroutine that Close waits for, and reports false if the
// Door is closed.
func (d *Door) start(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.flights.Go(f)
	}
	return !d.closed
}

// Stats are the Door's counters since New.
type Stats struct {
	Requests      int64 // sent, each hop and each attempt
	BytesAsked    int64 // by Range calls; what a retry asks again is not counted again
	BytesReceived int64 // of ranges and whole files
	Replaced      int64 // connections of streams that stalled, broke or were refused, and were replaced
}

type counters struct{ requests, asked, received, replaced atomic.Int64 }

// Stats reads the counters. It never blocks.
func (d *Door) Stats() Stats {
	return Stats{d.stats.requests.Load(), d.stats.asked.Load(), d.stats.received.Load(), d.stats.replaced.Load()}
}
