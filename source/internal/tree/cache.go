package tree

import (
	iofs "io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

const (
	// settleLocal is how long ago a directory must have changed for what was
	// read to be remembered: the coarsest clock of a filesystem in use ticks
	// every 2 s (FAT), ext4's every 4 ms.
	settleLocal = 2 * time.Second

	// settleShared adds what the clocks of a server and its client may
	// differ by.
	settleShared = time.Minute

	// maxCached bounds the directories that are remembered; beyond it all
	// are forgotten.
	maxCached = 200_000
)

// Settled reports whether what was read at readAt under s may be remembered.
func (t *Tree) Settled(s Stamp, readAt time.Time) bool {
	settle := settleShared
	if t.local {
		settle = settleLocal
	}
	return readAt.Sub(s.ModTime()) > settle
}

// A Listing is what a directory shows. It is immutable.
type Listing struct {
	Stamp Stamp
	Files []string // regular files, links to them included; sorted, without hidden ones
	Dirs  []string // directories, likewise
}

// A Cache remembers listings. Two equal pointers are one reading. It is safe
// for concurrent use.
type Cache struct {
	tree *Tree

	mu    sync.Mutex            // guards both maps
	dirs  map[string]*Listing   // by path
	sound map[string][]*Listing // by path of a model: the listings under which it was found to be whole
}

// NewCache makes an empty cache of t's listings.
func NewCache(t *Tree) *Cache { return &Cache{tree: t} }

// Dir is the listing of the directory at rel: one stat if it is unchanged.
func (c *Cache) Dir(rel string) (*Listing, error) { return c.dir(c.tree, rel) }

func (c *Cache) dir(t *Tree, rel string) (*Listing, error) {
	if l := c.get(rel); l != nil {
		now, err := t.DirStamp(rel)
		if err != nil {
			return nil, err
		}
		if now == l.Stamp {
			return l, nil
		}
	}
	readAt := time.Now()
	l, err := t.List(rel)
	if err != nil {
		return nil, err
	}
	if t.Settled(l.Stamp, readAt) {
		c.put(rel, l)
	}
	return l, nil
}

func (c *Cache) get(rel string) *Listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dirs[rel]
}

func (c *Cache) put(rel string, l *Listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dirs == nil || len(c.dirs) >= maxCached {
		c.dirs, c.sound = make(map[string]*Listing), make(map[string][]*Listing)
	}
	c.dirs[rel] = l
}

// IsSound reports whether the model at rel was found whole under exactly
// these listings. A broken one is judged anew each time: a file that is being
// copied in grows without its directory changing.
func (c *Cache) IsSound(rel string, under []*Listing) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(under) > 0 && slices.Equal(c.sound[rel], under)
}

// SetSound remembers it, if every listing is remembered as well.
func (c *Cache) SetSound(rel string, under []*Listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sound != nil {
		c.sound[rel] = under
	}
}

// ReadDir is what the directory at rel holds, in no order, and the stamp that
// it had before it was read.
func (t *Tree) ReadDir(rel string) ([]iofs.DirEntry, Stamp, error) {
	f, st, err := t.openDir(rel)
	if err != nil {
		return nil, Stamp{}, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, Stamp{}, t.failed("reading", rel, err)
	}
	return entries, st, nil
}

// List reads the directory at rel.
func (t *Tree) List(rel string) (*Listing, error) {
	entries, st, err := t.ReadDir(rel)
	if err != nil {
		return nil, err
	}
	l := &Listing{Stamp: st}
	for _, e := range entries {
		if err := t.add(l, rel, e); err != nil {
			return nil, err
		}
	}
	slices.Sort(l.Files)
	slices.Sort(l.Dirs)
	return l, nil
}

func (t *Tree) add(l *Listing, dir string, e iofs.DirEntry) error {
	name := e.Name()
	if Hidden(name) || !model.ValidPath(name) {
		return nil
	}
	kind := e.Type()
	if kind&iofs.ModeSymlink != 0 {
		var err error
		if kind, err = t.kindAt(path.Join(dir, name)); err != nil {
			return err
		}
	}
	switch {
	case kind.IsDir():
		l.Dirs = append(l.Dirs, name)
	case kind.IsRegular():
		l.Files = append(l.Files, name)
	}
	return nil
}

// kindAt is the type of what rel is, links followed: iofs.ModeDir, 0 for a
// regular file, iofs.ModeIrregular for anything else, for a link that leads
// nowhere or out of the tree, and for a link to the root itself.
func (t *Tree) kindAt(rel string) (iofs.FileMode, error) {
	var st unix.Stat_t
	if err := t.statBeneath(rel, &st); err != nil {
		if err := t.failed("reading", rel, err); model.KindOf(err) == model.Unavailable {
			return 0, err
		}
		return iofs.ModeIrregular, nil
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0, nil
	case unix.S_IFDIR:
		var root unix.Stat_t
		if err := t.stat(".", &root); err == nil && root.Dev == st.Dev && root.Ino == st.Ino {
			return iofs.ModeIrregular, nil
		}
		return iofs.ModeDir, nil
	}
	return iofs.ModeIrregular, nil
}

// Has reports whether a sorted list holds name.
func Has(sorted []string, name string) bool {
	_, ok := slices.BinarySearch(sorted, name)
	return ok
}

// Match is the entry of the sorted list that is name, or else the only one
// that equals it but for case.
func Match(sorted []string, name string) (string, bool) {
	if Has(sorted, name) {
		return name, true
	}
	found := ""
	for _, n := range sorted {
		if strings.EqualFold(n, name) {
			if found != "" {
				return "", false
			}
			found = n
		}
	}
	return found, found != ""
}
