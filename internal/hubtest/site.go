package hubtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A HostKind says which server a request went to.
type HostKind string

// The kinds of host.
const (
	AtHub    HostKind = "hub"
	AtCDN    HostKind = "cdn"
	AtRouter HostKind = "router"
)

// A Site is a group of hosts with one script of faults and one log of
// requests. Hub and Router have one each.
type Site struct {
	script  script
	log     journal
	network *Network // nil: the loopback interface
	ctx     context.Context
	cancel  context.CancelFunc
	hosts   map[HostKind]*host // fixed once the site is open

	mu         sync.Mutex // guards all below; leaf
	tb         TB
	violations []string
	closed     bool
}

func newSite(opts []Option) *Site {
	var set settings
	for _, o := range opts {
		o(&set)
	}
	s := &Site{network: set.network, hosts: map[HostKind]*host{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *Site) newHost(kind HostKind, handler http.Handler, target func(*http.Request) string) *host {
	h := &host{site: s, kind: kind, handler: handler, target: target}
	s.hosts[kind] = h
	return h
}

func (s *Site) open(ip string, h *host) error {
	h.addr = net.JoinHostPort(ip, "0")
	if err := h.listen(); err != nil {
		s.Close()
		return fmt.Errorf("start the %s: %w", h.kind, err)
	}
	return nil
}

func (s *Site) reportTo(t TB) {
	s.mu.Lock()
	s.tb = t
	s.mu.Unlock()
	t.Cleanup(s.Close)
}

// Close ends every request, whatever hangs, and waits for their goroutines.
// It may be called more than once.
func (s *Site) Close() {
	s.cancel()
	for _, h := range s.hosts {
		h.shut()
		h.conns.Wait()
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

// Violations are the things that no client may do and one did, such as a
// credential at the CDN. A test that was given to New has failed for each.
func (s *Site) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.violations...)
}

func (s *Site) violation(format string, args ...any) {
	s.mu.Lock()
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
	tb := s.tb
	if s.closed {
		tb = nil
	}
	s.mu.Unlock()
	if tb != nil {
		tb.Errorf("hubtest: "+format, args...)
	}
}

// SetLatency makes each answer of these hosts (none: of all) wait for d.
func (s *Site) SetLatency(d time.Duration, kinds ...HostKind) {
	s.each(kinds, func(h *host) { h.latency.Store(int64(d)) })
}

// SetConnRate limits each connection to these hosts (none: to all) to n bytes
// of body a second, evenly; 0 removes the limit. It applies to bodies that are
// on their way too.
func (s *Site) SetConnRate(n int64, kinds ...HostKind) {
	s.each(kinds, func(h *host) { h.rate.Store(n) })
}

// Refuse closes the listeners of these hosts (none: of all) and every
// connection to them, so that new ones are refused, until Accept.
func (s *Site) Refuse(kinds ...HostKind) {
	s.each(kinds, func(h *host) { h.shut() })
}

// Accept listens again, on the same ports, after Refuse.
func (s *Site) Accept(kinds ...HostKind) error {
	var errs []error
	s.each(kinds, func(h *host) { errs = append(errs, h.listen()) })
	return errors.Join(errs...)
}

func (s *Site) each(kinds []HostKind, do func(*host)) {
	if len(kinds) == 0 {
		for _, h := range s.hosts {
			do(h)
		}
		return
	}
	for _, k := range kinds {
		do(s.hosts[k])
	}
}

// host is one server: an address, what it answers, and how fast.
type host struct {
	site    *Site
	kind    HostKind
	handler http.Handler
	target  func(*http.Request) string // "org/repo/path" where the request is about a file, else ""
	latency atomic.Int64               // time.Duration
	rate    atomic.Int64               // bytes a second and connection; 0: no limit

	conns sync.WaitGroup

	mu   sync.Mutex // guards all below; leaf
	addr string
	srv  *http.Server  // nil while refusing
	gone chan struct{} // closed when srv's accept loop has ended
}

type connKey struct{}

// conn is a connection and the schedule of its rate limit.
type conn struct {
	net.Conn
	due time.Time // when the next piece may go; one request at a time uses it
}

func (h *host) url() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return "http://" + h.addr
}

// listen starts serving on the address that the host had before; nothing to do
// if it is serving.
func (h *host) listen() error {
	if err := h.site.ctx.Err(); err != nil {
		return fmt.Errorf("the %s is closed", h.kind)
	}
	h.mu.Lock()
	addr, serving := h.addr, h.srv != nil
	h.mu.Unlock()
	if serving {
		return nil
	}
	l, err := h.site.network.listen(addr)
	if err != nil {
		return err
	}
	srv, gone := h.server(), make(chan struct{})
	h.mu.Lock()
	h.addr, h.srv, h.gone = l.Addr().String(), srv, gone
	h.mu.Unlock()
	go func() {
		defer close(gone)
		_ = srv.Serve(l)
	}()
	return nil
}

func (h *host) server() *http.Server {
	return &http.Server{
		Handler:     h,
		ErrorLog:    slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return h.site.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, &conn{Conn: c})
		},
		ConnState: h.track,
	}
}

// track counts connections, whose goroutines Site.Close waits for.
func (h *host) track(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		h.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		h.conns.Done()
	}
}

// shut closes the listener and every connection. It does not wait for the
// connections' goroutines: one of them may have called it, through Do.
func (h *host) shut() {
	h.mu.Lock()
	srv, gone := h.srv, h.gone
	h.srv = nil
	h.mu.Unlock()
	if srv == nil {
		return
	}
	_ = srv.Close()
	<-gone
	// A connection that Serve accepted while Close ran was in no list yet.
	_ = srv.Close()
}

// ServeHTTP applies latency and faults around the host's own answer.
func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := h.target(r)
	rec := h.site.log.add(h.kind, r, target)
	p := h.site.script.plan(h.kind, r, target)
	resp := newResponse(w, r, h, p, rec)
	defer rec.end()
	resp.sleep(time.Duration(h.latency.Load()) + p.delay)
	for _, do := range p.do {
		do()
	}
	for _, released := range p.hang {
		resp.await(released)
	}
	if p.answer != nil {
		p.answer(resp, r)
	} else {
		h.handler.ServeHTTP(resp, p.request(r))
	}
	resp.finish()
}
