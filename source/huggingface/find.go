package huggingface

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"modelfs/internal/model"
	"modelfs/internal/origin"
	"modelfs/source/internal/jsonlist"
)

const (
	classLookup  = "lookup" // of names, perhaps unknown ones; a 429 for it does not pause listings
	classListing = "api"
	classGate    = "resolve"

	// maxInfo bounds a model's info: 100,000 names of 100 bytes and a chat
	// template.
	maxInfo = 16 << 20

	// maxAuthor bounds a list of one model.
	maxAuthor = 1 << 20
)

// find is Find, once for all who ask. A name that was never seen present is
// charged to the budget, until it turns out to be present.
func (s *Source) find(ctx context.Context, n model.Name) (model.Found, error) {
	name := n.Path()
	if s.memory.knows(name) {
		found, err := s.ask(ctx, n)
		return found, s.withTrouble(err)
	}
	requests := 1
	if n.Org == "" {
		requests = 2
	}
	if err := s.budget.reserve(requests, time.Now()); err != nil {
		return model.Found{}, model.Errorf(model.Unavailable, "%w", err)
	}
	found, err := s.ask(ctx, n)
	if s.memory.knows(name) {
		s.budget.refund(requests)
	}
	return found, s.withTrouble(err)
}

// withTrouble adds to a refusal that the token may be the cause.
func (s *Source) withTrouble(err error) error {
	trouble := s.Trouble()
	if trouble == "" || !model.IsKind(err, model.NotFound) && !model.IsKind(err, model.Denied) {
		return err
	}
	return model.Errorf(model.KindOf(err), "%w; %s", err, trouble)
}

// ask makes the one request for a repository or the two for a name of one part.
func (s *Source) ask(ctx context.Context, n model.Name) (model.Found, error) {
	if n.Org != "" {
		return s.info(ctx, n)
	}
	listed, org, err := s.author(ctx, n.Repo)
	switch {
	case err != nil:
		return model.Found{}, err
	case org != "":
		return model.Found{Kind: model.Namespace, Name: org}, nil
	}
	found, err := s.info(ctx, n)
	if !listed && model.IsKind(err, model.NotFound) && !errors.Is(err, errNoRevision) { // a repository with revisions is no namespace
		return found, model.Errorf(model.Unavailable,
			"the endpoint has no list of an author's models, so it can't say whether %s is a namespace", n.Repo)
	}
	return found, err
}

// author asks whether name has models. listed is false if the endpoint does
// not know that question; org is the name as the Hub spells it, "" for none.
func (s *Source) author(ctx context.Context, name string) (listed bool, org string, err error) {
	ans, err := s.get(ctx, s.endpoint+"/api/models?author="+url.QueryEscape(name)+"&limit=1", origin.GetOptions{Class: classLookup, MaxBody: maxAuthor})
	if err != nil {
		return false, "", err
	}
	if ans.Status == 404 || isHTML(ans.Answer) {
		return false, "", nil
	}
	if err := verdict(ans.Answer, ans.anonymous); err != nil && !model.IsKind(err, model.NotFound) {
		return false, "", err
	}
	var models []struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(ans.Body, &models) != nil || models == nil {
		return false, "", nil
	}
	if len(models) == 0 {
		return true, "", nil
	}
	// A mirror that ignores the query lists somebody else's models.
	org, _, two := strings.Cut(models[0].ID, "/")
	if !two || !strings.EqualFold(org, name) || !model.ValidRepoPart(org) {
		return false, "", nil
	}
	s.memory.know(name)
	return true, org, nil
}

// repoInfo is what is used of a model's info.
type repoInfo struct {
	ID           string          `json:"id"`
	SHA          string          `json:"sha"`
	LastModified time.Time       `json:"lastModified"`
	RawTags      json.RawMessage `json:"tags"`
	Gated        any             `json:"gated"`    // false, or "auto" or "manual"
	Siblings     json.RawMessage `json:"siblings"` // of sibling

	// What says how the weights are stored. It is read leniently: what is odd
	// in it makes no name unknown.
	Library     json.RawMessage `json:"library_name"`
	Config      json.RawMessage `json:"config"` // a part of config.json
	GGUF        json.RawMessage `json:"gguf"`
	Safetensors json.RawMessage `json:"safetensors"`

	Tags []string `json:"-"`
}

// sibling is a file of the repository.
type sibling struct {
	Path string `json:"rfilename"`
}

// mostTags bounds the tags that an info may have to be one. Far fewer are kept:
// maxTags.
const mostTags = 10_000

// info asks for the repository itself.
func (s *Source) info(ctx context.Context, n model.Name) (model.Found, error) {
	address := s.endpoint + "/api/models/" + n.Path()
	if n.Revision != "" {
		address += "/revision/" + url.PathEscape(n.Revision)
	}
	ans, err := s.get(ctx, address, origin.GetOptions{Class: classLookup, MaxBody: maxInfo})
	if err != nil {
		return model.Found{}, err
	}
	if err := verdict(ans.Answer, ans.anonymous); err != nil {
		return model.Found{}, err
	}
	info, err := parseInfo(ans.Body)
	if err != nil {
		return model.Found{}, err
	}
	s.memory.know(n.Path())
	if info.gated() && ans.anonymous {
		return model.Found{}, model.Errorf(model.Denied,
			"%s is gated: ask its authors for access at %s/%[1]s and set HF_TOKEN", info.ID, s.endpoint)
	}
	if info.gated() {
		if err := s.admitted(ctx, info); err != nil {
			return model.Found{}, err
		}
	}
	s.memory.keep(info.ID+"@"+info.SHA, said{boundedTags(info.Tags), info.traits()})
	return model.Found{Kind: model.ModelDir, Name: info.ID, Revision: info.SHA, ModTime: info.LastModified}, nil
}

// admitted is of kind Denied if the token does not open a gated repository.
// Its info can be read by all; only asking for one of its files tells, so that
// another source that has it may be asked. Whatever else the Hub answers is
// found out when a file is opened.
func (s *Source) admitted(ctx context.Context, info repoInfo) error {
	files, err := jsonlist.Decode[sibling](info.Siblings, model.MaxFiles)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	for _, f := range files {
		if !model.ValidPath(f.Path) {
			continue
		}
		// Not through get: files have a quota of their own.
		ans, err := s.door.Get(ctx, s.fileURL(info.ID, info.SHA, f.Path), origin.GetOptions{Class: classGate, Head: true})
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		if err := verdict(ans, false); model.IsKind(err, model.Denied) {
			return err
		}
		return nil
	}
	return nil
}

func (i repoInfo) gated() bool { return i.Gated != nil && i.Gated != false && i.Gated != "" }

// parseInfo checks a model's info. Any error is of kind Unavailable: whoever
// sent that is not the Hub, or it is broken.
func parseInfo(body []byte) (repoInfo, error) {
	var info repoInfo
	if err := json.Unmarshal(body, &info); err != nil {
		return repoInfo{}, model.Errorf(model.Unavailable, "the answer is not a model's info: %w", err)
	}
	if info.RawTags != nil {
		var err error
		if info.Tags, err = jsonlist.Decode[string](info.RawTags, mostTags); err != nil {
			return repoInfo{}, model.Errorf(model.Unavailable, "the answer is not a model's info: tags: %w", err)
		}
		info.RawTags = nil
	}
	switch info.Gated.(type) {
	case nil, bool, string:
	default:
		return repoInfo{}, model.Errorf(model.Unavailable, "the answer is not a model's info: gated is neither a word nor a truth value")
	}
	if !validID(info.ID) || !isHex(info.SHA, 40) {
		return repoInfo{}, model.Errorf(model.Unavailable, "the answer names the repository %.100q at the commit %.100q", info.ID, info.SHA)
	}
	return info, nil
}

// An answer is the Hub's, and how it was asked.
type answer struct {
	*origin.Answer
	anonymous bool // without a token
}

// get makes one request, once more without the token if the Hub calls it bad.
func (s *Source) get(ctx context.Context, address string, opt origin.GetOptions) (answer, error) {
	opt.Anonymous = !s.authorized() || s.token.isBad(time.Now())
	ans, err := s.door.Get(ctx, address, opt)
	if err == nil && !opt.Anonymous && badToken(ans) {
		if s.token.flag(time.Now()) {
			s.log.Warn("the Hub refuses the token; check HF_TOKEN or the token file", "source", s.ID())
		}
		opt.Anonymous = true
		ans, err = s.door.Get(ctx, address, opt)
	}
	if err != nil {
		return answer{}, transportError(err)
	}
	s.budget.note(ans.Header, time.Now())
	return answer{Answer: ans, anonymous: opt.Anonymous}, nil
}

// transportError makes everything unknown that is not a refusal of the
// allow-list or a caller that left.
func transportError(err error) error {
	switch model.KindOf(err) {
	case model.Denied, model.Interrupted, model.Unavailable:
		return err
	}
	return model.Errorf(model.Unavailable, "%w", err)
}
