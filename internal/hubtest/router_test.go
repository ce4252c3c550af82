package hubtest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// newRouter is a router with one model of two files, one of them in its own words.
func newRouter(t *testing.T, c RouterConfig) *Router {
	r := NewRouter(t, c)
	r.SetModel(RouterModel{Name: "openai/gpt-oss-20b", Format: "safetensors", Files: []RouterFile{
		{Name: "config.json", URL: "https://huggingface.co/openai/gpt-oss-20b/resolve/main/config.json", Priority: 10, Runtimes: []string{"safetensors_cpp"}, Content: Text("{}")},
		{Name: "model.metal.bin", Optional: true, Digest: "ab", Size: 5},
	}})
	r.SetModel(RouterModel{Name: "tiny", Format: "gguf", Quantization: "Q4_K_M", Listed: map[string]any{"size": 7, "description": nil},
		Files: []RouterFile{{Name: "model.gguf", Content: Pattern(5, 100_000)}}})
	r.SetModel(RouterModel{Name: "odd", Unlisted: true, Manifest: json.RawMessage(`{"files":[{"name":"../../x","size":"big"}]}`)})
	return r
}

func TestRouterAnswers(t *testing.T) {
	newKeys := map[string][]string{"read": {"registry.read"}, "infer": {"openai.inference"}, "admin": {"registry.read", "models.manage"}}
	oldKeys := map[string][]string{"node": {"node"}, "api": {"api"}, "admin": {"admin"}}
	const tiny, oss = "/registry/tiny/manifest.json", "/registry/openai%2Fgpt-oss-20b/manifest.json"
	read, node := bearer("read"), bearer("node")
	for _, tt := range []struct {
		name, path string
		gen        Generation
		header     http.Header
		status     int
		body       string // exactly, or "*" for any
	}{
		{"manifest", "/api/models" + oss, NewGen, read, 200, "*"},
		{"manifest, X-API-Key first", "/api/models" + oss, NewGen, header("X-API-Key", "read", "Authorization", "Bearer infer"), 200, "*"},
		{"no key", "/api/models" + tiny, NewGen, nil, 401, "Missing X-API-Key header or Authorization header"},
		{"no bearer", "/api/models" + tiny, NewGen, header("Authorization", "Basic x"), 401, "Invalid Authorization header format. Expected 'Bearer <token>'"},
		{"bad key", "/api/models" + tiny, NewGen, bearer("other"), 401, "Invalid API key"},
		{"no right", "/api/models" + tiny, NewGen, bearer("infer"), 403, "Insufficient API key permission"},
		{"no right to list", "/api/models", NewGen, bearer("infer"), 403, "Missing required permission: registry.read"},
		{"list", "/api/models", NewGen, read, 200, "*"},
		{"unknown model", "/api/models/registry/none/manifest.json", NewGen, read, 404, `{"error":"Model not found: none"}`},
		{"upper case", "/api/models/registry/GPT-4/manifest.json", NewGen, read, 400, `{"error":"Invalid model name: GPT-4"}`},
		{"quant", "/api/models/registry/llama3.2:latest/manifest.json", NewGen, read, 400, `{"error":"Invalid model name: llama3.2:latest"}`},
		{"dots", "/api/models/registry/..%2Fetc/manifest.json", NewGen, read, 400, `{"error":"Invalid model name (contains dangerous pattern): ../etc"}`},
		{"slash", "/api/models/registry/trailing%2F/manifest.json", NewGen, read, 400, `{"error":"Invalid model name (leading/trailing slash): trailing/"}`},
		{"empty name", "/api/models/registry//manifest.json", NewGen, read, 400, `{"error":"Model name is empty"}`},
		{"two segments", "/api/models/registry/openai/gpt-oss-20b/manifest.json", NewGen, read, 403, "Insufficient API key permission"},
		{"two segments, admin", "/api/models/registry/openai/gpt-oss-20b/manifest.json", NewGen, bearer("admin"), 405, ""},
		{"files", "/api/models/registry/tiny/files/model.gguf", NewGen, read, 403, "Insufficient API key permission"},
		{"files, no key", "/api/models/blob/tiny", NewGen, nil, 401, "Missing X-API-Key header or Authorization header"},
		{"other prefix", "/v0/models" + tiny, NewGen, read, 404, ""},
		{"other prefix, old", "/api/models" + tiny, OldGen, node, 404, ""},
		{"old manifest", "/v0/models" + tiny, OldGen, node, 200, `{"files":[{"name":"model.gguf"}]}`},
		{"old manifest, upper case", "/v0/models/registry/Tiny/manifest.json", OldGen, node, 200, "*"},
		{"old manifest, admin", "/v0/models" + tiny, OldGen, bearer("admin"), 200, "*"},
		{"old manifest, scope", "/v0/models" + tiny, OldGen, bearer("api"), 403, "Insufficient API key permission"},
		{"old, unknown model", "/v0/models/registry/none/manifest.json", OldGen, node, 404, `{"error": "Model not found: none"}`},
		{"old blob, unknown model", "/v0/models/blob/none", OldGen, node, 404, `{"error": "Model not found: none"}`},
		{"old blob, no gguf", "/v0/models/blob/openai%2Fgpt-oss-20b", OldGen, node, 404, `{"error": "Model not found: openai/gpt-oss-20b"}`},
		{"old file", "/v0/models/registry/openai%2Fgpt-oss-20b/files/config.json", OldGen, node, 200, "{}"},
		{"old file, not on disk", "/v0/models/registry/openai%2Fgpt-oss-20b/files/model.metal.bin", OldGen, node, 404, `{"error": "File not found"}`},
		{"old file, slash", "/v0/models/registry/tiny/files/a%2Fb", OldGen, node, 400, `{"error": "Invalid file name"}`},
		{"old file, dots", "/v0/models/registry/tiny/files/..", OldGen, node, 400, `{"error": "Invalid file name"}`},
		{"old, unknown route", "/v0/models/tiny", OldGen, node, 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys := newKeys
			if tt.gen == OldGen {
				keys = oldKeys
			}
			r := newRouter(t, RouterConfig{Gen: tt.gen, Keys: keys})
			resp, body := newClient(t).get(r.URL()+tt.path, tt.header)
			if resp.StatusCode != tt.status || tt.body != "*" && body != tt.body {
				t.Errorf("%d %q, want %d %q", resp.StatusCode, body, tt.status, tt.body)
			}
			if kind, had := resp.Header["Content-Type"]; tt.gen == OldGen && strings.HasPrefix(tt.body, `{"error": `) && had {
				t.Errorf("an old router's error has a Content-Type %q", kind)
			}
		})
	}
}

func TestRouterManifest(t *testing.T) {
	r := newRouter(t, RouterConfig{})
	c := newClient(t)
	manifest := func(name string) anyMap {
		_, body := c.get(r.URL()+"/api/models/registry/"+name+"/manifest.json", bearer(RouterKey))
		return decode[anyMap](t, body)
	}
	want := anyMap{"format": "safetensors", "files": []any{
		anyMap{"name": "config.json", "priority": 10.0, "runtimes": []any{"safetensors_cpp"}, "url": "https://huggingface.co/openai/gpt-oss-20b/resolve/main/config.json"},
		anyMap{"name": "model.metal.bin", "optional": true, "digest": "ab", "size": 5.0}}}
	if d := cmp.Diff(want, manifest("openai%2Fgpt-oss-20b")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if q := manifest("tiny")["quantization"]; q != "Q4_K_M" {
		t.Errorf("quantization %v", q)
	}
	if d := cmp.Diff(anyMap{"files": []any{anyMap{"name": "../../x", "size": "big"}}}, manifest("odd")); d != "" {
		t.Errorf("a manifest in its own words (-want +got):\n%s", d)
	}
	r.RemoveModel("tiny")
	if e := manifest("tiny")["error"]; e != "Model not found: tiny" {
		t.Errorf("after RemoveModel: %v", e)
	}
}

func TestRouterLists(t *testing.T) {
	for shape, unwrap := range map[ListShape]func(any) any{
		ListArray: func(v any) any { return v },
		ListData:  func(v any) any { return v.(anyMap)["data"] },
		ListValue: func(v any) any { return v.(anyMap)["value"] },
	} {
		r := newRouter(t, RouterConfig{Gen: OldGen, List: shape, Open: true})
		_, body := newClient(t).get(r.URL()+"/v0/models", nil)
		items := unwrap(decode[any](t, body)).([]any)
		if len(items) != 2 || items[0].(anyMap)["name"] != "openai/gpt-oss-20b" || items[1].(anyMap)["id"] != "tiny" || items[1].(anyMap)["size"] != 7.0 {
			t.Errorf("shape %d: %s", shape, body)
		}
		if _, there := items[1].(anyMap)["description"]; there {
			t.Errorf("shape %d: a nil in Listed did not remove the field: %s", shape, body)
		}
	}
	r := newRouter(t, RouterConfig{List: ListValue})
	_, body := newClient(t).get(r.URL()+"/api/models", bearer(RouterKey))
	if items := decode[[]anyMap](t, body); len(items) != 2 || items[1]["source"] != "hf_gguf" || items[1]["id"] != nil {
		t.Errorf("new: %s", body)
	}
}

func TestOldRouterFilesIgnoreRanges(t *testing.T) {
	r := newRouter(t, RouterConfig{Gen: OldGen})
	c := newClient(t)
	for path, length := range map[string]int64{"/v0/models/blob/tiny": 100_000, "/v0/models/registry/tiny/files/model.gguf": -1} {
		head := bearer(RouterKey)
		head.Set("Range", "bytes=5-9")
		resp, body := c.get(r.URL()+path, head)
		if resp.StatusCode != 200 || resp.ContentLength != length || len(body) != 100_000 || Mismatch(Pattern(5, 100_000), []byte(body), 0) >= 0 ||
			resp.Header.Get("Etag") != "" || resp.Header.Get("Accept-Ranges") != "" {
			t.Errorf("%s: %s, length %d, %d bytes, %v", path, resp.Status, resp.ContentLength, len(body), resp.Header)
		}
	}
	if n := r.BytesSent("tiny/model.gguf"); n != 200_000 {
		t.Errorf("BytesSent = %d", n)
	}
}

func TestRouterFaults(t *testing.T) {
	r := newRouter(t, RouterConfig{Gen: OldGen})
	c := newClient(t)
	fault := r.Fault(Filter{Host: AtRouter, Path: "/v0/models/registry/*/manifest.json"}, First(1), Status(504, nil, `{"error":"Request timeout"}`))
	for _, want := range []int{504, 200} {
		if resp, _ := c.get(r.URL()+"/v0/models/registry/tiny/manifest.json", bearer(RouterKey)); resp.StatusCode != want {
			t.Errorf("%s, want %d", resp.Status, want)
		}
	}
	r.Fault(Filter{Path: "tiny/model.gguf"}, Always(), CutAt(10, CleanClose))
	if _, body, err := c.read(r.URL()+"/v0/models/blob/tiny", bearer(RouterKey)); err == nil || len(body) != 10 || fault.Hits() != 1 {
		t.Errorf("%d bytes, %v; %d hits", len(body), err, fault.Hits())
	}
}

func TestRouterMethods(t *testing.T) {
	for gen, path := range map[Generation]string{NewGen: "/api/models", OldGen: "/v0/models"} {
		r := newRouter(t, RouterConfig{Gen: gen})
		resp := newClient(t).send("PUT", r.URL()+path, bearer(RouterKey))
		resp.Body.Close()
		if resp.StatusCode != 405 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
