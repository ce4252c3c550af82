package directory

import (
	"context"
	"fmt"
	"sync"
	"time"

	"modelfs/internal/model"
	"modelfs/source/internal/guard"
	"modelfs/source/internal/tree"
	"modelfs/source/internal/weights"
)

// sharedWalkers is how many directories of a share a walk reads at a time,
// because each costs round trips. There is one walk at a time, so no more
// threads than these are stuck in it.
const sharedWalkers = 8

// A walk is one reading of all names, for everyone who asks meanwhile.
type walk struct {
	done  chan struct{} // closed by end
	once  sync.Once     // guards end
	found []model.Found // set before done is closed
	err   error         // likewise
}

func (w *walk) end(found []model.Found, err error) {
	w.once.Do(func() {
		w.found, w.err = found, err
		close(w.done)
	})
}

// joinWalk returns the walk that is under way, or a new one that the caller
// has to make.
func (s *Source) joinWalk() (w *walk, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.walk == nil {
		s.walk, mine = &walk{done: make(chan struct{})}, true
	}
	return s.walk, mine
}

func (s *Source) endWalk(w *walk, found []model.Found, err error) {
	s.mu.Lock()
	if s.walk == w {
		s.walk = nil
	}
	s.mu.Unlock()
	w.end(found, err)
}

// Names lists the models of the tree, sorted by name: "repo", "org/repo",
// "x.gguf". Namespaces are implied. It reads directories only, so whether the
// sets are complete is for Find to say: Broken is never set. The caller must
// not change the slice.
func (s *Source) Names(ctx context.Context) ([]model.Found, error) {
	const what = "listing the tree"
	w, mine := s.joinWalk()
	if !mine {
		select {
		case <-w.done:
			return w.found, w.err
		case <-ctx.Done():
			return nil, model.Errorf(model.KindOf(ctx.Err()), "%s: %s did not answer in time: %w", what, s.ID(), ctx.Err())
		}
	}
	begun := make(chan struct{})
	found, err := guard.Run(ctx, s.Guard, what, func() ([]model.Found, error) {
		close(begun)
		found, err := s.names()
		s.endWalk(w, found, err)
		return found, err
	}, nil)
	select {
	case <-begun: // the walk ends by itself, whoever waits for it
	default:
		s.endWalk(w, nil, err)
	}
	return found, err
}

// names is Names, for the goroutine that may get stuck. As long as nothing has
// changed, it returns the very same slice.
func (s *Source) names() ([]model.Found, error) {
	held, release, err := s.Tree.Hold()
	if model.IsKind(err, model.NotFound) {
		return nil, nil // a local tree that does not exist
	}
	if err != nil {
		return nil, err
	}
	defer release()
	top, err := (&look{s.dirs.LookAt(held), s}).top()
	if err != nil {
		return nil, err
	}
	return s.survey.Names(held, top, top.Dirs, func(seen []*tree.Sight) []model.Found { return s.merge(top, seen) })
}

// merge is all that a walk found, sorted.
func (s *Source) merge(top *tree.Listing, seen []*tree.Sight) []model.Found {
	found := make(map[string]model.Found)
	for _, f := range top.Files {
		if weights.Is(f) {
			found[f] = model.Found{Kind: model.LooseFile, Name: f}
		}
	}
	for stem := range s.loose.in(top) {
		found[stem] = model.Found{Kind: model.ModelDir, Name: stem}
	}
	for _, sight := range seen {
		for _, f := range sight.Found {
			found[f.Name] = f
		}
	}
	return sortedValues(found)
}

// sight looks at a directory at the top.
func (s *Source) sight(held *tree.Tree, dir string) (*tree.Sight, error) {
	readAt := time.Now()
	l := &look{s.dirs.LookAt(held), s}
	found, err := l.namesIn(dir)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", dir, err)
	}
	under, all := l.Reading()
	return &tree.Sight{Found: found, Under: under, Settled: all && held.SettledAll(under, readAt)}, nil
}

// namesIn is the model at dir, or the models of the namespace dir.
func (l *look) namesIn(dir string) ([]model.Found, error) {
	shape, err := l.shape(dir)
	switch {
	case err != nil:
		return nil, tree.Tolerable(err)
	case shape == isModel:
		return []model.Found{{Kind: model.ModelDir, Name: dir, ModTime: l.ModTime(dir)}}, nil
	case shape != isNamespace:
		return nil, nil
	}
	in, err := l.Dir(dir)
	if err != nil {
		return nil, tree.Tolerable(err)
	}
	var found []model.Found
	for _, d := range in.Dirs {
		rel := dir + "/" + d
		c, err := l.content(rel)
		switch {
		case err != nil && tree.Tolerable(err) != nil:
			return nil, err
		case err == nil && c == hasWeights:
			found = append(found, model.Found{Kind: model.ModelDir, Name: rel, ModTime: l.ModTime(rel)})
		}
	}
	return found, nil
}
