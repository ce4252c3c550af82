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

// flush writes what is dirty, and what could not be written before, records
// before the index that names them.
func (r *records) flush() {
	r.mu.Lock()
	fresh := r.dirty
	r.dirty = make(map[string]bool)
	if r.facts == nil {
		fresh = nil
	}
	maps.Copy(r.unsaved, fresh)
	todo := make(map[string]*record, len(r.unsaved))
	for id := range r.unsaved {
		todo[id] = r.loaded[id] // nil: removed
	}
	index := maps.Clone(r.index)
	r.mu.Unlock()
	if len(todo) == 0 {
		return
	}
	for id, rec := range todo {
		if err := r.writeOne(id, rec); err != nil {
			delete(todo, id)
			r.logged(id, err, fresh[id])
		}
	}
	if err := r.facts.Put(indexID, index); err != nil {
		clear(todo)
		r.logged(indexID, err, len(fresh) > 0)
	}
	r.saved(todo)
}

// saved notes that records, and an index that names them, are on disk.
func (r *records) saved(ids map[string]*record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range ids {
		delete(r.unsaved, id)
	}
	r.unloadLocked("")
}

func (r *records) writeOne(id string, rec *record) error {
	if rec == nil {
		return r.facts.Delete(id)
	}
	return r.facts.Put(id, rec)
}

// logged says that a record could not be written, if it is the first time.
func (r *records) logged(id string, err error, first bool) {
	if first {
		r.log.Error("a record of a name could not be written; it is tried again with the next change", "record", id, "err", err)
	}
}
