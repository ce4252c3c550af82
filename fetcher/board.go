package fetcher

import (
	"sync/atomic"
	"time"
)

// A class is what a request to the origin is for, most urgent first.
type class int

const (
	demand     class = iota // a reader is blocked on it
	ahead                   // a moving stream will get there
	background              // the rest of the file
	whole                   // the one stream of an origin without ranges
)

func (c class) lane() bool { return c == ahead || c == background }

// A request is a range that should be asked of the origin, in bytes, aligned
// to blocks but for the end of the file.
type request struct {
	class    class
	off, end int64
	victim   *transfer // whose range ends where this one begins from now on; nil for none
	doubles  *waiter   // the read for which it asks again for what is on its way; nil for none
}

// A transfer is a request that is being answered. All fields below start are
// guarded by the fill's lock.
type transfer struct {
	class   class
	start   int64
	end     int64 // may be lowered while it runs: the rest was given to another
	pos     int64 // a multiple of blockSize or the end: where the next bytes go
	got     int64 // bytes received
	began   time.Time
	first   time.Time // of the first byte; zero before
	last    time.Time // of the last byte
	nearly  bool      // so close to its end that its successor may begin
	origin  *candidate
	cancel  func()
	dropped bool          // cancelled on purpose: its error means nothing
	lingers chan struct{} // closed when a read has come for it; nil while it does not wait for one
}

func (t *transfer) claims(block int64) bool {
	return block >= t.pos/blockSize && block < blocksOf(t.end)
}

// rate is the bytes a second that this transfer was seen to make, or guess
// while it has been seen too little: few bytes in a second say enough.
func (t *transfer) rate(guess float64) float64 {
	d := t.last.Sub(t.first)
	if d < 5*time.Millisecond || t.got < 4*blockSize && d < time.Second {
		return guess
	}
	return float64(t.got) / d.Seconds()
}

// idle is for how long no byte has come.
func (t *transfer) idle(now time.Time) time.Duration {
	if t.first.IsZero() {
		return now.Sub(t.began)
	}
	return now.Sub(t.last)
}

// quiet is how long a transfer may be silent before that means anything: long
// enough for a busy machine's scheduler.
func (p *pace) quiet() time.Duration { return 500*time.Millisecond + 4*p.ttfb }

// eta is how long block will still take, as far as can be told.
func (t *transfer) eta(block int64, now time.Time, p *pace) time.Duration {
	var wait time.Duration
	idle := t.idle(now)
	switch {
	case idle > p.quiet():
		wait = idle
	case t.first.IsZero():
		wait = max(0, p.ttfb-idle)
	}
	return wait + seconds(float64((block+1)*blockSize-t.pos)/t.rate(p.conn))
}

// maxWait is the most blocks that one waiter can wait for.
const maxWait = 64

// A board is what is known of one file's bytes: what is here, what is on its
// way, who waits for what. It is pure bookkeeping, makes no calls, and is
// guarded by its fill's lock.
type board struct {
	size      int64 // -1: not known yet
	have      bitmap
	transfers []*transfer
	waiting   map[int64][]*waiter // by block
	queue     []*waiter           // in the order of arrival; settled ones are swept out
	fresh     int                 // queue[:fresh] has been looked at since the last sweep
	streams   streams
	pace      pace
	ramp      ramp
	speed     float64       // bytes a second of the whole fill
	fetched   int64         // bytes received
	again     *atomic.Int64 // bytes asked for that had been asked for before; a fetcher's boards share it
	flowed    time.Time     // when the last byte was received
	cursor    int64         // where the background begins if nothing moves
	lanesOff  bool          // nothing can be stored, or the origin has no ranges
	generous  bool          // all of the file is wanted: what a request brings besides its read is no waste
}

func newBoard(size int64) *board {
	b := &board{size: size, again: new(atomic.Int64), waiting: make(map[int64][]*waiter), pace: newPace(), ramp: newRamp()}
	b.have.grow(blocksOf(max(size, 0)))
	return b
}

// blocks is the number of blocks, as far as is known.
func (b *board) blocks() int64 { return b.have.n }

// resize states the size that was unknown.
func (b *board) resize(size int64) {
	b.size = size
	b.have.grow(blocksOf(size))
}

func (b *board) complete() bool { return b.size >= 0 && b.have.full() }

// coverage is the transfer that will bring block first, and when; nil if none.
func (b *board) coverage(block int64, now time.Time) (*transfer, time.Duration) {
	var best *transfer
	var soonest time.Duration
	for _, t := range b.transfers {
		if !t.claims(block) {
			continue
		}
		if eta := t.eta(block, now, &b.pace); best == nil || eta < soonest {
			best, soonest = t, eta
		}
	}
	return best, soonest
}

// claimed is the range that will bring block. The one stream of an origin
// without ranges claims nothing: where ranges are asked for beside it, they may
// be had again, and it ends when they are.
func (b *board) claimed(block int64) *transfer {
	for _, t := range b.transfers {
		if t.class != whole && t.claims(block) {
			return t
		}
	}
	return nil
}

// free is the first run of at most most blocks in [from, limit) that is
// neither here nor on its way; n is 0 if there is none.
func (b *board) free(from, limit, most int64) (first, n int64) {
	for from < limit {
		if from = b.have.nextMissing(from, limit); from == limit {
			break
		}
		if t := b.claimed(from); t != nil {
			from = blocksOf(t.end)
			continue
		}
		end := b.have.nextPresent(from, min(limit, from+most))
		for _, t := range b.transfers {
			if s := t.pos / blockSize; t.class != whole && s > from && s < end && s < blocksOf(t.end) {
				end = s
			}
		}
		return from, end - from
	}
	return limit, 0
}

// span makes a request of a run of blocks.
func (b *board) span(c class, first, n int64) request {
	return request{class: c, off: first * blockSize, end: min((first+n)*blockSize, b.size)}
}

// sweep forgets settled waiters and has all others looked at again.
func (b *board) sweep() {
	kept := b.queue[:0]
	for _, w := range b.queue {
		if !w.settled {
			kept = append(kept, w)
		}
	}
	clear(b.queue[len(kept):])
	b.queue = kept
	b.fresh = 0
}

// begin puts a transfer for r on the board. It returns nil where a range that
// was to be stolen has meanwhile arrived.
func (b *board) begin(r request, now time.Time) *transfer {
	if v := r.victim; v != nil {
		if v.pos >= r.off || v.end < r.end {
			return nil
		}
		b.take(v, r.off)
	}
	if r.doubles != nil {
		r.doubles.hedged = now
		b.again.Add(r.end - r.off)
	}
	if r.class == whole {
		b.again.Add(b.have.count * blockSize)
	}
	t := &transfer{class: r.class, start: r.off, pos: r.off, end: r.end, began: now}
	b.transfers = append(b.transfers, t)
	return t
}

func (b *board) count(match func(*transfer) bool) int {
	n := 0
	for _, t := range b.transfers {
		if match(t) {
			n++
		}
	}
	return n
}

// take ends t's range at end: the rest is given to others, also what is on its
// way already.
func (b *board) take(t *transfer, end int64) {
	b.again.Add(t.end - end)
	t.end = end
}

// finish takes off the board a transfer that is over. What it leaves undone is
// asked for again, unless it doubled what came from another.
func (b *board) finish(t *transfer) {
	b.remove(t)
	if t.end != unbounded && !b.complete() {
		b.again.Add(t.end - t.pos)
	}
}

func (b *board) remove(t *transfer) {
	for i, o := range b.transfers {
		if o == t {
			b.transfers = append(b.transfers[:i], b.transfers[i+1:]...)
			return
		}
	}
}
