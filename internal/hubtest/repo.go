package hubtest

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Repo is a model repository as a test describes it.
type Repo struct {
	ID           string // "org/name"
	Files        []File // of the first commit on main
	Private      bool
	Gated        string    // "auto" or "manual"; "" for not gated
	Disabled     bool      // every access is 403
	Renamed      []string  // earlier ids, answered with a 307
	LastModified time.Time // of the first commit; zero: a fixed date
	Tags         []string  // such as "gguf" or "license:mit"
	Library      string    // library_name
	Pipeline     string    // pipeline_tag
	Downloads    int
	Likes        int
	Extra        map[string]any // more fields of the model's info: gguf, safetensors, config
}

// File is a file of a commit. Its path is given out as it is, however hostile.
type File struct {
	Path    string
	Content Content // nil: empty
	LFS     bool    // also true of everything above 10 MiB, as at the real Hub

	// The lies that a listing may tell. Zero values are the truth.
	SHA256      string // 64 hex digits, in listings and as X-Linked-Etag
	StatedSize  int64  // in listings
	PointerSize bool   // the tree's outer "size" is the LFS pointer's
}

// newRepoTime is when a repository was modified that does not say.
var newRepoTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// lfsAbove is the size above which the Hub takes no plain git files.
const lfsAbove = 10 << 20

// repo is a repository. Everything in it is guarded by Hub.mu but for the
// commits, which never change.
type repo struct {
	Repo
	oid     string // 24 hex digits
	commits map[string]*commit
	refs    map[string]string // "refs/heads/main" -> commit
}

type commit struct {
	id    string
	time  time.Time
	files []*blob // in order of path
}

func (c *commit) file(path string) *blob {
	for _, b := range c.files {
		if b.Path == path {
			return b
		}
	}
	return nil
}

// blob is a file with its hashes, each computed when first asked for.
type blob struct {
	File
	sha256 func() string // of an LFS file's content
	oid    func() string // git's, of the pointer for LFS
}

func newBlob(f File) *blob {
	if f.Content == nil {
		f.Content = Bytes(nil)
	}
	f.LFS = f.LFS || f.Content.Size() > lfsAbove
	b := &blob{File: f}
	b.sha256 = sync.OnceValue(func() string {
		if f.SHA256 != "" {
			return f.SHA256 // and the content is not read for it
		}
		return sha256Of(f.Content)
	})
	b.oid = sync.OnceValue(func() string {
		if f.LFS {
			return gitSHA1(Text(b.pointer()))
		}
		return gitSHA1(f.Content)
	})
	return b
}

// pointer is what git holds in the place of an LFS file.
func (b *blob) pointer() string {
	return fmt.Sprintf("version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", b.sha256(), b.Content.Size())
}

func (b *blob) statedSize() int64 { return cmp.Or(b.StatedSize, b.Content.Size()) }

// contentID is equal for equal contents; it reads only what does not name itself.
func contentID(c Content) string {
	if n, ok := c.(identified); ok {
		return n.id()
	}
	return sha256Of(c)
}

func newCommit(id, parent string, at time.Time, files []File) *commit {
	c := &commit{time: at}
	h := sha1.New()
	fmt.Fprintf(h, "%s\n%s\n", id, parent)
	for _, f := range files {
		c.files = append(c.files, newBlob(f))
	}
	slices.SortStableFunc(c.files, func(a, b *blob) int { return strings.Compare(a.Path, b.Path) })
	for _, b := range c.files {
		fmt.Fprintf(h, "%q %v %s\n", b.Path, b.LFS, contentID(b.Content))
	}
	c.id = hex.EncodeToString(h.Sum(nil))
	return c
}

// AddRepo adds a repository, or replaces the one of that id, and returns the
// commit on main.
func (h *Hub) AddRepo(r Repo) string {
	if r.LastModified.IsZero() {
		r.LastModified = newRepoTime
	}
	sum := sha1.Sum([]byte(r.ID))
	n := &repo{Repo: r, oid: hex.EncodeToString(sum[:12]), commits: map[string]*commit{}, refs: map[string]string{}}
	c := newCommit(r.ID, "", r.LastModified, r.Files)
	n.commits[c.id] = c
	n.refs["refs/heads/main"] = c.id
	h.mu.Lock()
	defer h.mu.Unlock()
	h.repos[r.ID] = n
	for _, old := range r.Renamed {
		h.aliases[old] = r.ID
	}
	return c.id
}

// Push makes a commit with exactly these files on main and returns its id.
// Earlier commits stay.
func (h *Hub) Push(id string, files ...File) string { return h.PushTo(id, "refs/heads/main", files...) }

// PushTo is Push to another reference, which may be new: "refs/heads/dev",
// "refs/pr/1". It panics if there is no such repository.
func (h *Hub) PushTo(id, ref string, files ...File) string {
	h.mu.Lock()
	parent, at := h.mustRepo(id).refs[ref], h.mustRepo(id).LastModified.Add(time.Hour)
	h.mu.Unlock()
	c := newCommit(id, parent, at, files)
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.mustRepo(id)
	r.commits[c.id] = c
	r.refs[ref] = c.id
	r.LastModified = at
	return c.id
}

// SetRef makes a reference mean a commit: "refs/heads/x", "refs/tags/v1",
// "refs/pr/1". It panics if there is no such repository.
func (h *Hub) SetRef(id, ref, commit string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mustRepo(id).refs[ref] = commit
}

// Commit is the commit that a revision (branch, tag, 40 hex digits, full
// reference) of a repository means; "" if there is none.
func (h *Hub) Commit(id, rev string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.repos[id]; r != nil {
		if c := r.revision(rev); c != nil {
			return c.id
		}
	}
	return ""
}

// RemoveRepo makes the Hub forget a repository and its earlier names.
func (h *Hub) RemoveRepo(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.repos, id)
	maps.DeleteFunc(h.aliases, func(_, to string) bool { return to == id })
}

// mustRepo needs Hub.mu.
func (h *Hub) mustRepo(id string) *repo {
	r := h.repos[id]
	if r == nil {
		panic("hubtest: no repository " + id + "; AddRepo first")
	}
	return r
}

// revision needs Hub.mu.
func (r *repo) revision(rev string) *commit {
	if rev == "HEAD" {
		rev = "main"
	}
	for _, ref := range []string{"refs/heads/" + rev, "refs/tags/" + rev, rev} {
		if id, ok := r.refs[ref]; ok {
			return r.commits[id]
		}
	}
	return r.commits[rev]
}

// snapshot is a repository as it was when a request arrived.
type snapshot struct {
	Repo
	oid    string
	commit *commit
	refs   map[string]string
}

// snapshot needs Hub.mu. commit is nil if there is no such revision.
func (r *repo) snapshot(rev string) *snapshot {
	return &snapshot{Repo: r.Repo, oid: r.oid, commit: r.revision(rev), refs: maps.Clone(r.refs)}
}
