package ollama

import (
	"cmp"
	"slices"
	"sync"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
)

// A glance is what Names saw of the tags of one model: good as long as the two
// directories are as they were. Which tags there are and whether their weights
// are here is all that it says, and no pull of a tag that exists changes that.
type glance struct {
	tags, blobs *tree.Listing
	found       []model.Found
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
	l, release, err := s.look()
	if model.IsKind(err, model.NotFound) {
		return nil, nil // a local store that does not exist
	}
	if err != nil {
		return nil, err
	}
	defer release()
	hosts, err := l.hosts()
	if err != nil {
		return nil, err
	}
	blobs, err := l.list("blobs")
	if err != nil {
		return nil, err
	}
	var found []model.Found
	kept := make(map[string]*glance)
	for _, h := range hosts {
		err := l.visit(h, func(r ref) error {
			g, err := l.glance(r, blobs)
			if err == nil {
				kept[r.dir()] = g
				found = append(found, g.found...)
			}
			return tree.Tolerable(err)
		})
		if err != nil {
			return nil, err
		}
	}
	s.glances.replace(kept)
	byName := func(a, b model.Found) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortStableFunc(found, byName) // the host that is believed first stays first
	return slices.CompactFunc(found, func(a, b model.Found) bool { return a.Name == b.Name }), nil
}

// visit calls f for each model of a host. A directory that may not be read is
// left out.
func (l *look) visit(host string, f func(ref) error) error {
	return l.each(ref{host: host}, func(r ref, ns string) error {
		r.namespace = ns
		return l.each(r, func(r ref, name string) error {
			r.model = name
			return f(r)
		})
	})
}

// each calls f for each directory in that of r.
func (l *look) each(r ref, f func(r ref, name string) error) error {
	in, err := l.list(r.dir())
	if err != nil {
		return tree.Tolerable(err)
	}
	for _, name := range in.Dirs {
		if err := f(r, name); err != nil {
			return err
		}
	}
	return nil
}

// glance looks at the tags of the model that r names, unless they are as they
// were. A manifest that can't be read is no model.
func (l *look) glance(r ref, blobs *tree.Listing) (*glance, error) {
	tags, err := l.list(r.dir())
	if err != nil {
		return nil, err
	}
	if g := l.s.glances.get(r.dir()); g != nil && g.tags == tags && g.blobs == blobs {
		return g, nil
	}
	g := &glance{tags: tags, blobs: blobs}
	for _, r.tag = range tags.Files {
		m, err := l.manifest(r)
		if model.IsKind(err, model.Invalid) {
			continue
		}
		if tree.Tolerable(err) != nil {
			return nil, err
		}
		name := r.name()
		if err != nil || name == "" || !m.loadable(blobs.Files) {
			continue
		}
		f := model.Found{Kind: model.ModelDir, Name: name, ModTime: m.stamp.ModTime()}
		if isHub(r.host) && r.tag == defaultTag {
			f.Broken = nameless
		}
		g.found = append(g.found, f)
	}
	return g, nil
}
