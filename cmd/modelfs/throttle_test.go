package main

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/cmd/modelfs/config"
	"modelfs/fetcher"
	"modelfs/internal/hubtest"
	"modelfs/internal/model"
	"modelfs/internal/origin"
	"modelfs/resolver"
	"modelfs/source/huggingface"
	"modelfs/source/router"
	"modelfs/store"
)

// A stack is everything of a daemon but the mount, in virtual time.
type stack struct {
	t       *testing.T
	hub     *hubtest.Hub
	router  *hubtest.Router
	names   *resolver.Resolver
	fetcher *fetcher.Fetcher
}

func newStack(t *testing.T, dir string) *stack {
	t.Helper()
	net := hubtest.NewNetwork()
	s := &stack{t: t, hub: hubtest.New(t, hubtest.On(net)), router: hubtest.NewRouter(t, hubtest.RouterConfig{Open: true}, hubtest.On(net))}
	log := slog.New(slog.DiscardHandler)
	door, err := origin.New(origin.Config{Endpoints: []string{s.hub.URL(), s.hub.CDN(), s.router.URL()}, Dial: net.Dial, Log: log})
	check(t, err)
	t.Cleanup(door.Close)
	hub, err := huggingface.New(huggingface.Config{Endpoint: s.hub.URL(), Door: door, Log: log, Authorized: func() bool { return false }})
	check(t, err)
	t.Cleanup(hub.Close)
	proxy, err := router.New(router.Config{URL: s.router.URL(), Door: door, Hub: hub, HubEndpoint: s.hub.URL(), Log: log})
	check(t, err)
	t.Cleanup(proxy.Close)
	st, err := store.Open(dir, store.Options{Log: log})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	s.names = resolver.New(resolver.Config{Sources: []resolver.Source{hub, proxy}, Fallback: resolver.Fallback(config.FallbackSame), Facts: st.Facts("names"), Log: log})
	t.Cleanup(s.names.Close)
	s.fetcher = fetcher.New(fetcher.Config{Store: st, Door: door, ReadTimeout: time.Minute, Log: log})
	t.Cleanup(func() { check(t, s.fetcher.Close()) })
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// view is what a reader sees of a model, within a name's second.
func (s *stack) view(name string) (*model.View, error) {
	s.t.Helper()
	began := time.Now()
	if _, err := s.names.Lookup(context.Background(), name); err != nil {
		if took := time.Since(began); took > time.Second {
			s.t.Errorf("%s took %v", name, took)
		}
		return nil, err
	}
	v, err := s.names.View(context.Background(), name)
	if took := time.Since(began); took > time.Second {
		s.t.Errorf("%s took %v", name, took)
	}
	return v, err
}

// Both servers answer 429 for two minutes: what was known stays usable, what
// is here stays readable, what nobody knows is unknown and not absent, and
// nobody is asked more than once or twice meanwhile. Then it is over.
func TestTwoMinutesOf429(t *testing.T) {
	for name, form := range map[string]hubtest.LimitForm{"Retry-After": hubtest.RetryAfter, "RateLimit": hubtest.LimitHeader} {
		dir, err := os.MkdirTemp("", "modelfs-429-")
		check(t, err)
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { checkThrottled(t, newStack(t, dir), form) }) })
		check(t, os.RemoveAll(dir))
	}
}

func checkThrottled(t *testing.T, s *stack, form hubtest.LimitForm) {
	file := func(id string, seed uint64) hubtest.Repo {
		return hubtest.Repo{ID: id, Files: []hubtest.File{{Path: "m-Q4_K_M.gguf", Content: hubtest.Pattern(seed, 70_000), LFS: true}}}
	}
	for i, id := range []string{"org/complete", "org/known", "org/fresh"} {
		s.hub.AddRepo(file(id, uint64(i)))
	}
	s.router.SetModel(hubtest.RouterModel{Name: "routed", Files: []hubtest.RouterFile{{Name: "m.gguf", URL: s.hub.ResolveURL("org/known", "main", "m-Q4_K_M.gguf")}}})
	complete, err := s.view("org/complete")
	check(t, err)
	check(t, s.fetcher.Pull(t.Context(), complete, &complete.Files[0], nil))
	s.names.Stored("org/complete", complete.Model)
	for _, name := range []string{"org/known", "routed"} {
		_, err := s.view(name)
		check(t, err)
	}
	for _, site := range []*hubtest.Site{s.hub.Site, s.router.Site} {
		site.Fault(hubtest.Filter{}, hubtest.Always(), hubtest.RateLimited(form, 2*time.Minute))
		site.Reset()
	}
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); <-time.After(7 * time.Second) {
		for _, name := range []string{"org/complete", "org/known", "routed"} {
			if v, err := s.view(name); err != nil || len(v.Files) != 1 {
				t.Errorf("%s: %+v, %v", name, v, err)
			}
		}
		r, err := s.fetcher.Open(t.Context(), complete, &complete.Files[0])
		check(t, err)
		if r.File() == nil {
			t.Error("the complete file is not read in place")
		}
		check(t, r.Close())
		if entries, err := s.names.Entries(t.Context(), "org"); err != nil || len(entries) < 2 {
			t.Errorf("org lists %v, %v", entries, err)
		}
		for _, name := range []string{"org/fresh", "org/nobody-has-this"} {
			if _, err := s.view(name); !model.IsKind(err, model.Unavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if n := len(s.hub.Requests(hubtest.Filter{})) + len(s.router.Requests(hubtest.Filter{})); n == 0 || n > 10 {
		t.Errorf("%d requests to servers that had asked for a pause", n)
	}
	s.hub.ClearFaults()
	s.router.ClearFaults()
	<-time.After(2 * time.Minute) // the router was first asked in the middle
	if _, err := s.view("org/fresh"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if _, err := s.view("org/nobody-has-this"); !model.IsKind(err, model.NotFound) {
		t.Errorf("afterwards: %v", err)
	}
}
