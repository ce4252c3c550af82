package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/cmd/modelfs/config"
	"modelfs/internal/model"
	"modelfs/resolver"
)

// known explains these names, and no others.
func known(kinds map[string]string) asker {
	return func(_ context.Context, name string) (resolver.Explanation, error) {
		e := resolver.Explanation{Name: name}
		if kind := kinds[name]; kind != "" {
			e.Answer = &resolver.Answer{Kind: kind, Name: name}
		}
		return e, nil
	}
}

func TestExplainSplitsNames(t *testing.T) {
	ask := known(map[string]string{"org": "namespace", "org/repo": "model", "plain": "model", "x.gguf": "file"})
	for _, tt := range []struct{ text, name, file string }{
		{"plain", "plain", ""},
		{"plain/config.json", "plain", "config.json"},
		{"plain/sub/dir/x", "plain", "sub/dir/x"},
		{"org/repo", "org/repo", ""},
		{"/org/repo/", "org/repo", ""},
		{"org/repo/sub/x", "org/repo", "sub/x"},
		{"org/other", "org/other", ""},
		{"x.gguf", "x.gguf", ""},
		{"nobody/nothing/x", "nobody/nothing", "x"},
	} {
		e, file, err := explain(t.Context(), ask, tt.text)
		if err != nil || e.Name != tt.name || file != tt.file {
			t.Errorf("%s: got %s, %q, %v, want %s, %q", tt.text, e.Name, file, err, tt.name, tt.file)
		}
	}
}

func TestExplanationText(t *testing.T) {
	e := resolver.Explanation{
		Name: "org/m", Rule: "the rule", TookMS: 12.4,
		Answer: &resolver.Answer{Kind: "model", Name: "Org/M", Source: "hub:h", Revision: "c0ffee"},
		Sources: []resolver.SourceSaid{
			{ID: "shared:/mnt", Verdict: "down", Breaker: "open", Error: "it hangs", TookMS: 0.02},
			{ID: "hub:h", Verdict: "present", Breaker: "closed", Cached: true, AgeMS: 3000, TookMS: 120},
			{ID: "router:r", Verdict: "waiting", Breaker: "closed"},
		},
		Default: "a.gguf", Why: "preferred",
		Files: []resolver.FileLine{{Path: "a.gguf", Size: 1 << 30, Hosts: []string{"h"}, Here: 3 << 20, Trouble: "it is corrupt"}, {Path: "b", Size: -1, Hidden: true}},
	}
	want := []string{
		"org/m: model Org/M from hub:h at c0ffee",
		"because: the rule (12ms)",
		"  shared:/mnt  down            20µs   breaker open; it hangs",
		"  hub:h        present         120ms  said 3s ago",
		"  router:r     not waited for",
		"model.gguf: a.gguf (preferred)",
		"  a.gguf  1.0 GiB                 h, here: 3.0 MiB; it is corrupt",
		"  b       nobody states its size   (not listed)",
	}
	if diff := cmp.Diff(strings.Join(want, "\n")+"\n", string(explanationText(e, ""))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := string(explanationText(e, "model.gguf")); !strings.Contains(got, "  a.gguf") || strings.Contains(got, "  b ") {
		t.Errorf("model.gguf alone:\n%s", got)
	}
	if got := string(explanationText(e, "c")); !strings.HasSuffix(got, "c: the listing has no such file\n") {
		t.Errorf("a file that is not there:\n%s", got)
	}
}

// fakeHub has one model.
type fakeHub struct{ asked []string }

func (*fakeHub) ID() string             { return "hub:fake" }
func (*fakeHub) Kind() model.SourceKind { return model.Hub }
func (h *fakeHub) Find(_ context.Context, n model.Name) (model.Found, error) {
	h.asked = append(h.asked, n.String())
	if n.Path() != "org/repo" {
		return model.Found{}, model.Errorf(model.NotFound, "no %s", n)
	}
	return model.Found{Kind: model.ModelDir, Name: "org/repo"}, nil
}
func (*fakeHub) Names(context.Context) ([]model.Found, error) { return nil, nil }
func (*fakeHub) List(context.Context, model.Name, model.Found) (*model.Model, error) {
	return &model.Model{Name: "org/repo", Files: []model.File{{Path: "README.md"}, {Path: "a-Q4_K_M.gguf"}, {Path: "sub/b-Q8_0.gguf"}}}, nil
}

// Where no daemon has looked into the model, explain does.
func TestExplainListsWithoutADaemon(t *testing.T) {
	r := resolver.New(resolver.Config{Sources: []resolver.Source{&fakeHub{}}, LookupTimeout: time.Second, ListTimeout: time.Second,
		Log: slog.New(slog.DiscardHandler)})
	defer r.Close()
	e, err := askResolver(r)(t.Context(), "org/repo")
	if err != nil || e.Default != "a-Q4_K_M.gguf" || len(e.Files) == 0 {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestAliases(t *testing.T) {
	hub := &fakeHub{}
	s := aliasSource{hub, map[string]config.Alias{
		"llama3":   {HF: "org/repo", Revision: "abc", Files: []string{"*Q4_K_M*.gguf"}},
		"all/of":   {HF: "org/repo"},
		"subs":     {HF: "org/repo", Files: []string{"sub/*"}},
		"vanished": {HF: "org/gone"},
	}}
	for _, tt := range []struct {
		name  model.Name
		asked string
		files []string
	}{
		{model.Name{Repo: "llama3"}, "org/repo@abc", []string{"a-Q4_K_M.gguf"}},
		{model.Name{Repo: "llama3", Revision: "main", Quant: "Q8_0"}, "org/repo:Q8_0@main", []string{"a-Q4_K_M.gguf"}},
		{model.Name{Org: "all", Repo: "of"}, "org/repo", []string{"README.md", "a-Q4_K_M.gguf", "sub/b-Q8_0.gguf"}},
		{model.Name{Repo: "subs"}, "org/repo", []string{"sub/b-Q8_0.gguf"}},
		{model.Name{Repo: "vanished"}, "org/gone", nil},
		{model.Name{Repo: "unknown"}, "", nil},
	} {
		hub.asked = nil
		f, err := s.Find(t.Context(), tt.name)
		if got := strings.Join(hub.asked, " "); got != tt.asked {
			t.Errorf("%s: asked for %q, want %q", tt.name, got, tt.asked)
		}
		if tt.files == nil {
			if !model.IsKind(err, model.NotFound) {
				t.Errorf("%s: got %v, want absent", tt.name, err)
			}
			continue
		}
		m, err := s.List(t.Context(), tt.name, f)
		if err != nil {
			t.Fatal(err)
		}
		var files []string
		for _, file := range m.Files {
			files = append(files, file.Path)
		}
		if diff := cmp.Diff(tt.files, files); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tt.name, diff)
		}
	}
	meanings := map[string]bool{}
	for name := range s.models {
		n, err := model.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		n.Quant, n.Revision = "Q8_0", "main"
		source, meaning := s.Renamed(n)
		if source != "hub:fake" || meaning == "" || meanings[meaning] {
			t.Errorf("%s stands for %q of %q", name, meaning, source)
		}
		meanings[meaning] = true
	}
	if source, meaning := s.Renamed(model.Name{Repo: "unknown"}); source+meaning != "" {
		t.Errorf("what is no alias stands for %q of %q", meaning, source)
	}
	names, err := s.Names(t.Context())
	if err != nil || len(names) != 4 || names[0].Name != "all/of" {
		t.Errorf("names: %v, %v", names, err)
	}
}
