package resolver

import (
	"context"
	"fmt"
	"strings"
	"time"

	"modelfs/internal/model"
)

const (
	// maxQuestions bounds the questions that one source is asked at a time.
	// A thousand names at once are two rounds; a source that hangs holds no
	// more goroutines than that.
	maxQuestions = 512

	// maxVerdicts bounds the names that are remembered of one source.
	maxVerdicts = 8192
)

// How long a verdict is the answer at once. What a tree said is never
// remembered: it is cheap to ask, and a model that is copied in must be seen.
// Nor is what a router does not have: its source remembers the list, which is
// ten seconds old at most where a name is not on it.
const (
	absentHub     = time.Minute
	presentRouter = time.Minute
	presentHub    = 10 * time.Minute
)

// An asker is one source and what is remembered of it.
type asker struct {
	src      Source
	id       string
	kind     model.SourceKind
	breaker  *breaker
	slots    chan struct{}
	slotWait time.Duration
	records  *records
	verdicts *book[verdict] // by name
	listings *book[listed]  // by listingKey
	names    *book[named]   // one page, ""
	judge    *judge         // of a tree
	indexer  indexer
}

func newAsker(s Source, r *Resolver) *asker {
	a := &asker{
		src: s, id: s.ID(), kind: s.Kind(), records: r.records,
		slots: make(chan struct{}, maxQuestions), slotWait: r.cfg.LookupTimeout,
		listings: newListings(r.owner, s.Kind()), names: newNames(r.owner),
		judge: newJudge(s.List, r.owner, r.cfg.Filter),
	}
	log := r.log.With("source", a.id)
	a.breaker = newBreaker(a.kind, func(from, to string) { log.Warn("source changed state", "from", from, "to", to) })
	a.verdicts = newBook(r.owner, maxVerdicts, func(err error) reply[verdict] {
		return reply[verdict]{value: verdict{opinion: unknown, err: err, at: time.Now()}, keep: failureKept, failed: true}
	})
	return a
}

// renamed is Renamer.Renamed where the source is one.
func (a *asker) renamed(n model.Name) (source, meaning string) {
	if r, ok := a.src.(Renamer); ok {
		return r.Renamed(n)
	}
	return "", ""
}

// ask says what the source thinks of n, or starts to find out. It does not
// wait.
func (a *asker) ask(n model.Name) look[verdict] {
	return a.verdicts.ask(n.String(), func(ctx context.Context) reply[verdict] {
		v := a.find(ctx, n)
		if v.opinion == present && a.mustMatch(n, v.found) {
			v = a.matched(ctx, n, v)
		}
		v.at = time.Now()
		return reply[verdict]{value: v, keep: a.keep(v), failed: v.opinion == unknown}
	})
}

// keep is how long a verdict is remembered.
func (a *asker) keep(v verdict) time.Duration {
	switch {
	case v.opinion == unknown:
		return failureKept
	case a.kind.InPlace() || v.opinion == down || v.from != "":
		return 0 // the breaker and the records are asked each time
	case v.opinion == present && a.kind == model.Hub:
		return presentHub
	case v.opinion == present:
		return presentRouter
	case a.kind == model.Hub:
		return absentHub
	}
	return 0
}

// find is what the source says of n, but for the quantisation where that has
// to be matched with the listing.
func (a *asker) find(ctx context.Context, n model.Name) verdict {
	if rec := a.records.pin(a.id, n); rec != nil {
		return verdict{opinion: present, found: rec.found(), from: fromPin}
	}
	if a.kind == model.Hub && n.Quant != "" {
		// A repository is asked about once, whatever the quantisation.
		n.Quant = ""
		l := a.ask(n)
		v, err := wait(ctx, &l)
		if err != nil {
			return verdict{opinion: unknown, err: err}
		}
		return v
	}
	return a.question(ctx, n)
}

// question asks the source itself.
func (a *asker) question(ctx context.Context, n model.Name) verdict {
	if a.kind.InPlace() || !a.breaker.down() {
		if err := a.takeSlot(ctx); err != nil {
			return verdict{opinion: unknown, err: err}
		}
		defer func() { <-a.slots }()
	}
	report, err := a.breaker.allow()
	if err != nil {
		return verdict{opinion: down, err: err}
	}
	began := time.Now()
	hung := time.AfterFunc(silence, func() {
		report(fmt.Errorf("asking about %s: %w", n, errSilent))
	})
	defer hung.Stop()
	// A breaker that admits one question waits for what became of it, so a
	// panic is reported, too.
	err = model.Errorf(model.Internal, "panic")
	defer func() { report(err) }()
	found, err := a.src.Find(ctx, n)
	if err == nil {
		err = a.check(n, found)
	}
	return verdict{found: found, err: err, took: time.Since(began), opinion: opinionOf(err)}
}

func (a *asker) takeSlot(ctx context.Context) error {
	select {
	case a.slots <- struct{}{}:
		return nil
	default:
	}
	full := time.NewTimer(a.slotWait)
	defer full.Stop()
	select {
	case a.slots <- struct{}{}:
		return nil
	case <-full.C:
		return model.Errorf(model.Unavailable, "%d questions are under way already", maxQuestions)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// check refuses what a source can't mean.
func (a *asker) check(n model.Name, f model.Found) error {
	switch {
	case f.Kind == model.Namespace && n.Org != "":
		return model.Errorf(model.NotFound, "%s is a directory of models, deeper than a name can be", n)
	case f.Kind == model.Namespace && (n.Quant != "" || n.Revision != ""):
		return model.Errorf(model.NotFound, "%s is a namespace, which has no quantisation and no revision", n.Path())
	case f.Kind == model.LooseFile && !a.kind.InPlace():
		return model.Errorf(model.Invalid, "the source calls %s a file", n)
	}
	return nil
}

func opinionOf(err error) opinion {
	switch {
	case err == nil:
		return present
	case model.IsKind(err, model.NotFound):
		return absent
	case model.IsKind(err, model.Denied):
		return denied
	}
	return unknown
}

// mustMatch reports whether n's quantisation is still to be matched with the
// files. A tree matches it in Find, and a source whose own name for the model
// ends in it ("gpt-oss:20b") has no other.
func (a *asker) mustMatch(n model.Name, f model.Found) bool {
	return n.Quant != "" && !a.kind.InPlace() && f.Kind == model.ModelDir &&
		!strings.HasSuffix(strings.ToLower(f.Name), ":"+strings.ToLower(n.Quant))
}

// matched is v if the listing has a file of n's quantisation.
func (a *asker) matched(ctx context.Context, n model.Name, v verdict) verdict {
	l := a.list(n, v.found)
	got, err := wait(ctx, &l)
	if err == nil {
		err = got.err
	}
	if err == nil && !offers(got.model, n.Quant) {
		err = model.Errorf(model.NotFound, "%s has nothing in quantisation %s", v.found.Name, n.Quant)
	}
	if err == nil {
		return v
	}
	return verdict{opinion: opinionOf(err), err: err, took: v.took}
}

// forget drops what is remembered of the name, with any quantisation.
func (a *asker) forget(path string) {
	a.verdicts.forget(func(key string) bool {
		n, err := model.ParseName(key)
		return err != nil || n.Path() == path
	})
	if a.kind != model.Hub {
		a.listings.forget(func(key string) bool { return strings.HasPrefix(key, path+"\x00") })
	}
}

// wait is the answer of a look, or ctx's error.
func wait[T any](ctx context.Context, l *look[T]) (T, error) {
	if v, ok := l.poll(); ok {
		return v, nil
	}
	select {
	case <-l.flight.done:
		return l.flight.value, nil
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
