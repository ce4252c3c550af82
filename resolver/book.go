package resolver

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"modelfs/internal/model"
)

// failureKept is how long a failure is the answer at once. The kernel
// serialises lookups of one name: ten processes that each waited a full
// deadline would wait ten.
const failureKept = time.Second

// asking is the longest that a question is asked; no caller waits that long.
const asking = 30 * time.Second

// A reply is the outcome of a question.
type reply[T any] struct {
	value  T
	keep   time.Duration // how long it is the answer at once
	failed bool          // it says nothing about what was asked; keep is failureKept
}

// A flight is a question under way.
type flight[T any] struct {
	done  chan struct{} // closed once value is set
	value T
}

// A note is a remembered reply.
type note[T any] struct {
	value T
	until time.Time // exclusive
}

// A page is what a book holds of one key.
type page[T any] struct {
	good   *note[T]   // the newest reply that did not fail
	bad    *note[T]   // a failure after it
	again  bool       // bad is to be asked again behind, once
	flight *flight[T] // nil: nothing under way
	silent time.Time  // until then the flight counts as failed at once
	used   time.Time
	weight int
}

// A book remembers replies and keeps questions single: one per key is under
// way at a time, whoever asks. It is bounded by the weight of what it holds.
type book[T any] struct {
	owner  *owner
	lost   func(err error) reply[T] // the reply to a question that ended without one
	stale  bool                     // outdated replies are kept, for look.stale
	weigh  func(T) int              // nil: 1 each
	weight int                      // the limit

	mu    sync.Mutex // guards what follows
	pages map[string]*page[T]
	total int // sum of the pages' weights
}

func newBook[T any](o *owner, limit int, lost func(error) reply[T]) *book[T] {
	return &book[T]{owner: o, weight: limit, lost: lost, pages: make(map[string]*page[T])}
}

// A look is what a book has to say about a key at one moment.
type look[T any] struct {
	value  T
	have   bool       // value is the answer
	cached bool       // and was given before this question
	flight *flight[T] // under way, if have is false
	silent bool       // a caller gave the flight up within the last second
	stale  *T         // an outdated reply, in books that keep them
}

// poll is the answer, if there is one by now.
func (l *look[T]) poll() (T, bool) {
	if !l.have && l.flight != nil {
		select {
		case <-l.flight.done:
			l.value, l.have = l.flight.value, true
		default:
		}
	}
	return l.value, l.have
}

// ask answers from memory, or joins or starts a flight that runs fn. It does
// not wait. fn runs on a goroutine of the owner, for no longer than asking.
func (b *book[T]) ask(key string, fn func(context.Context) reply[T]) look[T] {
	l, started := b.open(key, time.Now())
	if started == nil {
		return l
	}
	ran := b.owner.start(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, asking)
		defer cancel()
		b.land(key, started, b.shielded(ctx, fn))
	})
	if !ran {
		b.land(key, started, b.lost(model.Errorf(model.Unavailable, "modelfs is shutting down")))
	}
	return l
}

// open looks key up and makes a flight for it if one is needed.
func (b *book[T]) open(key string, now time.Time) (l look[T], started *flight[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pages[key]
	if p == nil {
		p = &page[T]{weight: 1}
		b.pages[key] = p
		b.total++
	}
	p.used = now
	again := false
	switch {
	case p.good != nil && now.Before(p.good.until):
		l.value, l.have, l.cached = p.good.value, true, true
	case p.bad != nil && now.Before(p.bad.until):
		l.value, l.have, l.cached = p.bad.value, true, true
		again, p.again = p.again, false
	}
	if p.flight == nil && (!l.have || again) {
		started = &flight[T]{done: make(chan struct{})}
		p.flight = started
		p.silent = time.Time{}
	}
	if !l.have {
		l.flight, l.silent = p.flight, now.Before(p.silent)
	}
	if b.stale && p.good != nil {
		l.stale = &p.good.value
	}
	b.shrinkLocked(p)
	return l, started
}

// land stores a reply and ends the flight.
func (b *book[T]) land(key string, f *flight[T], rep reply[T]) {
	b.store(key, f, rep, time.Now())
	f.value = rep.value
	close(f.done)
}

func (b *book[T]) store(key string, f *flight[T], rep reply[T], now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pages[key]
	if p == nil || p.flight != f {
		return // forgotten meanwhile
	}
	p.flight, p.silent = nil, time.Time{}
	n := &note[T]{value: rep.value, until: now.Add(rep.keep)}
	switch {
	case !rep.failed:
		p.good, p.bad, p.again = n, nil, false
		b.total -= p.weight
		p.weight = b.weightOf(rep.value)
		b.total += p.weight
	case p.bad != nil && now.Before(p.bad.until):
		// The same failure behind: its time is not prolonged, so that the next
		// one after it is waited for again.
		p.bad.value = rep.value
	default:
		p.bad, p.again = n, true
	}
	if rep.keep == 0 && !b.stale {
		b.dropLocked(key, p)
	}
	b.shrinkLocked(p)
}

func (b *book[T]) weightOf(v T) int {
	if b.weigh == nil {
		return 1
	}
	return b.weigh(v)
}

// shrinkLocked drops pages until the limit holds: of a few taken at random the
// one that was used longest ago; never keep, nor one with a flight.
func (b *book[T]) shrinkLocked(keep *page[T]) {
	const sample = 16
	for b.total > b.weight {
		var oldest *page[T]
		key, seen := "", 0
		for k, p := range b.pages {
			if p != keep && p.flight == nil && (oldest == nil || p.used.Before(oldest.used)) {
				key, oldest = k, p
			}
			if seen++; seen >= sample && oldest != nil {
				break
			}
		}
		if oldest == nil {
			return
		}
		b.dropLocked(key, oldest)
	}
}

func (b *book[T]) dropLocked(key string, p *page[T]) {
	b.total -= p.weight
	delete(b.pages, key)
}

// shielded is fn with a panic turned into a lost reply, so that no caller waits
// for an answer that never comes.
func (b *book[T]) shielded(ctx context.Context, fn func(context.Context) reply[T]) (rep reply[T]) {
	defer func() {
		if p := recover(); p != nil {
			rep = b.lost(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	return fn(ctx)
}

// peek is the newest reply that did not fail, however old; it asks nothing.
func (b *book[T]) peek(key string) (v T, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pages[key]; p != nil && p.good != nil {
		return p.good.value, true
	}
	return v, false
}

// giveUp says that a caller waited for f in vain: for a second others don't.
func (b *book[T]) giveUp(key string, f *flight[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pages[key]; p != nil && p.flight == f {
		p.silent = time.Now().Add(failureKept)
	}
}

// forget drops the pages whose key matches. A flight goes on for those who
// wait, but its reply is not remembered.
func (b *book[T]) forget(match func(key string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, p := range b.pages {
		if match(k) {
			b.dropLocked(k, p)
		}
	}
}

// underWay counts the flights.
func (b *book[T]) underWay() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, p := range b.pages {
		if p.flight != nil {
			n++
		}
	}
	return n
}
