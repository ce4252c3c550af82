package router

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"modelfs/internal/model"
	"modelfs/internal/origin"
)

// maxAsking bounds the requests that one listing has under way.
const maxAsking = 8

// list is List, once for all who ask.
func (s *Source) list(ctx context.Context, f model.Found, quant string) (*model.Model, error) {
	name := url.PathEscape(strings.ToLower(f.Name))
	ans, prefix, err := s.get(ctx, "/models/registry/"+name+"/manifest.json", maxManifest)
	if err != nil {
		return nil, err
	}
	man, err := parseManifest(ans.Body)
	if err != nil {
		return nil, err
	}
	if quant != "" && man.Quantization != "" && !strings.EqualFold(quant, man.Quantization) {
		return nil, model.Errorf(model.NotFound, "the router has %s as %s, not %s", f.Name, man.Quantization, quant)
	}
	l := &lister{s: s, found: f, name: name, old: prefix == oldPrefix, alone: len(man.Files) == 1, repos: make(map[model.Name]repoAnswer), commits: make(map[model.Name]string)}
	return l.model(ctx, man)
}

// A lister turns one manifest into a model.
type lister struct {
	s     *Source
	found model.Found
	name  string // lower-case and escaped, as one segment
	old   bool   // the router has files of its own
	alone bool   // the manifest has one file only

	// Set before files are asked about: the repositories that the manifest
	// points into, and the answers of those that are not asked file by file.
	into  []model.Name
	repos map[model.Name]repoAnswer

	mu      sync.Mutex            // guards commits
	commits map[model.Name]string // of the repositories, as far as they are known
}

// model makes the model. It fails as a whole if something can't be asked: a
// size that is unknown for a moment would be another file the next time.
func (l *lister) model(ctx context.Context, man *manifest) (*model.Model, error) {
	l.askHub(ctx, man)
	outcomes := l.askAll(ctx, man.Files)
	m := &model.Model{Name: l.found.Name, Source: l.s.ID(), Kind: model.Router, ModTime: l.found.ModTime, Tags: man.tags(), Traits: l.traits(), Revision: l.commit()}
	var files []model.File
	var refused []model.Refusal
	for i, o := range outcomes {
		switch {
		case o.err != nil && man.Files[i].Optional && model.IsKind(o.err, model.NotFound):
		case o.err != nil && model.IsKind(o.err, model.Invalid):
			refused = append(refused, model.Refusal{Path: o.file.Path, Why: o.err.Error()})
		case o.err != nil && transient(o.err):
			return nil, o.err
		default:
			files = append(files, o.file)
			if o.file.ModTime.After(m.ModTime) {
				m.ModTime = o.file.ModTime
			}
		}
	}
	var more []model.Refusal
	m.Files, more = model.Listing(files)
	l.s.warn(m.Name, append(refused, more...))
	return m, nil
}

// transient reports whether the next attempt may well succeed. A file that is
// denied or gone stays in the listing; opening it says so.
func transient(err error) bool {
	switch model.KindOf(err) {
	case model.Denied, model.NotFound, model.Corrupt:
		return false
	}
	return true
}

// outcome is a file, and why it is not known well enough, if it is not.
type outcome struct {
	file model.File
	err  error
}

// askAll asks about the files, maxAsking at a time.
func (l *lister) askAll(ctx context.Context, files []artifact) []outcome {
	outcomes := make([]outcome, len(files))
	slots := make(chan struct{}, maxAsking)
	var asking sync.WaitGroup
	for i, a := range files {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			outcomes[i].file, outcomes[i].err = l.file(ctx, a)
		})
	}
	asking.Wait()
	return outcomes
}

// file asks each address of an artifact in turn until one says what it has;
// that one comes first, those that failed last.
func (l *lister) file(ctx context.Context, a artifact) (model.File, error) {
	file := model.File{Path: a.Name, Size: a.size(), SHA256: a.sha256(), ModTime: l.found.ModTime}
	if file.SHA256 != "" {
		file.Key = model.SHA256Key(file.SHA256)
	}
	urls := l.addresses(a)
	if len(urls) == 0 {
		return file, model.Errorf(model.Invalid, "it has no address that can be used")
	}
	if file.Key != "" && file.Size >= 0 {
		file.URLs = l.pinnedAll(urls)
		return file, nil
	}
	var failure error
	for i, u := range urls {
		known, err := l.ask(ctx, u, file)
		if err == nil {
			known.URLs = slices.Concat(known.URLs, l.pinnedAll(urls[i+1:]), l.pinnedAll(urls[:i]))
			return known, nil
		}
		if failure == nil || transient(err) {
			failure = err
		}
	}
	file.URLs = l.pinnedAll(urls)
	if file.Key == "" {
		file.Key = model.OnceKey()
	}
	return file, failure
}

// addresses are where an artifact may be fetched: where the manifest says,
// then the router's own copy, which only old ones have. Their route for blobs
// states the length and the one for files, which takes one segment, does not.
func (l *lister) addresses(a artifact) []*url.URL {
	var raw []string
	if l.old && l.alone && a.Name == "model.gguf" {
		raw = append(raw, "/models/blob/"+l.name)
	}
	if l.old && model.ValidPath(a.Name) && !strings.Contains(a.Name, "/") {
		raw = append(raw, "/models/registry/"+l.name+"/files/"+url.PathEscape(a.Name))
	}
	var urls []*url.URL
	if u := address(a.URL); u != nil {
		urls = append(urls, u)
	}
	for _, r := range raw {
		if u, err := url.Parse(l.s.base + oldPrefix + r); err == nil {
			urls = append(urls, u)
		}
	}
	return urls
}

// pinnedAll are the addresses, those in a repository at its commit.
func (l *lister) pinnedAll(urls []*url.URL) []string {
	var all []string
	for _, u := range urls {
		text := u.String()
		if f, ok, err := l.atHub(u); ok && err == nil {
			text = f.URLs[0]
		}
		all = append(all, text)
	}
	return all
}

// ask completes file with what u says of it.
func (l *lister) ask(ctx context.Context, u *url.URL, file model.File) (model.File, error) {
	var says model.File
	f, ok, err := l.atHub(u)
	switch {
	case err != nil:
		return file, err
	case ok:
		says = *f
	default:
		if says, err = l.askFile(ctx, u, file.ModTime); err != nil {
			return file, err
		}
	}
	if file.SHA256 != "" && says.SHA256 != "" && file.SHA256 != says.SHA256 {
		return file, model.Errorf(model.Corrupt, "%s has another file than the manifest's digest says", u.Redacted())
	}
	if file.SHA256 != "" {
		says.SHA256, says.Key = file.SHA256, file.Key
	}
	if says.Size < 0 {
		says.Size = file.Size
	}
	says.Path = file.Path
	return says, nil
}

// askFile is a file as its own address describes it. The Hub states all of
// it; others, an old router above all, may state a length only with the whole
// file, which is no reason to ask for that.
func (l *lister) askFile(ctx context.Context, u *url.URL, modified time.Time) (model.File, error) {
	hf, inRepo := l.s.hubFile(u)
	info, err := l.s.door.resolve(ctx, u.String(), origin.Want{Size: -1, HeadOnly: !inRepo})
	if err != nil {
		return model.File{}, err
	}
	f := model.File{Size: info.Size, SHA256: info.SHA256, ModTime: modified, URLs: []string{u.String()}}
	if inRepo && isSHA1(info.Commit) {
		f.URLs[0] = l.s.pinned(hf, info.Commit)
		err = l.at(hf.repo, info.Commit)
	}
	switch {
	case info.SHA256 != "":
		f.Key = model.SHA256Key(info.SHA256)
	case inRepo && isSHA1(info.Validator) && info.Size >= 0:
		f.GitSHA1, f.Key = info.Validator, model.GitKey(hf.repo.Path(), info.Validator, info.Size)
	case info.Validator != "":
		f.Validator = info.Validator
		f.Key = model.AtKey(l.s.ID(), u.Scheme+"://"+u.Host, info.Commit, u.EscapedPath(), strconv.FormatInt(info.Size, 10), info.Validator)
	default:
		f.Key = model.OnceKey()
	}
	return f, err
}

// warn logs the files of a model that can't be used, once.
func (s *Source) warn(name string, refused []model.Refusal) {
	if len(refused) == 0 {
		return
	}
	s.mu.Lock()
	first := !s.warned[name]
	s.warned[name] = true
	s.mu.Unlock()
	if first {
		s.log.Warn("files of a manifest can't be used", "source", s.ID(), "model", name, "count", len(refused),
			"first", strconv.Quote(refused[0].Path), "reason", refused[0].Why)
	}
}
