package backend

import (
	"bytes"
	_ "embed" // the table of rules
	"encoding/json"
	"fmt"
	"slices"

	"modelfs/internal/format"
	"modelfs/internal/model"
)

//go:embed rules.json
var embedded []byte

// maxRules bounds the text of a table.
const maxRules = 1 << 20

// Rules say which artifacts run on which backends. They are immutable.
type Rules struct{ list []rule }

// A rule decides for the artifacts that it matches; the first that matches
// counts.
type rule struct {
	Name     string              `json:"name"`
	Formats  []format.Format     `json:"formats"`
	Schemes  []string            `json:"schemes,omitempty"` // nil: any; "" is "not quantised or unknown"
	Targets  []format.Target     `json:"targets,omitempty"` // nil: any
	On       map[Backend]outcome `json:"on"`                // a backend that is not there is unknown
	Evidence string              `json:"evidence"`
}

// An outcome is a cell of the table.
type outcome string

const (
	runs    outcome = "yes"
	limited outcome = "limited" // on some devices of the backend, or slowly, or partly
	spare   outcome = "spare"   // it runs, and is left out where something of its format is made for the backend
	fails   outcome = "no"
	unknown outcome = "unknown"
)

// preference orders outcomes: of several backends the best counts.
var preference = []outcome{runs, limited, unknown, spare, fails}

// DefaultRules is the table that is built in.
func DefaultRules() (*Rules, error) { return ParseRules(embedded) }

// ParseRules reads a table in the form of the built-in one (rules.json),
// which it replaces. The error is of kind Invalid and names the rule.
func ParseRules(raw []byte) (*Rules, error) {
	if len(raw) > maxRules {
		return nil, model.Errorf(model.Invalid, "the table of rules is larger than %d bytes", maxRules)
	}
	var table struct {
		Rules []rule `json:"rules"`
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&table); err != nil {
		return nil, model.Errorf(model.Invalid, "the table of rules: %w", err)
	}
	if dec.More() {
		return nil, model.Errorf(model.Invalid, "the table of rules: something follows its end")
	}
	names := make(map[string]bool)
	for i, r := range table.Rules {
		if why := r.fault(); why != "" || names[r.Name] {
			if why == "" {
				why = "its name is there twice"
			}
			return nil, model.Errorf(model.Invalid, "the table of rules: rule %d (%q): %s", i+1, r.Name, why)
		}
		names[r.Name] = true
	}
	return &Rules{table.Rules}, nil
}

// fault says what is wrong with a rule, or "".
func (r rule) fault() string {
	switch {
	case r.Name == "":
		return "it has no name"
	case r.Evidence == "":
		return "it has no evidence"
	case len(r.Formats) == 0:
		return "it has no formats"
	}
	for _, f := range r.Formats {
		if !f.Known() {
			return fmt.Sprintf("%q is no format", f)
		}
	}
	for b, o := range r.On {
		if !slices.Contains(allBackends, b) {
			return fmt.Sprintf("%q is no backend", b)
		}
		if !slices.Contains(preference, o) {
			return fmt.Sprintf("%q on %s is none of %s", o, b, join(preference, ", "))
		}
	}
	return ""
}

func (r rule) matches(a format.Artifact) bool {
	return slices.Contains(r.Formats, a.Format) &&
		(r.Schemes == nil || slices.Contains(r.Schemes, a.Scheme)) &&
		(r.Targets == nil || slices.Contains(r.Targets, a.Target))
}

// A Verdict says whether something runs.
type Verdict string

// The verdicts. Unknown is shown like Yes.
const (
	Yes     Verdict = "yes"
	No      Verdict = "no"
	Unknown Verdict = "unknown"
)

// A Result is a verdict and where it comes from.
type Result struct {
	Verdict Verdict
	Rule    string // the rule that decided; "" if none matches
	Limited bool   // with Yes: on some devices, or slowly, or partly
	Spare   bool   // with Yes: only where nothing is made for the backend
}

// Runs says whether an artifact runs on one of the selected backends, or in
// `all`: that is Yes without a rule.
func (r *Rules) Runs(sel Selection, a format.Artifact) Result {
	if sel.All {
		return Result{Verdict: Yes}
	}
	i := slices.IndexFunc(r.list, func(r rule) bool { return r.matches(a) })
	if i < 0 {
		return Result{Verdict: Unknown}
	}
	best := fails
	for _, b := range sel.Backends {
		o := r.list[i].on(b)
		if slices.Index(preference, o) < slices.Index(preference, best) {
			best = o
		}
	}
	res := Result{Verdict: Yes, Rule: r.list[i].Name, Limited: best == limited, Spare: best == spare}
	switch best {
	case fails:
		res.Verdict = No
	case unknown:
		res.Verdict = Unknown
	}
	return res
}

func (r rule) on(b Backend) outcome {
	if o := r.On[b]; o != "" {
		return o
	}
	return unknown
}

// A Support says where a model runs, each backend in one list at most: what
// its best artifact does there.
type Support struct {
	Yes     []Backend `json:"yes,omitempty"`
	Limited []Backend `json:"limited,omitempty"`
	Unknown []Backend `json:"unknown,omitempty"`
}

// Runs are the backends that run it, limits or not, in the order of listings.
func (s Support) Runs() []Backend {
	var list []Backend
	for _, b := range allBackends {
		if slices.Contains(s.Yes, b) || slices.Contains(s.Limited, b) {
			list = append(list, b)
		}
	}
	return list
}

// Support lists the backends that can run something of a model.
func (r *Rules) Support(s format.Summary) Support {
	var out Support
	for _, b := range allBackends {
		best := fails
		for _, a := range s.Artifacts {
			if a.Role != format.Weights {
				continue
			}
			if o := r.outcomeOn(b, a); slices.Index(preference, o) < slices.Index(preference, best) {
				best = o
			}
		}
		switch best {
		case runs, spare:
			out.Yes = append(out.Yes, b)
		case limited:
			out.Limited = append(out.Limited, b)
		case unknown:
			out.Unknown = append(out.Unknown, b)
		}
	}
	return out
}

func (r *Rules) outcomeOn(b Backend, a format.Artifact) outcome {
	for _, rule := range r.list {
		if rule.matches(a) {
			return rule.on(b)
		}
	}
	return unknown
}
