// Package huggingface answers: what does the Hugging Face Hub, or a mirror of
// it, say of a name, and what are the model's files?
//
// Invariants:
//
//  1. Absent is only what the Hub itself says is absent (see verdict).
//     Everything else that is not an answer is unknown.
//  2. A model is listed at the commit that Find found, never at a branch: its
//     files can't come from two commits. Find and List of an org/repo model
//     cost one request each, and one more for each further page of a listing.
//  3. Lookups of names that were never seen present spend at most half of the
//     quota that the Hub states, and never all of that at once.
//  4. Nothing that the Hub says is used unchecked: names, commits, hashes,
//     paths, the address of the next page, and the length of everything.
//  5. What was asked goes on being asked when its caller has left, for at most
//     30 s; the same question is never asked twice at one time.
//
// It remembers no answers (the resolver does), opens no files, and knows
// nothing of hosts, redirects and credentials (internal/origin does).
package huggingface

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"modelfs/internal/model"
	"modelfs/internal/origin"
	"modelfs/source/internal/flight"
)

// A Getter makes API requests; *origin.Door is one.
type Getter interface {
	Get(ctx context.Context, url string, opt origin.GetOptions) (*origin.Answer, error)
}

// Config says which Hub to ask, and how.
type Config struct {
	Endpoint string // base URL, e.g. "https://huggingface.co"; may have a path
	Door     Getter
	// Authorized reports whether Door sends a token to Endpoint at this
	// moment. nil: it never does.
	Authorized func() bool
	Log        *slog.Logger // nil: nothing is logged
}

// askLimit bounds a question that nobody may be waiting for any more.
const askLimit = 30 * time.Second

// A Source is one Hub. It is safe for concurrent use.
type Source struct {
	endpoint   string
	door       Getter
	authorized func() bool
	log        *slog.Logger
	finds      *flight.Group[model.Found]
	lists      *flight.Group[*model.Model]
	budget     budget
	memory     memory
	token      tokenFlag
}

// New makes a source without asking anything. The caller closes it. The error
// is of kind Invalid: the endpoint is no http or https URL.
func New(c Config) (*Source, error) {
	endpoint := strings.TrimRight(c.Endpoint, "/")
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, model.Errorf(model.Invalid, "the Hub's endpoint must be like https://huggingface.co, without user and query")
	}
	if c.Authorized == nil {
		c.Authorized = func() bool { return false }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Source{
		endpoint:   endpoint,
		door:       c.Door,
		authorized: c.Authorized,
		log:        c.Log,
		finds:      flight.New[model.Found](askLimit),
		lists:      flight.New[*model.Model](askLimit),
	}, nil
}

// Close ends every question and waits for it. The Door stays open.
func (s *Source) Close() {
	s.finds.Close()
	s.lists.Close()
}

// ID is "hub:" and the endpoint.
func (s *Source) ID() string { return "hub:" + s.endpoint }

// Kind is model.Hub.
func (s *Source) Kind() model.SourceKind { return model.Hub }

// Find says what n is at the Hub. A name of one part is a namespace if the
// Hub lists a model of such an author, else perhaps a canonical name such as
// gpt2, whose true name Found has. NotFound: the Hub says so, or no
// repository can be called that. Denied: it is gated and no token would be
// sent, or the Hub refuses. Unavailable: anything else.
func (s *Source) Find(ctx context.Context, n model.Name) (model.Found, error) {
	if !askable(n) {
		return model.Found{}, model.Errorf(model.NotFound, "no repository at %s can be called %s", s.endpoint, n.Path())
	}
	key := n.Path() + "@" + n.Revision
	found, err := s.finds.Do(ctx, key, func(ctx context.Context) (model.Found, error) { return s.find(ctx, n) })
	if err != nil {
		return model.Found{}, fmt.Errorf("asking %s about %s: %w", s.endpoint, n.Path(), err)
	}
	return found, nil
}

// List lists the model that Find found, at the commit that it found.
func (s *Source) List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error) {
	commit := f.Revision
	if !isHex(commit, 40) {
		commit = n.Revision
	}
	if f.Kind != model.ModelDir || !validID(f.Name) || !isHex(commit, 40) {
		return nil, model.Errorf(model.Invalid, "listing %q at %q: not a repository at a commit", f.Name, f.Revision)
	}
	f.Revision = commit
	m, err := s.lists.Do(ctx, f.Name+"@"+commit, func(ctx context.Context) (*model.Model, error) { return s.list(ctx, f) })
	if err != nil {
		return nil, fmt.Errorf("listing %s at %s: %w", f.Name, s.endpoint, err)
	}
	return m, nil
}

// Names is nil: the Hub has millions.
func (s *Source) Names(context.Context) ([]model.Found, error) { return nil, nil }

// Trouble is a sentence for people about something that needs their attention,
// or "".
func (s *Source) Trouble() string {
	if s.token.isBad(time.Now()) {
		return s.endpoint + " refuses the token; it is asked without one. Check HF_TOKEN or the token file"
	}
	return ""
}

// askable reports whether a repository can have the name.
func askable(n model.Name) bool {
	return model.ValidRepoPart(n.Repo) && !model.LooksLikeFile(n.Repo) && (n.Org == "" || model.ValidRepoPart(n.Org))
}

// validID reports whether id is "repo" or "org/repo".
func validID(id string) bool {
	org, repo, two := strings.Cut(id, "/")
	return model.ValidRepoPart(org) && (!two || model.ValidRepoPart(repo))
}

// isHex reports whether s is n lower-case hex digits.
func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
