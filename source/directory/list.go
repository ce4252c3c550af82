package directory

import (
	"context"
	"os"
	"path"
	"strings"

	"modelfs/internal/model"
)

// list is List, for the goroutine that may get stuck. f.Name is exact.
func (s *Source) list(f model.Found) (*model.Model, error) {
	if !model.ValidPath(f.Name) || f.Kind == model.Namespace {
		return nil, model.Errorf(model.Invalid, "%s: listing %q, which is no model", s.id, f.Name)
	}
	l := s.look()
	org, repo, two := strings.Cut(f.Name, "/")
	if !two {
		org, repo = "", org
	}
	at, err := l.locatePath(org, repo)
	if err == nil && at.name != f.Name {
		err = l.absent(f.Name)
	}
	if err != nil {
		return nil, err
	}
	m := &model.Model{Name: at.name, Source: s.id, Kind: s.kind}
	if at.isFile() {
		return m, l.listFile(m, at)
	}
	return m, l.listDir(m, at)
}

func (l *look) listFile(m *model.Model, at target) error {
	name := at.rel
	if at.as != "" {
		name = at.as
	}
	f, err := l.file(at.rel, name)
	if err != nil {
		return err
	}
	m.ModTime, m.Files = f.ModTime, []model.File{f}
	return nil
}

func (l *look) listDir(m *model.Model, at target) error {
	paths, under, err := l.walk(at.rel)
	if err != nil {
		return err
	}
	files := make([]model.File, 0, len(paths))
	for _, p := range paths {
		f, err := l.file(path.Join(at.rel, p), p)
		if err != nil {
			if tolerable(err) != nil {
				return err
			}
			continue
		}
		files = append(files, f)
	}
	var refused []model.Refusal
	m.ModTime = under[0].stamp.modTime()
	m.Files, refused = model.Listing(files)
	for _, r := range refused {
		l.s.log.Debug("file left out of a listing", "source", l.s.id, "model", m.Name, "file", r.Path, "reason", r.Why)
	}
	return nil
}

func (l *look) file(rel, name string) (model.File, error) {
	st, err := l.s.tree.statFile(rel)
	if err != nil {
		return model.File{}, err
	}
	return model.File{Path: name, Size: st.Size, ModTime: st.ModTime, Place: &place{s: l.s, rel: rel}}, nil
}

// A place is a file of the tree, found by its path each time: a file that was
// replaced is the new one at once.
type place struct {
	s   *Source
	rel string
}

// opened is what Open returns through the guard.
type opened struct {
	file *os.File
	stat model.Stat
}

// At is the place of a file of this tree, by the absolute path that
// Place.Path said; nil if the path does not lie in the tree. It does no I/O.
func (s *Source) At(abs string) model.Place {
	rel, ok := strings.CutPrefix(abs, s.tree.abs("")+"/")
	if !ok || !model.ValidPath(rel) {
		return nil
	}
	return &place{s: s, rel: rel}
}

// Stat implements model.Place.
func (p *place) Stat(ctx context.Context) (model.Stat, error) {
	return run(ctx, p.s.guard, "reading "+p.Path(), func() (model.Stat, error) { return p.s.tree.statFile(p.rel) }, nil)
}

// Open implements model.Place.
func (p *place) Open(ctx context.Context) (*os.File, model.Stat, error) {
	o, err := run(ctx, p.s.guard, "opening "+p.Path(), func() (opened, error) {
		f, st, err := p.s.tree.openFile(p.rel)
		return opened{f, st}, err
	}, func(o opened) { o.file.Close() })
	return o.file, o.stat, err
}

// Path implements model.Place.
func (p *place) Path() string { return p.s.tree.abs(p.rel) }

var _ interface {
	ID() string
	Kind() model.SourceKind
	Find(context.Context, model.Name) (model.Found, error)
	List(context.Context, model.Name, model.Found) (*model.Model, error)
	Names(context.Context) ([]model.Found, error)
} = (*Source)(nil)
