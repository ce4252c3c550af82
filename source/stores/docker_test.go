package stores

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// A layer is one of a manifest that a test writes.
type layer struct{ media, content, path string }

// A mill writes a store as Docker Model Runner does.
type mill struct {
	t     testing.TB
	root  string
	index []string
}

func (m *mill) pull(tags []string, layers ...layer) {
	m.t.Helper()
	var ls []string
	for _, l := range layers {
		put(m.t, m.root, dockerBlobs+"/"+digest(l.content), l.content)
		annotation := ""
		if l.path != "" {
			annotation = fmt.Sprintf(`,"annotations":{"org.cncf.model.filepath":%q}`, l.path)
		}
		ls = append(ls, fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%s","size":%d%s}`, l.media, digest(l.content), len(l.content), annotation))
	}
	m.manifest(tags, `{"schemaVersion":2,"config":{},"layers":[`+strings.Join(ls, ",")+`]}`)
}

func (m *mill) manifest(tags []string, raw string) {
	put(m.t, m.root, dockerManifests+"/"+digest(raw), raw)
	quoted := make([]string, len(tags))
	for i, tag := range tags {
		quoted[i] = fmt.Sprintf("%q", tag)
	}
	m.index = append(m.index, fmt.Sprintf(`{"id":"sha256:%s","tags":[%s],"files":[]}`, digest(raw), strings.Join(quoted, ",")))
	must(m.t, os.RemoveAll(filepath.Join(m.root, dockerIndex)))
	put(m.t, m.root, dockerIndex, `{"models":[`+strings.Join(m.index, ",")+`]}`)
}

const gguf, mmproj = ownMedia + "gguf.v3", ownMedia + "mmproj"

func TestDocker(t *testing.T) {
	m := &mill{t: t, root: plant(t, map[string]string{"layout.json": `{"version":"1.0.0"}`})}
	m.pull([]string{"index.docker.io/ai/smollm2:latest", "ai/smollm2:360M-Q4_K_M"}, layer{gguf, "smol", ""}, layer{ownMedia + "license", "apache", ""}, layer{ownMedia + "chat.template.jinja", "{{x}}", ""})
	m.pull([]string{"ai/gemma3:4B"}, layer{gguf, "gemma", ""}, layer{mmproj, "eyes", ""}, layer{ownMedia + "dir.tar", "tar", ""})
	m.pull([]string{"docker.io/me/sharded:v1"}, layer{ownMedia + "model.file", "{}", "config.json"}, layer{ownMedia + "safetensors", "one", "model-00001-of-00002.safetensors"},
		layer{ownMedia + "safetensors", "two", "model-00002-of-00002.safetensors"}, layer{ownMedia + "model.file", "evil", "../../evil"})
	m.pull([]string{"me/pack:latest"}, layer{packMedia + "weight.v1.raw", "raw", "w.gguf"}, layer{packMedia + "doc.v1.tar", "tar", "docs.tar"})
	m.pull([]string{"hf.co/org/repo-GGUF:Q4_K_M"}, layer{gguf, "hub", ""})
	m.pull([]string{"registry.example:5000/a/b:c", "bad tag", "x@sha256:y"}, layer{gguf, "elsewhere", ""})
	m.pull([]string{"ai/pulling:latest"}, layer{gguf, "pulling", ""})
	must(t, os.Rename(filepath.Join(m.root, dockerBlobs, digest("pulling")), filepath.Join(m.root, dockerBlobs, digest("pulling")+".incomplete")))
	m.pull([]string{"ai/short:latest"}, layer{gguf, "shortened", ""})
	put(t, m.root, dockerBlobs+"/"+digest("shortened"), "short")
	m.manifest([]string{"ai/nonsense:latest"}, "{")
	m.manifest([]string{"ai/gone:latest"}, `{"layers":[{}]}`)
	m.index = append(m.index, `{"id":"sha256:../../x","tags":["ai/traversal:latest"]}`, `{"id":"sha256:`+digest("no manifest")+`","tags":["ai/none:latest"]}`)
	m.pull(nil, layer{gguf, "untagged", ""})

	s := source(t, Docker, m.root)
	expect(t, s,
		[]string{"model ai/gemma3:4B", "model ai/pulling", "model ai/short", "model ai/smollm2", "model ai/smollm2:360M-Q4_K_M", "model me/pack", "model me/sharded:v1", "model org/repo-GGUF:Q4_K_M"},
		map[string]string{
			"ai":                     "namespace ai",
			"smollm2":                "model ai/smollm2",
			"smollm2:latest":         "model ai/smollm2",
			"smollm2:360M-Q4_K_M":    "model ai/smollm2:360M-Q4_K_M",
			"ai/smollm2:360m-q4_k_m": "model ai/smollm2:360M-Q4_K_M",
			"ai/gemma3":              "not found",
			"gemma3:4B":              "model ai/gemma3:4B",
			"ai/smollm2:none":        "not found",
			"ai/smollm2@main":        "not found",
			"me/sharded:v1":          "model me/sharded:v1",
			"sharded:v1":             "not found",
			"pulling":                "model ai/pulling BROKEN the blob of its model.gguf is missing or incomplete; docker model pull brings it back",
			"ai/short":               "model ai/short BROKEN the blob of its model.gguf is missing or incomplete; docker model pull brings it back",
			"ai/nonsense":            "not found",
			"ai/traversal":           "not found",
			"ai/none":                "not found",
		},
		map[string]map[string]string{
			"smollm2":              {"model.gguf": "smol", "LICENSE": "apache", "chat_template.jinja": "{{x}}"},
			"ai/gemma3:4B":         {"model.gguf": "gemma", "mmproj.gguf": "eyes"},
			"me/sharded:v1":        {"config.json": "{}", "model-00001-of-00002.safetensors": "one", "model-00002-of-00002.safetensors": "two"},
			"me/pack":              {"w.gguf": "raw"},
			"ai/short":             {},
			"org/repo-GGUF:Q4_K_M": {"model.gguf": "hub"},
		})
	must(t, s.Refresh(context.Background()))
	if p, size, ok := s.BySHA256(digest("untagged")); !ok || size != 8 || readAll(t, p) != "untagged" {
		t.Error("a blob without a tag is not known by its hash")
	}
	if _, _, ok := s.BySHA256(digest("pulling")); ok {
		t.Error("an unfinished blob is known")
	}
	m.pull([]string{"ai/new:latest"}, layer{gguf, "new", ""})
	if got := names(t, s); !slices.Contains(got, "model ai/new") {
		t.Errorf("after a pull: %v", got)
	}
	must(t, os.WriteFile(filepath.Join(m.root, "models.tmp"), []byte("["), 0o644))
	must(t, os.Rename(filepath.Join(m.root, "models.tmp"), filepath.Join(m.root, dockerIndex)))
	if got := names(t, s); len(got) != 0 {
		t.Errorf("with an index that can't be read: %v", got)
	}
}

func TestDockerName(t *testing.T) {
	for ref, want := range map[string][]string{
		"ai/smollm2:latest":              {"ai/smollm2", "ai/smollm2:latest", "smollm2", "smollm2:latest"},
		"ai/smollm2":                     {"ai/smollm2", "ai/smollm2:latest", "smollm2", "smollm2:latest"},
		"index.docker.io/me/x:1.5":       {"me/x:1.5"},
		"bare:q":                         {"bare:q", "ai/bare:q"},
		"huggingface.co/org/repo:Q4_K_M": {"org/repo:Q4_K_M"},
		"a/b/c:d":                        {""},
		"../x:latest":                    {""},
		"x@main":                         {""},
		"":                               {""},
	} {
		name, also := dockerName(ref)
		if d := cmp.Diff(want, append([]string{name}, also...)); d != "" {
			t.Errorf("%s:\n%s", ref, d)
		}
	}
}

func FuzzDockerIndex(f *testing.F) {
	f.Add([]byte(`{"models":[{"id":"sha256:` + digest("x") + `","tags":["ai/x:latest","a/b/c","../x"]}]}`))
	f.Add([]byte(`{"models":[{"id":"sha256:zz","tags":null}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		entries, err := parseDockerIndex(raw)
		if err != nil && !model.IsKind(err, model.Invalid) {
			t.Error(err)
		}
		for _, e := range entries {
			if len(e.hash) != 64 {
				t.Errorf("%+v", e)
			}
			for _, tag := range e.tags {
				name, also := dockerName(tag)
				for _, n := range append(also, name) {
					if _, err := model.ParseName(n); n != "" && err != nil {
						t.Errorf("%q is called %q", tag, n)
					}
				}
			}
		}
	})
}

func FuzzLlamaCppOrigins(f *testing.F) {
	f.Add("manifest=a=b=latest.json", []byte(`{"ggufFile":{"rfilename":"Q4/x-00001-of-00002.gguf"}}`))
	f.Add("x.gguf.json", []byte(`{"url":"https://huggingface.co/a/b/resolve/main/d/e.gguf"}`))
	f.Add("manifest=..=..=x.json", []byte(`{"ggufFile":{"rfilename":"../x"},"url":"%zz"}`))
	f.Fuzz(func(t *testing.T, name string, raw []byte) {
		for _, o := range append(manifestOrigins(name, raw), sidecarOrigin(raw)...) {
			if _, err := model.ParseName(o.repo); err != nil || !model.ValidPath(o.path) {
				t.Errorf("%+v", o)
			}
		}
	})
}

func FuzzNodeManifest(f *testing.F) {
	f.Add([]byte(`{"format":"gguf","formats":["Safetensors","x"],"quantization":"Q4_K_M","files":[{"name":"model.gguf"},{"name":"../x"},{"name":"o","optional":true}]}`))
	f.Add([]byte(`{"files":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := parseNodeManifest(raw)
		for _, p := range m.files {
			if !model.ValidPath(p) {
				t.Errorf("%q", p)
			}
		}
		if len(m.formats) > 3 {
			t.Errorf("%q", m.formats)
		}
	})
}
