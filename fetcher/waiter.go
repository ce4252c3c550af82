package fetcher

import (
	"math/bits"
	"time"
)

// A waiter is a read that waits for blocks. The fill's lock guards all of it
// until ready is closed.
type waiter struct {
	off, n  int64
	first   int64  // the block that bit 0 of need and got stands for
	need    uint64 // blocks that are not here
	got     uint64 // blocks that were copied into p because they could not be stored
	p       []byte // the reader's buffer
	stream  *stream
	since   time.Time
	hedged  time.Time // when a request was last made that doubles another
	ready   chan struct{}
	err     error // valid once ready is closed
	settled bool  // ready is closed or about to be
}

// wait registers a read, unless all of its blocks are here.
func (b *board) wait(w *waiter) bool {
	w.first = w.off / blockSize
	last := blocksOf(w.off + w.n)
	for i := w.first; i < last; i++ {
		if !b.have.has(i) {
			w.need |= 1 << (i - w.first)
			b.waiting[i] = append(b.waiting[i], w)
		}
	}
	if w.need == 0 {
		return false
	}
	if w.stream != nil {
		w.stream.waiters = append(w.stream.waiters, w)
	}
	b.queue = append(b.queue, w)
	return true
}

// settle takes a waiter off the board: it has what it wanted, or gave up.
func (b *board) settle(w *waiter) {
	if w.settled {
		return
	}
	w.settled = true
	w.p = nil
	for need := w.need; need != 0; need &= need - 1 {
		b.unwait(w.first+int64(bits.TrailingZeros64(need)), w)
	}
	if w.stream != nil {
		w.stream.leave(w)
	}
}

func (b *board) unwait(block int64, w *waiter) {
	ws := b.waiting[block]
	for i, o := range ws {
		if o == w {
			last := len(ws) - 1
			ws[i] = ws[last]
			ws[last] = nil
			ws = ws[:last]
			break
		}
	}
	if len(ws) == 0 {
		delete(b.waiting, block)
		return
	}
	b.waiting[block] = ws
}

// arrive records that [off, off+len(data)) is here, or only passed by if it
// could not be stored, and returns the waiters that now have all they need.
func (b *board) arrive(off int64, data []byte, stored bool) []*waiter {
	var woken []*waiter
	for i := off / blockSize; i < blocksOf(off+int64(len(data))); i++ {
		if stored {
			b.have.add(i)
		}
		ws := b.waiting[i]
		delete(b.waiting, i)
		for _, w := range ws {
			if !stored {
				w.copy(off, data, i)
			}
			if w.need &^= 1 << (i - w.first); w.need == 0 {
				b.settle(w)
				woken = append(woken, w)
			}
		}
	}
	return woken
}

// copy puts block into the reader's buffer. data starts at off.
func (w *waiter) copy(off int64, data []byte, block int64) {
	w.got |= 1 << (block - w.first)
	from := max(w.off, block*blockSize, off)
	to := min(w.off+w.n, (block+1)*blockSize, off+int64(len(data)))
	if w.p != nil && from < to {
		copy(w.p[from-w.off:to-w.off], data[from-off:])
	}
}
