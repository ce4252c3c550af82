package resolver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"modelfs/internal/model"
)

// namedFor is how long the names of a router are good; after that they are
// refreshed behind. Those of a tree are read each time.
const namedFor = time.Minute

// firstNames is how long a shared tree is waited for that has not listed
// anything so far: without its models the directory would be a lie. It is slow
// to start on a busy machine; that it hangs it says itself, long before that.
// Of a local tree nobody can tell which it is.
const firstNames = silence

// named is the outcome of listing a source's names.
type named struct {
	found []model.Found // if err is nil
	err   error
}

func newNames(o *owner) *book[named] {
	b := newBook(o, 1, func(err error) reply[named] {
		return reply[named]{value: named{err: err}, keep: failureKept, failed: true}
	})
	b.stale = true
	return b
}

// enumerate lists the names of the source, or starts to. It does not wait.
func (a *asker) enumerate() look[named] {
	return a.names.ask("", func(ctx context.Context) reply[named] {
		found, err := a.src.Names(ctx)
		rep := reply[named]{value: named{found, err}, keep: namedFor}
		switch {
		case err != nil:
			rep.keep, rep.failed = failureKept, true
		case a.kind.InPlace():
			rep.keep = 0
		}
		return rep
	})
}

// Entries lists the root ("") or a namespace: the names that trees and routers
// state, those that the operator configured, and those that are recorded, less
// the models that Config.Filter says don't run here. Which these are of a tree
// or of the records is decided within a tenth of a second; what is not decided
// then is listed, and decided behind. It asks nobody for an entry of it, and
// waits no longer than Config.LookupTimeout, for shared trees that have listed nothing
// yet 3 s; what a source said last stands for what it does not say in time.
// The entries are sorted by name; the error
// is NotFound for a dir that no namespace can be, Interrupted if ctx ended.
func (r *Resolver) Entries(ctx context.Context, dir string) ([]model.Entry, error) {
	return r.entries(ctx, dir, r.cfg.Filter)
}

func (r *Resolver) entries(ctx context.Context, dir string, runs filter) ([]model.Entry, error) {
	if dir != "" && !model.ValidEntry(dir) {
		return nil, model.Errorf(model.NotFound, "%q can't be a namespace", dir)
	}
	began := time.Now()
	g := gathering{r: r, dir: dir, runs: runs, settled: true, entries: make(map[string]model.Entry), left: make(map[string]bool)}
	limited, cancel := context.WithTimeout(ctx, r.cfg.LookupTimeout)
	defer cancel()
	first, done := context.WithTimeout(ctx, max(firstNames, r.cfg.LookupTimeout))
	defer done()
	looks := make([]look[named], len(r.askers))
	for i, a := range r.askers {
		if a.kind.InPlace() || !a.breaker.down() {
			looks[i] = a.enumerate()
		}
	}
	told := make(map[string]bool)
	lists := make([][]model.Found, len(r.askers))
	var rounds []<-chan struct{}
	for i, a := range r.askers {
		wait := limited
		if a.kind == model.Shared && looks[i].stale == nil {
			wait = first
		}
		found, fresh := a.awaitNames(wait, &looks[i])
		if ctx.Err() != nil {
			return nil, fmt.Errorf("listing %q: %w", dir, ctx.Err())
		}
		told[a.id], lists[i] = fresh, found
		if round := a.decide(found, runs); round != nil {
			rounds = append(rounds, round)
		}
	}
	if round := r.decideRecords(runs); round != nil {
		rounds = append(rounds, round)
	}
	awaitRounds(ctx, rounds, min(deciding, time.Until(began.Add(decidedBy))))
	for i, a := range r.askers {
		g.settled = g.settled && (told[a.id] || a.kind == model.Hub)
		g.addAll(a, lists[i])
	}
	g.addRecords(told)
	return g.sorted(), nil
}

// awaitNames is what the source lists; fresh is false where it is only what it
// listed last, or nothing.
func (a *asker) awaitNames(ctx context.Context, l *look[named]) (found []model.Found, fresh bool) {
	if got, have := l.poll(); have && got.err == nil {
		return got.found, true
	}
	worth := !l.have && l.flight != nil && !l.silent && !a.breaker.down()
	if worth && (l.stale == nil || a.kind.InPlace()) {
		got, err := wait(ctx, l)
		if err == nil && got.err == nil {
			return got.found, true
		}
		if err != nil {
			a.names.giveUp("", l.flight)
		}
	}
	if l.stale != nil {
		return l.stale.found, false
	}
	return nil, false
}

// A gathering collects the entries of one directory. What is added first wins.
type gathering struct {
	r       *Resolver
	dir     string
	runs    filter
	settled bool
	entries map[string]model.Entry
	left    map[string]bool // names of models that don't run here: no other source's is listed for them
	broken  []model.Entry   // added last: any other source's is better
}

// addAll adds what one source lists, and the namespaces that it implies.
func (g *gathering) addAll(a *asker, found []model.Found) {
	x := a.indexer.index(found, func(n model.Name) bool { return g.r.confine.allows(n, a.id, a.kind) })
	for _, i := range x.by[g.dir] {
		g.addOne(a, i.name, found[i.at])
	}
	if g.dir != "" {
		return
	}
	for org, in := range x.by {
		if org == "" {
			continue
		}
		for _, i := range in { // until one shows that the namespace is worth a look
			if g.addOne(a, i.name, found[i.at]) {
				break
			}
		}
	}
}

// addOne adds what a name is in the directory, and reports whether any further
// name could add no better one.
func (g *gathering) addOne(a *asker, n model.Name, f model.Found) bool {
	if !a.shows(n, f, g.runs) {
		g.leave(n, f.Kind)
		return false
	}
	e := model.Entry{Kind: f.Kind, Source: a.id, ModTime: f.ModTime, Settled: g.settled}
	if f.Broken == "" {
		g.add(n, e)
		return true
	}
	if name, kind, ok := g.place(n, f.Kind); ok {
		e.Name, e.Kind = name, kind
		g.broken = append(g.broken, e)
	}
	return false
}

// place says what a name is in the directory: itself, or the namespace that it
// implies.
func (g *gathering) place(n model.Name, kind model.EntryKind) (string, model.EntryKind, bool) {
	switch {
	case n.Org == g.dir:
		return strings.TrimPrefix(n.String(), n.Org+"/"), kind, true
	case g.dir == "":
		return n.Org, model.Namespace, true
	}
	return "", 0, false
}

// leave leaves a model out. A namespace is left out with the last model in it.
func (g *gathering) leave(n model.Name, kind model.EntryKind) {
	if name, kind, ok := g.place(n, kind); ok && kind != model.Namespace {
		g.left[name] = true
	}
}

func (g *gathering) add(n model.Name, e model.Entry) {
	name, kind, ok := g.place(n, e.Kind)
	if !ok {
		return
	}
	if _, have := g.entries[name]; have || g.left[name] {
		return
	}
	e.Name, e.Kind = name, kind
	if kind == model.Namespace {
		e.ModTime = time.Time{} // that of one model in it says nothing
	}
	g.entries[name] = e
}

// addRecords adds what is recorded of sources that list nothing now. What a
// source did not list when it was asked is not there any more.
func (g *gathering) addRecords(told map[string]bool) {
	hs := g.r.records.headers()
	slices.SortFunc(hs, func(a, b header) int { return strings.Compare(a.Name, b.Name) })
	for _, h := range hs {
		a := g.r.asker(h.Source)
		n, err := model.ParseName(h.Name)
		gone := a == nil && (!h.Stored || h.Kind.InPlace())
		if err != nil || gone || told[h.Source] && h.Kind != model.Hub || !g.r.confine.allows(n, h.Source, h.Kind) {
			continue
		}
		shown := g.r.showsRecord(n, g.runs)
		n.Quant = ""
		if !shown {
			continue
		}
		kind := model.ModelDir
		if h.Kind.InPlace() && n.Org == "" && model.LooksLikeFile(n.Repo) {
			kind = model.LooseFile
		}
		g.add(n, model.Entry{Kind: kind, Source: h.Source, ModTime: h.ModTime, Settled: g.settled && a != nil})
	}
}

func (g *gathering) sorted() []model.Entry {
	for _, e := range g.broken {
		if _, have := g.entries[e.Name]; !have && !g.left[e.Name] {
			g.entries[e.Name] = e
		}
	}
	list := make([]model.Entry, 0, len(g.entries))
	for _, name := range slices.Sorted(maps.Keys(g.entries)) {
		list = append(list, g.entries[name])
	}
	return list
}
