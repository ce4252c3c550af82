package hfcache

import (
	iofs "io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"modelfs/internal/model"
	"modelfs/source/internal/blobs"
	"modelfs/source/internal/tree"
)

// maxSnapshots bounds the snapshots that are remembered; beyond it all are
// forgotten.
const maxSnapshots = 20_000

// A snapshot is what the directory of one commit shows. It is immutable.
type snapshot struct {
	modTime time.Time
	under   tree.Reading // of the directories
	settled bool
	files   []entry // sorted by path
}

// An entry is a file of a snapshot. Whether its target is there is not known.
type entry struct {
	path string
	at   string     // where it lies, in the repository or in tree
	tree *tree.Tree // a trusted place; nil: the repository
}

// hashes are those that the name of a blob states.
func (e entry) hashes() (sha256, gitSHA1 string) {
	name, ok := strings.CutPrefix(e.at, "blobs/")
	switch {
	case !ok || e.tree != nil:
	case blobs.IsSHA256(name):
		return name, ""
	case blobs.IsSHA1(name):
		return "", name
	}
	return "", ""
}

// snapshots remembers what was read.
type snapshots struct {
	mu sync.Mutex           // guards it
	by map[string]*snapshot // by "repository/commit"
}

func (c *snapshots) get(id string) *snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[id]
}

func (c *snapshots) put(id string, s *snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil || len(c.by) >= maxSnapshots {
		c.by = make(map[string]*snapshot)
	}
	c.by[id] = s
}

// snapshot is the snapshot of commit. repo is the tree of the repository at dir.
func (s *Source) snapshot(repo *tree.Tree, dir, commit string) (*snapshot, error) {
	id := dir + "/" + commit
	if snap := s.snapshots.get(id); snap != nil && snap.under.Current(repo) {
		return snap, nil
	}
	snap := &snapshot{settled: true}
	if err := snap.read(repo, snapshotDir("", commit), "", 0); err != nil {
		return nil, err
	}
	snap.modTime = snap.under[0].Stamp.ModTime()
	slices.SortFunc(snap.files, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	if snap.settled {
		s.snapshots.put(id, snap)
	}
	return snap, nil
}

// read adds what the directory below, of the snapshot at root, holds.
func (s *snapshot) read(repo *tree.Tree, root, below string, depth int) error {
	dir, readAt := path.Join(root, below), time.Now()
	entries, stamp, err := repo.ReadDir(dir)
	if err != nil {
		if depth > 0 {
			return tree.Tolerable(err)
		}
		return err
	}
	s.under = append(s.under, tree.Read{Path: dir, Stamp: stamp})
	s.settled = s.settled && repo.Settled(stamp, readAt)
	for _, e := range entries {
		p := path.Join(below, e.Name())
		if tree.Unfinished(e.Name()) || !model.ValidPath(p) {
			continue
		}
		if len(s.files) > model.MaxFiles || len(s.under) > model.MaxFiles {
			return model.Errorf(model.Invalid, "%s holds more than %d files", repo.Abs(root), model.MaxFiles)
		}
		switch e.Type() {
		case iofs.ModeDir:
			err = s.read(repo, root, p, depth+1)
		case 0:
			s.files = append(s.files, entry{path: p, at: path.Join(root, p)})
		case iofs.ModeSymlink:
			err = s.follow(repo, root, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// follow adds the file that the link at p is, if it leads where it may. The
// links that the clients make are understood without asking where they lead,
// so that a blob that is gone is still known by its name.
func (s *snapshot) follow(repo *tree.Tree, root, p string) error {
	link := path.Join(root, p)
	target, err := repo.Readlink(link)
	if err != nil {
		return tree.Tolerable(err)
	}
	if at := path.Join(path.Dir(link), target); !path.IsAbs(target) && isBlob(at) {
		s.files = append(s.files, entry{path: p, at: at})
		return nil
	}
	base, inside, err := repo.Resolve(link)
	if err != nil {
		return tree.Tolerable(err)
	}
	home, _, err := repo.Resolve(".")
	switch {
	case err != nil:
		return tree.Tolerable(err)
	case base != home:
		s.files = append(s.files, entry{path: p, at: inside, tree: repo.At(base)})
	case isBlob(inside) || strings.HasPrefix(inside, root+"/"):
		s.files = append(s.files, entry{path: p, at: inside})
	}
	return nil
}

// isBlob reports whether a path in a repository is that of a whole blob.
func isBlob(at string) bool {
	name, ok := strings.CutPrefix(at, "blobs/")
	return ok && model.ValidPath(name) && !strings.Contains(name, "/") && !tree.Hidden(name)
}
