package stores

import (
	"encoding/json"
	"net/url"
	"path"
	"slices"
	"strings"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
	"modelfs/source/internal/weights"
)

// maxSidecar bounds a sidecar and a cached registry manifest, which hold some
// URLs and entity tags.
const maxSidecar = 1 << 20

// llamaCpp reads the flat cache: owner_repository_path, with '/' in the path as
// '_' too. Which '_' is which is said by the sidecar (.json, with the URL) or
// by the registry's manifest, manifest=owner=repository=tag.json. A file of
// which neither says anything is a loose file.
func llamaCpp(l *look) ([]*book, error) {
	top, err := l.list(".")
	if err != nil {
		return nil, err
	}
	origins, err := l.origins(top)
	if err != nil {
		return nil, err
	}
	byRepo := make(map[string]*book)
	var books []*book
	for _, f := range top.Files {
		if !weights.Is(f) {
			continue
		}
		o, ok := origins[f]
		if !ok {
			books = append(books, looseBooks(f)...)
			continue
		}
		b := byRepo[o.repo]
		if b == nil {
			b = &book{name: o.repo}
			byRepo[o.repo], books = b, append(books, b)
		}
		b.files = append(b.files, leaf{path: o.path, at: f, size: -1})
	}
	for _, b := range byRepo {
		slices.SortFunc(b.files, func(a, b leaf) int { return strings.Compare(a.path, b.path) })
	}
	return books, nil
}

// looseBooks are the file itself, and the model that it is.
func looseBooks(f string) []*book {
	books := []*book{{name: f, loose: true, files: []leaf{{path: f, at: f, size: -1}}}}
	if stem, ok := weights.Loose(f); ok {
		books = append(books, &book{name: stem, files: []leaf{{path: "model" + strings.ToLower(path.Ext(f)), at: f, size: -1}}})
	}
	return books
}

// An origin is where in which repository a flat file comes from.
type origin struct{ repo, path string }

// flat is the name of the origin's file in the cache.
func (o origin) flat() string { return strings.ReplaceAll(o.repo+"/"+o.path, "/", "_") }

// origins are those of the files of the cache, by flat name, as far as they
// are recorded.
func (l *look) origins(top *tree.Listing) (map[string]origin, error) {
	known := make(map[string]origin)
	for _, f := range top.Files {
		if path.Ext(f) != ".json" {
			continue
		}
		raw, _, err := l.tree.ReadFile(f, maxSidecar)
		if model.IsKind(err, model.Invalid) {
			continue
		}
		if err := tree.Tolerable(err); err != nil {
			return nil, err
		}
		for _, o := range append(manifestOrigins(f, raw), sidecarOrigin(raw)...) {
			known[o.flat()] = o
		}
	}
	return known, nil
}

// sidecarOrigin is what file.json says of file: nothing, or one origin.
func sidecarOrigin(raw []byte) []origin {
	var s struct {
		URL string `json:"url"`
	}
	if json.Unmarshal(raw, &s) != nil {
		return nil
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil
	}
	// owner/repository/resolve/revision/path
	parts := strings.SplitN(strings.TrimPrefix(u.Path, "/"), "/", 5)
	if len(parts) != 5 || parts[2] != "resolve" {
		return nil
	}
	return valid(origin{parts[0] + "/" + parts[1], parts[4]})
}

// manifestOrigins are what manifest=owner=repository=tag.json names.
func manifestOrigins(name string, raw []byte) []origin {
	parts := strings.Split(strings.TrimSuffix(name, ".json"), "=")
	if len(parts) != 4 || parts[0] != "manifest" {
		return nil
	}
	type file struct {
		Name string `json:"rfilename"`
	}
	var m struct {
		GGUF      file `json:"ggufFile"`
		Projector file `json:"mmprojFile"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	repo := parts[1] + "/" + parts[2]
	found := append(valid(origin{repo, m.GGUF.Name}), valid(origin{repo, m.Projector.Name})...)
	for _, part := range weights.Parts(m.GGUF.Name) {
		found = append(found, valid(origin{repo, part})...)
	}
	return found
}

// valid is o, if a file of a Hub repository can be there.
func valid(o origin) []origin {
	owner, name, _ := strings.Cut(o.repo, "/")
	if !model.ValidRepoPart(owner) || !model.ValidRepoPart(name) || !model.ValidPath(o.path) {
		return nil
	}
	return []origin{o}
}
