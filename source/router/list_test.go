package router

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
	"modelfs/internal/origin"
)

const (
	newManifest = "/api/models/registry/org%2Fm/manifest.json"
	oldManifest = "/v0/models/registry/org%2Fm/manifest.json"
)

func newGen(manifest string) map[string]reply {
	return map[string]reply{newManifest: {status: 200, body: manifest}}
}

func oldGen(manifest string) map[string]reply {
	return map[string]reply{oldManifest: {status: 200, body: manifest}}
}

var modified = time.Date(2026, 9, 25, 8, 49, 23, 0, time.UTC)

// theHub has one repository, of which main is at commit.
func theHub() fakeHub {
	m := &model.Model{Name: "Org/M", Revision: commit, Files: []model.File{
		{Path: "config.json", Size: 10, ModTime: modified, GitSHA1: oid, Key: model.GitKey("Org/M", oid, 10), URLs: []string{hubURL + "/Org/M/resolve/" + commit + "/config.json"}},
		{Path: "dir/m #1.Q4_K_M.gguf", Size: 1000, ModTime: modified, SHA256: sha, Key: model.SHA256Key(sha), URLs: []string{hubURL + "/Org/M/resolve/" + commit + "/dir/m%20%231.Q4_K_M.gguf"}},
	}}
	return fakeHub{"Org/M": m, "gpt2@v1": m, "down/m": nil}
}

// hubInfos is what the Hub says of single files.
func hubInfos(more map[string]origin.Info) map[string]origin.Info {
	gguf := origin.Info{Size: 1000, SHA256: sha, Validator: sha, Commit: commit}
	infos := map[string]origin.Info{
		hubURL + "/Org/M/resolve/main/dir/m%20%231.Q4_K_M.gguf":            gguf,
		hubURL + "/gpt2/resolve/v1/dir/m%20%231.Q4_K_M.gguf?download=true": gguf,
		hubURL + "/Org/M/resolve/main/config.json":                         {Size: 10, Validator: oid, Commit: commit},
		hubURL + "/down/m/resolve/main/x.gguf":                             {Size: down},
	}
	maps.Copy(infos, more)
	return infos
}

// configAs is config.json as the Hub lists it, under another name.
func configAs(name string) model.File {
	f := theHub()["Org/M"].Files[0]
	f.Path = name
	return f
}

func TestManifest(t *testing.T) {
	inMain := func(p string) string { return hubURL + "/Org/M/resolve/main/" + p }
	pinned := func(p string) string { return hubURL + "/Org/M/resolve/" + commit + "/" + p }
	files := base + "/v0/models/registry/org%2Fm/files/"
	blob := base + "/v0/models/blob/org%2Fm"
	for name, c := range map[string]struct {
		answers map[string]reply
		infos   map[string]origin.Info
		want    []model.File
	}{
		"a file of the Hub, not escaped": {
			answers: newGen(`{"format":"gguf","files":[{"name":"model.gguf","url":"https://hub.test/Org/M/resolve/main/dir/m #1.Q4_K_M.gguf"}]}`),
			want:    []model.File{{Path: "model.gguf", Size: 1000, SHA256: sha, Key: model.SHA256Key(sha), URLs: []string{pinned("dir/m%20%231.Q4_K_M.gguf")}}},
		},
		"a small file of the Hub": {
			answers: newGen(`{"files":[{"name":"c","url":"https://hub.test/Org/M/resolve/main/config.json"}]}`),
			want:    []model.File{{Path: "c", Size: 10, GitSHA1: oid, Key: model.GitKey("Org/M", oid, 10), URLs: []string{pinned("config.json")}}},
		},
		"more than a few files are listed": {
			answers: newGen(`{"files":[{"name":"a","url":"https://hub.test/Org/M/resolve/main/config.json"},
				{"name":"b","url":"https://hub.test/Org/M/resolve/main/config.json"},{"name":"c","url":"https://hub.test/Org/M/resolve/main/config.json"}]}`),
			want: []model.File{configAs("a"), configAs("b"), configAs("c")},
		},
		"escaped, at a revision, canonical name": {
			answers: newGen(`{"files":[{"name":"model.gguf","url":"https://hub.test/gpt2/resolve/v1/dir/m%20%231.Q4_K_M.gguf?download=true"}]}`),
			want: []model.File{{Path: "model.gguf", Size: 1000, SHA256: sha, Key: model.SHA256Key(sha),
				URLs: []string{hubURL + "/gpt2/resolve/" + commit + "/dir/m%20%231.Q4_K_M.gguf"}}},
		},
		"all that is stated is taken": {
			answers: newGen(`{"files":[{"name":"config.json","url":"https://hub.test/Org/M/resolve/main/config.json","digest":"SHA256:` + strings.ToUpper(sha) + `","size":10,
				"priority":10,"runtimes":["x"],"chunk":1,"max_bps":2,"signature":{"name":"s","url":"u"},"optional":false}]}`),
			want: []model.File{{Path: "config.json", Size: 10, SHA256: sha, Key: model.SHA256Key(sha), URLs: []string{inMain("config.json")}}},
		},
		"a digest that the Hub contradicts": {
			answers: newGen(`{"files":[{"name":"model.gguf","digest":"` + sha2 + `","url":"https://hub.test/Org/M/resolve/main/dir/m #1.Q4_K_M.gguf"}]}`),
			want:    []model.File{{Path: "model.gguf", Size: -1, SHA256: sha2, Key: model.SHA256Key(sha2), URLs: []string{inMain("dir/m%20%231.Q4_K_M.gguf")}}},
		},
		"a digest that is none": {
			answers: newGen(`{"files":[{"name":"a","digest":"../x","size":3,"url":"https://cdn.test/a"}]}`),
			infos:   map[string]origin.Info{"https://cdn.test/a": {Size: 3, SHA256: sha}},
			want:    []model.File{{Path: "a", Size: 3, SHA256: sha, Key: model.SHA256Key(sha), URLs: []string{"https://cdn.test/a"}}},
		},
		"elsewhere, with a validator": {
			answers: newGen(`{"files":[{"name":"a","url":"https://cdn.test/x/a"}]}`),
			infos:   map[string]origin.Info{"https://cdn.test/x/a": {Size: 7, Validator: "v", Commit: "c"}},
			want: []model.File{{Path: "a", Size: 7, URLs: []string{"https://cdn.test/x/a"},
				Validator: "v", Key: model.AtKey("router:"+base, "https://cdn.test", "c", "/x/a", "7", "v")}},
		},
		"elsewhere, with nothing": {
			answers: newGen(`{"files":[{"name":"a","size":9,"url":"https://cdn.test/a"}]}`),
			infos:   map[string]origin.Info{"https://cdn.test/a": {Size: -1}},
			want:    []model.File{{Path: "a", Size: 9, Key: "once", URLs: []string{"https://cdn.test/a"}}},
		},
		"denied stays": {
			answers: newGen(`{"files":[{"name":"a","url":"https://cdn.test/a"}]}`),
			infos:   map[string]origin.Info{"https://cdn.test/a": {Size: forbidden}},
			want:    []model.File{{Path: "a", Size: -1, Key: "once", URLs: []string{"https://cdn.test/a"}}},
		},
		"refused by the Hub stays, alone": {
			answers: newGen(`{"files":[{"name":"a","url":"https://hub.test/Org/M/resolve/main/config.json"},{"name":"b","url":"https://hub.test/Org/gated/resolve/main/b"}]}`),
			infos:   map[string]origin.Info{hubURL + "/Org/gated/resolve/main/b": {Size: forbidden}},
			want: []model.File{{Path: "a", Size: 10, GitSHA1: oid, Key: model.GitKey("Org/M", oid, 10), URLs: []string{pinned("config.json")}},
				{Path: "b", Size: -1, Key: "once", URLs: []string{hubURL + "/Org/gated/resolve/main/b"}}},
		},
		"a mirror that states neither commit nor hash": {
			answers: newGen(`{"files":[{"name":"a","url":"https://hub.test/Org/M/resolve/main/a"}]}`),
			infos:   map[string]origin.Info{inMain("a"): {Size: 4, Validator: "v", Commit: "main"}},
			want:    []model.File{{Path: "a", Size: 4, Validator: "v", Key: model.AtKey("router:"+base, hubURL, "main", "/Org/M/resolve/main/a", "4", "v"), URLs: []string{inMain("a")}}},
		},
		"missing and optional": {
			answers: newGen(`{"files":[{"name":"a","optional":true,"url":"https://cdn.test/a"},{"name":"b","url":"https://cdn.test/b"},
				{"name":"c","optional":true,"url":"https://hub.test/Org/M/resolve/main/c"}]}`),
			want: []model.File{{Path: "b", Size: -1, Key: "once", URLs: []string{"https://cdn.test/b"}}},
		},
		"no address at a new router": {
			answers: newGen(`{"files":[{"name":"model.gguf"},{"name":"b","url":"not a url"},{"name":"c","url":"file:///etc/passwd"},{"name":"d","url":"https://u:p@x/d"},
				{"name":"e","url":"https://hub.test/Org/M/resolve/main/../../../x"},{"name":"f","url":"//x/f"}]}`),
		},
		"hostile names": {
			answers: newGen(`{"files":[{"name":"../../escape.bin","url":"https://cdn.test/a"},{"name":"/abs","url":"https://cdn.test/a"},{"name":"a//b","url":"https://cdn.test/a"},
				{"name":"a\u0000","url":"https://cdn.test/a"},{"name":"","url":"https://cdn.test/a"},{"name":"neg","size":-4,"digest":"` + sha + `","url":"https://cdn.test/neg"},
				{"name":"ok","url":"https://cdn.test/a"},{"name":"ok","url":"https://cdn.test/a"}]}`),
			infos: map[string]origin.Info{"https://cdn.test/a": {Size: 1, SHA256: sha}},
			want:  []model.File{{Path: "ok", Size: 1, SHA256: sha, Key: model.SHA256Key(sha), URLs: []string{"https://cdn.test/a"}}},
		},
		"old router, the Hub and its own copy": {
			answers: oldGen(`{"files":[{"name":"model.gguf","url":"https://hub.test/Org/M/resolve/main/dir/m #1.Q4_K_M.gguf"}]}`),
			want: []model.File{{Path: "model.gguf", Size: 1000, SHA256: sha, Key: model.SHA256Key(sha),
				URLs: []string{pinned("dir/m%20%231.Q4_K_M.gguf"), blob, files + "model.gguf"}}},
		},
		"old router, the Hub is down": {
			answers: oldGen(`{"files":[{"name":"model.gguf","url":"https://hub.test/down/m/resolve/main/x.gguf"}]}`),
			infos:   map[string]origin.Info{blob: {Size: 5}, files + "model.gguf": {Size: -1}},
			want:    []model.File{{Path: "model.gguf", Size: 5, Key: "once", URLs: []string{blob, files + "model.gguf", "https://hub.test/down/m/resolve/main/x.gguf"}}},
		},
		"old router, a blocked address": {
			answers: oldGen(`{"files":[{"name":"a b.json","url":"https://cdn.test/a"},{"name":"model.gguf"}]}`),
			infos:   map[string]origin.Info{"https://cdn.test/a": {Size: forbidden}, files + "a%20b.json": {Size: -1, NoRanges: true}, files + "model.gguf": {Size: -1}},
			want: []model.File{{Path: "a b.json", Size: -1, Key: "once", URLs: []string{files + "a%20b.json", "https://cdn.test/a"}},
				{Path: "model.gguf", Size: -1, Key: "once", URLs: []string{files + "model.gguf"}}},
		},
		"old router, no address and a sub-folder": {
			answers: oldGen(`{"files":[{"name":"metal/model.bin"}]}`),
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, door := scripted(t, c.answers)
			s.hub, door.infos = theHub(), hubInfos(c.infos)
			m, err := list(t, s, "org/m")
			must(t, err)
			once := cmp.Transformer("once", func(k model.Key) model.Key {
				if k.Once() {
					return "once"
				}
				return k
			})
			if d := cmp.Diff(c.want, m.Files, once, cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
			for _, f := range m.Files {
				if !f.Key.Valid() {
					t.Errorf("key %q", f.Key)
				}
			}
		})
	}
}

func TestManifestModel(t *testing.T) {
	const config, other = `{"name":"x","url":"https://hub.test/Org/M/resolve/main/config.json"}`, `{"name":"o","url":"https://hub.test/gpt2/resolve/v1/config.json"}`
	for name, c := range map[string]struct {
		files    string
		revision string
		modified time.Time
	}{
		"one file":                    {config, commit, time.Time{}},
		"more than a few":             {strings.Repeat(config+",", fewFiles) + config, commit, modified},
		"a few, and one elsewhere":    {config + `,{"name":"b","url":"https://cdn.test/b"}`, commit, time.Time{}},
		"of two repositories":         {config + "," + other, "", time.Time{}},
		"of two, one of them listed":  {strings.Repeat(config+",", fewFiles+1) + other, "", modified},
		"of two, one of them refused": {config + `,{"name":"g","url":"https://hub.test/Org/gated/resolve/main/x"}`, "", time.Time{}},
		"refused":                     {`{"name":"g","url":"https://hub.test/Org/gated/resolve/main/x"}`, "", time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			s, door := scripted(t, newGen(`{"format":"safetensors","formats":["safetensors","gguf"],"quantization":"Q4_K_M","files":[`+c.files+`]}`))
			s.hub, door.infos = theHub(), hubInfos(map[string]origin.Info{
				hubURL + "/gpt2/resolve/v1/config.json": {Size: 1, Validator: oid, Commit: commit},
				hubURL + "/Org/gated/resolve/main/x":    {Size: forbidden},
			})
			m, err := list(t, s, "org/m:q4_k_m")
			must(t, err)
			m.Files = nil
			want := &model.Model{Name: "org/m", Source: "router:" + base, Kind: model.Router, Revision: c.revision, ModTime: c.modified, Tags: []string{"safetensors", "gguf", "Q4_K_M"}}
			if d := cmp.Diff(want, m); d != "" {
				t.Error(d)
			}
			if _, err := list(t, s, "org/m:Q8_0"); !model.IsKind(err, model.NotFound) {
				t.Errorf("another quantisation: %v", err)
			}
		})
	}
}

// A branch that moves between the answers about two files gives no model with
// files of two commits.
func TestTheBranchMoves(t *testing.T) {
	s, door := scripted(t, newGen(`{"files":[{"name":"a","url":"https://hub.test/Org/M/resolve/main/config.json"},{"name":"b","url":"https://hub.test/Org/M/resolve/main/b"}]}`))
	s.hub = theHub()
	door.infos = hubInfos(map[string]origin.Info{hubURL + "/Org/M/resolve/main/b": {Size: 1, SHA256: sha, Commit: oid}})
	if m, err := list(t, s, "org/m"); !model.IsKind(err, model.Unavailable) {
		t.Errorf("%v, %v", m, err)
	}
	door.infos[hubURL+"/Org/M/resolve/main/b"] = origin.Info{Size: 1, SHA256: sha, Commit: commit}
	m, err := list(t, s, "org/m")
	must(t, err)
	if m.Revision != commit || len(m.Files) != 2 {
		t.Errorf("%+v", m)
	}
}

// What each answer to the question for the manifest means.
func TestManifestVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		reply reply
		want  model.Kind
	}{
		"not there":         {reply{status: 404, body: `{"error":"Model not found: org/m"}`}, model.NotFound},
		"wrong prefix":      {reply{status: 404}, model.Unavailable},
		"invalid name":      {reply{status: 400, body: `{"error":"Invalid model name: org/m"}`}, model.NotFound},
		"dangerous name":    {reply{status: 400, body: `{"error":"Invalid model name (contains dangerous pattern): .."}`}, model.NotFound},
		"the Hub failed":    {reply{status: 400, body: `{"error":"Failed to fetch specified repository"}`}, model.Unavailable},
		"no repository":     {reply{status: 400, body: `{"error":"repo not set for model"}`}, model.Unavailable},
		"bad key":           {reply{status: 401, body: "Invalid API key"}, model.Denied},
		"weak key":          {reply{status: 403, body: "Insufficient API key permission"}, model.Denied},
		"gateway":           {reply{status: 502, body: `{"error":"Backend service unavailable"}`}, model.Unavailable},
		"late":              {reply{status: 504, body: `{"error":"Request timeout"}`}, model.Unavailable},
		"page":              {reply{status: 404, body: "<html>", header: http.Header{"Content-Type": {"text/html"}}}, model.Unavailable},
		"not JSON":          {reply{status: 200, body: "x"}, model.Unavailable},
		"no files":          {reply{status: 200, body: `{"format":"gguf"}`}, model.Unavailable},
		"a list":            {reply{status: 200, body: `[]`}, model.Unavailable},
		"wrong types":       {reply{status: 200, body: `{"files":[{"name":1}]}`}, model.Unavailable},
		"size of a string":  {reply{status: 200, body: `{"files":[{"name":"a","size":"1"}]}`}, model.Unavailable},
		"too many files":    {reply{status: 200, body: `{"files":[{}` + strings.Repeat(`,{}`, maxArtifacts) + `]}`}, model.Unavailable},
		"the Hub is down":   {reply{status: 200, body: `{"files":[{"name":"c","url":"https://hub.test/Org/M/resolve/main/config.json"},{"name":"a","url":"https://hub.test/down/m/resolve/main/x.gguf"}]}`}, model.Unavailable},
		"it lists nothing":  {reply{status: 200, body: `{"files":[` + strings.Repeat(`{"name":"a","url":"https://hub.test/down/m/resolve/main/a"},`, fewFiles) + `{"name":"b","url":"https://hub.test/down/m/resolve/main/b"}]}`}, model.Unavailable},
		"an origin is down": {reply{status: 200, body: `{"files":[{"name":"a","url":"https://cdn.test/down"}]}`}, model.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s, door := scripted(t, map[string]reply{newManifest: c.reply})
			s.hub, door.infos = theHub(), hubInfos(map[string]origin.Info{"https://cdn.test/down": {Size: down}})
			if m, err := list(t, s, "org/m"); !model.IsKind(err, c.want) {
				t.Errorf("%v, %v, want %v", m, err, c.want)
			}
		})
	}
}

// What a router says of an error is shown in quotes: a terminal obeys none of it.
func TestWhatARouterSaysIsQuoted(t *testing.T) {
	const text = "no \x1b[2J\a\r\n access"
	asJSON, err := json.Marshal(map[string]string{"error": text})
	must(t, err)
	for _, status := range []int{400, 401, 404, 500} {
		for _, body := range []string{text, string(asJSON)} {
			s, _ := scripted(t, map[string]reply{newManifest: {status: status, body: body}})
			if _, err := list(t, s, "org/m"); err == nil || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("status %d: %q", status, err)
			}
		}
	}
}

// A manifest costs one request for itself, one for each file elsewhere and one
// for each of a few files of a repository, where all that is stated counts; of
// more files the Hub makes a listing. Only the Hub is asked for a first byte
// where it states no length.
func TestListAsks(t *testing.T) {
	inRepo := func(names ...string) (files string) {
		for _, n := range names {
			files += `,{"name":"` + n + `","url":"https://hub.test/Org/M/resolve/main/config.json"}`
		}
		return files
	}
	const question = "resolve " + hubURL + "/Org/M/resolve/main/config.json"
	for name, c := range map[string]struct {
		files string
		want  []string
	}{
		"one of a repository":   {inRepo("c"), []string{question}},
		"two of a repository":   {inRepo("c", "d"), []string{question, question}},
		"three of a repository": {inRepo("c", "d", "e"), nil},
		"all is stated":         {`,{"name":"c","digest":"` + sha + `","size":1,"url":"https://hub.test/Org/M/resolve/main/config.json"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, door := scripted(t, newGen(`{"files":[{"name":"a","url":"https://cdn.test/a"},{"name":"b","digest":"`+sha+`","size":1,"url":"https://cdn.test/b"}`+c.files+`]}`))
			s.hub, door.infos = theHub(), hubInfos(map[string]origin.Info{"https://cdn.test/a": {Size: 1, Validator: "v"}})
			_, err := list(t, s, "org/m")
			must(t, err)
			sorted := cmpopts.SortSlices(strings.Compare)
			if d := cmp.Diff(append(c.want, newManifest, "HEAD https://cdn.test/a"), door.asked, sorted); d != "" {
				t.Error(d)
			}
		})
	}
}

// However a manifest points into repositories, it may do so into a few.
func TestManyRepositories(t *testing.T) {
	for _, perRepo := range []int{1, fewFiles, fewFiles + 1} {
		var files []map[string]string
		hub := &countingHub{}
		for _, c := range "abcdefghijklmnop" {
			for i := range perRepo {
				files = append(files, map[string]string{"name": fmt.Sprint(string(c), i), "url": hubURL + "/org/" + string(c) + "/resolve/main/x"})
			}
		}
		s, door := scripted(t, newGen(toJSON(t, map[string]any{"files": files})))
		s.hub = hub
		m, err := list(t, s, "org/m")
		must(t, err)
		wantFinds, wantAsked := maxRepos, 1
		if perRepo <= fewFiles {
			wantFinds, wantAsked = 0, 1+maxRepos*perRepo
		}
		if hub.finds != wantFinds || len(door.asked) != wantAsked || len(m.Files) != len(files) {
			t.Errorf("%d files a repository: %d listings and %d requests, want %d and %d; %d files are left of %d",
				perRepo, hub.finds, len(door.asked), wantFinds, wantAsked, len(m.Files), len(files))
		}
	}
}

type countingHub struct {
	fakeHub
	finds int
}

func (h *countingHub) Find(ctx context.Context, n model.Name) (model.Found, error) {
	h.finds++
	return h.fakeHub.Find(ctx, n)
}

func TestListRefuses(t *testing.T) {
	s, _ := scripted(t, nil)
	for _, f := range []model.Found{{Kind: model.Namespace, Name: "org"}, {Kind: model.ModelDir, Name: "a/b/c"}, {Kind: model.ModelDir, Name: ".."}} {
		if _, err := s.List(context.Background(), model.Name{Repo: "x"}, f); !model.IsKind(err, model.Invalid) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// Through the real door, against both generations.
func TestListAtRouter(t *testing.T) {
	hub := hubtest.New(t)
	weights := hubtest.Pattern(1, 3<<20)
	at := hub.AddRepo(hubtest.Repo{ID: "Org/M", Files: []hubtest.File{{Path: "M.Q4_K_M.gguf", Content: weights, LFS: true}}})
	mod := hubtest.RouterModel{Name: "org/m", Format: "gguf", Quantization: "Q4_K_M",
		Files: []hubtest.RouterFile{{Name: "model.gguf", URL: hub.URL() + "/Org/M/resolve/main/M.Q4_K_M.gguf", Content: weights}}}
	own := hubtest.RouterModel{Name: "own", Files: []hubtest.RouterFile{{Name: "model.gguf", Content: weights}}}
	for name, gen := range map[string]hubtest.Generation{"new": hubtest.NewGen, "old": hubtest.OldGen} {
		t.Run(name, func(t *testing.T) {
			r := hubtest.NewRouter(t, hubtest.RouterConfig{Gen: gen})
			r.SetModel(mod)
			r.SetModel(own)
			s := atRouter(t, r, hub, hubtest.RouterKey)
			f, err := find(t, s, "Org/M")
			must(t, err)
			m, err := s.List(context.Background(), parse(t, "Org/M"), f)
			must(t, err)
			want := model.File{Path: "model.gguf", Size: weights.Size(), SHA256: weights.SHA256(), Key: model.SHA256Key(weights.SHA256()),
				URLs: []string{hub.URL() + "/Org/M/resolve/" + at + "/M.Q4_K_M.gguf"}}
			if gen == hubtest.OldGen {
				want.URLs = append(want.URLs, r.URL()+"/v0/models/blob/org%2Fm", r.URL()+"/v0/models/registry/org%2Fm/files/model.gguf")
			}
			if d := cmp.Diff([]model.File{want}, m.Files, cmpopts.IgnoreFields(model.File{}, "ModTime")); d != "" || m.Revision != at {
				t.Errorf("revision %s\n%s", m.Revision, d)
			}
			m, err = list(t, s, "own")
			must(t, err)
			if gen == hubtest.NewGen && len(m.Files) != 0 {
				t.Errorf("no address, but %+v", m.Files)
			}
			if gen == hubtest.OldGen && (len(m.Files) != 1 || len(m.Files[0].URLs) != 2) {
				t.Errorf("own files: %+v", m.Files)
			}
		})
	}
}

func TestAddress(t *testing.T) {
	for raw, want := range map[string]string{
		"https://h/a/b":           "https://h/a/b",
		"https://h/a b#c":         "https://h/a%20b%23c",
		"https://h/a%20b":         "https://h/a%20b",
		"https://h/100%":          "https://h/100%25",
		"https://h/100%%zz%4":     "https://h/100%25%25zz%254",
		"https://h/%41":           "https://h/%41",
		"https://h/a?sig=%2F&x=y": "https://h/a?sig=%2F&x=y",
		"http://h:1/名":            "http://h:1/%E5%90%8D",
		"https://h/a/../b":        "",
		"https://h/a/%2e%2e/b":    "",
		"https://h/a//b":          "",
		"https://h/a%00":          "",
		"https://h/a\\b":          "",
		"https://h/":              "",
		"https://u@h/a":           "",
		"ftp://h/a":               "",
		"/a":                      "",
		"":                        "",
		"https://h/a\nb":          "",
	} {
		got := ""
		if u := address(raw); u != nil {
			got = u.String()
		}
		if got != want {
			t.Errorf("address(%q) = %q, want %q", raw, got, want)
		}
	}
}

func FuzzCatalog(f *testing.F) {
	for _, seed := range []string{`[]`, `[{"name":"a/b"},{"id":"c"}]`, `{"data":[{"name":"x"}]}`, `{"value":[{"id":1}]}`, `{"data":null}`, `[null]`, `[{"name":"../x"}]`,
		`[{"name":"A"},{"name":"a"},{"name":"a/b"}]`, `{"data":[],"value":[{"name":"x"}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := parseCatalog(body)
		if err != nil {
			if !model.IsKind(err, model.Unavailable) {
				t.Errorf("kind of %v", err)
			}
			return
		}
		for _, m := range c.models() {
			if f, ok := c.find(m.Name); !ok || f.Kind != model.ModelDir || !askable(m.Name) {
				t.Errorf("%+v is listed, but found as %+v", m, f)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	for _, seed := range []string{`{"files":[]}`, `{"format":"gguf","files":[{"name":"model.gguf","url":"https://hub.test/Org/M/resolve/main/config.json"}]}`,
		`{"files":[{"name":"../x","url":"https://h/x"},{"name":"a","digest":"` + sha + `","size":1,"url":"https://h/x#%"}]}`, `{"files":{}}`, `null`,
		`{"files":[{"name":"a","url":"https://hub.test/gpt2/resolve/v1/../a","optional":true}]}`, `{"files":[null]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for prefix, answers := range map[string]map[string]reply{"new": newGen(string(body)), "old": oldGen(string(body))} {
			s, _ := scripted(t, answers)
			s.hub = theHub()
			m, err := list(t, s, "org/m")
			if err != nil {
				continue
			}
			for i, file := range m.Files {
				if !model.ValidPath(file.Path) || file.Size < -1 || !file.Key.Valid() || len(file.URLs) == 0 || i > 0 && m.Files[i-1].Path >= file.Path {
					t.Errorf("%s: accepted %+v", prefix, file)
				}
				for _, u := range file.URLs {
					if address(u) == nil {
						t.Errorf("%s: address %q", prefix, u)
					}
				}
			}
		}
	})
}
