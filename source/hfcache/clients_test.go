//go:build clients

package hfcache

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

// The clients are installed by scripts/clients.sh into the directory that
// MODELFS_CLIENTS names.

func text(path, content string) hubtest.File {
	return hubtest.File{Path: path, Content: hubtest.Text(content)}
}

func lfs(path string, seed uint64, size int64) hubtest.File {
	return hubtest.File{Path: path, Content: hubtest.Pattern(seed, size), LFS: true}
}

// stage is a Hub with the repositories that the clients download.
func stage(t *testing.T) (h *hubtest.Hub, first string, whole []hubtest.File) {
	h = hubtest.New(t)
	first = h.AddRepo(hubtest.Repo{ID: "acme/whole", Files: []hubtest.File{text("config.json", `{"first":true}`)}})
	h.SetRef("acme/whole", "refs/pr/1", first)
	whole = []hubtest.File{text("config.json", "{}"), lfs("model.safetensors", 1, 3<<20+7), lfs("sub/dir/x.onnx", 2, 70_000)}
	h.Push("acme/whole", whole...)
	h.AddRepo(hubtest.Repo{ID: "acme/some", Files: []hubtest.File{text("README.md", "text"), lfs("m-Q4_K_M.gguf", 3, 1000), lfs("m-Q8_0.gguf", 4, 2000)}})
	h.AddRepo(hubtest.Repo{ID: "acme/one", Files: []hubtest.File{text("config.json", "{}"), lfs("model.gguf", 5, 1500)}})
	h.AddRepo(hubtest.Repo{ID: "acme/pinned", Files: []hubtest.File{lfs("model.gguf", 6, 1200)}})
	return h, first, whole
}

// fill lets a client fill a cache.
func fill(t *testing.T, h *hubtest.Hub, program string, args ...string) *hub {
	t.Helper()
	clients := os.Getenv("MODELFS_CLIENTS")
	if clients == "" {
		t.Fatal("MODELFS_CLIENTS is not set: run scripts/clients.sh DIR and set it to DIR")
	}
	if program != "node" {
		program = filepath.Join(clients, program)
	}
	c := newHub(t)
	cmd := exec.CommandContext(t.Context(), program, append(args, h.URL(), c.root)...)
	cmd.Stdin = strings.NewReader(h.Commit("acme/pinned", "main"))
	cmd.Env = append(os.Environ(), "NO_PROXY=127.0.0.1,127.0.0.2", "no_proxy=127.0.0.1,127.0.0.2")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return c
}

// checkWhole compares what the cache says of acme/whole, and of its first
// commit by the revision pr, with what was pushed.
func checkWhole(t *testing.T, h *hubtest.Hub, s *Source, first, pr string, whole []hubtest.File) {
	t.Helper()
	m := list(t, s, "acme/whole")
	if m.Revision != h.Commit("acme/whole", "main") || len(m.Files) != len(whole) {
		t.Errorf("%+v", m)
	}
	for _, f := range whole {
		got := m.File(f.Path)
		if got == nil || got.Size != f.Content.Size() || hubtest.Mismatch(f.Content, []byte(readAll(t, got.Place)), 0) >= 0 {
			t.Errorf("%s: %+v", f.Path, got)
		}
		if f.LFS && got.SHA256 == "" || !f.LFS && got.GitSHA1 == "" {
			t.Errorf("%s has no hash", f.Path)
		}
	}
	must(t, s.Refresh(context.Background()))
	hash := m.File("model.safetensors").SHA256
	if p, size, ok := s.BySHA256(hash); !ok || size != whole[1].Content.Size() || hash != sha256Of(readAll(t, p)) {
		t.Errorf("the blob %s is not known", hash)
	}
	old := list(t, s, "acme/whole@"+pr)
	if d := cmp.Diff(map[string]string{"config.json": `{"first":true}`}, contentsOf(t, old)); d != "" || old.Revision != first {
		t.Errorf("%s is %s:\n%s", pr, old.Revision, d)
	}
	if got := outcome(find(t, s, "acme/whole")); !strings.HasPrefix(got, "model acme/whole@") || strings.Contains(got, "BROKEN") {
		t.Error(got)
	}
}

func TestPythonCache(t *testing.T) {
	h, first, whole := stage(t)
	s := fill(t, h, "py/bin/python", "testdata/cache.py").source()
	checkWhole(t, h, s, first, "refs/pr/1", whole)
	for name, want := range map[string]string{
		"acme/some":        fmt.Sprintf("model acme/some@%.1s BROKEN it lacks README.md, which the commit has", h.Commit("acme/some", "main")),
		"acme/some:Q4_K_M": fmt.Sprintf("model acme/some@%.1s", h.Commit("acme/some", "main")),
		"acme/some:Q8_0":   fmt.Sprintf("model acme/some@%.1s BROKEN it lacks the files of Q8_0, which the commit has", h.Commit("acme/some", "main")),
		"acme/one":         fmt.Sprintf("model acme/one@%.1s", h.Commit("acme/one", "main")),
		"acme/pinned@" + h.Commit("acme/pinned", "main"): fmt.Sprintf("model acme/pinned@%.1s", h.Commit("acme/pinned", "main")),
	} {
		if got := outcome(find(t, s, name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if f, err := find(t, s, "acme/pinned"); err != nil || f.Broken == "" {
		t.Errorf("a name that no reference explains: %+v, %v", f, err)
	}
	if got := names(t, s); len(got) != 4 {
		t.Errorf("%q", got)
	}
}

// This client records no reference for a single file that it downloads: such a
// snapshot is known by its commit, and a guess for the bare name.
func TestNodeCache(t *testing.T) {
	h, first, whole := stage(t)
	s := fill(t, h, "node", "testdata/cache.mjs").source()
	checkWhole(t, h, s, first, first, whole)
	for _, repo := range []string{"acme/one", "acme/pinned"} {
		if f, err := find(t, s, repo+"@"+h.Commit(repo, "main")); err != nil || f.Kind != model.ModelDir || f.Broken != "" {
			t.Errorf("%s by its commit: %+v, %v", repo, f, err)
		}
		if f, err := find(t, s, repo); err != nil || f.Broken == "" {
			t.Errorf("%s: %+v, %v", repo, f, err)
		}
	}
}
