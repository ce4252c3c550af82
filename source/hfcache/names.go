package hfcache

import (
	iofs "io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
	"modelfs/source/internal/weights"
)

// names is Names, for the goroutine that may get stuck. As long as nothing has
// changed, it returns the very same slice.
func (s *Source) names() ([]model.Found, error) {
	top, repos, err := s.repos()
	if err != nil || len(repos) == 0 {
		return nil, err
	}
	hub, release, err := s.Tree.Hold()
	if err != nil {
		return nil, err
	}
	defer release()
	return s.survey.Names(hub, top, repos, merge)
}

// merge is all that was found, sorted by name, which is not the order of
// directories.
func merge(seen []*tree.Sight) []model.Found {
	found := make([]model.Found, 0, len(seen))
	for _, sight := range seen {
		found = append(found, sight.Found...)
	}
	slices.SortFunc(found, func(a, b model.Found) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// workers look at repositories at the same time.
const workers = 4

// sight looks at the repository at dir until it sees something to load.
func sight(hub *tree.Tree, dir string) (*tree.Sight, error) {
	g, err := glanceAt(hub, dir)
	if err != nil {
		return &tree.Sight{}, tree.Tolerable(err)
	}
	return g, nil
}

func glanceAt(hub *tree.Tree, dir string) (*tree.Sight, error) {
	readAt := time.Now()
	v, err := versionOf(hub, dir, "")
	if err != nil {
		return nil, err
	}
	g := &glance{}
	if v.guess == "" {
		g.under = append(g.under, tree.Read{Path: path.Join(dir, "refs", "main"), Stamp: v.ref})
	}
	some, err := g.search(hub, snapshotDir(dir, v.commit), 0)
	if err != nil {
		return nil, err
	}
	// A guess depends on every snapshot, which were not all looked at.
	seen := &tree.Sight{Under: g.under, Settled: v.guess == "" && !g.partial && hub.SettledAll(g.under, readAt)}
	if some {
		seen.Found = []model.Found{{Kind: model.ModelDir, Name: repoName(dir), Revision: v.commit, ModTime: g.modTime, Broken: v.guess}}
	}
	return seen, nil
}

// A glance is the search for something to load in a snapshot.
type glance struct {
	under   tree.Reading // what was read so far
	partial bool         // a directory could not be read
	modTime time.Time    // of the snapshot
}

// search reports whether dir or a directory below it names something to load.
func (g *glance) search(hub *tree.Tree, dir string, depth int) (bool, error) {
	entries, st, err := hub.ReadDir(dir)
	if err != nil {
		g.partial = true
		if depth > 0 {
			err = tree.Tolerable(err)
		}
		return false, err
	}
	if depth == 0 {
		g.modTime = st.ModTime()
	}
	g.under = append(g.under, tree.Read{Path: dir, Stamp: st})
	var dirs []string
	for _, e := range entries {
		switch {
		case e.Type() == iofs.ModeDir && depth < model.MaxDepth:
			dirs = append(dirs, e.Name())
		case (e.Type() == 0 || e.Type() == iofs.ModeSymlink) && weights.Is(e.Name()):
			return true, nil
		}
	}
	for _, d := range dirs {
		if some, err := g.search(hub, path.Join(dir, d), depth+1); some || err != nil {
			return some, err
		}
	}
	return false, nil
}
