package resolver

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/format"
	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// A mode is how a fake source behaves.
type mode int

const (
	healthy  mode = iota
	hanging       // says nothing until it becomes something else, or is left alone
	failing       // says at once that it can't say
	denying       // refuses what it is asked
	throttle      // fails because of a limit of its own
	lying         // claims what can't be: trees that each name is a namespace, the network that each is a file
)

type throttleError struct{}

func (throttleError) Error() string   { return "the quota for lookups is spent" }
func (throttleError) Throttled() bool { return true }

// A fake is a scripted source that counts what it is asked.
type fake struct {
	id   string
	kind model.SourceKind

	mu     sync.Mutex // guards what follows
	mode   mode
	delay  time.Duration // of each answer
	slow   time.Duration // of each listing, besides
	models map[string]*model.Model
	broken map[string]string
	refuse map[string]bool
	wake   chan struct{}  // closed when mode changes
	fails  int            // at least as many as there were questions without an answer
	asked  map[string]int // "find x", "list x", "names" -> times
}

func newFake(kind model.SourceKind, names ...string) *fake {
	f := &fake{id: kind.String() + ":test", kind: kind, models: map[string]*model.Model{}, broken: map[string]string{}, refuse: map[string]bool{}, asked: map[string]int{}, wake: make(chan struct{})}
	for _, name := range names {
		f.add(name, "model-Q4_K_M.gguf=100")
	}
	return f
}

// add makes a model of files written "path=size" or "path=size=hash".
func (f *fake) add(name string, files ...string) *model.Model {
	m := &model.Model{Name: name, Source: f.id, Kind: f.kind, ModTime: time.Unix(1e9, 0)}
	if f.kind == model.Hub {
		m.Revision = "commit-1"
	}
	for _, s := range files {
		part := strings.Split(s, "=")
		file := model.File{Path: part[0]}
		var err error
		if file.Size, err = strconv.ParseInt(part[1], 10, 64); err != nil {
			panic(err)
		}
		if len(part) > 2 {
			file.SHA256 = part[2]
		}
		if !f.kind.InPlace() {
			file.Key = model.AtKey(f.id, name, part[0], part[1])
			file.URLs = []string{"https://example.com/" + name + "/" + part[0]}
		}
		m.Files = append(m.Files, file)
	}
	m.Files, _ = model.Listing(m.Files)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.models[name] = m
	return m
}

func (f *fake) set(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fake) remove(name string)            { f.set(func() { delete(f.models, name) }) }
func (f *fake) takes(d time.Duration)         { f.set(func() { f.delay = d }) }
func (f *fake) ID() string                    { return f.id }
func (f *fake) Kind() model.SourceKind        { return f.kind }
func (f *fake) commit(name, revision string)  { f.set(func() { f.models[name].Revision = revision }) }
func (f *fake) breaks(name, why string)       { f.set(func() { f.broken[name] = why }) }
func (f *fake) denies(name string)            { f.set(func() { f.refuse[name] = true }) }
func (f *fake) listsAfter(d time.Duration)    { f.set(func() { f.slow = d }) }
func (f *fake) times(question string) (n int) { f.set(func() { n = f.asked[question] }); return n }

// become changes the mode; what hangs goes on in the new one.
func (f *fake) become(m mode) {
	f.set(func() {
		f.mode = m
		close(f.wake)
		f.wake = make(chan struct{})
	})
}

// total counts all questions.
func (f *fake) total() (n int) {
	f.set(func() {
		for _, k := range f.asked {
			n += k
		}
	})
	return n
}

// act counts the question, takes its time, and then behaves as the mode of
// that moment says.
func (f *fake) act(ctx context.Context, question string, more time.Duration) error {
	var mode mode
	var wake chan struct{}
	f.set(func() {
		f.asked[question]++
		more += f.delay
	})
	if more > 0 {
		t := time.NewTimer(more)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		f.set(func() {
			mode, wake = f.mode, f.wake
			if mode == hanging || mode == failing || mode == lying {
				f.fails++
			}
		})
		if mode != hanging {
			break
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	switch mode {
	case failing:
		return model.Errorf(model.Unavailable, "%s answers 500", f.id)
	case denying:
		return model.Errorf(model.Denied, "%s wants a token", f.id)
	case throttle:
		return throttleError{}
	}
	return nil
}

func (f *fake) Find(ctx context.Context, n model.Name) (model.Found, error) {
	if err := f.act(ctx, "find "+n.String(), 0); err != nil {
		return model.Found{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode == lying {
		return model.Found{Kind: lieOf(f.kind), Name: n.Path()}, nil
	}
	if f.refuse[n.Path()] {
		return model.Found{}, model.Errorf(model.Denied, "%s is gated", n)
	}
	if m := f.models[n.Path()]; m != nil && (n.Quant == "" || !f.kind.InPlace() || format.HasQuant(m.Files, n.Quant)) {
		found := model.Found{Kind: model.ModelDir, Name: m.Name, Revision: m.Revision, ModTime: m.ModTime, Broken: f.broken[n.Path()]}
		if f.kind.InPlace() && format.IsGGUF(n.Repo) {
			found.Kind = model.LooseFile
		}
		return found, nil
	}
	for name := range f.models {
		if n.Org == "" && strings.HasPrefix(name, n.Repo+"/") {
			return model.Found{Kind: model.Namespace, Name: n.Repo}, nil
		}
	}
	return model.Found{}, model.Errorf(model.NotFound, "%s has no %s", f.id, n)
}

func lieOf(kind model.SourceKind) model.EntryKind {
	if kind.InPlace() {
		return model.Namespace
	}
	return model.LooseFile
}

func (f *fake) List(ctx context.Context, n model.Name, found model.Found) (*model.Model, error) {
	f.mu.Lock()
	slow := f.slow
	f.mu.Unlock()
	if err := f.act(ctx, "list "+n.Path(), slow); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.models[found.Name]
	if m != nil && len(m.Tags) > 0 && n.Quant != "" && !strings.EqualFold(m.Tags[0], n.Quant) {
		return nil, model.Errorf(model.NotFound, "%s has %s as %s", f.id, found.Name, m.Tags[0])
	}
	if m == nil {
		return nil, model.Errorf(model.NotFound, "%s has no %s any more", f.id, found.Name)
	}
	c := *m
	c.Revision = found.Revision
	return &c, nil
}

func (f *fake) Names(ctx context.Context) ([]model.Found, error) {
	if err := f.act(ctx, "names", 0); err != nil || f.kind == model.Hub {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []model.Found
	for name, m := range f.models {
		found := model.Found{Kind: model.ModelDir, Name: name, ModTime: m.ModTime, Broken: f.broken[name]}
		if f.kind.InPlace() && format.IsGGUF(name) {
			found.Kind = model.LooseFile
		}
		all = append(all, found)
	}
	slices.SortFunc(all, func(a, b model.Found) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// memory is Facts without a disk, JSON included.
type memory struct {
	mu    sync.Mutex // guards facts and fail
	facts map[string][]byte
	fail  error
}

func newMemory() *memory { return &memory{facts: map[string][]byte{}} }

func (m *memory) Get(id string, v any) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	raw, ok := m.facts[id]
	if !ok || m.fail != nil {
		return false, m.fail
	}
	return true, json.Unmarshal(raw, v)
}

func (m *memory) Put(id string, v any) error {
	raw, err := json.Marshal(v)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && m.fail == nil {
		m.facts[id] = raw
	}
	return m.fail
}

func (m *memory) Delete(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.facts, id)
	return m.fail
}

// bubble runs f in virtual time with the four kinds of source, all healthy
// and empty.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start(Config{})
		defer func() { w.Close() }()
		f(t, w)
	})
}

// A world is a resolver and its sources.
type world struct {
	*Resolver
	t                          *testing.T
	local, shared, hub, router *fake
	facts                      *memory
}

func newWorld(t *testing.T) *world {
	return &world{t: t, facts: newMemory(), local: newFake(model.Local), shared: newFake(model.Shared), hub: newFake(model.Hub), router: newFake(model.Router)}
}

func (w *world) fakes() []*fake { return []*fake{w.local, w.shared, w.hub, w.router} }

// start makes the resolver; sources not given are the world's own.
func (w *world) start(cfg Config) {
	if cfg.Sources == nil {
		for _, f := range []*fake{w.router, w.hub, w.shared, w.local} {
			cfg.Sources = append(cfg.Sources, f)
		}
	}
	if cfg.Facts == nil {
		cfg.Facts = w.facts
	}
	w.Resolver = New(cfg)
}

// restart closes the resolver and makes another one over the same facts.
func (w *world) restart(cfg Config) {
	w.Close()
	w.start(cfg)
}

// An answer is the outcome of a lookup in a form to compare.
type answer struct {
	source  string // "local", ...; "" with an error
	kind    model.EntryKind
	settled bool
	err     string // the kind of error, "" for none
	took    time.Duration
}

func (w *world) look(path string) answer {
	began := time.Now()
	e, err := w.Lookup(context.Background(), path)
	a := answer{took: time.Since(began)}
	if err != nil {
		a.err = model.KindOf(err).String()
		return a
	}
	a.source, _, _ = strings.Cut(e.Source, ":")
	a.kind, a.settled = e.Kind, e.Settled
	return a
}

// expect looks path up and compares; a negative took in want is not compared.
func (w *world) expect(path string, want answer) {
	w.t.Helper()
	got := w.look(path)
	if want.took < 0 {
		want.took = got.took
	}
	if got != want {
		w.t.Errorf("lookup of %q = %+v, want %+v", path, got, want)
	}
}

func (w *world) view(path string) (*model.View, error) { return w.View(context.Background(), path) }

func (w *world) mustView(path string) *model.View {
	w.t.Helper()
	v, err := w.view(path)
	if err != nil {
		w.t.Fatalf("view of %s: %v", path, err)
	}
	return v
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
