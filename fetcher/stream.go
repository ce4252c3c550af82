package fetcher

import "time"

// The sizes of read-ahead.
const (
	// headSize is how far a file may be read before anything but that head is
	// fetched for its sake: parsers read the head (a GGUF's header with a large
	// tokenizer is 10 to 20 MB) and often nothing else.
	headSize = 8 << 20
	// headCost is the most that is fetched while reading is within headSize.
	headCost    = 16 << 20
	firstWindow = 8 << 20
	mostWindow  = 128 << 20 // unless more than that arrives in windowTime
	windowTime  = 1500 * time.Millisecond
	hugeWindow  = 1 << 30
	// Reading that has covered movingBytes in movingReads reads of one place is
	// a stream; less is as likely one large random read that the kernel split.
	movingBytes = 3 << 20
	movingReads = 3
	// A read belongs to a stream if it begins within reach of the stream's end:
	// parallel readers and the kernel's own read-ahead arrive out of order. A
	// young stream reaches less, or random readers would all be neighbours.
	leastReach = 1 << 20
	mostReach  = 32 << 20
	maxStreams = 32
)

// A stream is a place in a file where reading moves forward, whoever reads: a
// mapped file is one handle and many threads, and many handles may follow one
// another. The fill's lock guards it.
type stream struct {
	start, end int64 // reading has covered most of [start, end)
	read       int64 // bytes read, repetitions included
	reads      int
	window     int64 // how far beyond end is fetched ahead; 0 while it does not move
	mark       int64 // when end gets here the window doubles
	used       int64 // the number of the last read, for forgetting the oldest
	waiters    []*waiter
}

// streams recognises the streams of one file.
type streams struct {
	all   []*stream
	reads int64
	last  *stream // the moving stream that was read last
}

// note records a read of [off, off+n) and returns its stream. total is the
// fill's speed in bytes a second.
func (ss *streams) note(off, n int64, total float64) *stream {
	ss.reads++
	s := ss.match(off, n)
	if s == nil {
		s = ss.open(off)
	}
	s.used = ss.reads
	s.advance(off, n, total)
	if s.moving() {
		ss.last = s
	}
	return s
}

func (ss *streams) match(off, n int64) *stream {
	var best *stream
	var bestGap int64
	for _, s := range ss.all {
		reach := min(max(s.end-s.start, leastReach), mostReach)
		gap := off - s.end
		if gap > reach || off+n < s.end-reach || off < s.start-leastReach {
			continue
		}
		if gap = max(gap, -gap); best == nil || gap < bestGap {
			best, bestGap = s, gap
		}
	}
	return best
}

// open begins a stream, in the place of the least recently used one if there
// are too many; streams that moved are kept longer than places that were read once.
func (ss *streams) open(off int64) *stream {
	s := &stream{start: off, end: off}
	if len(ss.all) < maxStreams {
		ss.all = append(ss.all, s)
		return s
	}
	oldest := 0
	for i, o := range ss.all {
		if o.age(ss.reads) > ss.all[oldest].age(ss.reads) {
			oldest = i
		}
	}
	ss.all[oldest] = s
	return s
}

func (s *stream) age(now int64) int64 {
	age := now - s.used
	if s.moving() {
		return age / 8
	}
	return age
}

func (s *stream) advance(off, n int64, total float64) {
	s.start = min(s.start, off)
	s.end = max(s.end, off+n)
	s.read += n
	s.reads++
	switch {
	case s.window == 0 && s.starts():
		s.window = firstWindow
		s.mark = s.end + s.window/2
	case s.window > 0 && s.end >= s.mark:
		most := max(mostWindow, min(int64(total*windowTime.Seconds()), hugeWindow))
		s.window = min(2*s.window, most)
		s.mark = s.end + s.window/2
	}
}

// starts reports whether the reading seen is worth a window: the head of the
// file always is, elsewhere it has to be long and dense.
func (s *stream) starts() bool {
	if s.start == 0 {
		return true
	}
	return s.reads >= movingReads && s.read >= movingBytes && 2*s.read >= s.end-s.start
}

func (s *stream) moving() bool { return s.window > 0 }

// ahead is the end of what may be fetched ahead in a file of size bytes.
func (s *stream) ahead(size int64) int64 {
	if s.window == 0 {
		return 0
	}
	end := s.end + s.window
	if s.start == 0 && s.end <= headSize {
		end = min(end, headCost)
		if size <= headCost {
			end = size
		}
	}
	return min(end, size)
}

// from is where fetching ahead begins: at the first read that waits, or where
// reading is.
func (s *stream) from() int64 {
	if w := s.front(); w != nil {
		return min(w.off, s.end)
	}
	return s.end
}

// front is the stream's waiting read with the lowest offset: the one that
// holds the stream up. The others are ahead of their time.
func (s *stream) front() *waiter {
	var f *waiter
	for _, w := range s.waiters {
		if f == nil || w.off < f.off {
			f = w
		}
	}
	return f
}

func (s *stream) leave(w *waiter) {
	for i, o := range s.waiters {
		if o == w {
			last := len(s.waiters) - 1
			s.waiters[i] = s.waiters[last]
			s.waiters[last] = nil
			s.waiters = s.waiters[:last]
			return
		}
	}
}
