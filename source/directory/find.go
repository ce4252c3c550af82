package directory

import (
	"fmt"
	"path"
	"strings"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
	"modelfs/source/internal/weights"
)

// A target is where in the tree a name leads.
type target struct {
	kind model.EntryKind
	name string // the true name
	rel  string // the directory, or the loose file
	as   string // for a loose file shown as a model: the path inside it
}

// find is Find, for the goroutine that may get stuck.
func (s *Source) find(n model.Name) (model.Found, error) {
	l := s.look()
	at, quant, err := l.locate(n)
	if err != nil {
		return model.Found{}, err
	}
	found := model.Found{Kind: at.kind, Name: at.name}
	switch {
	case at.kind == model.Namespace && quant != "":
		return model.Found{}, model.Errorf(model.NotFound, "%s is a namespace and has no quantisation", at.name)
	case at.kind == model.Namespace:
	case at.isFile():
		err = l.describeFile(&found, at, quant)
	default:
		err = l.describeDir(&found, at, quant)
	}
	return found, err
}

func (t target) isFile() bool { return t.kind == model.LooseFile || t.as != "" }

func (l *look) describeFile(found *model.Found, at target, quant string) error {
	st, err := l.s.Tree.Stat(at.rel)
	if err != nil {
		return err
	}
	found.ModTime = st.ModTime
	found.Broken, err = l.judge(".", []string{at.rel}, quant)
	return err
}

func (l *look) describeDir(found *model.Found, at target, quant string) error {
	paths, under, err := l.Walk(at.rel)
	if err != nil {
		return err
	}
	found.ModTime = under[0].Stamp.ModTime()
	mark := at.rel + "\x00" + quant
	if l.s.dirs.IsSound(mark, under) {
		return nil
	}
	found.Broken, err = l.judge(at.rel, paths, quant)
	if err == nil && found.Broken == "" {
		l.s.dirs.SetSound(mark, under)
	}
	return err
}

// judge says why the files below rel, sorted paths, are not a model that can
// be loaded, or "". NotFound: none of them is of the quantisation.
func (l *look) judge(rel string, paths []string, quant string) (string, error) {
	why, err := weights.Judge(paths, quant, files{l.s.Tree, rel})
	if err != nil {
		return "", fmt.Errorf("%s in %s: %w", rel, l.s.ID(), err)
	}
	return why, nil
}

// locate finds n: a directory that is literally called "name:quant" first,
// then the name as it is spelt, then the only one that equals it but for
// case. The quantisation that is left to be matched is returned.
func (l *look) locate(n model.Name) (target, string, error) {
	if last := strings.TrimPrefix(n.String(), n.Org+"/"); last != n.Repo && !strings.Contains(last, "/") {
		at, err := l.locatePath(n.Org, last)
		if err == nil && at.kind == model.ModelDir && !at.isFile() && path.Base(at.rel) == last {
			return at, "", nil
		}
		if err != nil && model.KindOf(err) != model.NotFound {
			return target{}, "", err
		}
	}
	if n.Revision != "" {
		return target{}, "", model.Errorf(model.NotFound, "%s: this tree records no revisions", n)
	}
	at, err := l.locatePath(n.Org, n.Repo)
	return at, n.Quant, err
}

func (l *look) locatePath(org, repo string) (target, error) {
	if org == "" {
		return l.locateTop(repo)
	}
	top, err := l.top()
	if err != nil {
		return target{}, err
	}
	dir, ok := tree.Match(top.Dirs, org)
	if !ok {
		return target{}, l.absent(org)
	}
	shape, err := l.shape(dir)
	if err != nil {
		return target{}, err
	}
	if shape == isModel || shape == isIncomplete {
		return target{}, model.Errorf(model.NotFound, "%s is a model of %s, not a namespace", dir, l.s.ID())
	}
	return l.locateIn(dir, repo)
}

// locateIn finds the model called repo in the namespace dir.
func (l *look) locateIn(dir, repo string) (target, error) {
	in, err := l.Dir(dir)
	if err != nil {
		return target{}, err
	}
	name, ok := tree.Match(in.Dirs, repo)
	if !ok {
		return target{}, l.absent(dir + "/" + repo)
	}
	rel := path.Join(dir, name)
	c, err := l.content(rel)
	switch {
	case err != nil:
		return target{}, err
	case c == hasNothing:
		return target{}, l.absent(rel)
	}
	return target{kind: model.ModelDir, name: rel, rel: rel}, nil
}

// locateTop finds what is called name at the top: a model's directory or a
// namespace, a loose file, or the model that a loose file is. As it is spelt
// first, then but for case.
func (l *look) locateTop(name string) (target, error) {
	top, err := l.top()
	if err != nil {
		return target{}, err
	}
	for _, pick := range []func([]string, string) (string, bool){exactly, tree.Match} {
		if dir, ok := pick(top.Dirs, name); ok {
			at, err := l.topDir(dir)
			if err != nil || at.name != "" {
				return at, err
			}
		}
		if at, ok := l.looseAt(top, name, pick); ok {
			return at, nil
		}
	}
	return target{}, l.absent(name)
}

// topDir is the target of a directory at the top; nameless if it is neither a
// model nor a namespace.
func (l *look) topDir(dir string) (target, error) {
	shape, err := l.shape(dir)
	if err != nil {
		return target{}, err
	}
	switch shape {
	case isModel, isIncomplete:
		return target{kind: model.ModelDir, name: dir, rel: dir}, nil
	case isNamespace:
		return target{kind: model.Namespace, name: dir, rel: dir}, nil
	}
	return target{}, nil
}

// looseAt finds the loose weights file called name, or the model that one is.
func (l *look) looseAt(top *tree.Listing, name string, pick func([]string, string) (string, bool)) (target, bool) {
	if f, ok := pick(top.Files, name); ok && weights.Is(f) {
		return target{kind: model.LooseFile, name: f, rel: f}, true
	}
	byStem := l.s.loose.in(top)
	stem, ok := pick(sortedKeys(byStem), name)
	if !ok {
		return target{}, false
	}
	f := byStem[stem]
	return target{kind: model.ModelDir, name: stem, rel: f, as: "model" + strings.ToLower(path.Ext(f))}, true
}

func (l *look) absent(name string) error {
	return model.Errorf(model.NotFound, "%s has no %s", l.s.ID(), name)
}
