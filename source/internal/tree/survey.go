package tree

import (
	"slices"
	"sync"

	"modelfs/internal/model"
)

// A Sight is what was seen of one directory. It is immutable.
type Sight struct {
	Found   []model.Found
	Under   Reading // what it was made from
	Settled bool    // it may be remembered
}

// A Survey looks at many directories, again and again, most of which have not
// changed since. It is safe for concurrent use. Its fields are set once, before
// it is used.
type Survey struct {
	// Workers look at the same time.
	Workers int
	// Look sees what the directory holds. Its paths are relative to held.
	Look func(held *Tree, dir string) (*Sight, error)

	mu   sync.Mutex // guards last
	last *panorama  // nil: nothing was seen
}

// A panorama is what was seen at one time. It is immutable.
type panorama struct {
	top    *Listing
	dirs   []string
	sights []*Sight // of each of dirs
	found  []model.Found
}

// Names is what merge makes of the sights of dirs, sorted names, which are
// chosen from the listing top alone. As long as nothing has changed it is the
// very same slice. merge may look at top, too.
func (s *Survey) Names(held *Tree, top *Listing, dirs []string, merge func([]*Sight) []model.Found) ([]model.Found, error) {
	last := s.before()
	now := &panorama{top: top, dirs: dirs, sights: make([]*Sight, len(dirs))}
	err := Each(len(dirs), s.Workers, func(i int) (err error) {
		if was := last.sight(now, i); was != nil && was.Settled && was.Under.Current(held) {
			now.sights[i] = was
			return nil
		}
		now.sights[i], err = s.Look(held, dirs[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	if last.top == top && slices.Equal(last.sights, now.sights) {
		return last.found, nil
	}
	now.found = merge(now.sights)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = now
	return now.found, nil
}

func (s *Survey) before() *panorama {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return &panorama{}
	}
	return s.last
}

// sight is what p has of the directory that is the i-th of now, or nil.
func (p *panorama) sight(now *panorama, i int) *Sight {
	if p.top == now.top {
		return p.sights[i]
	}
	if at, ok := slices.BinarySearch(p.dirs, now.dirs[i]); ok {
		return p.sights[at]
	}
	return nil
}
