package resolver

import (
	"context"
	"maps"
)

// nudge says that there is something to write.
func (r *records) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// write writes behind until ctx ends, and then once more.
func (r *records) write(ctx context.Context) {
	for {
		select {
		case <-r.wake:
			r.flush()
		case <-ctx.Done():
			r.flush()
			return
		}
	}
}

// flush writes what is dirty, records before the index that names them.
func (r *records) flush() {
	r.mu.Lock()
	dirty := make(map[string]*record, len(r.dirty))
	for id := range r.dirty {
		dirty[id] = r.loaded[id] // nil: removed
	}
	clear(r.dirty)
	index := maps.Clone(r.index)
	r.mu.Unlock()
	if r.facts == nil || len(dirty) == 0 {
		return
	}
	for id, rec := range dirty {
		r.logged(id, r.writeOne(id, rec))
	}
	r.logged(indexID, r.facts.Put(indexID, index))
}

func (r *records) writeOne(id string, rec *record) error {
	if rec == nil {
		return r.facts.Delete(id)
	}
	return r.facts.Put(id, rec)
}

func (r *records) logged(id string, err error) {
	if err != nil {
		r.log.Error("a record of a name could not be written; it lasts until the end of the process", "record", id, "err", err)
	}
}
