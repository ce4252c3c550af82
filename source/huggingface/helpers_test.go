package huggingface

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"modelfs/internal/hubtest"
	"modelfs/internal/leaktest"
	"modelfs/internal/model"
	"modelfs/internal/origin"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const (
	commit   = "bcf51b2ec6fb5bc8215f4b365a0e48532e26abb8"
	endpoint = "https://hub.test/mirror"
)

// A script is a door that answers from a table, by the address after the
// endpoint; whatever is not in it is a RepoNotFound.
type script struct {
	mu     sync.Mutex // guards asked
	asked  []string
	answer map[string]reply
}

type reply struct {
	status    int
	code      string // X-Error-Code
	message   string // X-Error-Message
	body      string
	header    http.Header
	err       error
	withToken *reply // instead, if a token is sent
}

func (s *script) Get(ctx context.Context, url string, opt origin.GetOptions) (*origin.Answer, error) {
	path := strings.TrimPrefix(url, endpoint)
	r, ok := s.answer[path]
	if !ok {
		r = reply{status: 404, code: "RepoNotFound"}
	}
	if !opt.Anonymous {
		path += " token"
		if r.withToken != nil {
			r = *r.withToken
		}
	}
	s.mu.Lock()
	s.asked = append(s.asked, path)
	s.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	h := r.header.Clone()
	if h == nil {
		h = http.Header{}
	}
	for k, v := range map[string]string{"X-Error-Code": r.code, "X-Error-Message": r.message} {
		if v != "" {
			h.Set(k, v)
		}
	}
	return &origin.Answer{Status: r.status, Header: h, URL: url, Body: []byte(r.body)}, nil
}

func scripted(t testing.TB, answer map[string]reply) (*Source, *script) {
	t.Helper()
	door := &script{answer: answer}
	s, err := New(Config{Endpoint: endpoint + "/", Door: door})
	must(t, err)
	t.Cleanup(s.Close)
	return s, door
}

func infoOf(id string) string {
	return `{"id":"` + id + `","sha":"` + commit + `","lastModified":"2026-09-25T08:49:23.000Z","tags":["gguf"],"gated":false,"siblings":[]}`
}

// atHub is a source of a scripted Hub, through a real door.
func atHub(t testing.TB, hub *hubtest.Hub, token string) *Source {
	t.Helper()
	door, err := origin.New(origin.Config{
		Endpoints:   []string{hub.URL()},
		Credentials: []origin.Credential{{Base: hub.URL(), Token: func() (string, error) { return token, nil }}},
	})
	must(t, err)
	t.Cleanup(door.Close)
	s, err := New(Config{Endpoint: hub.URL(), Door: door, Authorized: func() bool { return token != "" }})
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
	f, err := find(t, s, name)
	must(t, err)
	return s.List(context.Background(), parse(t, name), f)
}

// outcome is a found name, or the kind of the error.
func outcome(f model.Found, err error) string {
	if err != nil {
		return model.KindOf(err).String()
	}
	if f.Kind == model.Namespace {
		return "namespace " + f.Name
	}
	return f.Name + "@" + f.Revision
}
