package huggingface

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"modelfs/internal/model"
	"modelfs/internal/origin"
)

// What the Hub says in words only, word for word.
const (
	badTokenText  = "Invalid credentials in Authorization header"
	anonymousText = "Invalid username or password."
)

// errNoRevision is of a repository that is there.
var errNoRevision = errors.New("RevisionNotFound")

// verdict is nil for a 200 with JSON, and otherwise what the answer means:
//
//	404 and a code that says so                              NotFound
//	401 without a code, "Invalid username or password.",
//	  if no token was sent: private or not there, nobody
//	  can tell                                               NotFound
//	401 or 403 and GatedRepo                                 Denied
//	anything else, and all HTML                              Unavailable
func verdict(ans *origin.Answer, anonymous bool) error {
	code := ans.Header.Get("X-Error-Code")
	switch {
	case isHTML(ans):
		return model.Errorf(model.Unavailable, "status %d with a page for people, not an answer of the Hub", ans.Status)
	case ans.Status == 200:
		return nil
	case ans.Status == 404 && code == "RevisionNotFound":
		return model.Errorf(model.NotFound, "%w", errNoRevision)
	case ans.Status == 404 && (code == "RepoNotFound" || code == "EntryNotFound"):
		return model.Errorf(model.NotFound, "%s", code)
	case ans.Status == 401 && code == "" && anonymous && message(ans) == anonymousText:
		return model.Errorf(model.NotFound, "it does not exist, or is private; for a private one set HF_TOKEN")
	case (ans.Status == 401 || ans.Status == 403) && code == "GatedRepo":
		return model.Errorf(model.Denied, "it is gated: ask its authors for access and set HF_TOKEN (%.200q)", message(ans))
	}
	return model.Errorf(model.Unavailable, "status %d %.50s (%.200q)", ans.Status, code, message(ans))
}

func badToken(ans *origin.Answer) bool {
	return ans.Status == 401 && strings.HasPrefix(message(ans), badTokenText)
}

func isHTML(ans *origin.Answer) bool {
	return strings.Contains(strings.ToLower(ans.Header.Get("Content-Type")), "html") ||
		bytes.HasPrefix(bytes.TrimLeft(ans.Body, " \t\r\n\ufeff"), []byte("<"))
}

// message is the text of an error: the header's, else the body's in any of
// the forms that the Hub uses.
func message(ans *origin.Answer) string {
	if m := ans.Header.Get("X-Error-Message"); m != "" {
		return m
	}
	var body struct {
		Error  any `json:"error"`
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(ans.Body, &body) != nil {
		return strings.TrimSpace(string(ans.Body[:min(len(ans.Body), 500)]))
	}
	if list, ok := body.Error.([]any); ok && len(list) > 0 {
		body.Error = list[0]
	}
	if text, ok := body.Error.(string); ok {
		return text
	}
	if len(body.Errors) > 0 {
		return body.Errors[0].Message
	}
	return ""
}

// badTokenFor is how long a token that the Hub called bad is not sent: each
// time costs two requests, and a token file may be mended at any time.
const badTokenFor = time.Minute

// tokenFlag remembers that the Hub called the token bad.
type tokenFlag struct {
	mu     sync.Mutex // guards both
	until  time.Time  // not sent before
	logged bool
}

// flag reports whether this is the first time.
func (f *tokenFlag) flag(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := !f.logged
	f.until, f.logged = now.Add(badTokenFor), true
	return first
}

func (f *tokenFlag) isBad(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return now.Before(f.until)
}
