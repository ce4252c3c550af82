package stores

import (
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
	"modelfs/source/internal/weights"
)

// A book is a model of a store. It is immutable.
type book struct {
	name     string   // "repo", "org/repo" or either with a tag or a revision
	also     []string // further names, which are not listed
	revision string   // the commit, where the store records one
	dir      string   // the model's directory, or "" where files are given
	files    []leaf
	loose    bool      // it is a loose weights file, and its only file has its name
	broken   string    // not "": why it is no more than a last resort
	modTime  time.Time // zero: that of the directory or of the first file
	// judge adds what the layout knows of a model that is otherwise whole: why
	// it is not, or "". May be nil.
	judge func(b *book, c *copyOf, quant string) (string, error)
}

// A leaf is a file of a book.
type leaf struct {
	path   string // in the model
	at     string // in the store
	size   int64  // what a manifest promises; -1: nothing does
	sha256 string // what a manifest promises, or ""
}

// A look is one operation's view of the store.
type look struct {
	*tree.Look
	tree  *tree.Tree
	under map[string]*tree.Listing // what the catalogue was made from
}

// look begins an operation; the caller calls release when it is over.
func (s *Source) look() (l *look, release func(), err error) {
	held, release, err := s.Tree.Hold()
	if err != nil {
		return nil, nil, err
	}
	return &look{s.dirs.LookAt(held), held, make(map[string]*tree.Listing)}, release, nil
}

// list is the listing of a directory that the catalogue depends on; one that
// is not there, or may not be read, is empty.
func (l *look) list(rel string) (*tree.Listing, error) {
	d, err := l.Dir(rel)
	if err != nil {
		if err := tree.Tolerable(err); err != nil {
			return nil, err
		}
		d = &tree.Listing{} // never equal to another, so it is looked for again
	}
	l.under[rel] = d
	return d, nil
}

// A catalog is the books of a store.
type catalog struct {
	mu   sync.Mutex // guards what is below
	last *edition
}

// An edition is the catalogue as it was once. It is immutable.
type edition struct {
	under map[string]*tree.Listing
	books []*book
	exact map[string]*book
	fold  map[string]*book // by lower-case name; nil where two differ by case only
	orgs  map[string]string
}

// edition is the catalogue as it is now.
func (s *Source) edition(l *look) (*edition, error) {
	s.catalog.mu.Lock()
	last := s.catalog.last
	s.catalog.mu.Unlock()
	if last != nil && last.current(l) {
		return last, nil
	}
	books, err := s.shelf(l)
	if err != nil {
		return nil, err
	}
	e := newEdition(books)
	e.under = l.under
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	s.catalog.last = e
	return e, nil
}

func (e *edition) current(l *look) bool {
	for rel, d := range e.under {
		if now, err := l.Dir(rel); err != nil || now != d {
			return false
		}
	}
	return true
}

func newEdition(books []*book) *edition {
	e := &edition{exact: make(map[string]*book), fold: make(map[string]*book), orgs: make(map[string]string)}
	for _, b := range books {
		n, err := model.ParseName(b.name)
		if err != nil || e.exact[b.name] != nil {
			continue
		}
		e.books = append(e.books, b)
		for _, name := range append([]string{b.name}, b.also...) {
			e.enter(name, b)
		}
		if n.Org != "" {
			e.orgs[strings.ToLower(n.Org)] = n.Org
		}
	}
	return e
}

func (e *edition) enter(name string, b *book) {
	if e.exact[name] != nil {
		return
	}
	e.exact[name] = b
	lower := strings.ToLower(name)
	if other, have := e.fold[lower]; have && other != b {
		b = nil
	}
	e.fold[lower] = b
}

// book is the one that n names, and the quantisation that is left to be found
// in it.
func (e *edition) book(n model.Name) (*book, string) {
	if b := e.get(n.String()); b != nil {
		return b, ""
	}
	quant := n.Quant
	n.Quant = ""
	return e.get(n.String()), quant
}

func (e *edition) get(name string) *book {
	if b := e.exact[name]; b != nil {
		return b
	}
	return e.fold[strings.ToLower(name)]
}

// A copyOf is a book whose files were looked for.
type copyOf struct {
	*look
	files []string // paths, sorted
	at    map[string]leaf
}

// open looks for the files of b.
func (l *look) open(b *book) (*copyOf, error) {
	c := &copyOf{look: l, at: make(map[string]leaf)}
	leaves := b.files
	if b.dir != "" {
		paths, _, err := l.Walk(b.dir)
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			leaves = append(leaves, leaf{path: p, at: path.Join(b.dir, p), size: -1})
		}
	}
	for _, f := range leaves {
		c.files, c.at[f.path] = append(c.files, f.path), f
	}
	slices.Sort(c.files)
	return c, nil
}

// Size implements weights.Reader: a file of another size than is promised is
// not there.
func (c *copyOf) Size(p string) (int64, error) {
	at, ok := c.at[p]
	if !ok {
		return 0, model.Errorf(model.NotFound, "%s is not there", p)
	}
	st, err := c.stat(at)
	return st.Size, err
}

func (c *copyOf) stat(f leaf) (model.Stat, error) {
	st, err := c.tree.Stat(f.at)
	if err == nil && f.size >= 0 && st.Size != f.size {
		err = model.Errorf(model.NotFound, "%s has %d bytes instead of %d", c.tree.Abs(f.at), st.Size, f.size)
	}
	return st, err
}

// Head implements weights.Reader.
func (c *copyOf) Head(p string, n int64) ([]byte, error) { return c.tree.Head(c.at[p].at, n) }

// loadable reports whether any file below dir is something to load.
func (l *look) loadable(dir string) (bool, error) {
	some := false
	err := l.Visit(dir, func(_ string, d *tree.Listing) bool {
		for _, f := range d.Files {
			some = some || weights.Is(f)
		}
		return !some
	})
	return some, err
}
