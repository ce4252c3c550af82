package hfcache

import (
	"path"
	"slices"
	"strings"

	"modelfs/internal/model"
	"modelfs/source/internal/blobs"
	"modelfs/source/internal/tree"
)

// prefix begins the directory of a model; datasets and spaces have others.
const prefix = "models--"

// maxRef bounds a file in refs/, which holds a commit and perhaps a newline.
const maxRef = 256

// repoName is the name of the repository in dir, or "".
func repoName(dir string) string {
	rest, ok := strings.CutPrefix(dir, prefix)
	if !ok {
		return ""
	}
	parts := strings.Split(rest, "--")
	for _, p := range parts {
		if !model.ValidEntry(p) {
			return ""
		}
	}
	if len(parts) > 2 {
		return ""
	}
	return strings.Join(parts, "/")
}

func repoDir(n model.Name) string { return prefix + strings.ReplaceAll(n.Path(), "/", "--") }

// locate is the directory of the repository that n names, as it is spelt or
// but for case, or "".
func locate(top *tree.Listing, n model.Name) string {
	dir, ok := tree.Match(top.Dirs, repoDir(n))
	if !ok || !strings.EqualFold(repoName(dir), n.Path()) {
		return ""
	}
	return dir
}

// members are the directories of the repositories of org, with org as they
// spell it: as it is asked for, or the only one that equals it but for case.
func members(top *tree.Listing, org string) (string, []string) {
	orgs := make(map[string][]string)
	for _, d := range top.Dirs {
		end := len(prefix) + len(org)
		if len(d) < end+2 || d[end:end+2] != "--" || !strings.EqualFold(d[len(prefix):end], org) {
			continue
		}
		if have, _, two := strings.Cut(repoName(d), "/"); two {
			orgs[have] = append(orgs[have], d)
		}
	}
	if dirs := orgs[org]; dirs != nil {
		return org, dirs
	}
	if len(orgs) != 1 {
		return "", nil
	}
	for have, dirs := range orgs {
		return have, dirs
	}
	return "", nil
}

// A version is a commit of a repository, and how it was found.
type version struct {
	commit string
	ref    tree.Stamp // of the reference that says so, if one was read
	guess  string     // not "": no reference says that this is the commit, and why it is taken
}

// versionOf is the commit that revision means in the repository at dir. NotFound:
// the cache does not record it. Whether there is a snapshot of it is not asked.
func versionOf(t *tree.Tree, dir, revision string) (version, error) {
	if blobs.IsSHA1(revision) {
		return version{commit: revision}, nil
	}
	ref := revision
	if ref == "" {
		ref = "main"
	}
	v, err := readRef(t, dir, ref)
	if revision == "" && model.IsKind(err, model.NotFound) {
		return newest(t, dir)
	}
	return v, err
}

func snapshotDir(dir, commit string) string { return path.Join(dir, "snapshots", commit) }

func readRef(t *tree.Tree, dir, ref string) (version, error) {
	if !model.ValidPath(ref) {
		return version{}, model.Errorf(model.NotFound, "%q can't be a reference", ref)
	}
	at := path.Join(dir, "refs", ref)
	raw, stamp, err := t.ReadFile(at, maxRef)
	if model.IsKind(err, model.Invalid) {
		return version{}, model.Errorf(model.NotFound, "%w", err)
	}
	if err != nil {
		return version{}, err
	}
	commit := strings.TrimSpace(string(raw))
	if !blobs.IsSHA1(commit) {
		return version{}, model.Errorf(model.NotFound, "%s holds no commit", t.Abs(at))
	}
	return version{commit: commit, ref: stamp}, nil
}

// newest is the snapshot that changed last. Nothing says that it is what the
// name means, so it is a guess.
func newest(t *tree.Tree, dir string) (version, error) {
	at := path.Join(dir, "snapshots")
	entries, _, err := t.ReadDir(at)
	if err != nil {
		return version{}, err
	}
	best, bestTime := "", int64(0)
	for _, e := range entries {
		if !e.IsDir() || !blobs.IsSHA1(e.Name()) {
			continue
		}
		st, err := t.DirStamp(path.Join(at, e.Name()))
		if tree.Tolerable(err) != nil {
			return version{}, err
		}
		if mtime := st.ModTime().UnixNano(); err == nil && (best == "" || mtime > bestTime || mtime == bestTime && e.Name() < best) {
			best, bestTime = e.Name(), mtime
		}
	}
	if best == "" {
		return version{}, model.Errorf(model.NotFound, "%s holds no snapshot", t.Abs(at))
	}
	return version{commit: best, guess: "the cache does not record which commit main is; " + best[:7] + " is the newest snapshot"}, nil
}

// repos are the directories of repositories, sorted, and the listing that they
// are from.
func (s *Source) repos() (*tree.Listing, []string, error) {
	top, err := s.top.Dir(".")
	if model.IsKind(err, model.NotFound) {
		return nil, nil, nil // a local cache that does not exist
	}
	if err != nil {
		return nil, nil, err
	}
	dirs := slices.Clone(top.Dirs)
	return top, slices.DeleteFunc(dirs, func(d string) bool { return repoName(d) == "" }), nil
}

func (s *Source) refresh() error {
	_, repos, err := s.repos()
	if err != nil || len(repos) == 0 {
		return err
	}
	hub, release, err := s.Tree.Hold()
	if err != nil {
		return err
	}
	defer release()
	dirs := make([]blobs.Dir, len(repos))
	for i, r := range repos {
		repo := s.Tree.Within(r)
		dirs[i] = blobs.Dir{Path: r + "/blobs", Hash: blobHash, Place: func(name string, size int64) *tree.Place {
			return repo.Place(s.Guard, "blobs/"+name, size)
		}}
	}
	return s.index.Refresh(hub, dirs)
}

func blobHash(name string) string {
	if blobs.IsSHA256(name) {
		return name
	}
	return ""
}
