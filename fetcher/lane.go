package fetcher

import "time"

// stealTime is the least time that the rest of a range must still take before
// a lane with nothing else to do takes half of it: twice rangeTime, so that
// only a connection much slower than the others is meant. What it has on its
// way beyond the cut is lost.
const stealTime = 2 * rangeTime

// An allowance is what the lanes of a fill may do now.
type allowance struct {
	background bool // the fill's turn has come
	yield      int  // connections that blocked readers use, anywhere, beyond freeDemands
}

// nextLane is the next range for a lane: what moving streams will need, then
// the rest of the file from where reading is, then half of what another lane
// is slow with.
func (b *board) nextLane(a allowance, now time.Time) (request, bool) {
	busy := b.lanes()
	if b.lanesOff || b.size < 0 || busy >= b.ramp.target {
		return request{}, false
	}
	if r, ok := b.nextAhead(); ok {
		return r, true
	}
	if !a.background || busy >= max(leastLanes, b.ramp.target-a.yield) {
		return request{}, false
	}
	if r, ok := b.nextRest(); ok {
		return r, true
	}
	return b.steal(now)
}

// lanes is the number of transfers that count as lanes at work.
func (b *board) lanes() int {
	return b.count(func(t *transfer) bool { return t.class.lane() && !t.nearly })
}

func (b *board) nextAhead() (request, bool) {
	if b.streams.last != nil {
		if r, ok := b.aheadOf(b.streams.last); ok {
			return r, true
		}
	}
	for _, s := range b.streams.all {
		if s.moving() && s != b.streams.last {
			if r, ok := b.aheadOf(s); ok {
				return r, true
			}
		}
	}
	return request{}, false
}

func (b *board) aheadOf(s *stream) (request, bool) {
	size := min(b.pace.rangeSize(b.left(), b.ramp.target), max(leastRange, s.window/int64(b.ramp.target)))
	first, n := b.free(s.from()/blockSize, blocksOf(s.ahead(b.size)), size/blockSize)
	if n == 0 {
		return request{}, false
	}
	return b.span(ahead, first, n), true
}

func (b *board) nextRest() (request, bool) {
	from := b.cursor
	if b.streams.last != nil {
		from = b.streams.last.from()
	}
	most := b.pace.rangeSize(b.left(), b.ramp.target) / blockSize
	first, n := b.free(from/blockSize, b.blocks(), most)
	if n == 0 {
		first, n = b.free(0, b.blocks(), most)
	}
	if n == 0 {
		return request{}, false
	}
	return b.span(background, first, n), true
}

// left is about how many bytes nobody has asked for.
func (b *board) left() int64 {
	left := (b.blocks() - b.have.count) * blockSize
	for _, t := range b.transfers {
		left -= t.end - t.pos
	}
	return max(left, 0)
}

// steal takes the second half of the range that would be done last; of one
// that drips, all but what comes before another request would bring it.
func (b *board) steal(now time.Time) (request, bool) {
	var victim *transfer
	longest := max(stealTime, 8*b.pace.ttfb)
	for _, t := range b.transfers {
		if !t.class.lane() || t.end-t.pos < 2*leastRange && !b.slow(t, now) {
			continue
		}
		if eta := t.eta(blocksOf(t.end)-1, now, &b.pace); eta > longest {
			victim, longest = t, eta
		}
	}
	if victim == nil {
		return request{}, false
	}
	cut := (victim.pos + victim.end) / 2 / blockSize * blockSize
	if b.slow(victim, now) {
		cut = b.keeps(victim)
	}
	if cut >= victim.end {
		return request{}, false
	}
	return request{class: background, off: cut, end: victim.end, victim: victim}, true
}
