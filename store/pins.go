package store

import "modelfs/internal/model"

// pinFacts is the bucket of the pinned keys. No caller's bucket can have its
// name.
func (s *Store) pinFacts() *Facts { return &Facts{s: s, dir: metaDir + "/store-pins"} }

// Pin keeps a file from eviction, across restarts, under whatever key it was
// pinned. It need not be here yet.
func (s *Store) Pin(key model.Key) error {
	if !key.Valid() {
		return model.Errorf(model.Invalid, "pin %q: not a key", key)
	}
	if err := s.pinFacts().Put(string(key), true); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pins[key] = true
	return nil
}

// Unpin lets a file be evicted again, whichever of its keys was pinned.
func (s *Store) Unpin(key model.Key) error {
	s.mu.Lock()
	keys := []model.Key{key}
	if c := s.keys[key]; c != nil {
		keys = append(keys, c.keys...)
	}
	for _, k := range keys {
		delete(s.pins, k)
	}
	s.mu.Unlock()
	for _, k := range keys {
		if err := s.pinFacts().Delete(string(k)); err != nil {
			return err
		}
	}
	return nil
}
