// Package router answers: what does a model router know, and where do the
// files of its models come from?
//
// Two generations are spoken to: the one that serves /api, whose manifests
// point at the Hub, and the one that served /v0, which also has the files on
// its own disk (without ranges, and some without a length).
//
// Invariants:
//
//  1. Whether a name is there is read from the router's list alone, which is
//     asked for at most once a minute however many of its names are looked up.
//     Absent is what a list that is not older than ten seconds does not have.
//  2. A manifest is asked for only when a model is listed. Every name, address,
//     digest and size in it is checked; what can't be used is left out and
//     logged once.
//  3. A file that the manifest states the size and the hash of is not asked
//     about. Any other in a Hub repository has the size, the hash and the
//     commit that the Hub states, and an address that is pinned to that commit:
//     the Hub is asked about each file where there are few, else for the
//     repository's listing. Any other address is asked once for what it says
//     of itself.
//  4. What was asked goes on being asked when its caller has left, for at most
//     30 s; the same question is never asked twice at one time.
//
// It remembers the list and nothing else, opens no files, and leaves it to
// the Door which addresses may be asked.
package router

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"modelfs/internal/model"
	"modelfs/internal/origin"
	"modelfs/source/internal/flight"
)

// A Hub states sizes and hashes of files in its repositories;
// *huggingface.Source is one.
type Hub interface {
	Find(ctx context.Context, n model.Name) (model.Found, error)
	List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error)
}

// Config says which router to ask, and how.
type Config struct {
	URL  string // base URL, e.g. "http://router:8080"; may have a path
	Door *origin.Door
	// Hub lists the repositories that addresses below HubEndpoint lie in; nil:
	// such addresses are asked about themselves, like all others.
	Hub         Hub
	HubEndpoint string       // e.g. "https://huggingface.co"
	Log         *slog.Logger // nil: nothing is logged
}

// askLimit bounds a question that nobody may be waiting for any more.
const askLimit = 30 * time.Second

// A door is what is used of *origin.Door.
type door struct {
	get     func(ctx context.Context, url string, opt origin.GetOptions) (*origin.Answer, error)
	resolve func(ctx context.Context, url string, want origin.Want) (origin.Info, error)
}

// A Source is one router. It is safe for concurrent use.
type Source struct {
	base     string
	door     door
	hub      Hub
	endpoint string // of the Hub, without a final slash
	log      *slog.Logger
	refresh  *flight.Group[*catalog]
	lists    *flight.Group[*model.Model]

	mu       sync.Mutex      // guards the rest
	prefix   string          // of the generation that answered last; "" for none so far
	latest   *catalog        // the last list that was read; nil for none so far
	failure  error           // of the last attempt to read one, if it failed
	failedAt time.Time       // when
	warned   map[string]bool // models whose refused files were logged
}

// New makes a source without asking anything. The caller closes it. The error
// is of kind Invalid: the address is no http or https URL.
func New(c Config) (*Source, error) {
	base := strings.TrimRight(c.URL, "/")
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, model.Errorf(model.Invalid, "the router's address must be like http://router:8080, without user and query")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Source{
		base: base,
		door: door{get: c.Door.Get, resolve: func(ctx context.Context, url string, want origin.Want) (origin.Info, error) {
			return c.Door.Object(url, want).Resolve(ctx)
		}},
		hub:      c.Hub,
		endpoint: strings.TrimRight(c.HubEndpoint, "/"),
		log:      c.Log,
		refresh:  flight.New[*catalog](askLimit),
		lists:    flight.New[*model.Model](askLimit),
		warned:   make(map[string]bool),
	}, nil
}

// Close ends every question and waits for it. The Door stays open.
func (s *Source) Close() {
	s.refresh.Close()
	s.lists.Close()
}

// ID is "router:" and the base URL.
func (s *Source) ID() string { return "router:" + s.base }

// Kind is model.Router.
func (s *Source) Kind() model.SourceKind { return model.Router }

// Find says what n is on the router's list. The quantisation is not looked
// at. NotFound: it is not on the list, or a revision was asked for, which
// routers don't have. Denied: the router refuses the key. Unavailable:
// anything else.
func (s *Source) Find(ctx context.Context, n model.Name) (model.Found, error) {
	if !askable(n.Path()) || n.Revision != "" {
		return model.Found{}, model.Errorf(model.NotFound, "no model of %s can be called %s", s.ID(), n)
	}
	c, err := s.recent(ctx)
	if err == nil {
		if found, ok := c.find(n.Path()); ok {
			return found, nil
		}
		c, err = s.complete(ctx)
	}
	if err != nil {
		return model.Found{}, fmt.Errorf("asking %s for its list of models: %w", s.base, err)
	}
	if found, ok := c.find(n.Path()); ok {
		return found, nil
	}
	return model.Found{}, model.Errorf(model.NotFound, "%s is not on the list of %s", n.Path(), s.base)
}

// List reads the manifest of the model that Find found, and asks for what it
// does not state. A size that nobody states is -1. NotFound, Denied and
// Unavailable are as in Find; NotFound also says that the router has another
// quantisation than n asks for.
func (s *Source) List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error) {
	if f.Kind != model.ModelDir || !askable(f.Name) {
		return nil, model.Errorf(model.Invalid, "listing %q, which is no model of a router", f.Name)
	}
	m, err := s.lists.Do(ctx, f.Name+":"+n.Quant, func(ctx context.Context) (*model.Model, error) { return s.list(ctx, f, n.Quant) })
	if err != nil {
		return nil, fmt.Errorf("listing %s at %s: %w", f.Name, s.base, err)
	}
	return m, nil
}

// Names is the router's list, sorted by name. If it can't be asked for now,
// the last one will do for ten minutes.
func (s *Source) Names(ctx context.Context) ([]model.Found, error) {
	c, err := s.recent(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking %s for its list of models: %w", s.base, err)
	}
	return c.models(), nil
}

// askable reports whether name, "repo" or "org/repo", can be a model of a
// router. Deeper names can't be reached through a mount.
func askable(name string) bool {
	org, repo, two := strings.Cut(name, "/")
	if !two {
		repo = org
	}
	return model.ValidRepoPart(org) && model.ValidRepoPart(repo) && !model.LooksLikeFile(repo)
}
