package ollama

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
	"modelfs/source/internal/oci"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// A shop is a store that a test writes as Ollama does.
type shop struct {
	t    testing.TB
	root string
}

func newShop(t testing.TB) *shop { return &shop{t, filepath.Join(t.TempDir(), "models")} }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *shop) put(rel, content string) {
	s.t.Helper()
	p := filepath.Join(s.root, rel)
	must(s.t, os.MkdirAll(filepath.Dir(p), 0o755))
	must(s.t, os.WriteFile(p, []byte(content), 0o644))
}

func digest(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }

func blobOf(content string) string { return "blobs/sha256-" + digest(content) }

// A piece is a layer: its kind, its content, and what is odd about it.
type piece struct{ kind, content, name string }

// manifestOf is the manifest of the pieces.
func manifestOf(pieces ...piece) string {
	layers := make([]string, len(pieces))
	for i, p := range pieces {
		layers[i] = fmt.Sprintf(`{"mediaType":"application/vnd.ollama.image.%s","digest":"sha256:%s","size":%d,"name":%q}`, p.kind, digest(p.content), len(p.content), p.name)
	}
	return `{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"digest":"sha256:` +
		digest("config") + `","size":6},"layers":[` + strings.Join(layers, ",") + `]}`
}

// pull writes a model: its blobs, then its manifest.
func (s *shop) pull(at string, pieces ...piece) {
	s.t.Helper()
	for _, p := range pieces {
		s.put(blobOf(p.content), p.content)
	}
	s.put("manifests/"+at, manifestOf(pieces...))
}

func (s *shop) remove(rel string) { must(s.t, os.RemoveAll(filepath.Join(s.root, rel))) }

// age makes everything look as if it had changed long ago.
func (s *shop) age() {
	old := time.Now().Add(-time.Hour)
	must(s.t, filepath.WalkDir(s.root, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSymlink == 0 {
			err = os.Chtimes(p, old, old)
		}
		return err
	}))
}

func (s *shop) source() *Source {
	s.t.Helper()
	src, err := New(Config{Root: s.root})
	must(s.t, err)
	s.t.Cleanup(src.Close)
	return src
}

func find(t testing.TB, s *Source, name string) (model.Found, error) {
	t.Helper()
	n, err := model.ParseName(name)
	must(t, err)
	return s.Find(context.Background(), n)
}

func list(t testing.TB, s *Source, name string) *model.Model {
	t.Helper()
	f, err := find(t, s, name)
	must(t, err)
	m, err := s.List(context.Background(), model.Name{}, f)
	must(t, err)
	return m
}

func names(t testing.TB, s *Source) []string {
	t.Helper()
	found, err := s.Names(context.Background())
	must(t, err)
	var out []string
	for _, f := range found {
		out = append(out, outcome(f, nil))
	}
	return out
}

func outcome(f model.Found, err error) string {
	if err != nil {
		return model.KindOf(err).String()
	}
	what := map[model.EntryKind]string{model.Namespace: "namespace ", model.ModelDir: "model "}[f.Kind] + f.Name
	if f.Broken != "" {
		what += " BROKEN " + f.Broken
	}
	return what
}

func readAll(t testing.TB, p model.Place) string {
	t.Helper()
	f, st, err := p.Open(context.Background())
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	if again, err := p.Stat(context.Background()); err != nil || again != st {
		t.Errorf("%s: opened as %+v, stat says %+v, %v", p.Path(), st, again, err)
	}
	return string(b)
}

// zoo is a store with every kind of model.
func zoo(t testing.TB) *shop {
	s := newShop(t)
	s.pull("registry.ollama.ai/library/llama3.2/latest", piece{kind: "model", content: "three"}, piece{kind: "template", content: "{{ .Prompt }}"},
		piece{kind: "license", content: "one license"}, piece{kind: "license", content: "another"}, piece{kind: "params", content: `{"stop":["x"]}`})
	s.pull("registry.ollama.ai/library/llama3.2/1b", piece{kind: "model", content: "one"}, piece{kind: "system", content: "be brief"})
	s.pull("registry.ollama.ai/library/llava/7b", piece{kind: "model", content: "llava"}, piece{kind: "projector", content: "eyes"}, piece{kind: "adapter", content: "lora"})
	s.pull("registry.ollama.ai/someone/tuned/v2", piece{kind: "model", content: "tuned"})
	s.pull("hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF/Q4_K_M", piece{kind: "model", content: "hub four"})
	s.pull("hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF/Q8_0", piece{kind: "model", content: "hub eight"})
	s.pull("hf.co/acme/one-GGUF/Q4_K_M", piece{kind: "model", content: "acme four"})
	s.pull("huggingface.co/acme/two-GGUF/latest", piece{kind: "model", content: "acme two"})
	s.pull("registry.ollama.ai/acme/one-GGUF/latest", piece{kind: "model", content: "not the hub's"})
	s.pull("private.example:5000/team/secret/latest", piece{kind: "model", content: "secret"})
	s.pull("registry.ollama.ai/library/tensors/latest", piece{kind: "tensor", content: "t1", name: "a.weight"}, piece{kind: "tensor", content: "t2", name: "b.weight"},
		piece{kind: "json", content: "{}", name: "config.json"}, piece{kind: "json", content: "evil", name: "../../evil"}, piece{kind: "json", content: "fake", name: "model.gguf"})

	s.pull("registry.ollama.ai/library/pruned/latest", piece{kind: "model", content: "pruned"})
	s.remove(blobOf("pruned"))
	s.pull("registry.ollama.ai/library/short/latest", piece{kind: "model", content: "short"})
	s.put(blobOf("short"), "sho")
	s.pull("registry.ollama.ai/library/pulling/latest", piece{kind: "model", content: "pulling"})
	s.remove(blobOf("pulling"))
	s.put(blobOf("pulling")+"-partial", "pulling")
	s.put(blobOf("pulling")+"-partial-0", `{"N":0}`)
	s.put("manifests/registry.ollama.ai/library/nonsense/latest", "{")
	s.put("manifests/registry.ollama.ai/library/traversal/latest", strings.Replace(manifestOf(piece{kind: "model", content: "x"}), digest("x"), "../../../../etc/passwd", 1))
	s.put("manifests/registry.ollama.ai/library/stray", "a file where a directory belongs")
	must(t, os.MkdirAll(filepath.Join(s.root, "manifests/registry.ollama.ai/nobody/empty"), 0o755))
	return s
}

const missing = "is missing; ollama pull brings it back"

func TestFind(t *testing.T) {
	s := zoo(t).source()
	for name, want := range map[string]string{
		"llama3.2":            "model llama3.2",
		"llama3.2:latest":     "model llama3.2",
		"llama3.2:1b":         "model llama3.2:1b",
		"Llama3.2:1B":         "model llama3.2:1b",
		"library/llama3.2:1b": "model llama3.2:1b",
		"llama3.2:8b":         "not found",
		"llama3.2@main":       "not found",
		"llava":               "not found",
		"llava:7b":            "model llava:7b",
		"someone/tuned:v2":    "model someone/tuned:v2",
		"someone/tuned":       "not found",
		"someone":             "namespace someone",
		"library":             "namespace library",
		"bartowski":           "namespace bartowski",
		"nobody":              "not found",
		"nobody/empty":        "not found",
		"stray":               "not found",
		"bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M": "model bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
		"bartowski/llama-3.2-1b-instruct-gguf:q8_0":   "model bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0",
		"bartowski/Llama-3.2-1B-Instruct-GGUF:Q2_K":   "not found",
		"bartowski/Llama-3.2-1B-Instruct-GGUF":        "not found",
		"acme/one-GGUF":                               "model acme/one-GGUF:Q4_K_M BROKEN " + nameless,
		"acme/one-GGUF:Q4_K_M":                        "model acme/one-GGUF:Q4_K_M",
		"acme/two-GGUF":                               "model acme/two-GGUF BROKEN " + nameless,
		"team/secret":                                 "model team/secret",
		"tensors":                                     "model tensors BROKEN Ollama keeps it as single tensors, which only Ollama reads",
		"pruned":                                      "model pruned BROKEN the blob of its model.gguf " + missing,
		"pulling":                                     "model pulling BROKEN the blob of its model.gguf " + missing,
		"short":                                       "model short BROKEN the blob of its model.gguf has 3 bytes instead of 5; ollama pull brings it back",
	} {
		if got := outcome(find(t, s, name)); got != want {
			t.Errorf("Find(%s) = %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"nonsense", "traversal"} {
		if f, err := find(t, s, name); err != nil || f.Broken == "" {
			t.Errorf("Find(%s) = %+v, %v", name, f, err)
		}
		if _, err := s.List(context.Background(), model.Name{}, model.Found{Kind: model.ModelDir, Name: name}); !model.IsKind(err, model.Invalid) {
			t.Errorf("List(%s): %v", name, err)
		}
	}
}

func TestList(t *testing.T) {
	s := zoo(t).source()
	for name, want := range map[string]map[string]string{
		"llama3.2":      {"model.gguf": "three", "template": "{{ .Prompt }}", "license": "one license", "license-2": "another", "params": `{"stop":["x"]}`},
		"llama3.2:1b":   {"model.gguf": "one", "system": "be brief"},
		"llava:7b":      {"model.gguf": "llava", "mmproj.gguf": "eyes", "adapter.gguf": "lora"},
		"acme/one-GGUF": {"model.gguf": "acme four"},
		"tensors":       {"config.json": "{}"},
		"pruned":        {},
		"short":         {},
		"bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0": {"model.gguf": "hub eight"},
	} {
		m, got := list(t, s, name), map[string]string{}
		for _, f := range m.Files {
			got[f.Path] = readAll(t, f.Place)
			if f.SHA256 != digest(got[f.Path]) || f.Size != int64(len(got[f.Path])) || f.ModTime.IsZero() {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
		if m.Source != s.ID() || m.Kind != model.Local || m.Revision != "" || m.ModTime.IsZero() {
			t.Errorf("%s: %+v", name, m)
		}
	}
	for _, f := range []model.Found{{Kind: model.Namespace, Name: "acme"}, {Kind: model.ModelDir, Name: "a/b/c"}, {Kind: model.ModelDir}} {
		if _, err := s.List(context.Background(), model.Name{}, f); !model.IsKind(err, model.Invalid) {
			t.Errorf("List(%+v): %v", f, err)
		}
	}
	if _, err := s.List(context.Background(), model.Name{}, model.Found{Kind: model.ModelDir, Name: "LLAMA3.2"}); !model.IsKind(err, model.NotFound) {
		t.Errorf("a name that is not the true one: %v", err)
	}
}

func TestNames(t *testing.T) {
	shop := zoo(t)
	s := shop.source()
	want := []string{"model acme/one-GGUF BROKEN " + nameless, "model acme/one-GGUF:Q4_K_M", "model acme/two-GGUF BROKEN " + nameless,
		"model bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", "model bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0",
		"model llama3.2", "model llama3.2:1b", "model llava:7b", "model short", "model someone/tuned:v2", "model team/secret"}
	want[0] = "model acme/one-GGUF" // of Ollama's own registry: the Hub's has no tag latest
	if d := cmp.Diff(want, names(t, s)); d != "" {
		t.Error(d)
	}
	shop.age()
	for range 2 {
		if d := cmp.Diff(want, names(t, s)); d != "" {
			t.Error(d)
		}
	}
	shop.pull("registry.ollama.ai/library/llama3.2/3b", piece{kind: "model", content: "three again"})
	shop.remove("manifests/registry.ollama.ai/library/llava")
	shop.remove(blobOf("secret"))
	want = append(append(want[:7:7], "model llama3.2:3b"), want[8:10]...)
	if d := cmp.Diff(want, names(t, s)); d != "" {
		t.Errorf("after changes:\n%s", d)
	}
}

// A manifest that is pulled anew means the new blobs at once.
func TestPulledAnew(t *testing.T) {
	shop := newShop(t)
	at := "registry.ollama.ai/library/m/latest"
	shop.pull(at, piece{kind: "model", content: "old"})
	shop.age()
	s := shop.source()
	old := list(t, s, "m")
	if got := readAll(t, old.Files[0].Place); got != "old" {
		t.Fatal(got)
	}
	shop.pull(at, piece{kind: "model", content: "new weights"})
	shop.remove(blobOf("old"))
	if _, _, err := old.Files[0].Place.Open(context.Background()); !model.IsKind(err, model.NotFound) {
		t.Errorf("the old blob: %v", err)
	}
	if got := readAll(t, list(t, s, "m").Files[0].Place); got != "new weights" {
		t.Error(got)
	}
}

// A blob that leads out of the store is not there.
func TestLinks(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "weights.gguf")
	must(t, os.WriteFile(outside, []byte("elsewhere"), 0o644))
	shop := newShop(t)
	shop.pull("registry.ollama.ai/library/m/latest", piece{kind: "model", content: "elsewhere"})
	shop.remove(blobOf("elsewhere"))
	must(t, os.Symlink(outside, filepath.Join(shop.root, blobOf("elsewhere"))))
	if got := outcome(find(t, shop.source(), "m")); got != "model m BROKEN the blob of its model.gguf "+missing {
		t.Error(got)
	}
	s, err := New(Config{Root: shop.root, Trust: []string{filepath.Dir(outside)}})
	must(t, err)
	if got := readAll(t, list(t, s, "m").Files[0].Place); got != "elsewhere" {
		t.Error(got)
	}
}

func TestBySHA256(t *testing.T) {
	shop, ctx := zoo(t), context.Background()
	s := shop.source()
	must(t, s.Refresh(ctx))
	p, size, ok := s.BySHA256(digest("one"))
	if !ok || size != 3 || readAll(t, p) != "one" {
		t.Fatalf("%v, %d, %v", p, size, ok)
	}
	if _, _, ok := s.BySHA256(digest("pulling")); ok {
		t.Error("an unfinished blob is known")
	}
	shop.put(blobOf("one"), "longer")
	if _, _, err := p.Open(ctx); !model.IsKind(err, model.NotFound) {
		t.Errorf("a blob of another size: %v", err)
	}
	shop.put(blobOf("more"), "more")
	must(t, s.Refresh(ctx))
	if _, _, ok := s.BySHA256(digest("more")); !ok {
		t.Error("a new blob is not known")
	}
}

func TestNoStore(t *testing.T) {
	s := newShop(t).source()
	if got := outcome(find(t, s, "llama3.2")); got != "not found" {
		t.Errorf("Find: %s", got)
	}
	if got := names(t, s); got != nil {
		t.Errorf("Names: %v", got)
	}
	must(t, s.Refresh(context.Background()))
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(manifestOf(piece{kind: "model", content: "w"}, piece{kind: "json", content: "{}", name: "config.json"})))
	f.Add([]byte(`{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:../../x","size":-1}]}`))
	f.Add([]byte(`{"layers":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parse(raw)
		if err != nil {
			if !model.IsKind(err, model.Invalid) {
				t.Errorf("%v", err)
			}
			return
		}
		for _, l := range m.files {
			if !model.ValidPath(l.name) || oci.Digest("sha256:"+l.SHA256) == "" || l.Size < 0 {
				t.Errorf("%+v", l)
			}
		}
	})
}

// After a restart a file is found again by the path that its place had.
func TestAt(t *testing.T) {
	s := zoo(t).source()
	for _, f := range list(t, s, "llava:7b").Files {
		p := s.At(f.Place.Path())
		if p == nil || p.Path() != f.Place.Path() || readAll(t, p) != readAll(t, f.Place) {
			t.Errorf("%s is found as %v", f.Path, p)
		}
	}
	if p := s.At("/etc/passwd"); p != nil {
		t.Errorf("outside: %s", p.Path())
	}
}
