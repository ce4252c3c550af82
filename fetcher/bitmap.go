package fetcher

import (
	"math/bits"

	"modelfs/store"
)

const blockSize = store.BlockSize

// blocksOf is the number of blocks of a file of size bytes.
func blocksOf(size int64) int64 { return (size + blockSize - 1) / blockSize }

// A bitmap is a set of block numbers in [0, n). The scheduler keeps its own,
// beside the store's, so that it can look and decide under one lock without a
// call into another package.
type bitmap struct {
	words []uint64
	n     int64 // blocks
	count int64 // members
}

// grow makes room for n blocks; members stay.
func (b *bitmap) grow(n int64) {
	for int64(len(b.words))*64 < n {
		b.words = append(b.words, make([]uint64, 1+len(b.words)/4)...)
	}
	b.n = max(b.n, n)
}

func (b *bitmap) has(i int64) bool {
	return i < b.n && b.words[i>>6]&(1<<(i&63)) != 0
}

// add puts i in the set and reports whether it is new. i may be past the end
// of a bitmap that grows.
func (b *bitmap) add(i int64) bool {
	b.grow(i + 1)
	if b.has(i) {
		return false
	}
	b.words[i>>6] |= 1 << (i & 63)
	b.count++
	return true
}

func (b *bitmap) remove(i int64) {
	if b.has(i) {
		b.words[i>>6] &^= 1 << (i & 63)
		b.count--
	}
}

func (b *bitmap) full() bool { return b.count == b.n }

// nextMissing is the first block in [i, limit) that is not in the set, or limit.
func (b *bitmap) nextMissing(i, limit int64) int64 { return b.next(i, limit, ^uint64(0)) }

// nextPresent is the first block in [i, limit) that is in the set, or limit.
func (b *bitmap) nextPresent(i, limit int64) int64 { return b.next(i, limit, 0) }

// next finds the first bit that is set after the words were xored with flip.
func (b *bitmap) next(i, limit int64, flip uint64) int64 {
	for i < limit {
		if i>>6 >= int64(len(b.words)) {
			if flip == 0 {
				return limit
			}
			return i
		}
		w := (b.words[i>>6] ^ flip) >> (i & 63)
		if w != 0 {
			return min(limit, i+int64(bits.TrailingZeros64(w)))
		}
		i = (i>>6 + 1) << 6
	}
	return limit
}
