package resolver

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"modelfs/internal/model"
)

const (
	// maxRecords bounds the names that are recorded; beyond it the one that
	// was recorded longest ago and has no bytes here is dropped.
	maxRecords = 10_000

	// maxLoaded bounds the records that are held with their listings.
	maxLoaded = 64

	// maxHeld bounds the files of the listings that are held, some 500 bytes
	// each. What the disk does not take counts, too.
	maxHeld = 50_000

	indexID = "index"
)

// A header is what is held in memory of every record.
type header struct {
	Name    string // as it was asked
	Source  string // that answered
	Meaning string `json:",omitempty"` // as in record
	Kind    model.SourceKind
	ModTime time.Time
	Stored  bool
	Pin     bool // it says which commit Name means at Source, not who answers Name
	At      time.Time
}

// records is what is known of names across restarts: which source answered,
// with its listing, and which commit a branch meant when its first byte was
// stored. Writes are made behind, in the order of the index.
type records struct {
	facts Facts // nil: memory only
	log   *slog.Logger
	wake  chan struct{} // holds one token while there is something to write

	mu     sync.Mutex // guards what follows
	index  map[string]header
	byPath map[string]map[string]bool // path of a name -> IDs of its records
	byOrg  map[string]int             // organisation -> number of records below it
	loaded map[string]*record
	dirty  map[string]bool // IDs that differ from the disk; their records are loaded or gone
	// unsaved are those that are being written, or could not be. They, too, are
	// loaded or gone: the disk has something else.
	unsaved map[string]bool
}

func nameID(n model.Name) string { return "name:" + n.String() }

func pinID(source string, n model.Name) string { return "pin:" + source + " " + n.Path() }

func newRecords(facts Facts, log *slog.Logger) *records {
	r := &records{
		facts: facts, log: log, wake: make(chan struct{}, 1),
		byPath: make(map[string]map[string]bool), byOrg: make(map[string]int),
		index: make(map[string]header), loaded: make(map[string]*record), dirty: make(map[string]bool), unsaved: make(map[string]bool),
	}
	index := make(map[string]header)
	if facts != nil {
		if _, err := facts.Get(indexID, &index); err != nil {
			log.Error("the records of names can't be read; names start anew", "err", err)
		}
	}
	for id, h := range index {
		if _, err := model.ParseName(h.Name); err == nil {
			r.addLocked(id, h)
		}
	}
	return r
}

func (r *records) addLocked(id string, h header) {
	n, _ := model.ParseName(h.Name)
	if _, have := r.index[id]; !have {
		if r.byPath[n.Path()] == nil {
			r.byPath[n.Path()] = make(map[string]bool)
		}
		r.byPath[n.Path()][id] = true
		r.byOrg[n.Org]++
	}
	r.index[id] = h
}

func (r *records) removeLocked(id string) {
	h, have := r.index[id]
	if !have {
		return
	}
	n, _ := model.ParseName(h.Name)
	delete(r.index, id)
	delete(r.loaded, id)
	delete(r.byPath[n.Path()], id)
	if len(r.byPath[n.Path()]) == 0 {
		delete(r.byPath, n.Path())
	}
	if r.byOrg[n.Org]--; r.byOrg[n.Org] == 0 {
		delete(r.byOrg, n.Org)
	}
	r.dirty[id] = true
}

// drop drops the records of which outdated says so.
func (r *records) drop(outdated func(n model.Name, source, meaning string) bool) {
	r.mu.Lock()
	for id, h := range maps.Clone(r.index) {
		if n, _ := model.ParseName(h.Name); outdated(n, h.Source, h.Meaning) {
			r.removeLocked(id)
		}
	}
	r.mu.Unlock()
	r.nudge()
}

// get returns the record of an ID, or nil. It may read the disk, for names
// that are recorded only.
func (r *records) get(id string) *record {
	r.mu.Lock()
	rec := r.loaded[id]
	_, have := r.index[id]
	r.mu.Unlock()
	if rec != nil || !have || r.facts == nil {
		return rec
	}
	rec = &record{}
	ok, err := r.facts.Get(id, rec)
	if err != nil {
		r.log.Error("a record can't be read; its name starts anew", "record", id, "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h, have := r.index[id]
	switch {
	case !have:
		return nil
	case r.loaded[id] != nil:
		return r.loaded[id] // put meanwhile
	case !ok || err != nil || rec.by() != h.Source:
		return nil
	}
	r.loaded[id] = rec
	r.unloadLocked(id)
	return rec
}

// inMemory is the record of n's own, if it is held with its listing, else nil.
func (r *records) inMemory(n model.Name) *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loaded[nameID(n)]
}

// unloaded are the names whose listings are on disk only.
func (r *records) unloaded() []model.Found {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []model.Found
	for id, h := range r.index {
		if r.loaded[id] == nil && !h.Pin && !h.Kind.InPlace() {
			list = append(list, model.Found{Kind: model.ModelDir, Name: h.Name, ModTime: h.At})
		}
	}
	return list
}

// read is the recorded listing of n. Other than get it does not keep it.
func (r *records) read(_ context.Context, n model.Name, _ model.Found) (*model.Model, error) {
	rec := r.inMemory(n)
	if rec == nil && r.facts != nil {
		rec = &record{}
		if _, err := r.facts.Get(nameID(n), rec); err != nil {
			return nil, err
		}
	}
	if rec == nil || !rec.usable() {
		return nil, model.Errorf(model.NotFound, "nothing is recorded that could be listed of %s", n)
	}
	return rec.model(), nil
}

// unloadLocked lets go of listings that are safe on disk, and drops records
// that are not where these alone are too much.
func (r *records) unloadLocked(keep string) {
	if r.facts == nil {
		return
	}
	files := 0
	for _, rec := range r.loaded {
		files += rec.held()
	}
	for id, rec := range r.loaded {
		if len(r.loaded) <= maxLoaded && files <= maxHeld {
			return
		}
		if id != keep && !r.dirty[id] && !r.unsaved[id] {
			files -= rec.held()
			delete(r.loaded, id)
		}
	}
	for files > maxHeld {
		id := r.oldestLocked(maps.Keys(r.loaded), keep)
		if id == "" {
			return
		}
		files -= r.loaded[id].held()
		r.removeLocked(id)
		r.nudge()
	}
}

// oldestLocked is the one of ids that was recorded longest ago and has no bytes
// here, or "".
func (r *records) oldestLocked(ids iter.Seq[string], keep string) string {
	oldest := ""
	for id := range ids {
		if h := r.index[id]; id != keep && !h.Stored && (oldest == "" || h.At.Before(r.index[oldest].At)) {
			oldest = id
		}
	}
	return oldest
}

// of is the record that binds n: its own, or for a name with a quantisation
// that of the repository it is chosen from.
func (r *records) of(n model.Name) *record {
	if rec := r.get(nameID(n)); rec != nil || n.Quant == "" {
		return rec
	}
	quant := n.Quant
	n.Quant = ""
	rec := r.get(nameID(n))
	if rec == nil || !rec.usable() || !offers(rec.model(), quant) {
		return nil
	}
	return rec
}

// pin is the record of the commit that n means at a source since its first
// byte was stored, or nil.
func (r *records) pin(source string, n model.Name) *record {
	if n.Revision != "" {
		return nil
	}
	return r.get(pinID(source, n))
}

// anyPin is a pin of n at whatever source, or nil.
func (r *records) anyPin(n model.Name) *record {
	r.mu.Lock()
	var pin string
	for id := range r.byPath[n.Path()] {
		if r.index[id].Pin && (pin == "" || id < pin) {
			pin = id
		}
	}
	r.mu.Unlock()
	if pin == "" || n.Revision != "" {
		return nil
	}
	return r.get(pin)
}

// listing is a recorded listing of the model at the revision, or nil.
func (r *records) listing(source string, n model.Name, f model.Found) *record {
	if f.Revision == "" {
		return nil
	}
	for _, id := range []string{pinID(source, n), nameID(n), nameID(model.Name{Org: n.Org, Repo: n.Repo})} {
		if rec := r.get(id); rec != nil && rec.usable() && rec.by() == source && rec.Revision == f.Revision {
			return rec
		}
	}
	return nil
}

// stored reports whether bytes of n, or of a model in the namespace n, are on
// this machine.
func (r *records) stored(n model.Name) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.byPath[n.Path()] {
		if r.index[id].Stored {
			return true
		}
	}
	if n.Org != "" || r.byOrg[n.Repo] == 0 {
		return false
	}
	for _, h := range r.index {
		if h.Stored && strings.HasPrefix(h.Name, n.Repo+"/") {
			return true
		}
	}
	return false
}

// holds reports whether a name in the namespace org is recorded.
func (r *records) holds(org string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return org != "" && r.byOrg[org] > 0
}

// headers are those of all records.
func (r *records) headers() []header {
	r.mu.Lock()
	defer r.mu.Unlock()
	hs := make([]header, 0, len(r.index))
	for _, h := range r.index {
		hs = append(hs, h)
	}
	return hs
}

// answered records who answered n. Stored stays while the model is the same.
func (r *records) answered(n model.Name, rec *record) {
	if old := r.get(nameID(n)); old != nil {
		if old.equal(rec) {
			return
		}
		rec.Stored = old.Stored && old.sameModel(rec)
	}
	r.put(nameID(n), n.String(), false, rec)
}

// keep records that bytes of rec are here now. The commit of an unpinned name
// is kept from then on. A model that stands in for another source's does not
// replace its record: whoever comes next must agree with that one, too.
func (r *records) keep(n model.Name, rec *record) {
	rec.Stored = true
	old := r.get(nameID(n))
	if old == nil || old.by() == rec.by() && !(old.Stored && old.sameModel(rec)) {
		r.put(nameID(n), n.String(), false, rec)
	}
	if n.Revision == "" && rec.Revision != "" && r.pin(rec.by(), n) == nil {
		r.put(pinID(rec.by(), n), n.Path(), true, rec)
	}
}

func (r *records) put(id, name string, pin bool, rec *record) {
	r.mu.Lock()
	r.addLocked(id, header{Name: name, Source: rec.by(), Meaning: rec.Meaning, Kind: rec.Kind, ModTime: rec.ModTime, Stored: rec.Stored, Pin: pin, At: time.Now()})
	r.loaded[id] = rec
	r.dirty[id] = true
	r.shrinkLocked(id)
	r.unloadLocked(id)
	r.mu.Unlock()
	r.nudge()
}

// shrinkLocked keeps the number of records bounded.
func (r *records) shrinkLocked(keep string) {
	if len(r.index) <= maxRecords {
		return
	}
	r.removeLocked(r.oldestLocked(maps.Keys(r.index), keep))
}

// forget drops every record of a path.
func (r *records) forget(path string) {
	r.mu.Lock()
	for id := range maps.Clone(r.byPath[path]) {
		r.removeLocked(id)
	}
	r.mu.Unlock()
	r.nudge()
}

// unpin drops the pins of a path. What is stored is of an old commit then.
func (r *records) unpin(path string) {
	r.mu.Lock()
	ids := maps.Clone(r.byPath[path])
	for id := range ids {
		if r.index[id].Pin {
			r.removeLocked(id)
			delete(ids, id)
		}
	}
	r.mu.Unlock()
	for id := range ids {
		if rec := r.get(id); rec != nil && rec.Stored {
			old := *rec
			old.Stored = false
			r.put(id, strings.TrimPrefix(id, "name:"), false, &old)
		}
	}
	r.nudge()
}
