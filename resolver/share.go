package resolver

import (
	"sync"
	"time"

	"modelfs/internal/model"
)

// childShare is the part of the lookup timeout that a child of a namespace is
// sure of: a third, 300 ms by default. The namespace has to be decided in the
// rest, so that the two lookups of one path end within one timeout.
const childShare = 3

// maxShares bounds the namespaces that are remembered.
const maxShares = 4096

// A share remembers how long namespaces took to be looked up, for children
// that come right after.
type share struct {
	timeout time.Duration // of a lookup; a child that comes later than that is a question of its own

	mu    sync.Mutex // guards spans
	spans map[string]span
}

type span struct {
	took  time.Duration // the longest of the lookups that ended lately
	ended time.Time
}

// spent notes a lookup of a namespace.
func (s *share) spent(org string, took time.Duration) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spans == nil || len(s.spans) >= maxShares {
		s.spans = make(map[string]span)
	}
	if old, ok := s.spans[org]; ok && old.took > took && now.Sub(old.ended) < s.timeout {
		took = old.took
	}
	s.spans[org] = span{took, now}
}

// budget is how long a lookup of n may take: the timeout, or what a lookup of
// its namespace just before has left of it.
func (s *share) budget(n model.Name) time.Duration {
	if n.Org == "" {
		return s.timeout
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sp, ok := s.spans[n.Org]
	if !ok || time.Since(sp.ended) >= s.timeout {
		return s.timeout
	}
	return max(s.timeout-sp.took, s.timeout/childShare)
}
