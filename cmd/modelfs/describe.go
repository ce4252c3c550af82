package main

import (
	"slices"
	"strings"

	"modelfs/cmd/modelfs/operate"
	"modelfs/internal/format"
	"modelfs/internal/model"
)

// describe says what a model is, by the names of its files, and what listings
// leave out of it.
func (d *daemon) describe(m *model.Model) operate.Description {
	s := format.Of(m, format.Hints{})
	about := operate.Description{
		Format: joined(s.Formats), Quant: joined(s.Quants), Architecture: s.Architecture, Parameters: s.Parameters, Why: s.Broken(),
	}
	if s.HasWeights() {
		on := d.machine.rules.Support(s)
		for _, b := range slices.Concat(on.Yes, on.Limited) {
			about.Backends = append(about.Backends, string(b))
		}
	}
	if d.filter != nil {
		left := d.filter(m, "")
		about.Hidden = !left.Runs
		about.Why = strings.Join(slices.DeleteFunc([]string{about.Why, left.Why}, func(s string) bool { return s == "" }), "; ")
	}
	return about
}

// joined is a list for one column of a table.
func joined[T ~string](list []T) string {
	words := make([]string, len(list))
	for i, w := range list {
		words[i] = string(w)
	}
	return strings.Join(words, ",")
}

// variants tells the weights of a quantisation from those of others.
func variants(m *model.Model, quant string) operate.Variant {
	s := format.Of(m, format.Hints{})
	v := operate.Variant{Own: make(map[string]bool), Others: s.OtherQuants(quant)}
	for _, a := range s.Artifacts {
		for _, p := range a.Files {
			if a.Role == format.Weights && !v.Others[p] {
				v.Own[p] = true
			}
		}
	}
	return v
}
