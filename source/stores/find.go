package stores

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
	"modelfs/source/internal/weights"
)

// find is Find, for the goroutine that may get stuck.
func (s *Source) find(n model.Name) (model.Found, error) {
	l, release, err := s.look()
	if err != nil {
		return model.Found{}, err
	}
	defer release()
	e, err := s.edition(l)
	if err != nil {
		return model.Found{}, err
	}
	b, quant := e.book(n)
	if b == nil && n.Org == "" && n.Quant == "" && n.Revision == "" {
		if org := e.orgs[strings.ToLower(n.Repo)]; org != "" {
			return model.Found{Kind: model.Namespace, Name: org}, nil
		}
	}
	if b == nil {
		return model.Found{}, s.Absent(n)
	}
	c, err := l.open(b)
	if err != nil {
		return model.Found{}, err
	}
	if len(c.files) == 0 {
		return model.Found{}, s.Absent(n)
	}
	found := l.found(b)
	if found.Broken, err = b.verdict(c, quant); err != nil {
		return model.Found{}, fmt.Errorf("%s of %s: %w", n, s.ID(), err)
	}
	return found, nil
}

// found is the book without a verdict.
func (l *look) found(b *book) model.Found {
	f := model.Found{Kind: model.ModelDir, Name: b.trueName(), Revision: b.revision, ModTime: b.modTime}
	if b.loose {
		f.Kind = model.LooseFile
	}
	if b.dir != "" {
		if d, err := l.Dir(b.dir); err == nil {
			f.ModTime = d.Stamp.ModTime()
		}
	} else if b.modTime.IsZero() {
		if st, err := l.tree.Stat(b.files[0].at); err == nil {
			f.ModTime = st.ModTime
		}
	}
	return f
}

// trueName is the name without the revision.
func (b *book) trueName() string {
	name, _, _ := strings.Cut(b.name, "@")
	return name
}

// verdict says why the book can't be loaded, or "".
func (b *book) verdict(c *copyOf, quant string) (string, error) {
	var why string
	var err error
	if b.judge != nil {
		why, err = b.judge(b, c, quant)
	} else {
		why, err = weights.Judge(c.files, quant, c)
	}
	if why == "" && err == nil {
		why = b.broken
	}
	return why, err
}

// list is List, for the goroutine that may get stuck.
func (s *Source) list(n model.Name, f model.Found) (*model.Model, error) {
	if f.Kind == model.Namespace {
		return nil, model.Errorf(model.Invalid, "%s: listing %q, which is no model", s.ID(), f.Name)
	}
	l, release, err := s.look()
	if err != nil {
		return nil, err
	}
	defer release()
	e, err := s.edition(l)
	if err != nil {
		return nil, err
	}
	b, _ := e.book(n)
	if b == nil || b.trueName() != f.Name {
		return nil, model.Errorf(model.NotFound, "%s has no %s any more", s.ID(), f.Name)
	}
	c, err := l.open(b)
	if err != nil {
		return nil, err
	}
	var files []model.File
	for _, p := range c.files {
		at := c.at[p]
		st, err := c.stat(at)
		if tree.Tolerable(err) != nil {
			return nil, err
		}
		if err == nil {
			files = append(files, model.File{Path: p, Size: st.Size, ModTime: st.ModTime, SHA256: at.sha256, Place: s.Tree.Place(s.Guard, at.at, at.size)})
		}
	}
	return s.Model(l.found(b), files), nil
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
	e, err := s.edition(l)
	if err != nil {
		return nil, err
	}
	found := make([]model.Found, 0, len(e.books))
	for _, b := range e.books {
		if strings.Contains(b.name, "@") {
			continue
		}
		some := slices.ContainsFunc(b.files, func(f leaf) bool { return weights.Is(f.path) })
		if b.dir != "" {
			some, err = l.loadable(b.dir)
		}
		if tree.Tolerable(err) != nil {
			return nil, err
		}
		if some {
			f := l.found(b)
			f.Broken = b.broken
			found = append(found, f)
		}
	}
	slices.SortFunc(found, func(a, b model.Found) int { return cmp.Compare(a.Name, b.Name) })
	return found, nil
}
