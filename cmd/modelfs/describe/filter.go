package describe

import (
	"maps"
	"slices"

	"modelfs/internal/format"
	"modelfs/internal/model"
	"modelfs/resolver"
)

// maxJudged bounds the models of which is remembered what listings leave out.
const maxJudged = 32_768

// A question is what a verdict depends on.
type question struct {
	identity
	quant   string
	studied bool
}

// Filter is Config.Filter of the resolver: what listings leave out of a model,
// of which quant was asked for. What is pinned is always listed. Nothing is
// left out where the operator wants to see all.
func (d *Describer) Filter(m *model.Model, quant string) resolver.Filtered {
	if d.machine.Backends.All {
		return resolver.Filtered{Runs: true}
	}
	id := d.identify(m)
	d.mu.Lock()
	s, studied := d.studies[id]
	q := question{id, quant, studied}
	out, ok := d.judged[q]
	d.mu.Unlock()
	if !ok {
		out = d.judge(m, s.configs, quant)
		d.mu.Lock()
		if len(d.judged) >= maxJudged {
			clear(d.judged)
		}
		d.judged[q] = out
		d.mu.Unlock()
	}
	if !out.Runs && d.isPinned(m) {
		out.Runs = true
	}
	return out
}

// judge says what this machine's listings leave out of a model: what does not
// run here, and the weights that quant leaves out. What quant asks for is
// listed in any case.
func (d *Describer) judge(m *model.Model, h format.Hints, quant string) resolver.Filtered {
	s := format.Of(m, h)
	shown := d.machine.rules.Filter(d.machine.Backends, s)
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
func (d *Describer) isPinned(m *model.Model) bool {
	if m.Kind.InPlace() {
		return false
	}
	return slices.ContainsFunc(m.Files, func(file model.File) bool {
		return file.Key != "" && d.pinned(file.Key) || file.SHA256 != "" && d.pinned(model.SHA256Key(file.SHA256))
	})
}
