package store

import "modelfs/internal/model"

// Usage says what the backing dir holds, in bytes and in files.
type Usage struct {
	Budget   int64 // what Used may grow to: Options.MaxSize, or what leaves a tenth of the disk free
	Used     int64 // blobs and what is present of parts
	Reserved int64 // what running fills still need
	Free     int64 // free space of the disk
	Blobs    int   // files that are complete, each counted once whatever its names
	Parts    int   // files that are not
	Pinned   int   // pinned blobs
}

// idlePart is a part that nobody has open.
type idlePart struct {
	base  string
	id    PartID
	size  int64 // the file's length; -1: unknown
	bytes int64 // on disk
	used  int64 // time of the last write, Unix nanoseconds
}

// Usage asks the filesystem for its free space and adds up the rest from
// memory.
func (s *Store) Usage() Usage {
	free, total := s.diskSpace()
	s.mu.RLock()
	defer s.mu.RUnlock()
	u := Usage{Used: s.usedLocked(), Reserved: s.reservedLocked(), Free: free, Blobs: len(s.inodes), Parts: len(s.open) + len(s.idle)}
	u.Budget = u.Used + u.Reserved + s.roomLocked(free, total)
	if s.opt.MaxSize > 0 {
		u.Budget = s.opt.MaxSize
	}
	for _, c := range s.inodes {
		if s.pinnedLocked(c) {
			u.Pinned++
		}
	}
	return u
}

// diskSpace is the disk's free and total space; without an answer there is
// none free.
func (s *Store) diskSpace() (free, total int64) {
	free, total, err := s.sys.space(s.rootFD)
	if err != nil {
		s.log.Error("can't tell the disk's free space", "dir", s.dir, "error", err)
		return 0, 0
	}
	return free, total
}

func (s *Store) usedLocked() int64 {
	n := s.bytes
	for _, p := range s.idle {
		n += p.bytes
	}
	for _, p := range s.open {
		if p.content == nil { // else it is among the contents already
			n += p.Present()
		}
	}
	return n
}

// reservedLocked is what the open parts that were promised their place still
// need.
func (s *Store) reservedLocked() int64 {
	var n int64
	for _, p := range s.open {
		if p.reserves {
			n += max(0, p.Size()-p.Present())
		}
	}
	return n
}

// roomLocked is how many bytes may still be promised; it may be negative.
func (s *Store) roomLocked(free, total int64) int64 {
	free += s.leaving
	promised := s.reservedLocked() + s.passing
	if s.opt.MaxSize > 0 {
		return min(s.opt.MaxSize-s.usedLocked(), free) - promised
	}
	return free - total/10 - promised
}

// reserve promises a part its whole size, evicting what has to go. It reports
// false, and evicts nothing, where that can't be enough. A part of unknown
// size is promised nothing; it asks as it grows.
func (s *Store) reserve(p *Part) bool {
	need := p.Size() - p.Present()
	if need <= 0 || p.Size() < 0 {
		return true
	}
	free, total := s.diskSpace()
	s.mu.Lock()
	if p.reserves {
		s.mu.Unlock()
		return true
	}
	victims, ok := s.evictLocked(need - s.roomLocked(free, total))
	p.reserves = ok
	s.mu.Unlock()
	s.dispose(victims)
	return ok
}

// admit asks for n more bytes for a part that has no reservation. Only a part
// that may yet fit evicts for them. They count as used until admitted is called,
// so that writers that ask at the same time can't all have the same room.
func (s *Store) admit(p *Part, n int64) error {
	free, total := s.diskSpace()
	s.mu.Lock()
	need := n - s.roomLocked(free, total)
	var victims []victim
	ok := need <= 0
	if !ok && p.Fits() {
		victims, ok = s.evictLocked(need)
	}
	if ok {
		s.passing += n
	}
	s.mu.Unlock()
	s.dispose(victims)
	if !ok {
		return model.Errorf(model.NoSpace, "store %d bytes of %s: backing dir %s is full", n, p.id.Key, s.dir)
	}
	return nil
}

// admitted ends an admit: the n bytes are present now, or were not stored.
func (s *Store) admitted(n int64) {
	s.mu.Lock()
	s.passing -= n
	s.mu.Unlock()
}

// evictOne frees something because the disk said that it is full, and reports
// whether it did. What can't be removed goes to the end of the line, so nothing
// is tried twice.
func (s *Store) evictOne() bool {
	s.mu.RLock()
	tries := len(s.inodes) + len(s.idle)
	s.mu.RUnlock()
	for range tries {
		s.mu.Lock()
		victims, ok := s.evictLocked(1)
		s.mu.Unlock()
		if !ok {
			return false
		}
		if s.dispose(victims) {
			return true
		}
	}
	return false
}

// trimSlack is the part of the budget that may be exceeded at the start without
// a model being dropped for it: what the filesystem itself needs for a part.
const trimSlack = 64

// trim evicts down to a stated budget, or as far as it can. A disk that others
// filled is no reason to drop everything at the start: there room is made when
// it is asked for.
func (s *Store) trim() {
	if s.opt.MaxSize <= 0 {
		return
	}
	for free, total := s.diskSpace(); ; free, total = s.diskSpace() {
		s.mu.RLock()
		room := s.roomLocked(free, total)
		s.mu.RUnlock()
		if room >= -s.opt.MaxSize/trimSlack || !s.evictOne() {
			return
		}
	}
}
