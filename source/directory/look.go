package directory

import (
	"maps"
	"path"
	"slices"
	"time"

	"modelfs/internal/model"
)

// A look is one operation's view of the tree: each directory is read or
// checked once. It is used by one goroutine.
type look struct {
	s    *Source
	seen map[string]*listing
}

func (s *Source) look() *look { return &look{s: s, seen: make(map[string]*listing)} }

func (l *look) dir(rel string) (*listing, error) {
	if d := l.seen[rel]; d != nil {
		return d, nil
	}
	d, err := l.s.dir(rel)
	if err == nil {
		l.seen[rel] = d
	}
	return d, err
}

// modTime is the mtime of a directory that was looked at.
func (l *look) modTime(rel string) time.Time { return l.seen[rel].stamp.modTime() }

// content is what a directory and those below it hold.
type content int

const (
	nothing content = iota // nothing that a model has
	markers                // a model's config or index, but no weights
	weights                // something to load
)

// ofFiles is the content of one directory's files.
func ofFiles(files []string) content {
	c := nothing
	for _, f := range files {
		if isWeights(f) {
			return weights
		}
		if isMarker(f) {
			c = markers
		}
	}
	return c
}

// content looks at rel and below until it finds something to load.
func (l *look) content(rel string) (content, error) {
	most := nothing
	err := l.visit(rel, func(_ string, d *listing) bool {
		most = max(most, ofFiles(d.files))
		return most < weights
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
// ONNX exports). Any other with a model below it is a namespace.
func (l *look) shape(dir string) (shape, error) {
	d, err := l.dir(dir)
	if err != nil {
		return isNothing, err
	}
	own := ofFiles(d.files)
	if own == weights {
		return isModel, nil
	}
	below, err := l.content(dir)
	switch {
	case err != nil:
		return isNothing, err
	case own == markers && below == weights:
		return isModel, nil
	case own == markers:
		return isIncomplete, nil
	case below != nothing:
		return isNamespace, nil
	}
	return isNothing, nil
}

// walk lists the files below the model's directory rel, as paths relative to
// it, and the listings that they were taken from, rel's own first.
func (l *look) walk(rel string) (files []string, under []*listing, err error) {
	err = l.visit(rel, func(below string, d *listing) bool {
		under = append(under, d)
		for _, f := range d.files {
			files = append(files, path.Join(below, f))
		}
		return len(files) <= model.MaxFiles
	})
	slices.Sort(files)
	return files, under, err
}

// visit calls f for rel and each directory below it, in order of names, with
// the path relative to rel, until f says false. A directory below rel that
// vanished or may not be read is left out; one that is its own ancestor,
// through a link, too.
func (l *look) visit(rel string, f func(below string, d *listing) bool) error {
	_, err := l.visitBelow(rel, ".", nil, f)
	return err
}

func (l *look) visitBelow(rel, below string, above []stamp, f func(string, *listing) bool) (bool, error) {
	d, err := l.dir(path.Join(rel, below))
	if err != nil {
		if below == "." {
			return false, err
		}
		return true, tolerable(err)
	}
	sameDir := func(s stamp) bool { return s.dev == d.stamp.dev && s.ino == d.stamp.ino }
	if len(above) >= model.MaxDepth || slices.ContainsFunc(above, sameDir) {
		return true, nil
	}
	if !f(below, d) {
		return false, nil
	}
	above = append(above, d.stamp)
	for _, sub := range d.dirs {
		if more, err := l.visitBelow(rel, path.Join(below, sub), above, f); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

func exactly(sorted []string, name string) (string, bool) { return name, has(sorted, name) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func sortedValues[V any](m map[string]V) []V {
	vs := make([]V, 0, len(m))
	for _, k := range sortedKeys(m) {
		vs = append(vs, m[k])
	}
	return vs
}
