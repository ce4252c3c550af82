package hfcache

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"

	"modelfs/internal/model"
	"modelfs/source/internal/blobs"
	"modelfs/source/internal/tree"
	"modelfs/source/internal/weights"
)

// maxManifest bounds trees/<commit>.json: some 300 bytes for each of
// model.MaxFiles.
const maxManifest = 32 << 20

// listed is what the listing of a commit, kept by the client, says of a file.
type listed struct {
	size   int64 // -1: unknown
	sha256 string
	sha1   string
}

// manifest is the listing of the commit, by path, or nil where the cache has
// none that can be used.
func manifest(repo *tree.Tree, commit string) (map[string]listed, error) {
	raw, _, err := repo.ReadFile("trees/"+commit+".json", maxManifest)
	switch model.KindOf(err) {
	case model.NotFound, model.Denied, model.Invalid:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseManifest(raw), nil
}

// parseManifest is nil for what is not understood. Files that no model can
// have are left out.
func parseManifest(raw []byte) map[string]listed {
	var m struct {
		Version int `json:"format_version"`
		Files   map[string]struct {
			Size    *int64 `json:"size"`
			BlobID  string `json:"blob_id"`
			SHA256  string `json:"lfs_sha256"`
			LFSSize *int64 `json:"lfs_size"`
		} `json:"files"`
	}
	if json.Unmarshal(raw, &m) != nil || m.Version != 1 || len(m.Files) == 0 || len(m.Files) > model.MaxFiles {
		return nil
	}
	files := make(map[string]listed, len(m.Files))
	for p, f := range m.Files {
		if !model.ValidPath(p) {
			continue
		}
		l := listed{size: -1}
		for _, size := range []*int64{f.LFSSize, f.Size} {
			if l.size < 0 && size != nil && *size >= 0 {
				l.size = *size
			}
		}
		switch {
		case blobs.IsSHA256(f.SHA256):
			l.sha256 = f.SHA256
		case f.SHA256 == "" && blobs.IsSHA1(f.BlobID):
			l.sha1 = f.BlobID
		}
		files[p] = l
	}
	return files
}

// A contents is a snapshot whose files were looked at.
type contents struct {
	repo  *tree.Tree
	snap  *snapshot
	says  map[string]listed // the listing of the commit; nil: unknown
	files []string          // paths of what is there as it should be; sorted
	stats map[string]model.Stat
	wrong string // "", or the first thing that is there and not as it should be
}

// contents looks at every file of a snapshot: what is not there, or not of the
// size that the listing of the commit states, is no part of it.
func (s *Source) contents(repo *tree.Tree, dir, commit string) (*contents, error) {
	snap, err := s.snapshot(repo, dir, commit)
	if err != nil {
		return nil, err
	}
	says, err := manifest(repo, commit)
	if err != nil {
		return nil, err
	}
	c := &contents{repo: repo, snap: snap, says: says, stats: make(map[string]model.Stat, len(snap.files))}
	for _, f := range snap.files {
		st, err := c.treeOf(f).Stat(f.at)
		if tree.Tolerable(err) != nil {
			return nil, err
		}
		if why := c.objection(f, st, err); why != "" {
			if c.wrong == "" {
				c.wrong = f.path + " " + why
			}
			continue
		}
		c.files, c.stats[f.path] = append(c.files, f.path), st
	}
	return c, nil
}

func (c *contents) treeOf(f entry) *tree.Tree {
	if f.tree != nil {
		return f.tree
	}
	return c.repo
}

// objection says why a file of the snapshot can't be served, or "".
func (c *contents) objection(f entry, st model.Stat, err error) string {
	if err != nil {
		return "points at a blob that is not there"
	}
	says, ok := c.says[f.path]
	if !ok {
		return ""
	}
	sha256, sha1 := f.hashes()
	switch {
	case says.size >= 0 && says.size != st.Size:
		return fmt.Sprintf("has %d bytes instead of %d", st.Size, says.size)
	case sha256 != "" && says.sha256 != "" && sha256 != says.sha256, sha1 != "" && says.sha1 != "" && sha1 != says.sha1:
		return "points at another file's blob"
	}
	return ""
}

// size is what a place of the file must have: what the listing of the commit
// states, or -1.
func (c *contents) size(p string) int64 {
	if says, ok := c.says[p]; ok {
		return says.size
	}
	return -1
}

// Size implements weights.Reader.
func (c *contents) Size(p string) (int64, error) {
	st, ok := c.stats[p]
	if !ok {
		return 0, model.Errorf(model.NotFound, "%s is not there", p)
	}
	return st.Size, nil
}

// Head implements weights.Reader.
func (c *contents) Head(p string, n int64) ([]byte, error) {
	for _, f := range c.snap.files {
		if f.path == p {
			return c.treeOf(f).Head(f.at, n)
		}
	}
	return nil, model.Errorf(model.NotFound, "%s is not there", p)
}

// broken says why the contents are not all that the commit has, or "". With a
// quantisation only its GGUF files count; NotFound says that there is none.
func (c *contents) broken(commit, quant string) (string, error) {
	why, err := weights.Judge(c.files, quant, c)
	if err != nil && model.IsKind(err, model.NotFound) && quant != "" && c.lists(quant) {
		return "it lacks the files of " + quant + ", which the commit has", nil
	}
	if why != "" || err != nil {
		return why, err
	}
	if c.wrong != "" && quant == "" {
		return c.wrong, nil
	}
	for _, p := range slices.Sorted(maps.Keys(c.says)) {
		if _, here := c.stats[p]; here || quant != "" && !weights.IsOf(p, quant) {
			continue
		}
		if _, err := c.repo.Stat(path.Join(".no_exist", commit, p)); err == nil {
			continue
		}
		return "it lacks " + p + ", which the commit has", nil
	}
	return "", nil
}

// lists reports whether the commit has GGUF files of the quantisation.
func (c *contents) lists(quant string) bool {
	for p := range c.says {
		if weights.IsOf(p, quant) {
			return true
		}
	}
	return false
}
