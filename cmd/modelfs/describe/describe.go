// Package describe answers: what is a model, by all that can be known of it
// here, and what do this machine's listings show of it?
//
// Invariants:
//
//  1. A model that has to be fetched is described by its listing and by what
//     its source says of it; nothing of it is read.
//  2. What listings leave out depends on names, on what sources say, and on
//     the small config files of models that lie here, which [Describer.Study]
//     has read. The headers of weights, which may have megabytes, are read
//     only for a description, and only on this machine's own disks.
//  3. What was read is remembered as long as the listing (paths, sizes, times)
//     is the same.
//  4. Filter does no I/O and takes no lock for longer than a look into a map.
//
// Everyone who says of a model in which format it is, how it is quantised or
// what can run it has that from here.
package describe

import (
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"modelfs/cmd/modelfs/operate"
	"modelfs/internal/format"
	"modelfs/internal/model"
	"modelfs/resolver"
)

// A Describer describes models. It is safe for concurrent use.
type Describer struct {
	machine Machine
	pinned  func(model.Key) bool
	seed    maphash.Seed

	mu      sync.Mutex // guards what follows
	studies map[identity]study
	judged  map[question]resolver.Filtered
}

// New makes a Describer. pinned says whether the operator keeps a file.
func New(m Machine, pinned func(model.Key) bool) *Describer {
	return &Describer{machine: m, pinned: pinned, seed: maphash.MakeSeed(),
		studies: make(map[identity]study), judged: make(map[question]resolver.Filtered)}
}

// Describe says what a model is, and what listings leave out of it. It reads
// the headers of a model of this machine, until ctx ends.
func (d *Describer) Describe(ctx context.Context, m *model.Model) operate.Description {
	d.Study(ctx, m)
	s := format.Of(m, d.headers(ctx, m))
	about := operate.Description{
		Format: joined(s.Formats), Quant: joined(s.Quants), Architecture: s.Architecture, Parameters: s.Parameters, Broken: s.Broken(),
	}
	if s.HasWeights() {
		on := d.machine.rules.Support(s)
		about.Backends, about.Limited = words(on.Runs()), words(on.Limited)
	}
	left := d.Filter(m, "")
	about.Hidden = !left.Runs
	about.Why = strings.Join(slices.DeleteFunc([]string{about.Broken, left.Why}, func(s string) bool { return s == "" }), "; ")
	return about
}

func words[T ~string](list []T) []string {
	var words []string
	for _, w := range list {
		words = append(words, string(w))
	}
	return words
}

// joined is a list for one column of a table.
func joined[T ~string](list []T) string { return strings.Join(words(list), ",") }

// Variants tells the weights of a quantisation from those of others.
func Variants(m *model.Model, quant string) operate.Variant {
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
