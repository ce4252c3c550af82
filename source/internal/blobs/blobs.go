// Package blobs answers, for a store that names files after their sha256:
// where is the content with this hash?
//
// Invariants:
//
//  1. Get does no I/O.
//  2. What Get returns has, when it is opened, the size that was seen when its
//     directory was read; otherwise opening it is NotFound.
//  3. A directory is read again only when it has changed, or was read so soon
//     after a change that another one could not be told apart.
//
// It hashes nothing: that a blob is what its name says is the store's promise.
package blobs

import (
	"sync"
	"time"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
)

// maxBlobs bounds what is remembered, some 200 bytes each.
const maxBlobs = 1_000_000

// A Dir is one directory of blobs.
type Dir struct {
	Path  string                                    // in the tree that Refresh is given
	Hash  func(name string) string                  // the sha256 that a file name states, or ""
	Place func(name string, size int64) *tree.Place // the file of that name, while it has that size
}

// An Index finds blobs by hash. The zero value is empty. It is safe for concurrent use.
type Index struct {
	mu      sync.Mutex // guards the rest
	dirs    map[string]*reading
	hash    map[string]blob // immutable
	version uint64          // counts what hash was
}

// A reading is what one directory held. It is immutable.
type reading struct {
	stamp   tree.Stamp
	settled bool
	blobs   map[string]blob
}

type blob struct {
	place *tree.Place
	size  int64
}

// Get is the blob with the given hash, 64 lower-case hex digits, and its size.
func (x *Index) Get(sha256 string) (model.Place, int64, bool) {
	x.mu.Lock()
	b, ok := x.hash[sha256]
	x.mu.Unlock()
	if !ok {
		return nil, 0, false
	}
	return b.place, b.size, true
}

// All calls f for every blob, unless the index is still at version since, and
// returns its version.
func (x *Index) All(since uint64, f func(sha256 string, place *tree.Place, size int64)) (version uint64) {
	x.mu.Lock()
	hash, version := x.hash, x.version
	x.mu.Unlock()
	if version != since {
		for h, b := range hash {
			f(h, b.place, b.size)
		}
	}
	return version
}

// Refresh makes the index that of dirs, which lie in t, and forgets all others.
// A directory that is gone or may not be read is empty.
func (x *Index) Refresh(t *tree.Tree, dirs []Dir) error {
	x.mu.Lock()
	known := x.dirs
	x.mu.Unlock()
	now, changed := make(map[string]*reading, len(dirs)), len(dirs) != len(known)
	total := 0
	for _, d := range dirs {
		r, err := d.read(t, known[d.Path])
		if tree.Tolerable(err) != nil {
			return err
		}
		if r == nil {
			changed = changed || known[d.Path] != nil
			continue
		}
		changed = changed || r != known[d.Path]
		if total += len(r.blobs); total > maxBlobs {
			return model.Errorf(model.Invalid, "more than %d blobs", maxBlobs)
		}
		now[d.Path] = r
	}
	if changed {
		x.set(now)
	}
	return nil
}

func (x *Index) set(dirs map[string]*reading) {
	all := make(map[string]blob)
	for _, r := range dirs {
		for h, b := range r.blobs {
			all[h] = b
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dirs, x.hash, x.version = dirs, all, x.version+1
}

// read is known if the directory is unchanged.
func (d Dir) read(t *tree.Tree, known *reading) (*reading, error) {
	if known != nil && known.settled {
		now, err := t.DirStamp(d.Path)
		if err != nil {
			return nil, err
		}
		if now == known.stamp {
			return known, nil
		}
	}
	readAt := time.Now()
	entries, stamp, err := t.ReadDir(d.Path)
	if err != nil {
		return nil, err
	}
	r := &reading{stamp: stamp, settled: t.Settled(stamp, readAt), blobs: make(map[string]blob)}
	for _, e := range entries {
		h := d.Hash(e.Name())
		if h == "" {
			continue
		}
		st, err := t.Stat(d.Path + "/" + e.Name())
		if tree.Tolerable(err) != nil {
			return nil, err
		}
		if err == nil {
			r.blobs[h] = blob{d.Place(e.Name(), st.Size), st.Size}
		}
	}
	return r, nil
}

// IsSHA256 reports whether s is 64 lower-case hex digits.
func IsSHA256(s string) bool { return isHex(s, 64) }

// IsSHA1 reports whether s is 40 lower-case hex digits.
func IsSHA1(s string) bool { return isHex(s, 40) }

func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
