package resolver

import (
	"context"
	"sync"
	"time"

	"modelfs/internal/model"
)

const (
	// deciding is how long one listing waits for what is not decided yet of
	// its names. A local tree decides some thousand models in that time.
	deciding = 100 * time.Millisecond

	// decidedBy is how long after its beginning a listing waits no more for
	// that: reading the names of 10,000 models has taken its time, too, and
	// all of it is to take less than 300 ms.
	decidedBy = 220 * time.Millisecond

	// decidedFor is how long it is believed that a model runs here or does
	// not; then it is decided again behind. A change below a model's directory
	// may not change the directory's own time.
	decidedFor = time.Minute
)

// Filtered is what listings leave out of a model.
type Filtered struct {
	Hidden map[string]bool // paths that are not listed; nil: none. Nobody changes it
	Runs   bool            // false: nothing of it runs here, the root and namespaces don't list it
	Why    string          // what is left out and why; "" for nothing
}

// A filter says what listings leave out; nil: nothing, and all models run.
type filter func(m *model.Model, quant string) Filtered

func (f filter) of(m *model.Model, quant string) Filtered {
	if f == nil {
		return Filtered{Runs: true}
	}
	return f(m, quant)
}

// A judge remembers which models of one tree, or of the records, run here.
// Models are decided by their listings, behind, one after the other.
type judge struct {
	list  func(ctx context.Context, n model.Name, f model.Found) (*model.Model, error)
	owner *owner
	runs  filter

	mu      sync.Mutex // guards what follows
	decided map[string]decision
	round   chan struct{} // closed when the decisions under way are made; nil: there are none
	clean   []model.Found // a list of which all is decided, until due; nil: none is known
	due     time.Time
}

type decision struct {
	modTime time.Time
	at      time.Time
	runs    bool
}

func newJudge(list func(context.Context, model.Name, model.Found) (*model.Model, error), o *owner, f filter) *judge {
	return &judge{list: list, owner: o, runs: f, decided: make(map[string]decision)}
}

// begin starts to decide what is not decided of all that is there, and returns what to wait for; nil: nothing. It does not wait.
func (j *judge) begin(found []model.Found) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.round != nil {
		return j.round
	}
	now := time.Now()
	if sameList(j.clean, found) && now.Before(j.due) {
		return nil
	}
	var open []model.Found
	wait, due := false, now.Add(decidedFor)
	for _, f := range found {
		d, ok := j.decided[f.Name]
		known := ok && d.modTime.Equal(f.ModTime)
		switch again := d.at.Add(decidedFor); {
		case f.Kind == model.Namespace:
		case !known || !now.Before(again):
			open = append(open, f)
			wait = wait || !known
		case again.Before(due):
			due = again
		}
	}
	if open == nil {
		j.clean, j.due = found, due
		return nil
	}
	j.clean = nil
	if len(j.decided) > 2*len(found) {
		clear(j.decided) // most of it is of models that are gone
	}
	round := make(chan struct{})
	j.round = round
	if !j.owner.start(func(ctx context.Context) { j.decide(ctx, open, round) }) {
		j.round = nil
		return nil
	}
	if !wait {
		return nil
	}
	return round
}

// decide makes the decisions of one round. A model that can't be listed is
// shown.
func (j *judge) decide(ctx context.Context, open []model.Found, round chan struct{}) {
	defer func() {
		j.mu.Lock()
		j.round = nil
		j.mu.Unlock()
		close(round)
	}()
	for _, f := range open {
		n, err := model.ParseName(f.Name)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			continue
		}
		runs := j.decideOne(ctx, n, f)
		j.mu.Lock()
		j.decided[f.Name] = decision{f.ModTime, time.Now(), runs}
		j.mu.Unlock()
	}
}

// decideOne survives what a listing from outside does to its source: a model
// that nobody can read must not end the daemon.
func (j *judge) decideOne(ctx context.Context, n model.Name, f model.Found) (runs bool) {
	defer func() {
		if recover() != nil {
			runs = true
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	m, err := j.list(ctx, n, f)
	return err != nil || m == nil || j.runs(m, "").Runs
}

// decide has the judge of a tree decide what of its list is not decided, and
// returns what to wait for; nil: nothing.
func (a *asker) decide(found []model.Found, runs filter) <-chan struct{} {
	if runs == nil || !a.kind.InPlace() {
		return nil
	}
	return a.judge.begin(found)
}

// awaitRounds waits for decisions, no longer than limit.
func awaitRounds(ctx context.Context, rounds []<-chan struct{}, limit time.Duration) {
	if len(rounds) == 0 || limit <= 0 {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for _, round := range rounds {
		select {
		case <-round:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// shows reports whether a model is listed: it runs here, or that is not known.
func (j *judge) shows(f model.Found) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	d, ok := j.decided[f.Name]
	return !ok || d.runs
}

// shows reports whether a listing has the model. Of trees the judge knows;
// elsewhere a listing that is in memory tells, and nobody is asked. What the
// operator has configured is always listed.
func (a *asker) shows(n model.Name, f model.Found, runs filter) bool {
	if runs == nil || f.Kind == model.Namespace || a.kind == model.Hub {
		return true
	}
	if a.kind.InPlace() {
		return a.judge.shows(f)
	}
	got, ok := a.listings.peek(listingKey(n, f))
	return !ok || got.err != nil || got.model == nil || runs(got.model, n.Quant).Runs
}

// decideRecords has the records decided that are on disk only, and returns
// what to wait for; nil: nothing.
func (r *Resolver) decideRecords(runs filter) <-chan struct{} {
	if runs == nil {
		return nil
	}
	return r.recorded.begin(r.records.unloaded())
}

// showsRecord reports whether a listing has the model of a record. One that is
// in memory tells; of the others the judge knows.
func (r *Resolver) showsRecord(n model.Name, runs filter) bool {
	if runs == nil {
		return true
	}
	if rec := r.records.inMemory(n); rec != nil {
		return !rec.usable() || runs(rec.model(), n.Quant).Runs
	}
	return r.recorded.shows(model.Found{Name: n.String()})
}

// Unfiltered are the names of a Resolver with everything listed, whatever
// runs here.
type Unfiltered struct{ r *Resolver }

// Unfiltered returns r's names without Config.Filter.
func (r *Resolver) Unfiltered() Unfiltered { return Unfiltered{r} }

// Lookup is Resolver.Lookup.
func (u Unfiltered) Lookup(ctx context.Context, path string) (model.Entry, error) {
	return u.r.lookup(ctx, path, nil)
}

// View is Resolver.View with no file hidden.
func (u Unfiltered) View(ctx context.Context, path string) (*model.View, error) {
	return u.r.view(ctx, path, nil)
}

// Entries is Resolver.Entries with all models.
func (u Unfiltered) Entries(ctx context.Context, dir string) ([]model.Entry, error) {
	return u.r.entries(ctx, dir, nil)
}
