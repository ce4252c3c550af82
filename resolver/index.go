package resolver

import (
	"sync"

	"modelfs/internal/model"
)

// An index is what a source listed, by namespace. It is immutable.
type index struct {
	of []model.Found
	by map[string][]indexed // by namespace; "": names without one
}

// An indexed is one name of the list.
type indexed struct {
	name model.Name
	at   int // in the list
}

// An indexer keeps the index of the last list: a tree of which nothing has
// changed returns the same one.
type indexer struct {
	mu   sync.Mutex // guards last
	last *index
}

// index is the index of found, less the names that allowed refuses.
func (x *indexer) index(found []model.Found, allowed func(model.Name) bool) *index {
	x.mu.Lock()
	last := x.last
	x.mu.Unlock()
	if last != nil && sameList(last.of, found) {
		return last
	}
	now := &index{of: found, by: make(map[string][]indexed)}
	for i, f := range found {
		if n, err := model.ParseName(f.Name); err == nil && allowed(n) {
			now.by[n.Org] = append(now.by[n.Org], indexed{n, i})
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last = now
	return now
}

// sameList reports whether both are one list, which nobody changes.
func sameList(a, b []model.Found) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
