package resolver

import (
	"slices"

	"modelfs/internal/model"
)

// Known is the recorded listing of path, as it would be served if no source
// could be asked; nil where none is recorded, and for models that are read in
// place. It asks nobody; it may read this machine's disk.
func (r *Resolver) Known(path string) *model.Model {
	n, err := model.ParseName(path)
	if err != nil {
		return nil
	}
	rec := r.records.of(n)
	if rec != nil {
		if pin := r.records.pin(rec.by(), n); pin != nil {
			rec = pin
		}
	} else if rec = r.records.anyPin(n); rec == nil && n.Quant == "" && n.Revision == "" {
		rec = r.records.anyQuant(n)
	}
	if rec == nil || !rec.usable() {
		return nil
	}
	return rec.model()
}

// anyQuant is a record of n with some quantisation and no revision, or nil:
// they all list the same files.
func (r *records) anyQuant(n model.Name) *record {
	r.mu.Lock()
	var ids []string
	for id := range r.byPath[n.Path()] {
		if asked, err := model.ParseName(r.index[id].Name); err == nil && asked.Revision == "" && !r.index[id].Pin {
			ids = append(ids, id)
		}
	}
	r.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	return r.get(slices.Min(ids))
}
