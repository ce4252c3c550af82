package tree

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"

	"modelfs/internal/model"
)

// A Look is one operation's view of the tree: each directory is read or
// checked once. It is used by one goroutine.
type Look struct {
	cache  *Cache
	tree   *Tree
	seen   map[string]*Listing
	failed bool // a directory could not be read
}

// Look begins an operation.
func (c *Cache) Look() *Look { return c.LookAt(c.tree) }

// LookAt begins an operation on the cache's tree that is held.
func (c *Cache) LookAt(held *Tree) *Look {
	return &Look{cache: c, tree: held, seen: make(map[string]*Listing)}
}

// Dir is the listing of the directory at rel.
func (l *Look) Dir(rel string) (*Listing, error) {
	if d := l.seen[rel]; d != nil {
		return d, nil
	}
	d, err := l.cache.dir(l.tree, rel)
	if err == nil {
		l.seen[rel] = d
	} else {
		l.failed = true
	}
	return d, err
}

// Reading is what was looked at; all is false if something could not be read,
// of which a change would not be noticed.
func (l *Look) Reading() (r Reading, all bool) {
	r = make(Reading, 0, len(l.seen))
	for rel, d := range l.seen {
		r = append(r, Read{rel, d.Stamp})
	}
	slices.SortFunc(r, func(a, b Read) int {
		return cmp.Or(strings.Compare(path.Dir(a.Path), path.Dir(b.Path)), strings.Compare(a.Path, b.Path))
	})
	return r, !l.failed
}

// ModTime is the mtime of a directory that was looked at.
func (l *Look) ModTime(rel string) time.Time { return l.seen[rel].Stamp.ModTime() }

// Walk lists the files below rel, as paths relative to it, sorted, and the
// listings that they were taken from, rel's own first.
func (l *Look) Walk(rel string) (files []string, under []*Listing, err error) {
	err = l.Visit(rel, func(below string, d *Listing) bool {
		under = append(under, d)
		for _, f := range d.Files {
			files = append(files, path.Join(below, f))
		}
		return len(files) <= model.MaxFiles
	})
	slices.Sort(files)
	return files, under, err
}

// Visit calls f for rel and each directory below it, in order of names, with
// the path relative to rel, until f says false. A directory below rel that
// vanished or may not be read is left out; one that is its own ancestor,
// through a link, too.
func (l *Look) Visit(rel string, f func(below string, d *Listing) bool) error {
	_, err := l.visitBelow(rel, ".", nil, f)
	return err
}

func (l *Look) visitBelow(rel, below string, above []Stamp, f func(string, *Listing) bool) (bool, error) {
	d, err := l.Dir(path.Join(rel, below))
	if err != nil {
		if below == "." {
			return false, err
		}
		return true, Tolerable(err)
	}
	if len(above) >= model.MaxDepth || slices.ContainsFunc(above, d.Stamp.Same) {
		return true, nil
	}
	if !f(below, d) {
		return false, nil
	}
	above = append(above, d.Stamp)
	for _, sub := range d.Dirs {
		if more, err := l.visitBelow(rel, path.Join(below, sub), above, f); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

// Tolerable is nil for what one entry of many may fail with: it vanished, or
// may not be read. Anything else says that the tree can't be asked.
func Tolerable(err error) error {
	switch model.KindOf(err) {
	case model.NotFound, model.Denied:
		return nil
	}
	return err
}
