package hfcache

import (
	"fmt"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
)

// find is Find, for the goroutine that may get stuck.
func (s *Source) find(n model.Name) (model.Found, error) {
	top, err := s.top.Dir(".")
	if err != nil {
		return model.Found{}, err
	}
	if dir := locate(top, n); dir != "" {
		return s.findRepo(dir, n)
	}
	if n.Org == "" && n.Quant == "" && n.Revision == "" {
		return s.findOrg(top, n.Repo)
	}
	return model.Found{}, s.Absent(n)
}

func (s *Source) findRepo(dir string, n model.Name) (model.Found, error) {
	repo, release, err := s.Tree.Within(dir).Hold()
	if err != nil {
		return model.Found{}, err
	}
	defer release()
	v, err := versionOf(repo, ".", n.Revision)
	if err != nil {
		return model.Found{}, err
	}
	c, err := s.contents(repo, dir, v.commit)
	if err != nil {
		return model.Found{}, err
	}
	if len(c.snap.files) == 0 {
		return model.Found{}, s.Absent(n)
	}
	found := model.Found{Kind: model.ModelDir, Name: repoName(dir), Revision: v.commit, ModTime: c.snap.modTime}
	found.Broken, err = c.broken(v.commit, n.Quant)
	if err != nil {
		return model.Found{}, fmt.Errorf("%s of %s: %w", n, s.ID(), err)
	}
	if found.Broken == "" {
		found.Broken = v.guess
	}
	return found, nil
}

// findOrg finds the namespace org: one that has a repository with a snapshot.
func (s *Source) findOrg(top *tree.Listing, org string) (model.Found, error) {
	name, dirs := members(top, org)
	for _, dir := range dirs {
		v, err := versionOf(s.Tree, dir, "")
		if err == nil {
			_, err = s.Tree.DirStamp(snapshotDir(dir, v.commit))
		}
		if err == nil {
			return model.Found{Kind: model.Namespace, Name: name}, nil
		}
		if tree.Tolerable(err) != nil {
			return model.Found{}, err
		}
	}
	return model.Found{}, s.Absent(model.Name{Repo: org})
}

// list is List, for the goroutine that may get stuck.
func (s *Source) list(f model.Found) (*model.Model, error) {
	n, err := model.ParseName(f.Name)
	if err != nil || f.Kind != model.ModelDir || repoName(repoDir(n)) != f.Name {
		return nil, model.Errorf(model.Invalid, "%s: listing %q, which is no model", s.ID(), f.Name)
	}
	dir := repoDir(n)
	repo, release, err := s.Tree.Within(dir).Hold()
	if err != nil {
		return nil, err
	}
	defer release()
	v, err := versionOf(repo, ".", f.Revision)
	if err != nil {
		return nil, err
	}
	c, err := s.contents(repo, dir, v.commit)
	if err != nil {
		return nil, err
	}
	f.Revision, f.ModTime = v.commit, c.snap.modTime
	return s.Model(f, s.files(c, dir)), nil
}

func (s *Source) files(c *contents, dir string) []model.File {
	files := make([]model.File, 0, len(c.files))
	for _, e := range c.snap.files {
		st, ok := c.stats[e.path]
		if !ok {
			continue
		}
		t := e.tree
		if t == nil {
			t = s.Tree.Within(dir) // not c.repo, whose descriptor ends with the operation
		}
		f := model.File{Path: e.path, Size: st.Size, ModTime: st.ModTime, Place: t.Place(s.Guard, e.at, c.size(e.path))}
		f.SHA256, f.GitSHA1 = e.hashes()
		files = append(files, f)
	}
	return files
}
