package fetcher

import (
	"context"
	"errors"
	"time"

	"modelfs/internal/model"
)

// unbounded is the end of a transfer whose length nobody states.
const unbounded = int64(1) << 60

// startDemands makes requests for blocked readers.
func (l *fill) startDemands(ctx context.Context, now time.Time) {
	for {
		holds, ok := l.wantsDemand(now)
		if !ok {
			l.f.slots.quitDemand(l)
			return
		}
		if !l.f.slots.takeDemand(l, holds) {
			return
		}
		l.mu.Lock()
		r, ok := l.nextDemand(now)
		l.mu.Unlock()
		if !ok || !l.start(ctx, r, now, l.f.slots.giveDemand) {
			l.f.slots.giveDemand()
			return
		}
	}
}

// wantsDemand reports whether a blocked reader needs a request that the fill
// may make, and how many it is making.
func (l *fill) wantsDemand(now time.Time) (holds int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	holds = l.count(func(t *transfer) bool { return t.class == demand })
	if holds >= demandPerFill || l.choose(now, nil) == nil {
		return holds, false
	}
	l.generous = l.granted && l.fits && !l.lanesOff
	_, ok = l.nextDemand(now)
	return holds, ok
}

// startLanes has lanes fetch ahead and in the background.
func (l *fill) startLanes(ctx context.Context, now time.Time) {
	for {
		a := allowance{yield: max(0, l.f.slots.busy()-freeDemands)}
		l.mu.Lock()
		a.background = l.granted && l.fits
		r, ok := l.nextLane(a, now)
		c := l.choose(now, nil)
		l.mu.Unlock()
		if !ok || c == nil {
			l.f.slots.quitLane(l)
			return
		}
		host := c.obj.Host()
		if !l.f.slots.takeLane(l, host, r.class) {
			return
		}
		give := func() { l.f.slots.giveLane(host) }
		if !l.start(ctx, r, now, give) {
			give()
			return
		}
	}
}

// startWhole begins the one stream of an origin without ranges. It counts as a
// blocked reader's request: that is what it is begun for.
func (l *fill) startWhole(ctx context.Context, now time.Time) {
	l.mu.Lock()
	// What is silent holds nothing up: it was asked of others, which fail.
	busy := l.count(func(t *transfer) bool { return t.class == whole || t.idle(now) <= l.pace.quiet() })
	begin := busy == 0 && !l.complete() && (len(l.waiting) > 0 || (l.granted || l.pulls > 0) && !l.storeOff(now))
	r := request{class: whole, end: l.size}
	if l.size < 0 {
		r.end = unbounded
	}
	l.mu.Unlock()
	if !begin {
		l.f.slots.quitDemand(l)
		return
	}
	if l.f.slots.takeDemand(l, 0) && !l.start(ctx, r, now, l.f.slots.giveDemand) {
		l.f.slots.giveDemand()
	}
}

// start begins a transfer, and gives its slot back when that is over. It
// reports false where it began none.
func (l *fill) start(parent context.Context, r request, now time.Time, give func()) bool {
	ctx, cancel := context.WithCancel(parent)
	l.mu.Lock()
	t := l.begin(r, now)
	if t != nil {
		t.cancel = cancel
		t.origin = l.choose(now, l.slowest(r, now))
	}
	ok := t != nil && t.origin != nil
	first := ok && l.begun.IsZero()
	if first {
		l.begun = now
	}
	if t != nil && !ok {
		l.remove(t)
	}
	l.mu.Unlock()
	if first {
		l.log.Info("download starts", "key", l.id.Key, "bytes", l.Size(), "present", l.part.Present(), "origin", t.origin.obj.Host())
	}
	ok = ok && l.f.spawn(func() {
		defer cancel()
		err := l.fetch(ctx, t, r)
		give()
		l.ended(t, err)
	})
	if !ok {
		cancel()
	}
	return ok
}

// slowest is the candidate that a blocked reader's request doubles: another
// one may be better.
func (l *fill) slowest(r request, now time.Time) *candidate {
	for _, t := range l.transfers {
		if r.class == demand && t.origin != nil && t.claims(r.off/blockSize) && t.idle(now) > l.pace.quiet() {
			return t.origin
		}
	}
	return nil
}

// ended takes a transfer off the board.
func (l *fill) ended(t *transfer, err error) {
	now := time.Now()
	l.mu.Lock()
	l.finish(t)
	if !t.first.IsZero() {
		l.pace.flowed(t.got, t.last.Sub(t.first))
	}
	if t.pos >= t.end {
		err = nil // its range was shortened while it failed
	}
	failed := err != nil && !t.dropped && !errors.Is(err, errNotStored)
	l.swept = time.Time{} // what it leaves undone is for others
	l.mu.Unlock()
	if failed && l.f.ctx.Err() == nil {
		l.failure(t.origin, l.named(err), t.began, now)
	}
	l.poke()
}

// named says whose bytes an error is about.
func (l *fill) named(err error) error {
	return model.Errorf(model.KindOf(err), "fetch %s of %s from %s: %w", l.file.Path, l.repo, l.source(), err)
}
