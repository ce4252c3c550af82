package store

import "modelfs/internal/model"

// Present is how many bytes of a file are here: all of a blob, else what there
// is of its parts (of the fullest, where several sources are filling it). For
// parts that nobody has open it is what they occupy. It does no I/O.
func (s *Store) Present(key model.Key) int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c := s.keys[key]; c != nil {
		return c.size
	}
	var most int64
	for _, p := range s.open {
		if p.id.Key == key {
			most = max(most, p.Present())
		}
	}
	for _, p := range s.idle {
		if p.id.Key == key {
			most = max(most, p.bytes)
		}
	}
	return most
}

// Pinned reports whether a file is kept from eviction, whichever of its keys
// was pinned. It does no I/O.
func (s *Store) Pinned(key model.Key) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := s.keys[key]
	return s.pins[key] || c != nil && s.pinnedLocked(c)
}
