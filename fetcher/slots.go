package fetcher

import (
	"slices"
	"sync"
	"time"
)

const (
	// demandPerFill and mostDemand bound the requests of blocked readers, of
	// one file and together. A file whose origin is silent keeps nobody else
	// waiting: see slots.demand.
	demandPerFill = 32
	mostDemand    = 48
	lanesPerHost  = 16
	mostAllLanes  = 24
	// silentTime is how long a blocked reader's request may be silent before
	// it gives way to one of another file that has no slot.
	silentTime = time.Second
	// peakTime is for how long the background makes room for readers that
	// were blocked.
	peakTime = time.Second
)

// slots bounds connections: those of blocked readers, first come first served,
// and those of lanes, per host.
//
// Whoever is in line or in want must look again when poked, and take its turn
// or quit: one that is poked in vain keeps all behind it waiting for ever. Only a
// fill in phase filling does, so a fill quits both before it leaves that phase,
// and the one of them that it has no use for any more.
type slots struct {
	mu     sync.Mutex // guards all below; a leaf
	demand int
	peak   int // the most that demand was, at peaked or since
	peaked time.Time
	line   []inLine       // fills that wait for a demand slot
	lanes  map[string]int // by host
	all    int            // lanes together
	want   map[*fill]class
}

// inLine is a fill that waits for a slot and held so many when it came.
type inLine struct {
	l     *fill
	holds int
}

func newSlots() *slots {
	return &slots{lanes: make(map[string]int), want: make(map[*fill]class)}
}

// takeDemand takes a slot for l, which holds so many already, or puts it in
// line: behind others that came first, but before those that hold a slot. It
// does not wait: l is poked when it is its turn.
func (s *slots) takeDemand(l *fill, holds int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.place(l)
	if s.demand < mostDemand && (at == 0 || len(s.line) == 0) {
		s.leaveLine(l)
		s.demand++
		if now := time.Now(); s.demand >= s.peak || now.Sub(s.peaked) > peakTime {
			s.peak, s.peaked = s.demand, now
		}
		return true
	}
	if at < 0 {
		s.enterLine(l, holds)
	}
	return false
}

// place is where in the line l is, or -1.
func (s *slots) place(l *fill) int {
	for i, o := range s.line {
		if o.l == l {
			return i
		}
	}
	return -1
}

func (s *slots) enterLine(l *fill, holds int) {
	at := len(s.line)
	if holds == 0 {
		for at = 0; at < len(s.line) && s.line[at].holds == 0; at++ {
		}
	}
	s.line = slices.Insert(s.line, at, inLine{l, holds})
}

func (s *slots) leaveLine(l *fill) {
	if i := s.place(l); i >= 0 {
		s.line = slices.Delete(s.line, i, i+1)
	}
}

// quitDemand takes l out of the line, because it wants no slot (any more).
func (s *slots) quitDemand(l *fill) {
	s.mu.Lock()
	var next *fill
	if len(s.line) > 0 && s.line[0].l == l {
		if s.leaveLine(l); len(s.line) > 0 && s.demand < mostDemand {
			next = s.line[0].l
		}
	} else {
		s.leaveLine(l)
	}
	s.mu.Unlock()
	if next != nil {
		next.poke()
	}
}

// quitLane says that l wants no lane (any more).
func (s *slots) quitLane(l *fill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.want, l)
}

// giveDemand gives a slot back.
func (s *slots) giveDemand() {
	s.mu.Lock()
	s.demand--
	var next *fill
	if len(s.line) > 0 {
		next = s.line[0].l
	}
	s.mu.Unlock()
	if next != nil {
		next.poke()
	}
}

// takeLane takes a lane to host. The background has none while someone's
// read-ahead waits. Where it fails, l is poked when another try is due.
func (s *slots) takeLane(l *fill, host string, c class) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lanes[host] < lanesPerHost && s.all < mostAllLanes && (c == ahead || !s.aheadWaits(l)) {
		s.lanes[host]++
		s.all++
		delete(s.want, l)
		return true
	}
	s.want[l] = c
	return false
}

func (s *slots) aheadWaits(except *fill) bool {
	for l, c := range s.want {
		if l != except && c == ahead {
			return true
		}
	}
	return false
}

func (s *slots) giveLane(host string) {
	s.mu.Lock()
	s.all--
	if s.lanes[host]--; s.lanes[host] == 0 {
		delete(s.lanes, host)
	}
	poked := make([]*fill, 0, len(s.want))
	for l := range s.want {
		poked = append(poked, l)
	}
	s.mu.Unlock()
	for _, l := range poked {
		l.poke()
	}
}

// busy is the number of connections that blocked readers use, or used a moment
// ago: between two reads of one thread there is none, and the background must
// not take that for room.
func (s *slots) busy() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.peaked) > peakTime {
		return s.demand
	}
	return s.peak
}

// crowded reports whether a fill waits for a demand slot.
func (s *slots) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.line) > 0
}
