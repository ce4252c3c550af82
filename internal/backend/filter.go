package backend

import (
	"fmt"
	"slices"
	"strings"

	"modelfs/internal/format"
)

// Shown is what listings show of a model.
type Shown struct {
	// Hidden are the paths that the model's directory does not list; they
	// still open by name. nil: all are listed.
	Hidden map[string]bool
	// Model is false where nothing of the model runs here: the root does not
	// list it, and its own directory, which opens by name, hides nothing.
	Model bool
	// Why says in one line what is hidden and why; "" for nothing.
	Why string
}

// Filter says what listings for the selected backends show. Text is never
// hidden; artifacts are hidden as a whole, and only by a rule that says no.
// What is left must be loadable: where it would be only broken sets, nothing
// is hidden.
func (r *Rules) Filter(sel Selection, s format.Summary) Shown {
	if sel.All || !s.HasWeights() { // a projector alone is nothing that runs, or does not
		return Shown{Model: true}
	}
	results := make([]Result, len(s.Artifacts))
	for i, a := range s.Artifacts {
		results[i] = r.Runs(sel, a)
	}
	hidden := make([]bool, len(s.Artifacts))
	for i := range s.Artifacts {
		hidden[i] = results[i].Verdict == No || results[i].Spare && hasBetter(s.Artifacts, results, i)
	}
	var shown Shown
	loadable := false
	for i, a := range s.Artifacts {
		if !hidden[i] && a.Role == format.Weights {
			shown.Model = true
			loadable = loadable || a.Broken == ""
		}
	}
	switch {
	case !shown.Model:
		shown.Why = fmt.Sprintf("nothing of it runs on %s: %s", sel, r.needs(sel, s.Artifacts, results, hidden))
	case loadable && slices.Contains(hidden, true):
		shown.Hidden = paths(s.Artifacts, hidden)
		shown.Why = fmt.Sprintf("left out on %s: %s", sel, r.needs(sel, s.Artifacts, results, hidden))
	}
	return shown
}

// hasBetter reports whether something whole of the format of artifact i is
// made for the backend.
func hasBetter(artifacts []format.Artifact, results []Result, i int) bool {
	for j, a := range artifacts {
		if j != i && a.Format == artifacts[i].Format && a.Target != "" && a.Broken == "" && a.Role == format.Weights &&
			results[j].Verdict == Yes && !results[j].Spare {
			return true
		}
	}
	return false
}

func paths(artifacts []format.Artifact, chosen []bool) map[string]bool {
	set := make(map[string]bool)
	for i, a := range artifacts {
		if chosen[i] {
			for _, p := range a.Files {
				set[p] = true
			}
		}
	}
	return set
}

// needs says of each kind of chosen artifact what it would need ("mlx needs
// metal"), or that it gives way to something better.
func (r *Rules) needs(sel Selection, artifacts []format.Artifact, results []Result, chosen []bool) string {
	var list []string
	for i, a := range artifacts {
		if !chosen[i] || a.Role != format.Weights {
			continue
		}
		line := nameOf(a) + " gives way to what is made for " + sel.String()
		if !results[i].Spare {
			line = r.need(a)
		}
		if !slices.Contains(list, line) {
			list = append(list, line)
		}
	}
	return strings.Join(list, "; ")
}

func (r *Rules) need(a format.Artifact) string {
	all := r.Support(format.Summary{Artifacts: []format.Artifact{a}}).Runs()
	if len(all) == 0 {
		return nameOf(a)
	}
	return nameOf(a) + " needs " + join(all, " or ")
}

func nameOf(a format.Artifact) string {
	name := string(a.Format)
	if a.Scheme != "" && a.Scheme != name {
		name = a.Scheme + " " + name
	}
	if a.Target != "" {
		name += " for " + string(a.Target)
	}
	return name
}
