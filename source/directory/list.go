package directory

import (
	"errors"
	"path"
	"slices"
	"strings"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
)

// list is List, for the goroutine that may get stuck. f.Name is exact.
func (s *Source) list(f model.Found) (*model.Model, error) {
	if !model.ValidPath(f.Name) || f.Kind == model.Namespace {
		return nil, model.Errorf(model.Invalid, "%s: listing %q, which is no model", s.ID(), f.Name)
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
	if at.isFile() {
		return l.listFile(at)
	}
	return l.listDir(at)
}

func (l *look) listFile(at target) (*model.Model, error) {
	name := at.rel
	if at.as != "" {
		name = at.as
	}
	st, err := l.s.Tree.Stat(at.rel)
	if err != nil {
		return nil, err
	}
	return l.s.Model(model.Found{Name: at.name, ModTime: st.ModTime}, []model.File{l.file(at.rel, name, st)}), nil
}

func (l *look) listDir(at target) (*model.Model, error) {
	var files []model.File
	var failure error
	found := model.Found{Name: at.name}
	err := l.Visit(at.rel, func(below string, d *tree.Listing) bool {
		if below == "." {
			found.ModTime = d.Stamp.ModTime()
		}
		dir := path.Join(at.rel, below)
		files = slices.Grow(files, len(d.Files))
		failure = tree.Tolerable(l.s.Tree.StatAll(dir, d.Files, func(name string, st model.Stat) {
			files = append(files, l.file(dir+"/"+name, join(below, name), st))
		}))
		return failure == nil && len(files) <= model.MaxFiles
	})
	if err = errors.Join(err, failure); err != nil {
		return nil, err
	}
	return l.s.Model(found, files), nil
}

// file is the file at rel of the tree, called name in its model.
func (l *look) file(rel, name string, st model.Stat) model.File {
	return model.File{Path: name, Size: st.Size, ModTime: st.ModTime, Place: l.s.Tree.Place(l.s.Guard, rel, -1)}
}

// join is the path of a file in the directory below of its model, "." for the
// model's own.
func join(below, name string) string {
	if below == "." {
		return name
	}
	return below + "/" + name
}
