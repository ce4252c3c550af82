package hubtest

import (
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// When says which of the requests that a fault's filter matches are hit.
type When struct {
	hit func() func(n int) bool
}

// Always hits every match.
func Always() When { return only(func(int) bool { return true }) }

// Nth hits the n-th match only, counted from 1.
func Nth(n int) When { return only(func(i int) bool { return i == n }) }

// First hits the first n matches.
func First(n int) When { return only(func(i int) bool { return i <= n }) }

// After hits every match but the first n.
func After(n int) When { return only(func(i int) bool { return i > n }) }

// Chance hits each match with probability p, the same ones for the same seed.
func Chance(p float64, seed uint64) When {
	return When{func() func(int) bool {
		rng := rand.New(rand.NewPCG(seed, seed))
		return func(int) bool { return rng.Float64() < p }
	}}
}

func only(hit func(int) bool) When { return When{func() func(int) bool { return hit }} }

// A Fault is an entry of the script.
type Fault struct {
	script  *script
	filter  Filter
	effects []Effect

	once     sync.Once
	released chan struct{} // closed by Release

	// The rest is guarded by script.mu.
	hit     func(n int) bool
	matches int
	hits    int
}

// Hits counts the requests that the fault changed.
func (f *Fault) Hits() int {
	f.script.mu.Lock()
	defer f.script.mu.Unlock()
	return f.hits
}

// Release lets go of every answer that hangs or stalls in this fault, now and
// later; they continue as if nothing had been.
func (f *Fault) Release() { f.once.Do(func() { close(f.released) }) }

// Remove takes the fault out of the script and releases it.
func (f *Fault) Remove() {
	f.script.mu.Lock()
	f.script.faults = slices.DeleteFunc(f.script.faults, func(o *Fault) bool { return o == f })
	f.script.mu.Unlock()
	f.Release()
}

// script is the faults of a site.
type script struct {
	mu     sync.Mutex // guards all below and the counts of each fault; leaf
	faults []*Fault
}

// Fault adds an entry to the script: the effects happen, together, to those
// requests that f and w pick. Several entries may hit one request.
func (s *Site) Fault(f Filter, w When, effects ...Effect) *Fault {
	fault := &Fault{script: &s.script, filter: f, effects: effects, released: make(chan struct{}), hit: w.hit()}
	s.script.mu.Lock()
	s.script.faults = append(s.script.faults, fault)
	s.script.mu.Unlock()
	return fault
}

// ClearFaults removes every entry of the script.
func (s *Site) ClearFaults() {
	s.script.mu.Lock()
	faults := s.script.faults
	s.script.faults = nil
	s.script.mu.Unlock()
	for _, f := range faults {
		f.Release()
	}
}

// plan collects what happens to a request.
func (s *script) plan(kind HostKind, r *http.Request, file string) *plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &plan{}
	for _, f := range s.faults {
		if !f.filter.match(kind, r.Method, r.URL.Path, file) {
			continue
		}
		f.matches++
		if !f.hit(f.matches) {
			continue
		}
		f.hits++
		p.released = f.released
		for _, e := range f.effects {
			e(p)
		}
	}
	return p
}

// plan is everything that is done to one answer.
type plan struct {
	released <-chan struct{} // of the fault whose effects are being collected

	delay       time.Duration
	do          []func()
	hang        []<-chan struct{}
	answer      func(http.ResponseWriter, *http.Request) // instead of the host's own
	ignoreRange bool
	dropCursor  bool

	headers  []func(r *http.Request, status int, h http.Header)
	page     func(body []byte, send func([]byte) error) error // rewrites a JSON body
	noLength bool
	gzip     bool
	short    int64 // bytes that are missing at the end
	drip     int64 // bytes a second
	corrupt  []int64
	stops    []stop
}

// stop is a place in a body where it stalls, or is cut.
type stop struct {
	at       int64 // bytes of the body, once it has begun
	inFile   bool  // until then: of the file
	released <-chan struct{}
	cut      func(net.Conn) // nil: stall
}

// begin is told where in the file the body starts.
func (p *plan) begin(start int64) {
	for i, s := range p.stops {
		if s.inFile {
			p.stops[i].at = max(s.at-start, 0)
		}
	}
}

// reached is the distance from pos to the next stop; -1: there is none.
func (p *plan) reached(pos int64) int64 {
	next := int64(-1)
	for _, s := range p.stops {
		if d := s.at - pos; d >= 0 && (next < 0 || d < next) {
			next = d
		}
	}
	return next
}

// stop takes the stop at pos out of the plan.
func (p *plan) stop(pos int64) stop {
	i := slices.IndexFunc(p.stops, func(s stop) bool { return s.at == pos })
	s := p.stops[i]
	p.stops = slices.Delete(p.stops, i, i+1)
	return s
}

// corrupted is b, which starts at off in the file, with the bytes flipped that
// the plan names. b itself does not change.
func (p *plan) corrupted(b []byte, off int64) []byte {
	copied := false
	for _, at := range p.corrupt {
		if at < off || at >= off+int64(len(b)) {
			continue
		}
		if !copied {
			b, copied = slices.Clone(b), true
		}
		b[at-off] ^= 0xff
	}
	return b
}

// request is what the host's handler gets to see.
func (p *plan) request(r *http.Request) *http.Request {
	if !p.ignoreRange && !p.dropCursor {
		return r
	}
	r = r.Clone(r.Context())
	if p.ignoreRange {
		r.Header.Del("Range")
		r.Header.Del("If-Range")
	}
	if p.dropCursor {
		q := r.URL.Query()
		q.Del("cursor")
		r.URL.RawQuery = q.Encode()
	}
	return r
}
