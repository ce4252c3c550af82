package resolver

import (
	"context"
	"fmt"
	"time"

	"modelfs/internal/model"
)

const (
	// maxListed bounds the files of all listings that are remembered of one
	// source, some 300 bytes each.
	maxListed = 200_000

	// forCommit is how long the listing of a commit is good: for ever.
	forCommit = 100 * 365 * 24 * time.Hour

	// listedFor is how long a listing without a revision is good; after that
	// it is refreshed behind.
	listedFor = time.Minute
)

// listed is the outcome of a listing.
type listed struct {
	model *model.Model // if err is nil
	err   error
}

func newListings(o *owner, kind model.SourceKind) *book[listed] {
	b := newBook(o, maxListed, func(err error) reply[listed] {
		return reply[listed]{value: listed{err: err}, keep: failureKept, failed: true}
	})
	b.stale = !kind.InPlace()
	b.weigh = func(l listed) int {
		if l.model == nil {
			return 1
		}
		return 1 + len(l.model.Files)
	}
	return b
}

// listingKey is what a listing depends on. A commit's is the same for every
// quantisation; without one the source itself may look at it.
func listingKey(n model.Name, f model.Found) string {
	quant := ""
	if f.Revision == "" {
		quant = n.Quant
	}
	return n.Path() + "\x00" + f.Name + "\x00" + f.Revision + "\x00" + quant
}

// list lists what the source found, or starts to. It does not wait.
func (a *asker) list(n model.Name, f model.Found) look[listed] {
	l := a.listings.ask(listingKey(n, f), func(ctx context.Context) reply[listed] {
		if rec := a.records.listing(a.id, n, f); rec != nil {
			return reply[listed]{value: listed{model: rec.model()}, keep: forCommit}
		}
		m, err := a.src.List(ctx, n, f)
		if err == nil && m == nil {
			err = model.Errorf(model.Invalid, "the source lists nothing")
		}
		rep := reply[listed]{value: listed{m, err}, keep: failureKept, failed: err != nil}
		switch {
		case err != nil:
			rep.value.model = nil
		case a.kind.InPlace():
			rep.keep = 0
		case f.Revision != "":
			rep.keep = forCommit
		default:
			rep.keep = listedFor
		}
		return rep
	})
	if !l.have && l.stale != nil {
		l.value, l.have, l.cached = *l.stale, true, true
	}
	return l
}

// View lists the model at path. It waits for the listing no longer than
// Config.ListTimeout after the lookup. Errors are those of Lookup; a path that
// is a namespace is NotFound.
func (r *Resolver) View(ctx context.Context, path string) (*model.View, error) {
	return r.view(ctx, path, r.cfg.Filter)
}

func (r *Resolver) view(ctx context.Context, path string, runs filter) (*model.View, error) {
	n, err := model.ParseName(path)
	if err != nil {
		return nil, err
	}
	for last := false; ; last = true {
		q, o, err := r.resolve(ctx, n, r.cfg.LookupTimeout)
		if err != nil {
			return nil, err
		}
		if o.found.Kind == model.Namespace {
			return nil, model.Errorf(model.NotFound, "%s is a namespace, not a model", n)
		}
		v, err := r.show(ctx, q, o, r.cfg.ListTimeout, runs)
		if !last && model.IsKind(err, model.NotFound) {
			// It is gone since it was found: whoever comes next in order may have it.
			r.unlearn(n)
			continue
		}
		return v, err
	}
}

// show makes the view of an outcome that is a model, and records it.
func (r *Resolver) show(ctx context.Context, q *inquiry, o outcome, timeout time.Duration, runs filter) (*model.View, error) {
	m, err := r.listing(ctx, q, o, timeout)
	if err != nil {
		return nil, err
	}
	q.remember(o, m)
	v := &model.View{Model: m, Settled: o.settled, Hidden: runs.of(m, q.n.Quant).Hidden}
	v.Default, _ = defaultFile(m.Files, v.Hidden, q.n.Quant, r.cfg.Quants)
	return v, nil
}

func (r *Resolver) listing(ctx context.Context, q *inquiry, o outcome, timeout time.Duration) (*model.Model, error) {
	if o.record != nil {
		return o.record.model(), nil
	}
	if m := q.seats[o.winner].compared; m != nil {
		return m, nil
	}
	a := q.seats[o.winner].a
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	l := a.list(q.n, o.found)
	if _, have := l.poll(); !have && l.silent {
		return nil, model.Errorf(model.Unavailable, "listing %s: %s was silent within the last second, and is asked again behind", q.n, a.id)
	}
	got, err := wait(limited, &l)
	if err != nil {
		if ctx.Err() == nil {
			a.listings.giveUp(listingKey(q.n, o.found), l.flight)
			err = model.Errorf(model.Unavailable, "no answer within %v", timeout)
		}
		return nil, fmt.Errorf("listing %s at %s: %w", q.n, a.id, err)
	}
	if got.err != nil {
		return nil, fmt.Errorf("listing %s at %s: %w", q.n, a.id, got.err)
	}
	return got.model, nil
}

// remember records who answered the name, unless the answer stands in for
// that of the source that is recorded.
func (q *inquiry) remember(o outcome, m *model.Model) {
	if o.record != nil || q.standsIn(o.winner, q.final) {
		return
	}
	q.r.records.answered(q.n, q.r.record(q.n, m))
}

// Stored says that the first byte of m, which was viewed under path, is in
// the backing dir: path keeps m's commit from now on, and m stays usable
// without its source. It does not wait for the disk.
func (r *Resolver) Stored(path string, m *model.Model) {
	n, err := model.ParseName(path)
	if err != nil || m.Kind.InPlace() {
		return
	}
	r.records.keep(n, r.record(n, m))
}
