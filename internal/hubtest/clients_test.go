//go:build clients

package hubtest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The clients that judge the Hub are installed by scripts/clients.sh into the
// directory that MODELFS_CLIENTS names.

const clientToken = "hf_clientsclientsclientsclientsclients"

type question struct {
	Repo, Gated, Old, File, Large, Author, Commit, Missing string
}

func (q question) json(t *testing.T) []byte {
	b, err := json.Marshal(map[string]string{"repo": q.Repo, "gated": q.Gated, "old": q.Old, "file": q.File, "large": q.Large,
		"author": q.Author, "commit": q.Commit, "missing": q.Missing})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type fact struct {
	Size   int64
	OID    string
	SHA256 string
}

type meta struct {
	Size   int64
	Etag   string
	Commit string
}

type verdicts struct {
	List, Tree, Paths, Models, Public []string
	Info                              struct {
		ID, SHA string
		Files   map[string]fact
	}
	Meta, Small          meta
	Refs                 map[string]string
	User, Renamed, Slice string
	Texts, Files         map[string]string
	Snapshot             string
	Refusals             map[string][2]any
}

// stage is a Hub with every kind of repository, and what its main one holds.
func stage(t *testing.T, more ...File) (*Hub, question, []File) {
	old := []File{{Path: "config.json", Content: Text(`{"first":true}`)}}
	files := append([]File{
		{Path: "config.json", Content: Text(`{"model_type":"llama"}`)},
		{Path: "sub/deep/a file.txt", Content: Text("with a space\n")},
		{Path: "sub/größe.txt", Content: Text("umlauts\n")},
		{Path: "model.gguf", Content: Pattern(7, 24<<20+12345)},
		{Path: "small.bin", Content: Pattern(8, 70_000), LFS: true},
	}, more...)
	h := New(t)
	h.SetPageSize(3)
	first := h.AddRepo(Repo{ID: "acme/model", Files: old, Renamed: []string{"oldmodel"}, Tags: []string{"gguf"}})
	h.SetRef("acme/model", "refs/tags/v1", first)
	h.SetRef("acme/model", "refs/pr/1", first)
	h.Push("acme/model", files...)
	h.AddRepo(Repo{ID: "acme/gated", Files: old, Gated: "manual"})
	h.AddRepo(Repo{ID: "acme/private", Files: old, Private: true})
	h.Grant(clientToken, "*")
	return h, question{Repo: "acme/model", Gated: "acme/gated", Old: "oldmodel", File: "config.json", Large: "model.gguf",
		Author: "acme", Commit: first, Missing: "none.txt"}, files
}

func run(t *testing.T, h *Hub, q question, program string, args ...string) (v verdicts) {
	t.Helper()
	dir := os.Getenv("MODELFS_CLIENTS")
	if dir == "" {
		t.Fatal("MODELFS_CLIENTS is not set: run scripts/clients.sh DIR and set it to DIR")
	}
	if filepath.Base(program) == program {
		program, _ = exec.LookPath(program)
	} else {
		program = filepath.Join(dir, program)
	}
	cmd := exec.Command(program, append(args, h.URL(), clientToken, t.TempDir())...)
	cmd.Stdin = bytes.NewReader(q.json(t))
	cmd.Env = append(os.Environ(), "NO_PROXY=127.0.0.1,127.0.0.2", "no_proxy=127.0.0.1,127.0.0.2")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		for _, r := range h.Requests(Filter{}) {
			t.Logf("%s %s %s %v %s -> %d", r.Host, r.Method, r.Path, r.Query, r.Range, r.Status)
		}
		t.Fatalf("%s: %v\n%s", program, err, stderr.String())
	}
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("%s: %v in %s", program, err, out)
	}
	return v
}

func paths(files []File, dirs ...string) []string {
	for _, f := range files {
		dirs = append(dirs, f.Path)
	}
	slices.Sort(dirs)
	return dirs
}

// judge checks what both clients report.
func judge(t *testing.T, h *Hub, q question, files []File, v verdicts) {
	t.Helper()
	facts := map[string]fact{}
	for _, f := range files {
		b := newBlob(f)
		facts[f.Path] = fact{Size: f.Content.Size(), OID: b.oid()}
		if b.LFS {
			facts[f.Path] = fact{Size: f.Content.Size(), OID: b.oid(), SHA256: b.sha256()}
		}
	}
	slices.Sort(v.List)
	same(t, "list", v.List, paths(files))
	same(t, "tree", v.Tree, paths(files, "sub", "sub/deep"))
	same(t, "paths", v.Paths, []string{"config.json", "model.gguf"})
	same(t, "id", v.Info.ID, "acme/model")
	same(t, "commit", v.Info.SHA, h.Commit("acme/model", "main"))
	same(t, "files", v.Info.Files, facts)
	same(t, "models", v.Models, []string{"acme/gated", "acme/model", "acme/private"})
	same(t, "user", v.User, "tester")
	compareSnapshot(t, v.Snapshot, files)
	if got, err := os.ReadFile(v.Files["large"]); err != nil || int64(len(got)) != files[3].Content.Size() || Mismatch(files[3].Content, got, 0) >= 0 {
		t.Errorf("large file: %d bytes, %v", len(got), err)
	}
	for _, r := range h.Requests(Filter{Host: AtCDN}) {
		if r.Authorized {
			t.Errorf("a credential at the CDN: %v", r)
		}
	}
}

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// compareSnapshot compares every file below dir with what was pushed.
func compareSnapshot(t *testing.T, dir string, files []File) {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(p string, d iofs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, p)
			found = append(found, rel)
		}
		return err
	})
	slices.Sort(found)
	if d := cmp.Diff(paths(files), found); d != "" || err != nil {
		t.Errorf("snapshot: %v (-want +got):\n%s", err, d)
	}
	for _, f := range files {
		got, err := os.ReadFile(filepath.Join(dir, f.Path))

		if err != nil || int64(len(got)) != f.Content.Size() || Mismatch(f.Content, got, 0) >= 0 {
			t.Errorf("snapshot: %s: %d bytes, %v; differs at %d", f.Path, len(got), err, Mismatch(f.Content, got, 0))
		}
	}
}

func TestPythonClient(t *testing.T) {
	h, q, files := stage(t, File{Path: "empty", Content: Bytes(nil)})
	v := run(t, h, q, "py/bin/python", "testdata/clients/client.py")
	judge(t, h, q, files, v)
	main := h.Commit("acme/model", "main")
	same(t, "metadata", v.Meta, meta{files[3].Content.Size(), sha256Of(files[3].Content), main})
	same(t, "metadata of a small file", v.Small, meta{files[0].Content.Size(), gitSHA1(files[0].Content), main})
	same(t, "references", v.Refs, map[string]string{"refs/heads/main": main, "refs/tags/v1": q.Commit, "refs/pr/1": q.Commit})
	same(t, "anonymous models", v.Public, []string{"acme/gated", "acme/model"})
	same(t, "renamed", v.Renamed, "acme/model")
	for name, want := range map[string]string{"main": `{"model_type":"llama"}`, "old": `{"model_type":"llama"}`,
		"commit": `{"first":true}`, "pr": `{"first":true}`, "gated": `{"first":true}`} {
		got, err := os.ReadFile(v.Files[name])
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	// The client knows a repository's URL by its https alone, so the anonymous
	// 401 keeps its general name here.
	same(t, "refusals", v.Refusals, map[string][2]any{
		"entry": {"RemoteEntryNotFoundError", 404.0}, "revision": {"RevisionNotFoundError", 404.0}, "repo": {"RepositoryNotFoundError", 404.0},
		"anonymous": {"HfHubHTTPError", 401.0}, "gated": {"GatedRepoError", 401.0}, "token": {"HfHubHTTPError", 401.0},
	})
}

func TestNodeClient(t *testing.T) {
	// No empty file: this client asks for byte 0 first, and takes no for an error.
	h, q, files := stage(t)
	v := run(t, h, q, "node", "testdata/clients/client.mjs")
	judge(t, h, q, files, v)
	same(t, "size", v.Meta.Size, files[3].Content.Size())
	same(t, "texts", v.Texts, map[string]string{"main": `{"model_type":"llama"}`, "old": `{"model_type":"llama"}`,
		"commit": `{"first":true}`, "pr": `{"first":true}`, "gated": `{"first":true}`})
	if slice, err := base64.StdEncoding.DecodeString(v.Slice); err != nil || !bytes.Equal(slice, PatternAt(files[3].Content, 1000, 2000)) {
		t.Errorf("slice: %d bytes, %v", len(slice), err)
	}
	same(t, "refusals", v.Refusals, map[string][2]any{
		"entry": {"none", 404.0}, "revision": {"HubApiError", 404.0}, "repo": {"HubApiError", 404.0},
		"anonymous": {"HubApiError", 401.0}, "gated": {"HubApiError", 401.0}, "token": {"HubApiError", 401.0},
	})
}
