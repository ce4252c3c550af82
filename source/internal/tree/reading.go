package tree

import (
	"errors"
	"sync"
	"time"
)

// A Reading is what something was made from: directories and small files, with
// the stamps that they had before they were read.
type Reading []Read

// A Read is one of them.
type Read struct {
	Path  string
	Stamp Stamp
}

// Current reports whether all of it is as it was: one stat each.
func (r Reading) Current(t *Tree) bool {
	for _, one := range r {
		if now, err := t.FileStamp(one.Path); err != nil || now != one.Stamp {
			return false
		}
	}
	return true
}

// SettledAll reports whether what was read at readAt may be remembered.
func (t *Tree) SettledAll(r Reading, readAt time.Time) bool {
	for _, one := range r {
		if !t.Settled(one.Stamp, readAt) {
			return false
		}
	}
	return true
}

// Each calls f for 0 to n-1, from that many workers at the same time: on a
// share that many system calls are under way, which bounds what the guard does
// not. A worker stops at its first error.
func Each(n, workers int, f func(i int) error) error {
	workers = max(1, min(workers, n))
	errs := make([]error, workers)
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			for i := w; i < n && errs[w] == nil; i += workers {
				errs[w] = f(i)
			}
		})
	}
	working.Wait()
	return errors.Join(errs...)
}
