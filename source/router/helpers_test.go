package router

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"modelfs/internal/hubtest"
	"modelfs/internal/leaktest"
	"modelfs/internal/model"
	"modelfs/internal/origin"
	"modelfs/source/huggingface"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const (
	base   = "http://router.test:8080"
	hubURL = "https://hub.test"
	commit = "bcf51b2ec6fb5bc8215f4b365a0e48532e26abb8"
	sha    = "cd44947308b4b22228767cab8addd523d1de22abd9b23a10808e5fc295202e4f"
	sha2   = "f857c20483a87a6737b06f718d340429fc080f73c00f6d46b2030b58734a61e4"
	oid    = "c9176dbf0ba8556845af9072b3dd39d06764e8ba"
)

// A script is a door that answers from tables, by the address after the base.
// What is not in them is a route that the router does not have, or a file
// that nobody has.
type script struct {
	answers map[string]reply
	infos   map[string]origin.Info

	mu    sync.Mutex // guards asked
	asked []string
}

type reply struct {
	status int
	body   string
	header http.Header
	err    error
	wait   <-chan struct{}
}

func (s *script) get(ctx context.Context, url string, _ origin.GetOptions) (*origin.Answer, error) {
	path := strings.TrimPrefix(url, base)
	s.note(path)
	r, ok := s.answers[path]
	if !ok {
		r = reply{status: 404}
	}
	if r.wait != nil {
		select {
		case <-r.wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return &origin.Answer{Status: r.status, Header: r.header, URL: url, Body: []byte(r.body)}, nil
}

func (s *script) resolve(_ context.Context, url string, want origin.Want) (origin.Info, error) {
	if want.HeadOnly {
		s.note("HEAD " + url)
	} else {
		s.note("resolve " + url)
	}
	info, ok := s.infos[url]
	switch {
	case !ok:
		return origin.Info{}, model.Errorf(model.NotFound, "no such file")
	case info.Size == down:
		return origin.Info{}, model.Errorf(model.Unavailable, "down")
	case info.Size == forbidden:
		return origin.Info{}, model.Errorf(model.Denied, "not allowed")
	}
	return info, nil
}

// Sizes that make resolve fail.
const (
	down      = -100
	forbidden = -101
)

func (s *script) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, what)
}

func (s *script) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, a := range s.asked {
		if a == what {
			n++
		}
	}
	return n
}

func scripted(t testing.TB, answers map[string]reply) (*Source, *script) {
	t.Helper()
	door := &script{answers: answers}
	s, err := New(Config{URL: base + "/", Door: new(origin.Door), HubEndpoint: hubURL})
	must(t, err)
	s.door.get, s.door.resolve = door.get, door.resolve
	t.Cleanup(s.Close)
	return s, door
}

// A fakeHub lists repositories from a table.
type fakeHub map[string]*model.Model

func (h fakeHub) Find(_ context.Context, n model.Name) (model.Found, error) {
	m, ok := h[n.String()]
	switch {
	case !ok:
		return model.Found{}, model.Errorf(model.NotFound, "RepoNotFound")
	case m == nil:
		return model.Found{}, model.Errorf(model.Unavailable, "the Hub is down")
	}
	return model.Found{Kind: model.ModelDir, Name: m.Name, Revision: m.Revision}, nil
}

func (h fakeHub) List(_ context.Context, n model.Name, _ model.Found) (*model.Model, error) {
	return h[n.String()], nil
}

// atRouter is a source of a scripted router and Hub, through a real door.
func atRouter(t testing.TB, r *hubtest.Router, hub *hubtest.Hub, key string) *Source {
	t.Helper()
	door, err := origin.New(origin.Config{
		Allow:       []string{hub.CDN() + "/*"},
		Endpoints:   []string{r.URL(), hub.URL()},
		Credentials: []origin.Credential{{Base: r.URL(), Token: func() (string, error) { return key, nil }}},
	})
	must(t, err)
	t.Cleanup(door.Close)
	h, err := huggingface.New(huggingface.Config{Endpoint: hub.URL(), Door: door})
	must(t, err)
	t.Cleanup(h.Close)
	s, err := New(Config{URL: r.URL(), Door: door, Hub: h, HubEndpoint: hub.URL()})
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func parse(t testing.TB, name string) model.Name {
	t.Helper()
	n, err := model.ParseName(name)
	must(t, err)
	return n
}

func find(t testing.TB, s *Source, name string) (model.Found, error) {
	t.Helper()
	return s.Find(context.Background(), parse(t, name))
}

func list(t testing.TB, s *Source, name string) (*model.Model, error) {
	t.Helper()
	return s.List(context.Background(), parse(t, name), model.Found{Kind: model.ModelDir, Name: parse(t, name).Path()})
}

// said is a found name, or the kind of the error.
func said(f model.Found, err error) string {
	if err != nil {
		return model.KindOf(err).String()
	}
	if f.Kind == model.Namespace {
		return "namespace " + f.Name
	}
	return f.Name
}

func toJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return string(b)
}
