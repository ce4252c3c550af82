package directory

import (
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

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

// A listing is what a directory shows. It is immutable.
type listing struct {
	stamp stamp
	files []string // regular files, links to them included; sorted, without hidden ones
	dirs  []string // directories, likewise

	loose func() map[string]string // by name of the model that it is, each loose weights file; computed once
}

// cache remembers listings. Two equal pointers are one reading.
type cache struct {
	settle time.Duration

	mu    sync.Mutex            // guards both maps
	dirs  map[string]*listing   // by path
	sound map[string][]*listing // by path of a model: the listings under which it was found to be whole
}

// dir is the listing of the directory at rel: one stat if it is unchanged.
func (s *Source) dir(rel string) (*listing, error) {
	if l := s.cache.get(rel); l != nil {
		now, err := s.tree.dirStamp(rel)
		if err != nil {
			return nil, err
		}
		if now == l.stamp {
			return l, nil
		}
	}
	readAt := time.Now()
	l, err := s.tree.readDir(rel)
	if err != nil {
		return nil, err
	}
	if readAt.Sub(l.stamp.modTime()) > s.cache.settle {
		s.cache.put(rel, l)
	}
	return l, nil
}

func (c *cache) get(rel string) *listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dirs[rel]
}

func (c *cache) put(rel string, l *listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dirs == nil || len(c.dirs) >= maxCached {
		c.dirs, c.sound = make(map[string]*listing), make(map[string][]*listing)
	}
	c.dirs[rel] = l
}

// isSound reports whether the model at rel was found whole under exactly
// these listings. A broken one is judged anew each time: a file that is being
// copied in grows without its directory changing.
func (c *cache) isSound(rel string, under []*listing) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(under) > 0 && slices.Equal(c.sound[rel], under)
}

// setSound remembers it, if every listing is remembered as well.
func (c *cache) setSound(rel string, under []*listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sound != nil {
		c.sound[rel] = under
	}
}

// readDir reads the directory at rel.
func (t *tree) readDir(rel string) (*listing, error) {
	f, st, err := t.openDir(rel)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, t.failed("reading", rel, err)
	}
	l := &listing{stamp: st}
	for _, e := range entries {
		if err := t.add(l, rel, e); err != nil {
			return nil, err
		}
	}
	slices.Sort(l.files)
	slices.Sort(l.dirs)
	l.loose = sync.OnceValue(func() map[string]string { return looseModels(l.files) })
	return l, nil
}

// looseModels are the models that the files at the top of a tree are. Of two
// with one name a GGUF file counts, else the first in order.
func looseModels(files []string) map[string]string {
	byStem := make(map[string]string)
	for _, f := range files {
		stem, ok := looseModel(f)
		if !ok {
			continue
		}
		if have, dup := byStem[stem]; !dup || !isGGUF(have) && isGGUF(f) {
			byStem[stem] = f
		}
	}
	return byStem
}

func (t *tree) add(l *listing, dir string, e fs.DirEntry) error {
	name := e.Name()
	if hidden(name) || !model.ValidPath(name) {
		return nil
	}
	kind := e.Type()
	if kind&fs.ModeSymlink != 0 {
		var err error
		if kind, err = t.kindAt(path.Join(dir, name)); err != nil {
			return err
		}
	}
	switch {
	case kind.IsDir():
		l.dirs = append(l.dirs, name)
	case kind.IsRegular():
		l.files = append(l.files, name)
	}
	return nil
}

// has reports whether a sorted list holds name.
func has(sorted []string, name string) bool {
	_, ok := slices.BinarySearch(sorted, name)
	return ok
}

// match is the entry of names that is name, or else the only one that equals
// it but for case.
func match(names []string, name string) (string, bool) {
	if has(names, name) {
		return name, true
	}
	found := ""
	for _, n := range names {
		if strings.EqualFold(n, name) {
			if found != "" {
				return "", false
			}
			found = n
		}
	}
	return found, found != ""
}
