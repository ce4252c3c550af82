// Package operate answers: what do the operator's commands do? It pulls, keeps,
// drops and lists models on an open backing dir, for the commands of a daemon's
// control socket and for a command that runs on its own.
//
// Invariants:
//
//  1. A pull is the readers' own fill: it joins what they have begun, and what
//     it began is there for them.
//  2. A pull fetches what the model's directory lists; of a name with a
//     quantisation that one's weights, and the small files beside them.
//  3. Nothing that is read in place is ever fetched, pinned or removed.
//  4. Remove never drops a file that is open or pinned; it names it.
//  5. List asks no source about a model that has to be fetched.
//
// It does not know how names are resolved, bytes fetched or files kept: it is
// given that as interfaces.
package operate

import (
	"context"
	"path"
	"strings"

	"modelfs/cmd/modelfs/control"
	"modelfs/internal/model"
)

// Names finds models as the mount shows them.
type Names interface {
	// View lists the model at path; see resolver.Resolver.
	View(ctx context.Context, path string) (*model.View, error)
	// Known is the recorded listing of path, or nil. It asks nobody.
	Known(path string) *model.Model
}

// Catalog lists models with nothing left out, whatever runs here.
type Catalog interface {
	View(ctx context.Context, path string) (*model.View, error)
	// Entries lists the root ("") or a namespace.
	Entries(ctx context.Context, dir string) ([]model.Entry, error)
}

// Records is what is remembered of names.
type Records interface {
	// Update lets the next lookup of path ask what it means now.
	Update(path string) error
	// Forget drops what is recorded of path.
	Forget(path string) error
	// Stored says that bytes of the model at path are here.
	Stored(path string, m *model.Model)
}

// Filler fetches files.
type Filler interface {
	// Pull fetches a whole file; see fetcher.Fetcher.
	Pull(ctx context.Context, v *model.View, file *model.File, progress func(done, total int64)) error
}

// Keeper changes what the backing dir keeps. Errors of Remove: InUse, Denied
// (pinned), NotFound.
type Keeper interface {
	Pin(key model.Key) error
	Unpin(key model.Key) error
	Remove(key model.Key) error
}

// Shelf says what the backing dir has.
type Shelf interface {
	Present(key model.Key) int64 // bytes
	Pinned(key model.Key) bool
}

// A Description is what a model is. Empty fields are not known.
type Description struct {
	Format, Quant, Architecture, Parameters string
	Backends                                []string // that can run it, perhaps with limits
	Limited                                 []string // those of them that have limits
	Broken                                  string   // why it can't be loaded; "" for nothing known
	Hidden                                  bool     // nothing of it runs here
	Why                                     string   // it, or files of it, are left out of listings
}

// Config says what an Operator works on. Elsewhere, Describe and Variants may be nil.
type Config struct {
	Names   Names
	All     Catalog
	Records Records
	Filler  Filler
	Keeper  Keeper
	Shelf   Shelf
	// InPlace reports whether a source's models (by its ID) are read where they lie.
	InPlace func(source string) bool
	// Elsewhere is where a file lies on this machine, outside the backing dir,
	// or nil; nil: that is not known of any.
	Elsewhere func(sha256 string, size int64) model.Place
	// Describe says what a model is. It may read files of a model that lies
	// here, until ctx ends; nil: nothing is known.
	Describe func(context.Context, *model.Model) Description
	// Variants tells the weights of a quantisation from others; nil: nothing is known.
	Variants func(m *model.Model, quant string) Variant
}

// A Variant is what a quantisation makes of a model's files, by path. Files
// that are in neither belong to all quantisations.
type Variant struct {
	Own    map[string]bool // its weights
	Others map[string]bool // weights that it leaves out
}

// An Operator does what commands ask for. It is safe for concurrent use, and
// implements control's Puller, Keeper and Lister.
type Operator struct{ Config }

// New makes an Operator. It owns nothing.
func New(cfg Config) *Operator {
	if cfg.Describe == nil {
		cfg.Describe = func(context.Context, *model.Model) Description { return Description{} }
	}
	if cfg.Elsewhere == nil {
		cfg.Elsewhere = func(string, int64) model.Place { return nil }
	}
	if cfg.Variants == nil {
		cfg.Variants = func(*model.Model, string) Variant { return Variant{} }
	}
	return &Operator{cfg}
}

var (
	_ control.Puller = (*Operator)(nil)
	_ control.Keeper = (*Operator)(nil)
	_ control.Lister = (*Operator)(nil)
)

// find views the model that a command names.
func (o *Operator) find(ctx context.Context, name string) (model.Name, *model.View, error) {
	n, err := model.ParseName(name)
	if err != nil {
		return n, nil, err
	}
	v, err := o.Names.View(ctx, name)
	return n, v, err
}

// chosen are the files of a view that a command is about: those that are
// listed, or the quantisation's.
func (o *Operator) chosen(n model.Name, v *model.View) []*model.File {
	var out map[string]bool
	if n.Quant != "" {
		out = o.Variants(v.Model, n.Quant).Others
	}
	var files []*model.File
	for i := range v.Files {
		f := &v.Files[i]
		if !out[f.Path] && (!v.Hidden[f.Path] || f.Path == v.Default) {
			files = append(files, f)
		}
	}
	return files
}

// keys are the keys under which a file's content may be kept.
func keys(f *model.File) []model.Key {
	var list []model.Key
	if f.Key != "" {
		list = append(list, f.Key)
	}
	if f.SHA256 != "" && model.SHA256Key(f.SHA256) != f.Key {
		list = append(list, model.SHA256Key(f.SHA256))
	}
	return list
}

// here is how many bytes of a file are in the backing dir.
func (o *Operator) here(f *model.File) int64 {
	var most int64
	for _, key := range keys(f) {
		most = max(most, o.Shelf.Present(key))
	}
	if f.Size >= 0 {
		most = min(most, f.Size)
	}
	return most
}

// matches compares a pattern with a name or its last segment.
func matches(pattern, name string) (bool, error) {
	if pattern == "" {
		return true, nil
	}
	whole, err := path.Match(pattern, name)
	if err != nil {
		return false, model.Errorf(model.Invalid, "pattern %q: %w", pattern, err)
	}
	last, err := path.Match(pattern, name[strings.LastIndexByte(name, '/')+1:])
	return whole || last, err
}
