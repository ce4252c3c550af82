package router

import (
	"context"
	"net/url"
	"strings"

	"modelfs/internal/model"
)

const (
	// maxRepos bounds the repositories that a manifest may point into, each of
	// which costs the Hub's quotas two requests. Real ones point into one or two.
	maxRepos = 8

	// fewFiles of a repository are asked about one by one, at the addresses
	// that a reader would ask anyway: the Hub's quota for those is six times
	// that for listings (3000 and 500 in 5 minutes), and a walk over the mount
	// asks about every model of the router.
	fewFiles = 2
)

// A hubFile is a file in a repository of the Hub.
type hubFile struct {
	repo model.Name // with the revision, unless it is main
	path string
}

// hubFile says which file of the Hub u is: {endpoint}/[org/]repo/resolve/{revision}/{path}.
func (s *Source) hubFile(u *url.URL) (hubFile, bool) {
	text := u.String()
	if u.RawQuery != "" {
		text, _, _ = strings.Cut(text, "?")
	}
	rest, ok := strings.CutPrefix(text, s.endpoint+"/")
	if s.hub == nil || s.endpoint == "" || !ok {
		return hubFile{}, false
	}
	repo, tail, ok := strings.Cut(rest, "/resolve/")
	revision, path, ok2 := strings.Cut(tail, "/")
	if !ok || !ok2 || !askable(repo) {
		return hubFile{}, false
	}
	n := model.Name{Repo: repo}
	if org, name, two := strings.Cut(repo, "/"); two {
		n = model.Name{Org: org, Repo: name}
	}
	var err, err2 error
	n.Revision, err = url.PathUnescape(revision)
	path, err2 = url.PathUnescape(path)
	if err != nil || err2 != nil || !model.ValidPath(path) {
		return hubFile{}, false
	}
	if n.Revision == "main" {
		n.Revision = ""
	}
	return hubFile{n, path}, true
}

// pinned is the address of a file of the Hub at a commit.
func (s *Source) pinned(f hubFile, commit string) string {
	segments := strings.Split(f.path, "/")
	for i, segment := range segments {
		segments[i] = url.PathEscape(segment)
	}
	return s.endpoint + "/" + f.repo.Path() + "/resolve/" + commit + "/" + strings.Join(segments, "/")
}

// isSHA1 reports whether s can be a commit or the hash of a git blob.
func isSHA1(s string) bool {
	return len(s) == 40 && strings.Trim(s, "0123456789abcdef") == ""
}

// repoAnswer is a repository's listing, or why there is none.
type repoAnswer struct {
	model *model.Model
	err   error
}

// askHub lists each repository that the manifest points into with more than a
// few files, and refuses those beyond the limit.
func (l *lister) askHub(ctx context.Context, man *manifest) {
	files := make(map[model.Name]int)
	for _, a := range man.Files {
		if u := address(a.URL); u != nil {
			if hf, ok := l.s.hubFile(u); ok {
				if files[hf.repo]++; files[hf.repo] == 1 {
					l.into = append(l.into, hf.repo)
				}
			}
		}
	}
	for i, repo := range l.into {
		switch {
		case i >= maxRepos:
			l.repos[repo] = repoAnswer{err: model.Errorf(model.NotFound, "a manifest may point into %d repositories", maxRepos)}
		case files[repo] > fewFiles:
			m, err := l.s.askRepo(ctx, repo)
			if err == nil {
				err = l.at(repo, m.Revision)
			}
			l.repos[repo] = repoAnswer{m, err}
		}
	}
}

func (s *Source) askRepo(ctx context.Context, n model.Name) (*model.Model, error) {
	found, err := s.hub.Find(ctx, n)
	if err != nil {
		return nil, err
	}
	if found.Kind != model.ModelDir {
		return nil, model.Errorf(model.NotFound, "%s is not a repository", n)
	}
	return s.hub.List(ctx, n, found)
}

// atHub is what the Hub's listing says of u; ok says that u lies in a
// repository that is not asked file by file.
func (l *lister) atHub(u *url.URL) (f *model.File, ok bool, err error) {
	hf, _ := l.s.hubFile(u)
	repo, ok := l.repos[hf.repo]
	switch {
	case !ok:
		return nil, false, nil
	case repo.err != nil:
		return nil, true, repo.err
	}
	if f = repo.model.File(hf.path); f == nil {
		return nil, true, model.Errorf(model.NotFound, "%s has no %s", hf.repo, hf.path)
	}
	return f, true, nil
}

// traits are those that the Hub states of the model's repository, if it has
// just one and the Hub was asked for all of it.
func (l *lister) traits() model.Traits {
	if len(l.into) != 1 || l.repos[l.into[0]].model == nil {
		return model.Traits{}
	}
	return l.repos[l.into[0]].model.Traits
}

// commit is the commit of the model's repository, if it has just one.
func (l *lister) commit() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.into) != 1 {
		return ""
	}
	return l.commits[l.into[0]]
}

// at notes the commit that an answer about a repository states. Two of them
// are none: the branch moved between two answers, and the files of a model
// never come from two commits.
func (l *lister) at(repo model.Name, commit string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.commits[repo]; ok && old != commit {
		return model.Errorf(model.Unavailable, "%s went from commit %s to %s while its files were asked about", repo, old, commit)
	}
	l.commits[repo] = commit
	return nil
}
