package hfcache

import (
	"errors"
	iofs "io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
	"modelfs/source/internal/weights"
)

// A glance is what Names saw of one repository. It is immutable.
type glance struct {
	found   model.Found // nameless: nothing to load
	under   []under     // the reference and the directories that were read
	settled bool        // it may be remembered
}

// glances remembers what the last Names saw.
type glances struct {
	mu sync.Mutex         // guards by
	by map[string]*glance // by directory
}

func (g *glances) get(dir string) *glance {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.by[dir]
}

func (g *glances) replace(by map[string]*glance) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.by = by
}

// names is Names, for the goroutine that may get stuck.
func (s *Source) names() ([]model.Found, error) {
	repos, err := s.repos()
	if err != nil || len(repos) == 0 {
		return nil, err
	}
	hub, release, err := s.Tree.Hold()
	if err != nil {
		return nil, err
	}
	defer release()
	seen, err := s.glanceAll(hub, repos)
	if err != nil {
		return nil, err
	}
	found, kept := make([]model.Found, 0, len(repos)), make(map[string]*glance, len(repos))
	for i, g := range seen {
		if g == nil {
			continue
		}
		if g.settled {
			kept[repos[i]] = g
		}
		if g.found.Name != "" {
			found = append(found, g.found)
		}
	}
	s.glances.replace(kept)
	slices.SortFunc(found, func(a, b model.Found) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// workers look at repositories at the same time: that many system calls of a
// share are under way, which bounds what the guard does not.
const workers = 4

// glanceAll looks at every repository; nil stands for those with nothing.
func (s *Source) glanceAll(hub *tree.Tree, repos []string) ([]*glance, error) {
	seen, errs := make([]*glance, len(repos)), make([]error, workers)
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			for i := w; i < len(repos) && errs[w] == nil; i += workers {
				seen[i], errs[w] = s.glance(hub, repos[i])
			}
		})
	}
	working.Wait()
	return seen, errors.Join(errs...)
}

// glance looks at the repository at dir, unless it is as it was.
func (s *Source) glance(hub *tree.Tree, dir string) (*glance, error) {
	if g := s.glances.get(dir); g != nil && g.unchanged(hub) {
		return g, nil
	}
	g, err := glanceAt(hub, dir)
	return g, tree.Tolerable(err)
}

func (g *glance) unchanged(hub *tree.Tree) bool {
	for _, u := range g.under {
		if now, err := hub.FileStamp(u.path); err != nil || now != u.stamp {
			return false
		}
	}
	return true
}

// glanceAt looks at the repository at dir until it sees something to load.
func glanceAt(hub *tree.Tree, dir string) (*glance, error) {
	readAt := time.Now()
	v, err := versionOf(hub, dir, "")
	if err != nil {
		return nil, err
	}
	g := &glance{}
	if v.guess == "" {
		g.under = append(g.under, under{path.Join(dir, "refs", "main"), v.ref})
	}
	some, err := g.search(hub, snapshotDir(dir, v.commit), 0)
	if err != nil {
		return nil, err
	}
	g.settled = v.guess == "" // a guess depends on every snapshot
	for _, u := range g.under {
		g.settled = g.settled && hub.Settled(u.stamp, readAt)
	}
	if !some {
		return g, nil
	}
	at := g.under[0]
	if v.guess == "" {
		at = g.under[1]
	}
	g.found = model.Found{Kind: model.ModelDir, Name: repoName(dir), Revision: v.commit, ModTime: at.stamp.ModTime(), Broken: v.guess}
	return g, nil
}

// search reports whether dir or a directory below it names something to load.
func (g *glance) search(hub *tree.Tree, dir string, depth int) (bool, error) {
	entries, st, err := hub.ReadDir(dir)
	if err != nil {
		if depth > 0 {
			err = tree.Tolerable(err)
		}
		return false, err
	}
	g.under = append(g.under, under{dir, st})
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
