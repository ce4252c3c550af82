package huggingface

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"modelfs/internal/model"
	"modelfs/internal/origin"
	"modelfs/source/internal/jsonlist"
)

const (
	// maxPage bounds a page of 1000 entries, each with a path of up to 4 KiB.
	maxPage = 16 << 20

	// maxPageEntries is what the Hub may send where it does not cut at 1000.
	maxPageEntries = 2 * model.MaxFiles

	// maxPages is twice what MaxFiles files fill, for the directories between.
	maxPages = 2 * model.MaxFiles / 1000

	// canonical is what mirrors forget to replace by their own address.
	canonical = "https://huggingface.co/"
)

// list is List, once for all who ask. f.Revision is a commit.
func (s *Source) list(ctx context.Context, f model.Found) (*model.Model, error) {
	entries, err := s.tree(ctx, f)
	if err != nil {
		return nil, err
	}
	about := s.memory.saidOf(f.Name + "@" + f.Revision)
	m := &model.Model{Name: f.Name, Source: s.ID(), Kind: model.Hub, Revision: f.Revision, ModTime: f.ModTime, Tags: about.tags, Traits: about.traits}
	files := make([]model.File, 0, len(entries))
	for _, e := range entries {
		if e.Type == "file" {
			files = append(files, s.file(f, e))
		}
	}
	var refused []model.Refusal
	m.Files, refused = model.Listing(files)
	if len(refused) > 0 && s.memory.warn(f.Name+"@"+f.Revision) {
		s.log.Warn("files of a listing can't be used", "source", s.ID(), "model", f.Name, "count", len(refused),
			"first", strconv.Quote(refused[0].Path), "reason", refused[0].Why)
	}
	s.memory.know(f.Name)
	return m, nil
}

// tree reads all pages of the repository's listing.
func (s *Source) tree(ctx context.Context, f model.Found) ([]treeEntry, error) {
	next := s.endpoint + "/api/models/" + f.Name + "/tree/" + f.Revision + "?recursive=true"
	seen := make(map[string]bool)
	var entries []treeEntry
	for next != "" {
		if seen[next] || len(seen) >= maxPages {
			return nil, model.Errorf(model.Unavailable, "the listing does not end: %d pages so far", len(seen))
		}
		seen[next] = true
		ans, err := s.get(ctx, next, origin.GetOptions{Class: classListing, MaxBody: maxPage})
		if err != nil {
			return nil, err
		}
		if err := verdict(ans.Answer, ans.anonymous); err != nil {
			return nil, err
		}
		page, err := parseTree(ans.Body)
		if err != nil {
			return nil, err
		}
		if entries = append(entries, page...); len(entries) > 2*model.MaxFiles {
			return nil, model.Errorf(model.Unavailable, "the listing has more than %d entries", 2*model.MaxFiles)
		}
		if next, err = s.nextPage(ans.Answer); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// nextPage is the address of the page after ans, "" for none. It is always at
// the endpoint.
func (s *Source) nextPage(ans *origin.Answer) (string, error) {
	next := origin.NextLink(ans.Header, ans.URL)
	if rest, ok := strings.CutPrefix(next, canonical); ok {
		next = s.endpoint + "/" + rest
	}
	if next != "" && !strings.HasPrefix(next, s.endpoint+"/") {
		return "", model.Errorf(model.Unavailable, "the listing goes on at another host")
	}
	return next, nil
}

// treeEntry is what is used of a file or directory in a listing.
type treeEntry struct {
	Type string `json:"type"` // "file" or "directory"
	Path string `json:"path"`
	Size *int64 `json:"size"`
	OID  string `json:"oid"` // git's hash: of the content, or of the pointer if LFS is there
	LFS  *struct {
		OID  string `json:"oid"` // the content's sha256
		Size *int64 `json:"size"`
	} `json:"lfs"`
}

// parseTree reads a page. Any error is of kind Unavailable.
func parseTree(body []byte) ([]treeEntry, error) {
	page, err := jsonlist.Decode[treeEntry](body, maxPageEntries)
	if err != nil {
		return nil, model.Errorf(model.Unavailable, "the answer is not a listing: %w", err)
	}
	if page == nil {
		return nil, model.Errorf(model.Unavailable, "the answer is not a listing: null")
	}
	return page, nil
}

func (s *Source) fileURL(id, commit, path string) string {
	return s.endpoint + "/" + id + "/resolve/" + commit + "/" + escapePath(path)
}

// file makes a listing's entry a file. What is wrong with its path and size is
// for model.Listing to say.
func (s *Source) file(f model.Found, e treeEntry) model.File {
	file := model.File{Path: e.Path, Size: size(e.Size), ModTime: f.ModTime}
	switch {
	case e.LFS != nil:
		if e.LFS.Size != nil {
			file.Size = size(e.LFS.Size)
		}
		if isHex(e.LFS.OID, 64) {
			file.SHA256 = e.LFS.OID
		}
	case isHex(e.OID, 40):
		file.GitSHA1 = e.OID
	}
	switch {
	case file.SHA256 != "":
		file.Key = model.SHA256Key(file.SHA256)
	case file.GitSHA1 != "" && file.Size >= 0:
		file.Key = model.GitKey(f.Name, file.GitSHA1, file.Size)
	default:
		// A commit's files never change, so where it lies says what it is.
		file.Key = model.AtKey(s.endpoint, f.Name, f.Revision, e.Path, strconv.FormatInt(file.Size, 10), "")
	}
	file.URLs = []string{s.fileURL(f.Name, f.Revision, e.Path)}
	return file
}

// size is the stated size: -1 where none is, and a negative one stays one that
// a listing refuses.
func size(stated *int64) int64 {
	switch {
	case stated == nil:
		return -1
	case *stated < 0:
		return -2
	}
	return *stated
}

func escapePath(p string) string {
	segments := strings.Split(p, "/")
	for i, seg := range segments {
		segments[i] = url.PathEscape(seg)
	}
	return strings.Join(segments, "/")
}
