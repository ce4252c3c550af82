package huggingface

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

const (
	treeURL = "/api/models/org/repo/tree/" + commit + "?recursive=true"
	sha     = "cd44947308b4b22228767cab8addd523d1de22abd9b23a10808e5fc295202e4f"
	oid     = "c9176dbf0ba8556845af9072b3dd39d06764e8ba"
)

func here(tree reply) map[string]reply {
	return map[string]reply{"/api/models/org/repo": {status: 200, body: infoOf("org/repo")}, treeURL: tree}
}

func TestList(t *testing.T) {
	s, door := scripted(t, here(reply{status: 200, body: `[
		{"type":"directory","oid":"57fddbfaa4d48e0e641336a82a6ed99d1ab2da9b","size":0,"path":"d"},
		{"type":"file","oid":"` + oid + `","size":132,"path":"d/a #1?.bin","lfs":{"oid":"` + sha + `","size":1048576,"pointerSize":132},"xetHash":"x"},
		{"type":"file","oid":"` + oid + `","size":186,"path":"b.txt"},
		{"type":"file","oid":"SHOUT","size":5,"path":"c"},
		{"type":"file","oid":"` + oid + `","path":"no-size"},
		{"type":"file","oid":"` + oid + `","path":"pointer","size":9,"lfs":{"oid":"short"}},
		{"type":"file","oid":"` + oid + `","size":1,"path":"../escape"},
		{"type":"file","oid":"` + oid + `","size":-1,"path":"negative"},
		{"type":"file","oid":"` + oid + `","size":1,"path":"d"},
		{"type":"symlink","size":1,"path":"s"}]`}))
	m, err := list(t, s, "org/repo")
	must(t, err)
	at := time.Date(2026, 9, 25, 8, 49, 23, 0, time.UTC)
	url := func(p string) []string { return []string{endpoint + "/org/repo/resolve/" + commit + "/" + p} }
	where := func(p, size string) model.Key { return model.AtKey(endpoint, "org/repo", commit, p, size, "") }
	want := &model.Model{Name: "org/repo", Source: "hub:" + endpoint, Kind: model.Hub, Revision: commit, ModTime: at, Tags: []string{"gguf"}, Files: []model.File{
		{Path: "b.txt", Size: 186, ModTime: at, GitSHA1: oid, Key: model.GitKey("org/repo", oid, 186), URLs: url("b.txt")},
		{Path: "c", Size: 5, ModTime: at, Key: where("c", "5"), URLs: url("c")},
		{Path: "d/a #1?.bin", Size: 1048576, ModTime: at, SHA256: sha, Key: model.SHA256Key(sha), URLs: url("d/a%20%231%3F.bin")},
		{Path: "no-size", Size: -1, ModTime: at, GitSHA1: oid, Key: where("no-size", "-1"), URLs: url("no-size")},
		{Path: "pointer", Size: 9, ModTime: at, Key: where("pointer", "9"), URLs: url("pointer")},
	}}
	if d := cmp.Diff(want, m); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"/api/models/org/repo", treeURL}, door.asked); d != "" {
		t.Error(d)
	}
}

// A name that was pinned is listed at the pin, whatever the branch is now.
func TestListIsPinned(t *testing.T) {
	s, door := scripted(t, map[string]reply{treeURL: {status: 200, body: `[]`}})
	ctx := context.Background()
	for _, c := range []struct {
		n model.Name
		f model.Found
	}{
		{model.Name{Org: "org", Repo: "repo"}, model.Found{Kind: model.ModelDir, Name: "org/repo", Revision: commit}},
		{model.Name{Org: "org", Repo: "repo", Revision: commit}, model.Found{Kind: model.ModelDir, Name: "org/repo"}},
	} {
		m, err := s.List(ctx, c.n, c.f)
		must(t, err)
		if m.Revision != commit || m.Files == nil || len(m.Files) != 0 {
			t.Errorf("%+v", m)
		}
	}
	for _, f := range []model.Found{
		{Kind: model.ModelDir, Name: "org/repo", Revision: "main"},
		{Kind: model.ModelDir, Name: "../repo", Revision: commit},
		{Kind: model.Namespace, Name: "org", Revision: commit},
	} {
		if _, err := s.List(ctx, model.Name{Org: "org", Repo: "repo", Revision: "main"}, f); !model.IsKind(err, model.Invalid) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	if d := cmp.Diff([]string{treeURL, treeURL}, door.asked); d != "" {
		t.Error(d)
	}
}

func TestListVerdicts(t *testing.T) {
	link := func(target string) http.Header {
		return http.Header{"Link": {"<" + target + `>; rel="next"`}}
	}
	for name, c := range map[string]struct {
		tree reply
		want model.Kind
	}{
		"gone":             {reply{status: 404, code: "RepoNotFound"}, model.NotFound},
		"gated":            {reply{status: 403, code: "GatedRepo"}, model.Denied},
		"page":             {reply{status: 200, body: "<html>"}, model.Unavailable},
		"object":           {reply{status: 200, body: `{}`}, model.Unavailable},
		"null":             {reply{status: 200, body: `null`}, model.Unavailable},
		"wrong types":      {reply{status: 200, body: `[{"path":1}]`}, model.Unavailable},
		"size of a string": {reply{status: 200, body: `[{"type":"file","path":"a","size":"1"}]`}, model.Unavailable},
		"size too large":   {reply{status: 200, body: `[{"type":"file","path":"a","size":1e30}]`}, model.Unavailable},
		"same page":        {reply{status: 200, body: `[]`, header: link(endpoint + treeURL)}, model.Unavailable},
		"another host":     {reply{status: 200, body: `[]`, header: link("https://evil.test/api/models/org/repo/tree/x")}, model.Unavailable},
		"outside the path": {reply{status: 200, body: `[]`, header: link("https://hub.test/mirror2/x")}, model.Unavailable},
		"next one missing": {reply{status: 200, body: `[]`, header: link("https://huggingface.co/api/next")}, model.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := scripted(t, here(c.tree))
			if m, err := list(t, s, "org/repo"); !model.IsKind(err, c.want) {
				t.Errorf("%v, %v, want %v", m, err, c.want)
			}
		})
	}
}

// Pages end, whatever the Hub says.
func TestEndlessListing(t *testing.T) {
	pages := here(reply{status: 200, body: `[]`, header: http.Header{"Link": {`</mirror/p0>; rel="next"`}}})
	for i := range 2 * maxPages {
		pages[fmt.Sprintf("/p%d", i)] = reply{status: 200, body: `[]`, header: http.Header{"Link": {fmt.Sprintf(`</mirror/p%d>; rel="next"`, i+1)}}}
	}
	s, door := scripted(t, pages)
	if _, err := list(t, s, "org/repo"); !model.IsKind(err, model.Unavailable) {
		t.Error(err)
	}
	if got := len(door.asked); got != 1+maxPages {
		t.Errorf("%d requests", got)
	}
}

// A listing of a million files ends too, at what a model may have, and so does
// a page of a million entries in three bytes each.
func TestAMillionFiles(t *testing.T) {
	pages := here(reply{status: 200, body: `[]`, header: http.Header{"Link": {`</mirror/p0>; rel="next"`}}})
	for i := range 1000 {
		var page strings.Builder
		for j := range 1000 {
			fmt.Fprintf(&page, `,{"type":"file","path":"f%03d%03d","size":1}`, i, j)
		}
		pages[fmt.Sprintf("/p%d", i)] = reply{status: 200, body: "[" + page.String()[1:] + "]", header: http.Header{"Link": {fmt.Sprintf(`</mirror/p%d>; rel="next"`, i+1)}}}
	}
	s, door := scripted(t, pages)
	if _, err := list(t, s, "org/repo"); !model.IsKind(err, model.Unavailable) {
		t.Error(err)
	}
	if got := len(door.asked); got > 2+maxPages {
		t.Errorf("%d requests", got)
	}
	s, _ = scripted(t, here(reply{status: 200, body: "[" + strings.Repeat("{},", 5<<20) + "{}]"}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := list(t, s, "org/repo"); !model.IsKind(err, model.Unavailable) {
		t.Error(err)
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 150<<20 {
		t.Errorf("%d MiB of memory for a page of 15 MiB", (after.TotalAlloc-before.TotalAlloc)>>20)
	}
}

func TestListAtHub(t *testing.T) {
	hub := hubtest.New(t)
	var files []hubtest.File
	for i := range 25 {
		files = append(files, hubtest.File{Path: fmt.Sprintf("shard %02d.safetensors", i), Content: hubtest.Pattern(uint64(i), 1000), LFS: true})
	}
	files = append(files, hubtest.File{Path: "config.json", Content: hubtest.Text("{}")}, hubtest.File{Path: "../evil", Content: hubtest.Text("x")})
	at := hub.AddRepo(hubtest.Repo{ID: "org/repo", Files: files, Tags: []string{"safetensors"}})
	hub.SetPageSize(10)
	for name, effects := range map[string][]hubtest.Effect{"": nil, "as a mirror passes it on": {hubtest.MirrorLinks()}} {
		t.Run(name, func(t *testing.T) {
			fault := hub.Fault(hubtest.Filter{Path: "*/tree/*"}, hubtest.Always(), effects...)
			defer fault.Remove()
			hub.Reset()
			m, err := list(t, atHub(t, hub, ""), "org/repo")
			must(t, err)
			if len(m.Files) != 26 || m.Revision != at || m.Files[0].GitSHA1 == "" || m.Files[1].SHA256 != hubtest.Pattern(0, 1000).SHA256() {
				t.Errorf("%+v", m)
			}
			if got := len(hub.Requests(hubtest.Filter{})); got != 4 {
				t.Errorf("%d requests, want the info and three pages", got)
			}
		})
	}
}

// Whatever is wrong with an answer, the name is unknown, and soon.
func TestFaultsAtHub(t *testing.T) {
	for name, effect := range map[string]hubtest.Effect{
		"page": hubtest.HTML(200), "page 404": hubtest.HTML(404), "proxy": hubtest.HTML(502), "types": hubtest.WrongTypes(),
		"endless": hubtest.EndlessPages(), "huge": hubtest.HugeJSON(40 << 20), "loop": hubtest.RedirectLoop(), "no location": hubtest.Redirect(""),
		"cut": hubtest.CutAt(10, hubtest.CleanClose),
	} {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.New(t)
			hub.AddRepo(hubtest.Repo{ID: "org/repo", Files: []hubtest.File{{Path: "config.json", Content: hubtest.Text("{}")}}})
			s := atHub(t, hub, "")
			found, err := find(t, s, "org/repo")
			must(t, err)
			hub.Fault(hubtest.Filter{Path: "/api/*"}, hubtest.Always(), effect)
			if m, err := s.List(context.Background(), parse(t, "org/repo"), found); !model.IsKind(err, model.Unavailable) {
				t.Errorf("List: %v, %v", m, err)
			}
			if name == "endless" {
				return // info has no pages
			}
			if f, err := find(t, s, "org/repo"); !model.IsKind(err, model.Unavailable) {
				t.Errorf("Find: %+v, %v", f, err)
			}
		})
	}
}

func FuzzParseInfo(f *testing.F) {
	for _, seed := range []string{infoOf("org/repo"), `{"id":"gpt2","sha":"` + commit + `","gated":"manual"}`, `{"id":["a"],"gated":[]}`,
		`{"id":"gpt2","sha":"` + commit + `","config":{"model_type":"x","quantization_config":{"bits":"4"}},"gguf":{"total":1},"safetensors":{"parameters":{"F32":1}}}`,
		`null`, `[]`, `{"id":"../x","sha":"` + commit + `"}`, `{"tags":[1]}`, strings.Repeat(`{"id":`, 500)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		info, err := parseInfo(body)
		if err != nil && !model.IsKind(err, model.Unavailable) {
			t.Errorf("kind of %v", err)
		}
		if err == nil && (!validID(info.ID) || !isHex(info.SHA, 40)) {
			t.Errorf("accepted %+v", info)
		}
		if traits := info.traits(); len(traits.Architecture+traits.Dtype+traits.Library+traits.Scheme) > 4*64 || traits.Parameters < 0 || traits.Bits < 0 {
			t.Errorf("accepted %+v", traits)
		}
	})
}

func FuzzTree(f *testing.F) {
	for _, seed := range []string{`[]`, `[{"type":"file","path":"a","size":1,"oid":"` + oid + `"}]`,
		`[{"type":"file","path":"a/../b","size":-5,"lfs":{"oid":"` + sha + `","size":1}}]`, `[null]`, `{}`, `[{"lfs":[]}]`, `[{"type":"file","path":"\u0000"}]`,
		`[{"type":"file","path":"a"},{"type":"file","path":"a"},{"type":"file","path":"a/b"}]`} {
		f.Add([]byte(seed), "")
	}
	f.Add([]byte(`[]`), `<https://huggingface.co/api/x?cursor=1>; rel="next"`)
	f.Add([]byte(`[]`), `</api/x>; rel=next, <b>; rel="prev"`)
	f.Add([]byte(`[]`), `<//evil/x>; rel="next"`)
	f.Fuzz(func(t *testing.T, body []byte, next string) {
		s, _ := scripted(t, here(reply{status: 200, body: string(body), header: http.Header{"Link": {next}}}))
		m, err := list(t, s, "org/repo")
		if err != nil {
			return
		}
		for i, file := range m.Files {
			if !model.ValidPath(file.Path) || file.Size < -1 || !file.Key.Valid() || len(file.URLs) != 1 ||
				!strings.HasPrefix(file.URLs[0], endpoint+"/org/repo/resolve/"+commit+"/") || i > 0 && m.Files[i-1].Path >= file.Path {
				t.Errorf("accepted %+v", file)
			}
		}
	})
}
