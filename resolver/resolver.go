// Package resolver answers, for one name: which model is it, and which source
// has it?
//
// Sources are asked in the order in which they are believed. Trees come first
// and have a short head start; then all the rest are asked at once, under one
// deadline. What each said adds up by the rules of verdict.go.
//
// Invariants:
//
//  1. Lookup answers within Config.LookupTimeout, whatever hangs and however
//     many ask; a namespace and a child looked up right after it share it. A
//     file that lies by itself may take lastListing more.
//  2. Absent and unknown are never confused: NotFound is returned only when
//     every source that may be asked said absent.
//  3. A name that a tree has causes no request to the network.
//  4. One question per source and name is under way at a time. It belongs to
//     the resolver; callers wait for it and may leave.
//  5. While the source that answered a name can't be asked, another one
//     answers for it only with the same weights (Config.Fallback overrides).
//  6. Locks are leaves: none is held across I/O, a channel operation or a call
//     into a source.
//
// It fetches no bytes, keeps nothing on disk but small facts (Config.Facts),
// and knows no protocol.
package resolver

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"modelfs/internal/model"
)

// A Source is a place that can say what a name is. All methods obey ctx and
// may be called in parallel.
type Source interface {
	// ID names the source in logs, status and records, e.g. "local:/srv/models".
	ID() string
	// Kind is constant; it decides the order, and what may be remembered.
	Kind() model.SourceKind
	// Find says what n is here. NotFound is absent, Denied is denied, any
	// other error is unknown.
	Find(ctx context.Context, n model.Name) (model.Found, error)
	// List lists the model that Find found under the same n.
	List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error)
	// Names lists what can be enumerated cheaply; nil where nothing can.
	// Nobody changes the slice: the same one again says that nothing changed.
	Names(ctx context.Context) ([]model.Found, error)
}

// A Renamer is a Source that gives another source's models names of its own,
// as the operator configured them.
type Renamer interface {
	// Renamed is the ID of the source that the models of n say they are of,
	// and what n stands for; both are "" if it is none of the names. A name
	// that comes to stand for something else starts anew. It does no I/O.
	Renamed(n model.Name) (source, meaning string)
}

// Facts keeps small values on this machine's disk across restarts.
type Facts interface {
	// Get decodes the value of id into v; false if there is none.
	Get(id string, v any) (bool, error)
	// Put replaces the value of id.
	Put(id string, v any) error
	// Delete removes the value of id; one that is not there is no error.
	Delete(id string) error
}

// Fallback says when a later source may stand in for the recorded one.
type Fallback string

// The values of Fallback.
const (
	FallbackSame Fallback = "same" // only with the same weights
	FallbackAny  Fallback = "any"  // always
)

// Config says whom to ask. Only Sources is required.
type Config struct {
	Sources       []Source            // sorted by kind by New; within a kind the given order counts
	LookupTimeout time.Duration       // one name; 0: 900 ms
	ListTimeout   time.Duration       // one listing; 0: 10 s
	Fallback      Fallback            // "": FallbackSame
	Confine       map[string][]string // glob of names -> kinds or IDs of the only sources to ask; see CheckConfine
	Quants        []string            // preferred quantisations, in order; nil: Q4_K_M, Q8_0
	Facts         Facts               // nil: records last as long as the process
	// Filter says what listings leave out of a model, of which quant ("" for
	// none) was asked for; nil: nothing. It does no I/O and must be fast: each
	// lookup inside a model asks it.
	Filter func(m *model.Model, quant string) Filtered
	Log    *slog.Logger // nil: nothing is logged
}

const (
	defaultLookupTimeout = 900 * time.Millisecond
	defaultListTimeout   = 10 * time.Second

	// headStart is how long trees are asked alone. A local tree answers in
	// microseconds, a healthy share in a few milliseconds.
	headStart = 30 * time.Millisecond

	// patience is the deadline for a name whose bytes are on this machine:
	// nothing complete waits for the network, and a healthy share with cold
	// caches still has its say.
	patience = 150 * time.Millisecond

	// lastListing is how long the listing of a file that lies by itself is
	// waited for at least: that the name is one may be known only when the time
	// is up. A healthy share lists one file in a few milliseconds, and the
	// second that a name may take has room for it.
	lastListing = 80 * time.Millisecond
)

var defaultQuants = []string{"Q4_K_M", "Q8_0"}

// A Resolver finds models by name. It is safe for concurrent use.
type Resolver struct {
	cfg      Config
	log      *slog.Logger
	owner    *owner
	askers   []*asker // in the order in which they are believed
	confine  confinement
	records  *records
	recorded *judge // of the records
	share    share
}

// New makes a resolver. It asks no source; it reads the index of its records
// from cfg.Facts. A pattern in cfg.Confine that CheckConfine refuses is
// logged and confines nothing but the name that is spelled like it.
func New(cfg Config) *Resolver {
	cfg = cfg.withDefaults()
	r := &Resolver{cfg: cfg, log: cfg.Log, owner: newOwner(), share: share{timeout: cfg.LookupTimeout}}
	if err := CheckConfine(cfg.Confine, cfg.Sources); err != nil {
		r.log.Error("the confinement of names is faulty", "err", err)
	}
	r.confine = newConfinement(cfg.Confine)
	r.records = newRecords(cfg.Facts, cfg.Log)
	r.recorded = newJudge(r.records.read, r.owner, cfg.Filter)
	r.owner.start(r.records.write)
	for _, s := range cfg.Sources {
		r.askers = append(r.askers, newAsker(s, r))
	}
	r.records.drop(r.outdated)
	return r
}

// outdated reports whether a record is of what its name does not stand for any
// more.
func (r *Resolver) outdated(n model.Name, source, meaning string) bool {
	a := r.asker(source)
	if a == nil {
		return false // it may be configured again
	}
	_, now := a.renamed(n)
	return now != meaning
}

// record is what is to be recorded of m, which answered n.
func (r *Resolver) record(n model.Name, m *model.Model) *record {
	rec := newRecord(m)
	for _, a := range r.askers {
		if source, meaning := a.renamed(n); meaning != "" && source == m.Source {
			rec.By, rec.Meaning = a.id, meaning
			break
		}
	}
	return rec
}

func (c Config) withDefaults() Config {
	if c.LookupTimeout <= 0 {
		c.LookupTimeout = defaultLookupTimeout
	}
	if c.ListTimeout <= 0 {
		c.ListTimeout = defaultListTimeout
	}
	if c.Fallback == "" {
		c.Fallback = FallbackSame
	}
	if c.Quants == nil {
		c.Quants = defaultQuants
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Sources = slices.Clone(c.Sources)
	slices.SortStableFunc(c.Sources, func(a, b Source) int { return int(a.Kind()) - int(b.Kind()) })
	return c
}

// Close ends every question and waits for its goroutine, and writes the last
// records. Lookups that come later are answered Unavailable.
func (r *Resolver) Close() { r.owner.close() }

// Lookup says what path ("x" or "org/x", with optional :quant and @revision)
// is. It waits no longer than Config.LookupTimeout (see invariant 1). Errors: NotFound (every
// source said absent, or no model can have the name), Denied (nobody has it
// and one refused), Unavailable (nobody has it and one could not be asked),
// Interrupted (ctx ended).
func (r *Resolver) Lookup(ctx context.Context, path string) (model.Entry, error) {
	return r.lookup(ctx, path, r.cfg.Filter)
}

func (r *Resolver) lookup(ctx context.Context, path string, runs filter) (model.Entry, error) {
	n, err := model.ParseName(path)
	if err != nil {
		return model.Entry{}, err
	}
	began := time.Now()
	q, o, err := r.resolve(ctx, n, r.share.budget(n))
	if err != nil {
		return model.Entry{}, err
	}
	if o.found.Kind == model.Namespace {
		r.share.spent(n.Repo, time.Since(began))
	}
	e := model.Entry{Name: lastSegment(path), Kind: o.found.Kind, Source: o.source, ModTime: o.found.ModTime, Settled: o.settled}
	if e.Kind == model.LooseFile {
		e.View, err = r.show(ctx, q, o, max(q.left(), lastListing), runs)
	}
	return e, err
}

// resolve asks for n and says which source has it, or why nobody does.
func (r *Resolver) resolve(ctx context.Context, n model.Name, limit time.Duration) (*inquiry, outcome, error) {
	q := r.inquire(n, limit)
	o, err := q.run(ctx)
	if err != nil {
		return q, o, fmt.Errorf("looking up %s: %w", n, err)
	}
	if o.err != nil {
		return q, o, o.err
	}
	return q, o, nil
}

func lastSegment(path string) string {
	n, err := model.ParseName(path)
	if err != nil || n.Org == "" {
		return path
	}
	return path[len(n.Org)+1:]
}

// Forget drops what is recorded and remembered of path, with any quantisation
// or revision: the next lookup starts anew.
func (r *Resolver) Forget(path string) error {
	n, err := model.ParseName(path)
	if err != nil {
		return err
	}
	r.records.forget(n.Path())
	r.unlearn(n)
	return nil
}

// Update lets path follow its branch again: the next lookup asks for the
// commit. The recorded source stays.
func (r *Resolver) Update(path string) error {
	n, err := model.ParseName(path)
	if err != nil {
		return err
	}
	r.records.unpin(n.Path())
	r.unlearn(n)
	return nil
}

func (r *Resolver) unlearn(n model.Name) {
	for _, a := range r.askers {
		a.forget(n.Path())
	}
}

// asker returns the one whose source has the ID, or nil.
func (r *Resolver) asker(id string) *asker {
	for _, a := range r.askers {
		if a.id == id {
			return a
		}
	}
	return nil
}
