package resolver

import (
	"context"
	"net/url"
	"time"

	"modelfs/internal/model"
)

// An Explanation says why a name resolves as it does, or does not. It holds
// no credentials and no queries of URLs. Times are in milliseconds.
type Explanation struct {
	Name     string       `json:"name"`
	Parsed   *ParsedName  `json:"parsed,omitempty"` // nil: no model can have the name
	Answer   *Answer      `json:"answer,omitempty"` // nil: see Error
	Error    string       `json:"error,omitempty"`
	Kind     string       `json:"error_kind,omitempty"`
	Rule     string       `json:"rule,omitempty"` // the sentence that decided
	TookMS   float64      `json:"took_ms"`
	Sources  []SourceSaid `json:"sources,omitempty"` // in the order in which they are believed
	Recorded *Recorded    `json:"recorded,omitempty"`
	Pin      *Recorded    `json:"pin,omitempty"` // the commit that the name keeps
	Default  string       `json:"model_gguf,omitempty"`
	Why      string       `json:"model_gguf_why,omitempty"`
	Files    []FileLine   `json:"files,omitempty"`
	Listing  string       `json:"listing,omitempty"`  // why there are no files
	LeftOut  string       `json:"left_out,omitempty"` // what listings leave out, and why
	Reads    []string     `json:"reads,omitempty"`    // what happened to reads of its files in shares that hang
	Unlisted bool         `json:"unlisted,omitempty"` // nothing of it runs here: only its name opens it
}

// ParsedName is a name taken apart.
type ParsedName struct {
	Org      string `json:"org,omitempty"`
	Repo     string `json:"repo"`
	Quant    string `json:"quant,omitempty"`
	Revision string `json:"revision,omitempty"`
}

// Answer is what a name is.
type Answer struct {
	Kind     string `json:"kind"` // "model", "namespace" or "file"
	Name     string `json:"name"` // as the source spells it
	Source   string `json:"source"`
	Revision string `json:"revision,omitempty"`
	Settled  bool   `json:"settled"`
}

// SourceSaid is the verdict of one source.
type SourceSaid struct {
	ID      string  `json:"id"`
	Kind    string  `json:"kind"`
	Verdict string  `json:"verdict"`
	Name    string  `json:"name,omitempty"`
	Commit  string  `json:"revision,omitempty"`
	Broken  string  `json:"broken,omitempty"` // why its model is passed over
	Error   string  `json:"error,omitempty"`
	TookMS  float64 `json:"took_ms"`
	AgeMS   float64 `json:"age_ms"`         // since it said so
	Cached  bool    `json:"cached"`         // it was not asked now
	From    string  `json:"from,omitempty"` // "pin" or "record": what stands for its answer
	Breaker string  `json:"breaker"`        // "closed", "open" or "half-open"
}

// Recorded is what is on disk of a name.
type Recorded struct {
	Source   string `json:"source"`
	Name     string `json:"name"`
	Revision string `json:"revision,omitempty"`
	Stored   bool   `json:"stored"` // bytes of it are in the backing dir
	Files    int    `json:"files"`
}

// FileLine is one file of the model.
type FileLine struct {
	Path   string   `json:"path"`
	Size   int64    `json:"size"` // -1: nobody states it
	Key    string   `json:"key,omitempty"`
	SHA256 string   `json:"sha256,omitempty"`
	Hosts  []string `json:"hosts,omitempty"` // where it can be fetched
	Place  string   `json:"place,omitempty"` // where it lies
	Hidden bool     `json:"hidden,omitempty"`

	// What the daemon adds: the resolver knows of no bytes.
	Here    int64  `json:"here,omitempty"`    // bytes in the backing dir
	Trouble string `json:"trouble,omitempty"` // why the rest does not come
}

// Explain looks name up and says how it went. It takes no longer than Lookup
// and causes no request that Lookup would not: a model of the network shows
// its files only if they were listed before.
func (r *Resolver) Explain(ctx context.Context, name string) Explanation {
	e := Explanation{Name: name}
	n, err := model.ParseName(name)
	if err != nil {
		e.fail(err)
		return e
	}
	e.Parsed = &ParsedName{n.Org, n.Repo, n.Quant, n.Revision}
	q, o, err := r.resolve(ctx, n, r.cfg.LookupTimeout)
	e.Rule = o.rule
	if err != nil {
		e.fail(err)
	}
	for i := range q.final {
		e.Sources = append(e.Sources, q.seats[i].said(q.final[i]))
	}
	e.Recorded = recordedOf(q.record)
	e.Pin = recordedOf(r.records.anyPin(n))
	if o.answered() {
		e.Answer = &Answer{kindName(o.found.Kind), o.found.Name, o.source, o.found.Revision, o.settled}
	}
	if o.answered() && o.found.Kind != model.Namespace {
		e.describe(r, q, q.atHand(ctx, o))
	}
	e.TookMS = ms(time.Since(q.began))
	return e
}

func (e *Explanation) fail(err error) { e.Error, e.Kind = err.Error(), model.KindOf(err).String() }

func (s *seat) said(v verdict) SourceSaid {
	said := SourceSaid{
		ID: s.a.id, Kind: s.a.kind.String(), Verdict: v.opinion.String(), Name: v.found.Name, Commit: v.found.Revision,
		Broken: v.found.Broken, TookMS: ms(v.took), Cached: s.look.cached, From: v.from, Breaker: s.a.breaker.state(),
	}
	if v.err != nil {
		said.Error = v.err.Error()
	}
	if !v.at.IsZero() {
		said.AgeMS = ms(time.Since(v.at))
	}
	return said
}

func recordedOf(rec *record) *Recorded {
	if rec == nil {
		return nil
	}
	return &Recorded{rec.by(), rec.Model, rec.Revision, rec.Stored, len(rec.Files)}
}

func kindName(k model.EntryKind) string {
	return [...]string{model.Namespace: "namespace", model.ModelDir: "model", model.LooseFile: "file"}[k]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// atHand is the listing of an outcome, if it can be had without a request.
func (q *inquiry) atHand(ctx context.Context, o outcome) *model.Model {
	if o.record != nil {
		return o.record.model()
	}
	a := q.seats[o.winner].a
	if a.kind.InPlace() {
		m, err := q.r.listing(ctx, q, o, max(q.left(), lastListing))
		if err != nil {
			return nil
		}
		return m
	}
	if got, ok := a.listings.peek(listingKey(q.n, o.found)); ok && got.err == nil {
		return got.model
	}
	if rec := q.r.records.listing(a.id, q.n, o.found); rec != nil {
		return rec.model()
	}
	return nil
}

func (e *Explanation) describe(r *Resolver, q *inquiry, m *model.Model) {
	if m == nil {
		e.Listing = "not listed so far; looking into the model lists it"
		return
	}
	left := filter(r.cfg.Filter).of(m, q.n.Quant)
	hidden := left.Hidden
	e.LeftOut, e.Unlisted = left.Why, !left.Runs
	e.Default, e.Why = defaultFile(m.Files, hidden, q.n.Quant, r.cfg.Quants)
	for _, f := range m.Files {
		line := FileLine{Path: f.Path, Size: f.Size, Key: string(f.Key), SHA256: f.SHA256, Hosts: hosts(f.URLs), Hidden: hidden[f.Path]}
		if f.Place != nil {
			line.Place = f.Place.Path()
		}
		e.Files = append(e.Files, line)
	}
}

// hosts are the hosts of URLs, each once, without anything that a URL may
// carry besides.
func hosts(urls []string) []string {
	var list []string
	seen := map[string]bool{}
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || seen[u.Host] {
			continue
		}
		seen[u.Host] = true
		list = append(list, u.Host)
	}
	return list
}

// SourceStatus is how a source is doing. Times are in milliseconds.
type SourceStatus struct {
	ID          string    `json:"id"`
	Kind        string    `json:"kind"`
	Breaker     string    `json:"breaker"`  // "closed", "open" or "half-open"
	Failures    int       `json:"failures"` // in a row
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	LastAnswer  time.Time `json:"last_answer_at,omitzero"`
	LatencyMS   float64   `json:"latency_ms"` // of the last answer
	UnderWay    int       `json:"under_way"`  // questions that are being asked
}

// Status says how each source is doing, in the order in which they are
// believed. It does not block.
func (r *Resolver) Status() []SourceStatus {
	list := make([]SourceStatus, len(r.askers))
	for i, a := range r.askers {
		s := a.breaker.status()
		s.ID, s.Kind, s.UnderWay = a.id, a.kind.String(), a.verdicts.underWay()
		list[i] = s
	}
	return list
}

func (b *breaker) status() SourceStatus {
	s := SourceStatus{Breaker: b.state()}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Failures, s.LastErrorAt, s.LastAnswer, s.LatencyMS = b.failures, b.errAt, b.okAt, ms(b.took)
	if b.err != nil {
		s.LastError = b.err.Error()
	}
	return s
}
