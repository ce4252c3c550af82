//go:build clients

package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"modelfs/internal/hubtest"
)

// cached is a Hub whose repositories clients download, and what they hold.
type cached struct {
	hub                      *hubtest.Hub
	first, second            string // commits of acme/two
	weights, old, tinyF32    []byte
	whole, half, two, tinyID string
}

func stageCaches(t *testing.T, gguf []byte) cached {
	t.Helper()
	c := cached{hub: hubtest.New(t), whole: "acme/whole", half: "acme/half", two: "acme/two", tinyID: "acme/Tiny-GGUF",
		weights: pattern{51, 3<<20 + 7}.bytes(), old: pattern{52, 70_000}.bytes(), tinyF32: gguf}
	lfs := func(p string, b []byte) hubtest.File {
		return hubtest.File{Path: p, Content: hubtest.Bytes(b), LFS: true}
	}
	config := hubtest.File{Path: "config.json", Content: hubtest.Text("{}")}
	c.hub.AddRepo(hubtest.Repo{ID: c.whole, Files: []hubtest.File{config, lfs("sub/model.safetensors", c.weights)}})
	c.hub.AddRepo(hubtest.Repo{ID: c.half, Files: []hubtest.File{config,
		{Path: "model.safetensors", Content: hubtest.Pattern(57, 24<<20), LFS: true}}})
	c.first = c.hub.AddRepo(hubtest.Repo{ID: c.two, Files: []hubtest.File{config, lfs("model.safetensors", c.old)}})
	c.second = c.hub.Push(c.two, config, lfs("model.safetensors", c.weights))
	c.hub.AddRepo(hubtest.Repo{ID: c.tinyID, Files: []hubtest.File{config, lfs("tiny-F32.gguf", c.tinyF32), lfs("tiny-Q8_0.gguf", c.old)}})
	return c
}

// interrupt kills a client in the middle of acme/half.
func (c cached) interrupt(t *testing.T, cache string, cmd *exec.Cmd) {
	t.Helper()
	stall := c.hub.Fault(hubtest.Filter{Host: hubtest.AtCDN, Path: c.half + "/*"}, hubtest.Always(), hubtest.StallAt(15<<20)) // the Python client writes 10 MiB at a time
	defer stall.Remove()
	killedWhen(t, "a part of acme/half is there", cmd, func() bool { return stall.Hits() > 0 && unfinished(t, cache) })
}

// unfinished reports whether a directory holds the beginning of a download.
func unfinished(t testing.TB, dir string) bool {
	for _, f := range files(t, dir) {
		st, err := os.Stat(filepath.Join(dir, f))
		if err == nil && st.Size() > 0 && (strings.HasSuffix(f, ".incomplete") || strings.HasSuffix(f, ".downloadInProgress")) {
			return true
		}
	}
	return false
}

// Caches of the Hub's clients: a whole snapshot, one that a killed client
// left, two revisions of one name, and one of which a revision is deleted
// while its file is open.
func TestRealHubCaches(t *testing.T) {
	for _, program := range []string{python, "node"} {
		t.Run(path.Base(program), func(t *testing.T) {
			c, home := stageCaches(t, pattern{53, 1000}.bytes()), tempDir(t, "home")
			cache := filepath.Join(home, "hub")
			script := map[string]string{python: "hf.py", "node": "hf.mjs"}[program]
			download := func(repo string, revision ...string) *exec.Cmd {
				return client(t, program, append([]string{script, c.hub.URL(), cache, "download", repo}, revision...)...)
			}
			said(t, download(c.whole))
			said(t, download(c.two, c.first))
			said(t, download(c.two))
			c.interrupt(t, cache, download(c.half))
			if err := os.Symlink("../../blobs/"+sha256Of([]byte("gone")),
				filepath.Join(cache, "models--acme--whole/snapshots", c.hub.Commit(c.whole, "main"), "gone.safetensors")); err != nil {
				t.Fatal(err)
			}

			d := start(t, append(discovering(t, home, "HF_HOME="+home), "--hf-endpoint", "")...)
			for _, f := range []struct {
				path string
				want []byte
			}{
				{"acme/whole/sub/model.safetensors", c.weights}, {"acme/two/model.safetensors", c.weights},
				{"acme/two@" + c.first + "/model.safetensors", c.old}, {"acme/two@" + c.second + "/model.safetensors", c.weights},
			} {
				inPlace(t, d, func() { checkSame(t, d.path(f.path), f.want) })
			}
			checkShown(t, d.path("acme"), "two", "whole")
			wantAbsent(t, d, "acme/half/model.safetensors", "acme/whole/gone.safetensors", "acme/Tiny-GGUF")
			c.prune(t, d, cache)
		})
	}
}

// prune deletes a revision under an open file and a mapped name.
func (c cached) prune(t *testing.T, d *daemon, cache string) {
	t.Helper()
	held, err := os.Open(d.path("acme/two/model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	said(t, client(t, python, "hf.py", c.hub.URL(), cache, "delete", c.second))
	if got, err := io.ReadAll(held); err != nil || sha256Of(got) != sha256Of(c.weights) {
		t.Errorf("the open file of a deleted revision: %d bytes, %v", len(got), err)
	}
	wantAbsent(t, d, "acme/two@"+c.second+"/model.safetensors")
	checkSame(t, d.path("acme/two@"+c.first+"/model.safetensors"), c.old)
	if got, err := os.ReadFile(d.path("acme/two/model.safetensors")); err == nil && sha256Of(got) != sha256Of(c.old) {
		t.Errorf("after the deletion acme/two has bytes of neither revision: %d", len(got))
	}
}

func wantAbsent(t testing.TB, d *daemon, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := os.Stat(d.path(name))
		wantErrno(t, name, err, syscall.ENOENT)
	}
}

// llama.cpp's own downloader fills a cache of the Hub's layout, with one file
// of the repository.
func TestRealLlamaCppCache(t *testing.T) {
	gguf := readAll(t, filepath.Join(tiny(t), "tiny-F32.gguf"))
	c, home := stageCaches(t, gguf), tempDir(t, "home")
	c.hub.AcceptEncodedAnew()
	fetch := func(repo string) *exec.Cmd {
		cmd := client(t, "bin/llama-fetch", "-hf", repo)
		cmd.Env = append(cmd.Env, "HF_ENDPOINT="+c.hub.URL()+"/", "LLAMA_CACHE="+home)
		return cmd
	}
	said(t, fetch(c.tinyID+":F32"))
	stall := c.hub.Fault(hubtest.Filter{Host: hubtest.AtCDN, Path: c.tinyID + "/tiny-Q8_0.gguf"}, hubtest.Always(), hubtest.StallAt(20_000))
	killedWhen(t, "a part of the other file is there", fetch(c.tinyID+":Q8_0"), func() bool { return stall.Hits() > 0 && unfinished(t, home) })
	stall.Remove()
	d := start(t, append(discovering(t, home, "LLAMA_CACHE="+home), "--hf-endpoint", "")...)
	inPlace(t, d, func() {
		checkSame(t, d.path("acme/Tiny-GGUF/tiny-F32.gguf"), gguf)
		checkSame(t, d.path("acme/Tiny-GGUF:F32/model.gguf"), gguf)
	})
	checkShown(t, d.path("acme"), "Tiny-GGUF")
	wantAbsent(t, d, "acme/Tiny-GGUF/tiny-Q8_0.gguf", "acme/Tiny-GGUF:Q8_0")
}

// Ollama's store, written with its own package: manifests and layers. An
// engine loads a model of it through the mount; what "ollama rm" removes is
// gone, but for who has it open.
func TestRealOllamaStore(t *testing.T) {
	gguf, home := filepath.Join(tiny(t), "tiny-F32.gguf"), tempDir(t, "home")
	run := func(args ...string) { said(t, client(t, writer, append([]string{"ollama", home}, args...)...)) }
	small := filepath.Join(tempDir(t, "gguf"), "small.gguf")
	writeFile(t, small, pattern{54, 100_000}.bytes())
	run("add", "tiny:1b", gguf)
	run("add", "same", gguf)
	run("add", "hf.co/acme/Small-GGUF:Q4_K_M", small)
	plant(t, home, map[string]any{"blobs/sha256-" + sha256Of([]byte("rest")) + "-partial": "re",
		"blobs/sha256-" + sha256Of([]byte("rest")) + "-partial-0": `{"N":0,"Offset":0,"Size":4,"Completed":2}`})
	d := start(t, append(discovering(t, home, "OLLAMA_MODELS="+home), "--hf-endpoint", "")...)
	checkShown(t, d.mount, "acme", "same", "tiny:1b")
	checkShown(t, d.path("tiny:1b"), "model.gguf", "params", "template")
	inPlace(t, d, func() {
		checkSame(t, d.path("tiny:1b/model.gguf"), readAll(t, gguf))
		checkSame(t, d.path("same/model.gguf"), readAll(t, gguf))
		checkSame(t, d.path("acme/Small-GGUF:Q4_K_M/model.gguf"), readAll(t, small))
	})
	want := computed(t, "llama", gguf)
	inPlace(t, d, func() {
		wantSame(t, "what llama.cpp computes", want, computed(t, "llama", d.path("tiny:1b/model.gguf")))
	})

	held, err := os.Open(d.path("acme/Small-GGUF:Q4_K_M/model.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	run("rm", "hf.co/acme/Small-GGUF:Q4_K_M")
	run("rm", "tiny:1b")
	wantAbsent(t, d, "acme/Small-GGUF:Q4_K_M/model.gguf", "tiny:1b/model.gguf")
	checkShown(t, d.mount, "same")
	checkSame(t, d.path("same/model.gguf"), readAll(t, gguf)) // its layer had two names
	if got, err := io.ReadAll(held); err != nil || sha256Of(got) != sha256Of(readAll(t, small)) {
		t.Errorf("the open file of a removed model: %d bytes, %v", len(got), err)
	}
}

func wantSame(t testing.TB, what string, want, got any) {
	t.Helper()
	if a, b := jsonText(want), jsonText(got); a != b {
		t.Errorf("%s: %s, want %s", what, b, a)
	}
}

// Docker Model Runner's store, written with its own package: one GGUF file
// under two tags, a set of safetensors, and a load that ended in the middle.
func TestRealDockerStore(t *testing.T) {
	models, home := tiny(t), tempDir(t, "home")
	gguf, shards := filepath.Join(models, "tiny-F32.gguf"), []string{filepath.Join(models, "sharded", "model-00001-of-00002.safetensors"), filepath.Join(models, "sharded", "model-00002-of-00002.safetensors")}
	run := func(args ...string) { said(t, client(t, writer, append([]string{"docker", home}, args...)...)) }
	run("add", "ai/tiny:2M", gguf)
	run("tag", "ai/tiny:2M", "hf.co/Acme/Tiny-GGUF:F32")
	run("add", "sharded", shards[0], shards[1])
	longer := filepath.Join(tempDir(t, "gguf"), "longer.gguf")
	writeFile(t, longer, append(readAll(t, gguf), pattern{55, 100_000}.bytes()...))
	run("cut", longer)
	if !unfinished(t, home) {
		t.Error("the interrupted load left nothing")
	}
	d := start(t, append(discovering(t, home, "MODELS_PATH="+home), "--hf-endpoint", "")...)
	checkShown(t, d.path("ai"), "sharded", "tiny:2M")
	inPlace(t, d, func() {
		for _, name := range []string{"ai/tiny:2M/model.gguf", "ai/tiny:2M/tiny-F32.gguf", "tiny:2M/model.gguf", "acme/Tiny-GGUF:F32/model.gguf"} {
			checkSame(t, d.path(name), readAll(t, gguf))
		}
		for _, s := range shards {
			checkSame(t, d.path("ai/sharded", filepath.Base(s)), readAll(t, s))
		}
	})
	held, err := os.Open(d.path("ai/sharded", filepath.Base(shards[1])))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	run("rm", "sharded")
	wantAbsent(t, d, "ai/sharded/"+filepath.Base(shards[0]), "ai/sharded/"+filepath.Base(shards[1]))
	checkShown(t, d.path("ai"), "tiny:2M")
	if got, err := io.ReadAll(held); err != nil || sha256Of(got) != sha256Of(readAll(t, shards[1])) {
		t.Errorf("the open file of a removed model: %d bytes, %v", len(got), err)
	}
}

// scopeOrigin is as much of ModelScope as its client asks for. Repositories
// with "half" in their names stop in the middle of their weights.
func scopeOrigin(t *testing.T, contents map[string][]byte) string {
	t.Helper()
	release := make(chan struct{})
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, data any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"Code": 200, "Success": true, "Message": "success", "Data": data})
	}
	mux.HandleFunc("GET /api/v1/models/{owner}/{name}/repo/files", func(w http.ResponseWriter, _ *http.Request) {
		var list []map[string]any
		for p, b := range contents {
			list = append(list, map[string]any{"Name": path.Base(p), "Path": p, "Type": "blob", "Size": len(b), "Sha256": sha256Of(b), "Revision": commit})
		}
		answer(w, map[string]any{"Files": list})
	})
	mux.HandleFunc("GET /api/v1/models/{owner}/{name}/repo", func(w http.ResponseWriter, r *http.Request) {
		b := contents[r.FormValue("FilePath")]
		if strings.Contains(r.PathValue("name"), "half") && len(b) > 1<<20 {
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			_, _ = w.Write(b[:1<<20+1])
			_ = http.NewResponseController(w).Flush()
			<-release
			return
		}
		_, _ = w.Write(b)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]any{}) })
	s := httptest.NewServer(mux)
	t.Cleanup(func() { close(release); s.Close() })
	return s.URL
}

// ModelScope's cache, filled by its client: a whole model, some files of one,
// and one whose client was killed.
func TestRealModelScopeCache(t *testing.T) {
	weights, home := pattern{56, 2<<20 + 5}.bytes(), tempDir(t, "home")
	origin := scopeOrigin(t, map[string][]byte{"config.json": []byte(`{"model_type":"llama"}`), "sub/model.safetensors": weights})
	said(t, client(t, python, "modelscope.py", origin, home, "Acme/Whole.1"))
	said(t, client(t, python, "modelscope.py", origin, home, "Acme/some", "*.json"))
	killedWhen(t, "a part of Acme/half is there", client(t, python, "modelscope.py", origin, home, "Acme/half"), func() bool { return unfinished(t, home) })
	d := start(t, append(discovering(t, home, "MODELSCOPE_CACHE="+home), "--hf-endpoint", "")...)
	checkShown(t, d.path("Acme"), "Whole.1")
	inPlace(t, d, func() {
		checkSame(t, d.path("Acme/Whole.1/sub/model.safetensors"), weights)
		checkSame(t, d.path("Acme/Whole.1@master/sub/model.safetensors"), weights)
	})
	wantAbsent(t, d, "Acme/half/sub/model.safetensors", "Acme/some/sub/model.safetensors", "Acme/half/sub/model.safetensors.incomplete")
	if err := os.RemoveAll(filepath.Join(home, "models", "Acme--Whole.1")); err != nil {
		t.Fatal(err)
	}
	wantAbsent(t, d, "Acme/Whole.1/sub/model.safetensors")
}
