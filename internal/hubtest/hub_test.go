package hubtest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const goodToken = "hf_goodgoodgoodgoodgoodgoodgoodgoodgood"

// newStage is a Hub with one repository of each kind.
func newStage(t *testing.T, opts ...Option) *Hub {
	h := New(t, opts...)
	small := File{Path: "config.json", Content: Text(`{"a":1}`)}
	h.AddRepo(Repo{ID: "org/public", Renamed: []string{"gpt", "was/here"}, Tags: []string{"gguf"}, Files: []File{
		small, {Path: "sub/model.gguf", Content: Pattern(1, 300_000), LFS: true}, {Path: "sub/a b#?%ü.txt", Content: Text("odd")}}})
	h.AddRepo(Repo{ID: "org/private", Private: true, Files: []File{small}})
	h.AddRepo(Repo{ID: "org/gated", Gated: "auto", Files: []File{small}})
	h.AddRepo(Repo{ID: "org/disabled", Disabled: true, Files: []File{small}})
	h.AddRepo(Repo{ID: "m", Renamed: []string{"org/models"}, Files: []File{small}})
	h.Grant(goodToken, "org/private")
	return h
}

func bearer(token string) http.Header { return header("Authorization", "Bearer "+token) }

func TestErrors(t *testing.T) {
	h := newStage(t)
	good, bad := bearer(goodToken), bearer("hf_bad")
	commit := h.Commit("org/public", "main")
	const login, gate = "Invalid username or password.", "Access to model org/gated is restricted"
	for _, tt := range []struct {
		name, method, path string
		header             http.Header
		status             int
		code, message      string
		headers            http.Header
	}{
		{"api, absent, anonymous", "GET", "/api/models/org/none", nil, 401, "", login, header("Www-Authenticate", `Bearer realm="Authentication required", charset="UTF-8"`)},
		{"api, private, anonymous", "GET", "/api/models/org/private/tree/main", nil, 401, "", login, nil},
		{"file, absent, anonymous", "GET", "/org/none/resolve/main/x", nil, 401, "", login, header("Www-Authenticate", `Bearer realm="Authentication required", charset="UTF-8"`)},
		{"file, private, anonymous", "HEAD", "/org/private/resolve/main/config.json", nil, 401, "", login, nil},
		{"api, absent, token", "GET", "/api/models/org/none", good, 404, "RepoNotFound", "Repository not found", nil},
		{"file, absent, token", "GET", "/org/none/resolve/main/x", good, 404, "RepoNotFound", "Repository not found", nil},
		{"bad token, public", "GET", "/api/models/org/public", bad, 401, "", "Invalid credentials in Authorization header", nil},
		{"bad token, whoami", "GET", "/api/whoami-v2", bad, 401, "", "Invalid credentials in Authorization header", nil},
		{"no token, whoami", "GET", "/api/whoami-v2", nil, 401, "", login, nil},
		{"gated file, anonymous", "GET", "/org/gated/resolve/main/config.json", nil, 401, "GatedRepo", gate, nil},
		{"gated file, token", "GET", "/org/gated/resolve/main/config.json", good, 403, "GatedRepo", gate + " and you are not in the authorized list.", nil},
		{"disabled", "GET", "/api/models/org/disabled", nil, 403, "", "Access to this resource is disabled.", nil},
		{"no revision, info", "GET", "/api/models/org/public/revision/nope", nil, 404, "RevisionNotFound", "Invalid rev id: nope", nil},
		{"no revision, tree", "GET", "/api/models/org/public/tree/refs%2Fpr%2F9", nil, 404, "RevisionNotFound", "Invalid rev id: refs/pr/9", nil},
		{"no revision, file", "GET", "/org/public/resolve/nope/config.json", nil, 404, "RevisionNotFound", "Invalid rev id: nope", nil},
		{"no file", "HEAD", "/org/public/resolve/main/none", nil, 404, "EntryNotFound", "Entry not found", header("X-Repo-Commit", commit)},
		{"no directory", "GET", "/api/models/org/public/tree/main/none", nil, 404, "EntryNotFound", "Entry not found", header("X-Repo-Commit", commit)},
		{"bad id", "GET", "/api/models/org/a--b", nil, 400, "", "Invalid repo name", nil},
		{"bad id in a file", "GET", "/.x/y/resolve/main/z", nil, 400, "", "Invalid repo name", nil},
		{"expand and blobs", "GET", "/api/models/org/public?expand=sha&blobs=true", nil, 400, "", "can't be combined", nil},
		{"unknown route", "GET", "/api/agent-harnesses", nil, 404, "", "can't find", nil},
		{"method", "POST", "/api/models/org/public", nil, 405, "", "Method not allowed", header("Allow", "GET, HEAD")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t)
			resp := c.send(tt.method, h.URL()+tt.path, tt.header)
			defer resp.Body.Close()
			got := []any{resp.StatusCode, resp.Header.Get("X-Error-Code")}
			if d := cmp.Diff([]any{tt.status, tt.code}, got); d != "" || !strings.Contains(resp.Header.Get("X-Error-Message"), tt.message) {
				t.Errorf("message %q, want %q; (-want +got)\n%s", resp.Header.Get("X-Error-Message"), tt.message, d)
			}
			for k := range tt.headers {
				if resp.Header.Get(k) != tt.headers.Get(k) {
					t.Errorf("%s: %q, want %q", k, resp.Header.Get(k), tt.headers.Get(k))
				}
			}
			if tt.method == "GET" {
				checkErrorBody(t, c, h.URL()+tt.path, tt.header, tt.message)
			}
		})
	}
}

// checkErrorBody wants JSON from the API and plain text from files.
func checkErrorBody(t *testing.T, c *client, url string, head http.Header, message string) {
	t.Helper()
	resp, body := c.get(url, head)
	if !strings.Contains(url, "/api/") {
		if !strings.HasPrefix(body, message) || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("body %q (%s)", body, resp.Header.Get("Content-Type"))
		}
		return
	}
	var got struct{ Error string }
	if err := json.Unmarshal([]byte(body), &got); err != nil || !strings.Contains(got.Error, message) {
		t.Errorf("body %q: %v", body, err)
	}
}

func TestCommonHeaders(t *testing.T) {
	h := newStage(t)
	resp, _ := newClient(t).get(h.URL()+"/api/models/org/public", header("X-Amzn-Trace-Id", "my-id"))
	for k, want := range map[string]string{
		"X-Powered-By": "huggingface-moon", "Ratelimit": `"api";r=499;t=300`, "Ratelimit-Policy": `"fixed window";"api";q=500;w=300`, "Vary": "Origin",
		"Content-Type": "application/json; charset=utf-8",
	} {
		if got := resp.Header.Get(k); got != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
	if !strings.HasSuffix(resp.Header.Get("X-Request-Id"), ";my-id") || !strings.HasPrefix(resp.Header.Get("Etag"), `W/"`) {
		t.Errorf("headers %v", resp.Header)
	}
}

func decode[T any](t *testing.T, body string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v
}

type anyMap = map[string]any

func TestInfo(t *testing.T) {
	h := newStage(t)
	first := h.Commit("org/public", "main")
	c := newClient(t)
	_, body := c.get(h.URL()+"/api/models/org/public", nil)
	info := decode[anyMap](t, body)
	if info["id"] != "org/public" || info["sha"] != first || info["gated"] != false || info["private"] != false || len(info["siblings"].([]any)) != 3 {
		t.Errorf("info = %v", info)
	}
	_, body = c.get(h.URL()+"/api/models/org/public/revision/"+first+"?blobs=true", nil)
	p := Pattern(1, 300_000)
	want := anyMap{"rfilename": "sub/model.gguf", "size": 300_000.0, "blobId": newBlob(File{Content: p, LFS: true}).oid(),
		"lfs": anyMap{"sha256": p.SHA256(), "size": 300_000.0, "pointerSize": 131.0}}
	if d := cmp.Diff(want, decode[anyMap](t, body)["siblings"].([]any)[2]); d != "" {
		t.Errorf("sibling (-want +got):\n%s", d)
	}
	_, body = c.get(h.URL()+"/api/models/org/public?expand=sha&expand=tags", nil)
	if d := cmp.Diff(anyMap{"id": "org/public", "_id": info["_id"], "sha": first, "tags": []any{"gguf"}}, decode[anyMap](t, body)); d != "" {
		t.Errorf("expand (-want +got):\n%s", d)
	}
	_, body = c.get(h.URL()+"/api/models/org/gated", nil)
	if g := decode[anyMap](t, body)["gated"]; g != "auto" {
		t.Errorf("gated = %v", g)
	}
}

func TestTree(t *testing.T) {
	h := newStage(t)
	c := newClient(t)
	names := func(query string) (out []string) {
		_, body := c.get(h.URL()+"/api/models/org/public/tree/main"+query, nil)
		for _, e := range decode[[]anyMap](t, body) {
			out = append(out, e["type"].(string)+" "+e["path"].(string))
		}
		return out
	}
	for query, want := range map[string][]string{
		"":                           {"file config.json", "directory sub"},
		"?recursive=true":            {"file config.json", "directory sub", "file sub/a b#?%ü.txt", "file sub/model.gguf"},
		"/sub":                       {"file sub/a b#?%ü.txt", "file sub/model.gguf"},
		"?recursive=true&limit=1":    {"file config.json"},
		"?recursive=true&cursor=MzM": nil,
	} {
		if d := cmp.Diff(want, names(query)); d != "" {
			t.Errorf("tree%s (-want +got):\n%s", query, d)
		}
	}
	_, body := c.get(h.URL()+"/api/models/org/public/tree/main/sub?expand=true", nil)
	p := Pattern(1, 300_000)
	got := decode[[]anyMap](t, body)[1]
	if d := cmp.Diff(anyMap{"oid": p.SHA256(), "size": 300_000.0, "pointerSize": 131.0}, got["lfs"]); d != "" || got["lastCommit"] == nil || got["xetHash"] != nil {
		t.Errorf("entry %v; lfs (-want +got):\n%s", got, d)
	}
}

func TestTreePages(t *testing.T) {
	h := New(t)
	var files []File
	for i := range 2500 {
		files = append(files, File{Path: "f" + strconv.Itoa(10000+i)})
	}
	h.AddRepo(Repo{ID: "org/many", Files: files})
	c := newClient(t)
	next, seen := h.URL()+"/api/models/org/many/tree/main?recursive=true&expand=false", 0
	pages := 0
	for ; next != ""; pages++ {
		resp, body := c.get(next, nil)
		for _, e := range decode[[]anyMap](t, body) {
			if e["path"] != files[seen].Path {
				t.Fatalf("entry %d is %v", seen, e["path"])
			}
			seen++
		}
		link, _, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), `>; rel="next"`)
		if link != "" && !strings.HasPrefix(link, h.URL()) {
			t.Fatalf("Link %q is not absolute", link)
		}
		next = link
	}
	if seen != 2500 || pages != 3 {
		t.Errorf("%d entries on %d pages, want 2500 on 3", seen, pages)
	}
}

func TestHostilePathsAreListedAsTheyAre(t *testing.T) {
	h := New(t)
	hostile := []string{"../x", "/abs", "a//b", "a/./b", "nul\x00", "dup", "dup", "dup/under"}
	var files []File
	for _, p := range hostile {
		files = append(files, File{Path: p})
	}
	h.AddRepo(Repo{ID: "org/evil", Files: files})
	_, body := newClient(t).get(h.URL()+"/api/models/org/evil/tree/main?recursive=true", nil)
	count := map[string]int{}
	for _, e := range decode[[]anyMap](t, body) {
		count[e["type"].(string)+" "+e["path"].(string)]++
	}
	want := map[string]int{"file ../x": 1, "file /abs": 1, "file a//b": 1, "file a/./b": 1, "file nul\x00": 1, "file dup": 2, "directory dup": 1,
		"file dup/under": 1, "directory a": 1}
	if d := cmp.Diff(want, count); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLiesOfListings(t *testing.T) {
	h := New(t)
	h.AddRepo(Repo{ID: "org/lies", Files: []File{
		{Path: "a", Content: Pattern(1, 1000), LFS: true, PointerSize: true},
		{Path: "b", Content: Pattern(1, 1000), LFS: true, StatedSize: 5, SHA256: strings.Repeat("ab", 32)}}})
	_, body := newClient(t).get(h.URL()+"/api/models/org/lies/tree/main", nil)
	got := decode[[]anyMap](t, body)
	if size, lfs := got[0]["size"], got[0]["lfs"].(anyMap)["size"]; size == 1000.0 || lfs != 1000.0 {
		t.Errorf("sizes of a: %v, lfs %v", size, lfs)
	}
	if size, oid := got[1]["size"], got[1]["lfs"].(anyMap)["oid"]; size != 5.0 || oid != strings.Repeat("ab", 32) {
		t.Errorf("b: size %v, oid %v", size, oid)
	}
}

func TestPathsInfo(t *testing.T) {
	h := newStage(t)
	c := newClient(t)
	form := url.Values{"paths": {"config.json", "none", "sub"}, "expand": {"False"}}
	for kind, body := range map[string]string{
		"application/x-www-form-urlencoded": form.Encode(),
		"application/json":                  `{"paths":["config.json","none","sub"],"expand":false}`,
	} {
		resp, err := c.Post(h.URL()+"/api/models/org/public/paths-info/main", kind, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var got []anyMap
		err = json.NewDecoder(resp.Body).Decode(&got)
		resp.Body.Close()
		if err != nil || len(got) != 2 || got[0]["path"] != "config.json" || got[1]["type"] != "directory" {
			t.Errorf("%s: %v, %v", kind, got, err)
		}
	}
}

func TestRevisions(t *testing.T) {
	h := newStage(t)
	first := h.Commit("org/public", "main")
	second := h.Push("org/public", File{Path: "config.json", Content: Text("second")})
	third := h.PushTo("org/public", "refs/pr/1", File{Path: "config.json", Content: Text("third")})
	h.SetRef("org/public", "refs/tags/v1", first)
	for rev, want := range map[string]string{"main": second, "HEAD": second, "v1": first, "refs/pr/1": third, first: first, second: second, "nope": ""} {
		if got := h.Commit("org/public", rev); got != want {
			t.Errorf("%s means %q, want %q", rev, got, want)
		}
	}
	c := newClient(t)
	_, body := c.get(h.URL()+"/api/models/org/public/revision/refs%2Fpr%2F1", nil)
	if got := decode[anyMap](t, body)["sha"]; got != third {
		t.Errorf("info of refs/pr/1: %v", got)
	}
	if _, body := c.get(h.ResolveURL("org/public", third, "config.json"), nil); body != "third" {
		t.Errorf("file at refs/pr/1: %q", body)
	}
	_, body = c.get(h.URL()+"/api/models/org/public/refs?include_prs=1", nil)
	want := anyMap{"branches": []any{anyMap{"name": "main", "ref": "refs/heads/main", "targetCommit": second}}, "converts": []any{},
		"tags":         []any{anyMap{"name": "v1", "ref": "refs/tags/v1", "targetCommit": first}},
		"pullRequests": []any{anyMap{"name": "1", "ref": "refs/pr/1", "targetCommit": third}}}
	if d := cmp.Diff(want, decode[anyMap](t, body)); d != "" {
		t.Errorf("refs (-want +got):\n%s", d)
	}
}

func TestRenamed(t *testing.T) {
	h := newStage(t)
	c := newClient(t)
	for from, to := range map[string]string{
		"/api/models/gpt":                            "/api/models/org/public",
		"/api/models/was/here/tree/main?limit=2":     "/api/models/org/public/tree/main?limit=2",
		"/gpt/resolve/main/sub/a%20b":                "/org/public/resolve/main/sub/a%20b",
		"/was/here/resolve/refs%2Fpr%2F1/x":          "/org/public/resolve/refs%2Fpr%2F1/x",
		"/api/models/org/models/revision/main?x=y/z": "/api/models/m/revision/main?x=y/z",
	} {
		resp, body := c.get(h.URL()+from, nil)
		if got := resp.Header.Get("Location"); resp.StatusCode != 307 || got != to || body != "Temporary Redirect. Redirecting to "+to {
			t.Errorf("%s: %d to %q, want %q; %q", from, resp.StatusCode, got, to, body)
		}
	}
	if resp, _ := c.get(h.URL()+"/api/models/m", nil); resp.StatusCode != 200 {
		t.Errorf("a one-segment name: %s", resp.Status)
	}
	h.RemoveRepo("org/public")
	if resp, _ := c.get(h.URL()+"/api/models/gpt", bearer(goodToken)); resp.StatusCode != 404 {
		t.Errorf("a removed repository's earlier name: %s", resp.Status)
	}
}

func TestSearch(t *testing.T) {
	h := New(t)
	h.Grant(goodToken, "*")
	for _, r := range []Repo{
		{ID: "acme/Alpha-GGUF", Tags: []string{"gguf", "4-bit"}, Downloads: 5, Pipeline: "text-generation"},
		{ID: "acme/beta", Tags: []string{"mlx"}, Downloads: 9, Gated: "auto", Library: "mlx"},
		{ID: "acme/secret", Tags: []string{"gguf"}, Private: true},
		{ID: "other/alpha", Tags: []string{"gguf"}, Downloads: 7},
	} {
		h.AddRepo(r)
	}
	c := newClient(t)
	ids := func(query string, head http.Header) (out []string) {
		_, body := c.get(h.URL()+"/api/models?"+query, head)
		for _, m := range decode[[]anyMap](t, body) {
			out = append(out, m["id"].(string))
		}
		return out
	}
	for query, want := range map[string][]string{
		"":                             {"acme/Alpha-GGUF", "acme/beta", "other/alpha"},
		"author=acme":                  {"acme/Alpha-GGUF", "acme/beta"},
		"search=alpha":                 {"acme/Alpha-GGUF", "other/alpha"},
		"filter=gguf&filter=4-bit":     {"acme/Alpha-GGUF"},
		"filter=mlx":                   {"acme/beta"},
		"gated=true":                   {"acme/beta"},
		"pipeline_tag=text-generation": {"acme/Alpha-GGUF"},
		"sort=downloads":               {"acme/beta", "other/alpha", "acme/Alpha-GGUF"},
		"sort=downloads&direction=1":   {"acme/Alpha-GGUF", "other/alpha", "acme/beta"},
		"limit=2":                      {"acme/Alpha-GGUF", "acme/beta"},
	} {
		if d := cmp.Diff(want, ids(query, nil)); d != "" {
			t.Errorf("%s (-want +got):\n%s", query, d)
		}
	}
	if d := cmp.Diff([]string{"acme/Alpha-GGUF", "acme/beta", "acme/secret"}, ids("author=acme", bearer(goodToken))); d != "" {
		t.Errorf("with a token (-want +got):\n%s", d)
	}
	_, body := c.get(h.URL()+"/api/models?author=acme&full=true", nil)
	if m := decode[[]anyMap](t, body)[0]; m["sha"] == nil || m["siblings"] == nil {
		t.Errorf("full: %v", m)
	}
}

func FuzzHubPath(f *testing.F) {
	for _, p := range []string{"/", "/api", "/api/models", "/api/models/a/b/tree/main", "/api/models//", "/a/b/resolve/main/x", "/api/resolve-cache/models/a/b/c/d",
		"/org/public/resolve/main/../x", "/%2e%2e/%00", "/api/models/org%2Fpublic", "/m/resolve/main/config.json"} {
		f.Add(p)
	}
	h, err := Start()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(h.Close)
	h.AddRepo(Repo{ID: "org/public", Files: []File{{Path: "x", LFS: true}}})
	h.SetQuota("api", 1<<40, 300e9)
	h.SetQuota("resolvers", 1<<40, 300e9)
	h.SetQuota("pages", 1<<40, 300e9)
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.serveHub(w, &http.Request{Method: "GET", URL: u, Header: http.Header{}, Host: "hub"})
		if w.Code < 200 || w.Code == 500 || w.Result().Header.Get("X-Request-Id") == "" {
			t.Errorf("%q: %d", path, w.Code)
		}
		_ = hubTarget(&http.Request{URL: u})
	})
}
