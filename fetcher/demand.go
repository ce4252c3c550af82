package fetcher

import (
	"math/bits"
	"time"
)

const (
	// demandJoin is the most that one request of a blocked reader covers when
	// the reads after it wait as well.
	demandJoin = 4 << 20
	// freeDemands requests of blocked readers take nothing from the background,
	// and may fetch what is around the read: one reader that hops about leaves
	// the machine and most networks idle.
	freeDemands = 4
	// demandHead is what the first read of a file asks for: small files then
	// cost one request.
	demandHead = 1 << 20
	// lanesFirst is how long a read that is ahead of its stream leaves its
	// blocks to the lanes.
	lanesFirst = 50 * time.Millisecond
	// sweepTime is how often waiting reads are looked at again.
	sweepTime = 50 * time.Millisecond
	// lateSlack is on top of a request's own cost before another transfer
	// counts as late: less is noise of two clocks and one scheduler.
	lateSlack = 20 * time.Millisecond
	// hedgeAgain is the least time between two requests that double another
	// one for the same read.
	hedgeAgain = time.Second
)

// nextDemand is the next range that a blocked reader needs a request of its
// own for, first come first served. The caller starts it, or calls again
// later; what is under way is never returned twice.
func (b *board) nextDemand(now time.Time) (request, bool) {
	for b.fresh < len(b.queue) {
		w := b.queue[b.fresh]
		if !w.settled && b.size >= 0 {
			if r, ok := b.demandOf(w, now); ok {
				return r, true
			}
		}
		b.fresh++
	}
	return request{}, false
}

func (b *board) demandOf(w *waiter, now time.Time) (request, bool) {
	early := b.early(w)
	var waited *transfer // its first block is near enough, so the rest is
	for need := w.need; need != 0; need &= need - 1 {
		block := w.first + int64(bits.TrailingZeros64(need))
		t, eta := b.coverage(block, now)
		switch {
		case t == nil && early && now.Sub(w.since) < lanesFirst:
		case t == nil:
			return b.demandAt(w, block), true
		case !early && t != waited && b.late(w, block, eta, now):
			return b.hedge(w, block, t), true
		}
		waited = t
	}
	return request{}, false
}

// early reports whether w is a read that its stream has not come to: the
// kernel's read-ahead, or other threads of a scan. The lanes bring its bytes.
func (b *board) early(w *waiter) bool {
	s := w.stream
	return s != nil && s.moving() && !b.lanesOff && s.front() != w
}

// late reports whether block, which is on its way, would come sooner by a new
// request.
func (b *board) late(w *waiter, block int64, eta time.Duration, now time.Time) bool {
	if !w.hedged.IsZero() && (now.Sub(w.hedged) < hedgeAgain || now.Sub(b.flowed) > hedgeAgain) {
		return false
	}
	cost := b.pace.cost(w.off + w.n - block*blockSize)
	return eta > cost*3/2+lateSlack
}

// demandAt is the request for block and what follows it: the rest of the
// read, what is around it where that is wanted anyway, then blocks that others
// wait for.
func (b *board) demandAt(w *waiter, block int64) request {
	last := blocksOf(w.off + w.n)
	if block == 0 {
		last = max(last, min(demandHead/blockSize, b.blocks()))
	}
	if b.generous && b.count(func(t *transfer) bool { return t.class == demand }) < freeDemands {
		last = max(last, min(block+demandJoin/blockSize, b.blocks()))
	}
	_, n := b.free(block, last, last-block)
	for end := block + n; end < b.blocks() && end-block < demandJoin/blockSize; end++ {
		if len(b.waiting[end]) == 0 || b.have.has(end) || b.claimed(end) != nil {
			break
		}
		n++
	}
	return b.span(demand, block, max(n, 1))
}

// hedge is the request for block and those after it that w needs and t would
// bring as late.
func (b *board) hedge(w *waiter, block int64, t *transfer) request {
	n := int64(1)
	for block+n-w.first < maxWait && w.need&(1<<(block+n-w.first)) != 0 && t.claims(block+n) {
		n++
	}
	r := b.span(demand, block, n)
	r.doubles = w
	return r
}

// slack is how much slower than usual a transfer has to be before the rest of
// its range is taken from it.
const slack = 3

// rescue takes the rest of their ranges from transfers that hold up a reader
// and are much slower than usual, or silent while others are not. It returns
// those that have to be cancelled at once.
func (b *board) rescue(now time.Time) []*transfer {
	var dead []*transfer
	for _, w := range b.queue {
		if w.settled || b.early(w) || w.need == 0 {
			continue
		}
		t, _ := b.coverage(w.first+int64(bits.TrailingZeros64(w.need)), now)
		if t == nil || t.class == whole {
			continue
		}
		if b.silent(t, now) {
			t.dropped = true
			b.take(t, t.pos)
			dead = append(dead, t)
		} else if b.slow(t, now) {
			b.take(t, b.keeps(t))
		}
	}
	return dead
}

// keeps is where the range of a slow transfer ends when the rest is taken from
// it: what it brings while another request gets under way, and the block that
// it is at.
func (b *board) keeps(t *transfer) int64 {
	keep := int64(t.rate(b.pace.conn) * (2 * b.pace.ttfb).Seconds())
	return min(t.end, t.pos+(keep/blockSize+1)*blockSize)
}

func (b *board) silent(t *transfer, now time.Time) bool {
	return t.idle(now) > 2*time.Second+b.pace.quiet() && now.Sub(b.flowed) < time.Second
}

func (b *board) slow(t *transfer, now time.Time) bool {
	if t.first.IsZero() || now.Sub(t.first) < time.Second || !b.pace.steady {
		return false
	}
	rate := t.rate(b.pace.conn)
	left := seconds(float64(t.end-t.pos) / rate)
	return rate < b.pace.conn/slack && left > 4*b.pace.cost(leastRange)
}
