package integration

import (
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A link is a symlink's target.
type link string

// plant writes a store: files are strings, patterns or links.
func plant(t testing.TB, dir string, store map[string]any) {
	t.Helper()
	for name, what := range store {
		path := filepath.Join(dir, name)
		switch what := what.(type) {
		case string:
			writeFile(t, path, []byte(what))
		case pattern:
			writeFile(t, path, what.bytes())
		case link:
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(string(what), path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func sha256Of(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func gitBlob(text string) string {
	return fmt.Sprintf("%x", sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(text), text)))
}

// snapshotOf is one repository of a Hugging Face cache, as its client writes
// it: blobs by their entity tags, links in the snapshot.
func snapshotOf(repo, commit string, files map[string]any) map[string]any {
	dir := "models--" + strings.ReplaceAll(repo, "/", "--")
	store := map[string]any{dir + "/refs/main": commit}
	for name, what := range files {
		var blob string
		switch what := what.(type) {
		case string:
			blob = gitBlob(what)
		case pattern:
			blob = sha256Of(what.bytes())
		}
		up := strings.Repeat("../", strings.Count(name, "/")+2)
		store[dir+"/blobs/"+blob] = what
		store[dir+"/snapshots/"+commit+"/"+name] = link(up + "blobs/" + blob)
	}
	return store
}

// ollamaModel is one model of a store of Ollama's.
func ollamaModel(manifest string, weights pattern, template string) map[string]any {
	sum := sha256Of(weights.bytes())
	layer := func(kind, sum string, size int64) string {
		return fmt.Sprintf(`{"mediaType":"application/vnd.ollama.image.%s","digest":"sha256:%s","size":%d}`, kind, sum, size)
	}
	return map[string]any{
		"blobs/sha256-" + sum:                        weights,
		"blobs/sha256-" + sha256Of([]byte(template)): template,
		"manifests/" + manifest: `{"schemaVersion":2,"layers":[` + layer("model", sum, weights.size) + "," +
			layer("template", sha256Of([]byte(template)), int64(len(template))) + `]}`,
	}
}

// dockerModel is a store of Docker Model Runner's with one model.
func dockerModel(tag string, weights pattern) map[string]any {
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":{},"layers":[{"mediaType":"application/vnd.docker.ai.gguf.v3","digest":"sha256:%s","size":%d}]}`,
		sha256Of(weights.bytes()), weights.size)
	return map[string]any{
		"layout.json": `{"version":"1.0.0"}`,
		"blobs/sha256/" + sha256Of(weights.bytes()):                   weights,
		"blobs/sha256/" + sha256Of([]byte("pulling")) + ".incomplete": "pull",
		"manifests/sha256/" + sha256Of([]byte(manifest)):              manifest,
		"models.json": fmt.Sprintf(`{"models":[{"id":"sha256:%s","tags":[%q],"files":[]}]}`, sha256Of([]byte(manifest)), tag),
	}
}

func merged(all ...map[string]any) map[string]any {
	store := make(map[string]any)
	for _, m := range all {
		for k, v := range m {
			store[k] = v
		}
	}
	return store
}

const commit = "0123456789abcdef0123456789abcdef01234567"

// A layout is the store of another tool, with something partial and something
// dangling beside what can be read.
type layout struct {
	name  string
	env   string // that names the place; "" for one in the home directory
	at    string // the place, in the home directory or below what env names
	store map[string]any
	want  map[string]pattern // by path in the mount
	list  []string           // of the root or a namespace that has all of it
	in    string
	gone  []string // names that must not be there
}

// layouts is a function because every process that reads or probes is these
// tests' binary, and hashing all this at its start takes longer than most reads.
func layouts() []layout {
	return []layout{
		{
			name: "hfcache", env: "HF_HOME", at: "hub",
			store: merged(snapshotOf("org/whole", commit, map[string]any{"config.json": "{}", "sub/model.safetensors": pattern{31, 3 << 20}}),
				snapshotOf("org/half", commit, map[string]any{"config.json": "{}"}),
				map[string]any{
					"models--org--half/blobs/" + sha256Of([]byte("rest")) + ".incomplete":      "re",
					"models--org--half/snapshots/" + commit + "/model.safetensors":             link("../../blobs/" + sha256Of([]byte("rest"))),
					"models--org--whole/snapshots/" + commit + "/gone.safetensors":             link("../../blobs/" + sha256Of([]byte("gone"))),
					"models--org--whole/blobs/" + sha256Of([]byte("x")) + ".0123.incomplete":   "x",
					"models--org--whole/.no_exist/" + commit + "/model.safetensors.index.json": "",
				}),
			want: map[string]pattern{"org/whole/sub/model.safetensors": {31, 3 << 20}},
			in:   "org", list: []string{"whole"},
			gone: []string{"org/whole/gone.safetensors", "org/half/model.safetensors"},
		},
		{
			name: "ollama", env: "OLLAMA_MODELS",
			store: merged(ollamaModel("registry.ollama.ai/library/llama3.2/1b", pattern{32, 2 << 20}, "{{ .Prompt }}"),
				ollamaModel("hf.co/org/repo-GGUF/Q4_K_M", pattern{33, 1 << 20}, "{{ .System }}"),
				map[string]any{
					"blobs/sha256-" + sha256Of([]byte("pulling")) + "-partial": "pull",
					"manifests/registry.ollama.ai/library/pulling/latest": `{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:` +
						sha256Of([]byte("pulling")) + `","size":7}]}`,
				}),
			want: map[string]pattern{"llama3.2:1b/model.gguf": {32, 2 << 20}, "org/repo-GGUF:Q4_K_M/model.gguf": {33, 1 << 20}},
			list: []string{"llama3.2:1b", "org"},
			gone: []string{"pulling/model.gguf", "nobody"},
		},
		{
			name: "lmstudio", at: ".lmstudio/models",
			store: map[string]any{"pub/m-GGUF/m-Q4_K_M.gguf": pattern{34, 1 << 20}, "pub/m-GGUF/next.gguf.part": "half", "pub/m-GGUF/gone.gguf": link("nothing.gguf")},
			want:  map[string]pattern{"pub/m-GGUF/m-Q4_K_M.gguf": {34, 1 << 20}, "pub/m-GGUF:Q4_K_M/model.gguf": {34, 1 << 20}},
			in:    "pub", list: []string{"m-GGUF"},
			gone: []string{"pub/m-GGUF/next.gguf.part", "pub/m-GGUF/gone.gguf"},
		},
		{
			name: "modelscope", env: "MODELSCOPE_CACHE",
			store: map[string]any{
				"models/Qwen--Qwen3/snapshots/master/model.safetensors":             pattern{35, 1 << 20},
				"models/Qwen--Qwen3/snapshots/master/config.json":                   "{}",
				"models/Qwen--Qwen3/snapshots/master/model2.safetensors.incomplete": "half",
				"models/._____temp/Qwen/Half/model.gguf":                            "half",
			},
			want: map[string]pattern{"Qwen/Qwen3/model.safetensors": {35, 1 << 20}},
			in:   "Qwen", list: []string{"Qwen3"},
			gone: []string{"Qwen/Qwen3/model2.safetensors.incomplete", "Qwen/Half"},
		},
		{
			name: "llamacpp", env: "LLAMA_CACHE",
			store: map[string]any{
				"org_repo-GGUF_m-Q4_K_M.gguf":          pattern{36, 1 << 20},
				"org_repo-GGUF_m-Q4_K_M.gguf.json":     `{"etag":"x","url":"https://huggingface.co/org/repo-GGUF/resolve/main/m-Q4_K_M.gguf"}`,
				"other_GGUF_u.gguf.downloadInProgress": "half",
				"gone_GGUF_g.gguf":                     link("nothing"),
			},
			want: map[string]pattern{"org/repo-GGUF/m-Q4_K_M.gguf": {36, 1 << 20}},
			in:   "org", list: []string{"repo-GGUF"},
			gone: []string{"other", "gone_GGUF_g.gguf/x"},
		},
		{
			name: "docker", env: "MODELS_PATH",
			store: dockerModel("ai/smollm2:360M", pattern{37, 1 << 20}),
			want:  map[string]pattern{"ai/smollm2:360M/model.gguf": {37, 1 << 20}},
			in:    "ai", list: []string{"smollm2:360M"},
			gone: []string{"ai/pulling"},
		},
		{
			name: "node", env: "XLLM_MODELS_DIR",
			store: map[string]any{
				".etag_cache.json":            "{}",
				"gpt-oss-20b/model.gguf":      pattern{38, 1 << 20},
				"gpt-oss-20b/model.gguf.lock": "",
				"partial/model.gguf.partial":  "half",
			},
			want: map[string]pattern{"gpt-oss-20b/model.gguf": {38, 1 << 20}},
			list: []string{"gpt-oss-20b"},
			gone: []string{"partial/model.gguf"},
		},
	}
}

// discovering are the settings of a daemon that looks for stores, in a home of
// its own.
func discovering(t testing.TB, home string, env ...string) []string {
	t.Helper()
	return append([]string{"HOME=" + home, "MODELFS_NO_DISCOVER=", "XDG_CACHE_HOME=" + home + "/nowhere"}, env...)
}

// Every layout is found by itself at its place, and recognised when its
// directory is named; what is in it is read in place.
func TestStoresOfOtherTools(t *testing.T) {
	t.Parallel()
	for _, l := range layouts() {
		t.Run(l.name, func(t *testing.T) {
			home := tempDir(t, "home")
			dir := filepath.Join(home, l.at)
			plant(t, dir, l.store)
			env := discovering(t, home)
			if l.env != "" {
				env = append(env, l.env+"="+home)
			}
			d := start(t, append(env, "--hf-endpoint", "")...)
			if !strings.Contains(d.stderr.String(), "found the store of another tool") && l.name != "node" {
				t.Errorf("the log does not say what was found")
			}
			checkStore(t, d, l.in, l.list, l.want, l.gone)
			d.stop()

			named := start(t, "--hf-endpoint", "", "--local", dir)
			checkStore(t, named, l.in, l.list, l.want, l.gone)
			checkPruned(t, named, dir, l.want)
		})
	}
}

func checkStore(t *testing.T, d *daemon, in string, list []string, want map[string]pattern, gone []string) {
	t.Helper()
	listed := shownIn(t, d.path(in))
	for _, name := range list {
		if !slices.Contains(listed, name) {
			t.Errorf("ls %s shows %v, without %s", in, listed, name)
		}
	}
	for file, w := range want {
		checkReads(t, d.path(file), w)
	}
	for _, name := range gone {
		_, err := os.Stat(d.path(name))
		wantErrno(t, name, err, syscall.ENOENT)
	}
	if n := d.number("mount", "reads"); n != 0 {
		t.Errorf("the daemon received %d reads for files in place", n)
	}
}

// With --no-discover nothing is found.
func TestNoDiscover(t *testing.T) {
	home := tempDir(t, "home")
	plant(t, filepath.Join(home, "hub"), snapshotOf("org/m", commit, map[string]any{"model.gguf": pattern{1, 1000}}))
	d := start(t, append(discovering(t, home, "HF_HOME="+home), "--no-discover", "--hf-endpoint", "")...)
	_, err := os.Stat(d.path("org/m"))
	wantErrno(t, "org/m", err, syscall.ENOENT)
}

// A configured tree comes before what is found.
func TestStoresDoNotShadow(t *testing.T) {
	home := tempDir(t, "home")
	plant(t, filepath.Join(home, "hub"), snapshotOf("org/m", commit, map[string]any{"config.json": "{}", "model.safetensors": pattern{1, 1000}}))
	mine := pattern{2, 2000}
	d := start(t, append(discovering(t, home, "HF_HOME="+home), "--hf-endpoint", "", "--local", plainTree(t, "org/m", mine))...)
	checkReads(t, d.path("org/m/model.safetensors"), mine)
	d.stop()
	d = start(t, append(discovering(t, home, "HF_HOME="+home), "--hf-endpoint", "", "--shared", plainTree(t, "org/m", mine))...)
	checkReads(t, d.path("org/m/model.safetensors"), pattern{1, 1000}) // what is on this machine comes before what is shared
}

// shownIn are the names that a directory lists, sorted.
func shownIn(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	list := []string{}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// A directory that holds models of its own beside stores of other tools shows
// all of them, its own first; nothing of a store shows as a plain directory.
func TestMixedDirectory(t *testing.T) {
	t.Parallel()
	dir, mine := tempDir(t, "mixed"), pattern{61, 3000}
	plant(t, dir, map[string]any{"gpt2/model.safetensors": mine, "org/m/model.safetensors": mine, "loose.gguf": mine})
	plant(t, filepath.Join(dir, "hub"), merged(snapshotOf("org/m", commit, map[string]any{"model.safetensors": pattern{62, 4000}}),
		snapshotOf("org/other", commit, map[string]any{"model.safetensors": pattern{63, 4000}})))
	plant(t, filepath.Join(dir, "ollama"), ollamaModel("registry.ollama.ai/library/llama3.2/1b", pattern{64, 5000}, "t"))
	for _, flag := range []string{"--local", "--shared"} {
		d := start(t, "--hf-endpoint", "", flag, dir)
		if got, want := shownIn(t, d.mount), []string{"gpt2", "llama3.2:1b", "loose", "loose.gguf", "org"}; !slices.Equal(got, want) {
			t.Errorf("%s: ls shows %q, want %q", flag, got, want)
		}
		if got, want := shownIn(t, d.path("org")), []string{"m", "other"}; !slices.Equal(got, want) {
			t.Errorf("%s: ls org shows %q, want %q", flag, got, want)
		}
		for file, want := range map[string]pattern{"gpt2/model.safetensors": mine, "org/m/model.safetensors": mine, "loose/model.gguf": mine,
			"org/other/model.safetensors": {63, 4000}, "llama3.2:1b/model.gguf": {64, 5000}} {
			checkReads(t, d.path(file), want)
		}
		for _, name := range []string{"hub", "ollama", "ollama/blobs"} {
			_, err := os.Stat(d.path(name))
			wantErrno(t, name, err, syscall.ENOENT)
		}
		d.stop()
	}
}

// A link leads out of a tree or a store only to where the operator allows.
func TestLinksOutOfATree(t *testing.T) {
	t.Parallel()
	big, w := tempDir(t, "big"), pattern{66, 70_000}
	plant(t, big, map[string]any{"allowed/w.gguf": w, "secret/w.gguf": w, "dir/m/model.gguf": w})
	tree, hub, studio := tempDir(t, "tree"), filepath.Join(tempDir(t, "hub"), "hub"), filepath.Join(tempDir(t, "home"), ".lmstudio/models")
	in, out := link(big+"/allowed/w.gguf"), link(big+"/secret/w.gguf")
	plant(t, tree, map[string]any{"mine/in.gguf": in, "mine/out.gguf": out, "away": link(big + "/dir/m"), "hidden": link(big + "/secret")})
	plant(t, hub, merged(snapshotOf("org/m", commit, map[string]any{"config.json": "{}"}),
		map[string]any{"models--org--m/snapshots/" + commit + "/in.gguf": in, "models--org--m/snapshots/" + commit + "/out.gguf": out}))
	plant(t, studio, map[string]any{"pub/m/in.gguf": in, "pub/m/out.gguf": out})
	config := filepath.Join(big, "config.yaml")
	writeFile(t, config, fmt.Appendf(nil, "link_targets: [%s/allowed, %[1]s/dir]\n", big))
	trees := []string{"--hf-endpoint", "", "--local", tree, "--local", hub, "--local", studio}
	reachable := []string{"mine/in.gguf", "away/model.gguf", "org/m/in.gguf", "pub/m/in.gguf"}
	never := []string{"mine/out.gguf", "hidden/w.gguf", "org/m/out.gguf", "pub/m/out.gguf"}

	d := start(t, append(trees, "--config", config)...)
	for _, name := range reachable {
		checkReads(t, d.path(name), w)
	}
	if n := d.number("mount", "reads"); n != 0 {
		t.Errorf("the daemon received %d reads for files in place", n)
	}
	strict := start(t, trees...)
	for d, names := range map[*daemon][]string{d: never, strict: append(never, reachable...)} {
		for _, name := range names {
			_, err := os.Stat(d.path(name))
			wantErrno(t, name, err, syscall.ENOENT)
		}
	}
}
