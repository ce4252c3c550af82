package router

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

	"modelfs/internal/model"
	"modelfs/internal/origin"
)

// The prefixes of the two generations, newest first.
const (
	newPrefix = "/api"
	oldPrefix = "/v0"
)

// get makes a request below the prefix that the router serves: the one that
// answered last first. An empty 404 or 405 is a route that this generation
// does not have, so the other is tried. It returns the prefix that answered.
func (s *Source) get(ctx context.Context, path string, maxBody int64) (*origin.Answer, string, error) {
	for _, prefix := range s.prefixes() {
		ans, err := s.door.get(ctx, s.base+prefix+path, origin.GetOptions{MaxBody: maxBody})
		if err != nil {
			return nil, "", transportError(err)
		}
		if (ans.Status == 404 || ans.Status == 405) && len(bytes.TrimSpace(ans.Body)) == 0 {
			continue
		}
		err = verdict(ans)
		if err == nil {
			s.setPrefix(prefix)
		}
		return ans, prefix, err
	}
	return nil, "", model.Errorf(model.Unavailable, "%s serves neither %s/models nor %s/models; is it a model router?", s.base, newPrefix, oldPrefix)
}

func (s *Source) prefixes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prefix == oldPrefix {
		return []string{oldPrefix, newPrefix}
	}
	return []string{newPrefix, oldPrefix}
}

func (s *Source) setPrefix(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prefix = prefix
}

// verdict is nil for a 200, and otherwise what the answer means:
//
//	404 with an error in JSON                        NotFound
//	400 that calls the name invalid                  NotFound
//	401 or 403: the key is missing, wrong or weak    Denied
//	anything else, and all HTML                      Unavailable
func verdict(ans *origin.Answer) error {
	text := message(ans.Body)
	switch {
	case isHTML(ans):
		return model.Errorf(model.Unavailable, "status %d with a page for people, not an answer of a router", ans.Status)
	case ans.Status == 200:
		return nil
	case ans.Status == 404 && json.Valid(ans.Body):
		return model.Errorf(model.NotFound, "%.200q", text)
	case ans.Status == 400 && strings.HasPrefix(text, "Invalid model name"):
		return model.Errorf(model.NotFound, "%.200q", text)
	case ans.Status == 401 || ans.Status == 403:
		return model.Errorf(model.Denied, "the router refuses the key (%.200q); give it one with the permission registry.read", text)
	}
	return model.Errorf(model.Unavailable, "status %d (%.200q)", ans.Status, text)
}

// message is the text of an error: of {"error":"..."}, else the whole body.
func message(body []byte) string {
	var e struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &e) == nil && e.Error != "" {
		return e.Error
	}
	return strings.TrimSpace(string(body[:min(len(body), 500)]))
}

func isHTML(ans *origin.Answer) bool {
	return strings.Contains(strings.ToLower(ans.Header.Get("Content-Type")), "html") ||
		bytes.HasPrefix(bytes.TrimLeft(ans.Body, " \t\r\n\ufeff"), []byte("<"))
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
