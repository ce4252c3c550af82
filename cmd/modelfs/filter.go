package main

import (
	"hash/maphash"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"modelfs/cmd/modelfs/config"
	"modelfs/internal/backend"
	"modelfs/internal/format"
	"modelfs/internal/model"
	"modelfs/resolver"
)

// A machine is what this machine can run.
type machine struct {
	backends backend.Selection
	rules    *backend.Rules
}

// lookAtMachine finds the backends and reads the table of what runs where. It
// opens device nodes, which may take seconds where a GPU has to be woken.
func lookAtMachine(cfg *config.Config) (machine, error) {
	choice, err := backend.ParseChoice(cfg.Backend)
	if err != nil {
		return machine{}, err
	}
	m := machine{backends: choice.Select(backend.Host())}
	if cfg.BackendRules == "" {
		m.rules, err = backend.DefaultRules()
		return m, err
	}
	raw, err := os.ReadFile(cfg.BackendRules)
	if err != nil {
		return machine{}, model.Errorf(model.Invalid, "backend_rules: %w", err)
	}
	m.rules, err = backend.ParseRules(raw)
	return m, err
}

// log says which sign decided, and what hardware is here that can't be used.
func (m machine) log(log *slog.Logger) {
	for _, s := range m.backends.Signs {
		log.Info("listings are for this backend", "backend", s.Backend, "sign", s.Sign)
	}
	for _, s := range m.backends.Unusable {
		log.Warn("hardware is here that can't be used", "backend", s.Backend, "sign", s.Sign)
	}
}

// names are the backends, for status.
func (m machine) names() []string { return strings.Split(m.backends.String(), ",") }

// maxFiltered bounds the models of which is remembered what listings leave out.
const maxFiltered = 4096

// A filter says what listings leave out of models, and remembers it.
type filter struct {
	machine
	pinned func(model.Key) bool
	seed   maphash.Seed

	mu    sync.Mutex // guards known
	known map[filterKey]resolver.Filtered
}

// filterKey is what a verdict depends on.
type filterKey struct {
	source, name, quant string
	modTime             time.Time
	listing             uint64 // of tags, paths and sizes
}

// filter is the resolver's, or nil where everything is shown.
func (m machine) filter(pinned func(model.Key) bool) func(*model.Model, string) resolver.Filtered {
	if m.backends.All {
		return nil
	}
	f := &filter{machine: m, pinned: pinned, seed: maphash.MakeSeed(), known: make(map[filterKey]resolver.Filtered)}
	return f.filter
}

// filter is Config.Filter of the resolver. What is pinned is always listed.
func (f *filter) filter(m *model.Model, quant string) resolver.Filtered {
	key := filterKey{m.Source, m.Name, quant, m.ModTime.Round(0), f.hash(m)}
	f.mu.Lock()
	out, ok := f.known[key]
	f.mu.Unlock()
	if !ok {
		out = f.judge(m, quant)
		f.mu.Lock()
		if len(f.known) >= maxFiltered {
			clear(f.known)
		}
		f.known[key] = out
		f.mu.Unlock()
	}
	if !out.Runs && f.isPinned(m) {
		out.Runs = true
	}
	return out
}

func (f *filter) hash(m *model.Model) uint64 {
	var h maphash.Hash
	h.SetSeed(f.seed)
	write := func(s string) {
		_, _ = h.WriteString(s) // it never fails
		_ = h.WriteByte(0)
	}
	for _, t := range m.Tags {
		write(t)
	}
	write(m.Revision)
	maphash.WriteComparable(&h, m.Traits)
	for i := range m.Files {
		write(m.Files[i].Path)
		maphash.WriteComparable(&h, m.Files[i].Size)
	}
	return h.Sum64()
}

// judge says what this machine's listings leave out of a model: what does not
// run here, and the weights that quant leaves out. What quant asks for is
// listed in any case.
func (f *filter) judge(m *model.Model, quant string) resolver.Filtered {
	s := format.Of(m, format.Hints{})
	shown := f.rules.Filter(f.backends, s)
	out := resolver.Filtered{Hidden: shown.Hidden, Runs: shown.Model, Why: shown.Why}
	var others map[string]bool
	if quant != "" {
		others = s.OtherQuants(quant)
	}
	if len(others) == 0 {
		return out
	}
	out.Hidden = maps.Clone(others)
	why := "weights that are not " + quant
	if both := union(others, shown.Hidden); hasWeightsLeft(s, both) {
		out.Hidden = both
		if shown.Why != "" {
			why = shown.Why + "; " + why
		}
	}
	out.Why = why
	return out
}

func union(a, b map[string]bool) map[string]bool {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func hasWeightsLeft(s format.Summary, hidden map[string]bool) bool {
	return slices.ContainsFunc(s.Artifacts, func(a format.Artifact) bool {
		return a.Role == format.Weights && !hidden[a.Files[0]]
	})
}

// isPinned reports whether the operator has pinned a file of the model.
func (f *filter) isPinned(m *model.Model) bool {
	if m.Kind.InPlace() {
		return false
	}
	return slices.ContainsFunc(m.Files, func(file model.File) bool {
		return file.Key != "" && f.pinned(file.Key) || file.SHA256 != "" && f.pinned(model.SHA256Key(file.SHA256))
	})
}
