package store

import (
	"math/bits"
	"sync/atomic"
)

// A bitmap says which blocks are present, one bit a block. Any number of
// goroutines may read it without a lock; Part.mu is held to change it.
type bitmap []atomic.Uint64

func newBitmap(blocks int64) bitmap { return make(bitmap, wordsFor(blocks)) }

// wordsFor is the number of 64-bit words that hold so many bits.
func wordsFor(blocks int64) int64 { return (blocks + 63) / 64 }

// blocksFor is the number of blocks that hold so many bytes.
func blocksFor(size int64) int64 { return (size + BlockSize - 1) / BlockSize }

// next returns the first block in [from, to) whose bit equals want, or to.
func (m bitmap) next(from, to int64, want bool) int64 {
	var flip uint64
	if !want {
		flip = ^uint64(0)
	}
	for i := from; i < to; {
		w := (m[i/64].Load() ^ flip) >> (i % 64)
		if w != 0 {
			return min(i+int64(bits.TrailingZeros64(w)), to)
		}
		i = (i/64 + 1) * 64
	}
	return to
}

// all reports whether every block of [from, to) is present.
func (m bitmap) all(from, to int64) bool { return m.next(from, to, false) == to }

// set marks the blocks of [from, to).
func (m bitmap) set(from, to int64) {
	eachWord(from, to, func(i int64, mask uint64) { m[i].Or(mask) })
}

// eachWord calls f with every word that holds bits of [from, to) and the mask
// of those bits.
func eachWord(from, to int64, f func(i int64, mask uint64)) {
	for from < to {
		end := min((from/64+1)*64, to)
		f(from/64, (^uint64(0)>>(64-(end-from)))<<(from%64))
		from = end
	}
}

// words is a copy of the bitmap without its empty end.
func (m bitmap) words() []uint64 {
	n := len(m)
	for n > 0 && m[n-1].Load() == 0 {
		n--
	}
	w := make([]uint64, n)
	for i := range w {
		w[i] = m[i].Load()
	}
	return w
}

// load makes the bitmap equal to w, which is no longer than it.
func (m bitmap) load(w []uint64) {
	for i := range m {
		var v uint64
		if i < len(w) {
			v = w[i]
		}
		m[i].Store(v)
	}
}

// bytes is how many bytes of a file of the given size (-1: unknown) the
// present blocks hold.
func (m bitmap) bytes(size int64) int64 {
	var n int64
	for i := range m {
		n += int64(bits.OnesCount64(m[i].Load()))
	}
	n *= BlockSize
	if tail := size % BlockSize; size > 0 && tail != 0 && m.all(size/BlockSize, size/BlockSize+1) {
		n -= BlockSize - tail
	}
	return n
}

// lastBlock is one more than the number of the last block that w marks.
func lastBlock(w []uint64) int64 {
	for i := len(w) - 1; i >= 0; i-- {
		if w[i] != 0 {
			return int64(i)*64 + int64(bits.Len64(w[i]))
		}
	}
	return 0
}
