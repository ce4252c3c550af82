package directory

import (
	"maps"
	"path"
	"slices"
	"sync"

	"modelfs/internal/format"
	"modelfs/internal/model"
	"modelfs/source/internal/tree"
	"modelfs/source/internal/weights"
)

// A look is one operation's view of the tree: each directory is read or
// checked once. It is used by one goroutine.
type look struct {
	*tree.Look
	s *Source
}

func (s *Source) look() *look { return &look{s.dirs.Look(), s} }

// top is the listing of the root, less what is skipped.
func (l *look) top() (*tree.Listing, error) {
	top, err := l.Dir(".")
	if err != nil {
		return nil, err
	}
	return l.s.skip.from(top), nil
}

// skipped remembers the root's listing without the names, as long as that is
// the same: what is kept by its listing is found again.
type skipped struct {
	names []string // constant

	mu        sync.Mutex // guards the rest
	all, rest *tree.Listing
}

func (s *skipped) from(top *tree.Listing) *tree.Listing {
	if len(s.names) == 0 {
		return top
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all != top {
		rest := *top
		rest.Dirs = slices.DeleteFunc(slices.Clone(top.Dirs), func(d string) bool { return slices.Contains(s.names, d) })
		s.all, s.rest = top, &rest
	}
	return s.rest
}

// content is what a directory and those below it hold.
type content int

const (
	hasNothing content = iota // nothing that a model has
	hasMarkers                // a model's config or index, but no weights
	hasWeights                // something to load
)

// ofFiles is the content of one directory's files.
func ofFiles(files []string) content {
	c := hasNothing
	for _, f := range files {
		if weights.Is(f) {
			return hasWeights
		}
		if weights.IsMarker(f) {
			c = hasMarkers
		}
	}
	return c
}

// content looks at rel and below until it finds something to load.
func (l *look) content(rel string) (content, error) {
	most := hasNothing
	err := l.Visit(rel, func(_ string, d *tree.Listing) bool {
		most = max(most, ofFiles(d.Files))
		return most < hasWeights
	})
	return most, err
}

// shape is what a directory at the top is.
type shape int

const (
	isNothing    shape = iota
	isNamespace        // holds models and is none
	isModel            // holds something to load
	isIncomplete       // has a model's config or index, but nothing to load
)

// shape classes a directory at the top. One with weights of its own is a
// model; so is one with a config beside directories with weights (diffusers,
// ONNX exports), and one with a Core ML bundle. Any other with a model below it is a namespace.
func (l *look) shape(dir string) (shape, error) {
	d, err := l.Dir(dir)
	if err != nil {
		return isNothing, err
	}
	own := ofFiles(d.Files)
	if own == hasWeights {
		return isModel, nil
	}
	if slices.ContainsFunc(d.Dirs, format.IsBundle) {
		return isModel, nil
	}
	below, err := l.content(dir)
	switch {
	case err != nil:
		return isNothing, err
	case own == hasMarkers && below == hasWeights:
		return isModel, nil
	case own == hasMarkers:
		return isIncomplete, nil
	case below != hasNothing:
		return isNamespace, nil
	}
	return isNothing, nil
}

// looseFiles remembers the models that the loose files of the top are, as long
// as the listing is the same.
type looseFiles struct {
	mu  sync.Mutex // guards the rest
	top *tree.Listing
	by  map[string]string // by name of the model that it is, each loose weights file; never changed
}

// in are the loose files of the listing top.
func (c *looseFiles) in(top *tree.Listing) map[string]string {
	c.mu.Lock()
	have, by := c.top, c.by
	c.mu.Unlock()
	if have == top {
		return by
	}
	by = looseModels(top.Files)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.top, c.by = top, by
	return by
}

// looseModels are the models that the files at the top of a tree are. Of two
// with one name a GGUF file counts, else the first in order.
func looseModels(files []string) map[string]string {
	byStem := make(map[string]string)
	for _, f := range files {
		stem, ok := weights.Loose(f)
		if !ok {
			continue
		}
		if have, dup := byStem[stem]; !dup || !format.IsGGUF(have) && format.IsGGUF(f) {
			byStem[stem] = f
		}
	}
	return byStem
}

// files reads the weights below the directory at rel; it implements
// weights.Reader.
type files struct {
	tree *tree.Tree
	rel  string
}

func (r files) Size(file string) (int64, error) {
	st, err := r.tree.Stat(path.Join(r.rel, file))
	return st.Size, err
}

func (r files) Head(file string, n int64) ([]byte, error) {
	return r.tree.Head(path.Join(r.rel, file), n)
}

func exactly(sorted []string, name string) (string, bool) { return name, tree.Has(sorted, name) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func sortedValues(m map[string]model.Found) []model.Found {
	vs := make([]model.Found, 0, len(m))
	for _, k := range sortedKeys(m) {
		vs = append(vs, m[k])
	}
	return vs
}
