package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/hubtest"
)

// everything is a repository with GGUF, safetensors, ONNX, metal and directml
// artifacts, some of them sets.
const (
	texts      = "README.md config.json metal/config.json model.safetensors.index.json onnx/config.json tokenizer.json"
	ggufSet    = " m-8B-Q4_K_M.gguf m-8B-BF16-00001-of-00002.gguf m-8B-BF16-00002-of-00002.gguf"
	tensorSet  = " model-00001-of-00002.safetensors model-00002-of-00002.safetensors"
	onnxSet    = " onnx/model.onnx onnx/model.onnx_data"
	metalSet   = " metal/model.bin model.metal.bin"
	dmlSet     = " directml/model.onnx directml/model.onnx.data model.directml.bin"
	everything = texts + ggufSet + tensorSet + onnxSet + metalSet + dmlSet
)

// everythingAt is the repository at a Hub, with shards of about so many bytes.
func everythingAt(t *testing.T, shard int64) (*hubtest.Hub, map[string]pattern) {
	hub := hubtest.New(t)
	repo, files := hubtest.Repo{ID: "org/everything"}, map[string]pattern{}
	for i, name := range strings.Fields(everything) {
		size := int64(30_000)
		if strings.HasPrefix(name, "model-0") {
			size = shard
		}
		files[name] = pattern{uint64(i), size + int64(i)}
		repo.Files = append(repo.Files, hubtest.File{Path: name, Content: files[name].content(), LFS: !strings.HasSuffix(name, "json")})
	}
	hub.AddRepo(repo)
	return hub, files
}

// asked are the files of the repository that the Hub was asked for, sorted.
func asked(hub *hubtest.Hub) []string {
	set := map[string]bool{}
	for _, q := range hub.Requests(hubtest.Filter{}) {
		if _, file, ok := strings.Cut(q.File, "org/everything/"); ok {
			set[file] = true
		}
	}
	list := []string{}
	for f := range set {
		list = append(list, f)
	}
	slices.Sort(list)
	return list
}

func words(s string) []string {
	list := strings.Fields(s)
	slices.Sort(list)
	return list
}

// For each backend the directory shows what it can use, a pull fetches that and
// nothing else, and the rest opens by name.
func TestFetchedForABackend(t *testing.T) {
	t.Parallel()
	for backend, want := range map[string]string{
		"cuda": texts + ggufSet + tensorSet + onnxSet, "rocm": texts + ggufSet + tensorSet + onnxSet,
		"metal": texts + ggufSet + tensorSet + onnxSet + metalSet, "vulkan": texts + ggufSet,
		"directml": texts + onnxSet + dmlSet, "cpu": texts + ggufSet + tensorSet + onnxSet,
		"intel": texts + ggufSet + tensorSet + onnxSet, "neuron": texts + tensorSet, "tpu": texts + tensorSet,
		"vulkan,directml": texts + ggufSet + onnxSet + dmlSet,
	} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			hub, files := everythingAt(t, 30_000)
			d := start(t, append(hubFlags(hub), "--backend", backend)...)
			alias := ""
			if strings.Contains(want, ".gguf") {
				alias = " model.gguf"
			}
			wantShown(t, d.path("org/everything"), want+alias)
			wantShown(t, d.path(".modelfs/all/org/everything"), everything+" model.gguf")
			if got := asked(hub); len(got) > 0 {
				t.Errorf("listing the directories asked for %v", got)
			}
			if _, errs, code := modelfs(t, "pull", "--cache", d.cache, "org/everything"); code != 0 {
				t.Fatalf("the pull exited with %d: %s", code, errs)
			}
			if diff := cmp.Diff(words(want), asked(hub)); diff != "" {
				t.Errorf("the pull asked for (-want +got):\n%s", diff)
			}
			for name, p := range files {
				checkReads(t, d.path("org/everything", name), p, "read")
			}
		})
	}
}

// Who reads one part of a set has the others fetched, if they are listed, and
// nothing of what is not. A hidden part that is opened by name is fetched alone.
func TestSiblingsForABackend(t *testing.T) {
	t.Parallel()
	for backend, want := range map[string]string{"cuda": tensorSet, "vulkan": " model-00001-of-00002.safetensors"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			hub, files := everythingAt(t, 20<<20) // reading one goes past its head
			d := start(t, append(hubFlags(hub), "--backend", backend)...)
			checkReads(t, d.path("org/everything/model-00001-of-00002.safetensors"), files["model-00001-of-00002.safetensors"], "read")
			d.completes("org/everything", "model-00001-of-00002.safetensors")
			eventually(t, "what belongs together is asked for", 20*time.Second, func() bool { return len(asked(hub)) >= len(words(want)) })
			eventually(t, "nothing is under way", 20*time.Second, func() bool { return len(d.control("status.json")["fills"].([]any)) == 0 })
			if diff := cmp.Diff(words(want), asked(hub)); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
		})
	}
}

// configured is a repository whose name and tags say nothing: only what the
// Hub has read of its config does.
func configured(id, config string, library string) hubtest.Repo {
	repo := hubRepo(id, pattern{uint64(id[len(id)-1]), 20_000}) // what is pinned of one must not be of another, too
	repo.Files[2].Path = "model.safetensors"
	repo.Library = library
	quant := map[string]any{}
	if config != "" {
		quant = map[string]any{"quantization_config": map[string]any{"quant_method": config, "bits": 4}, "model_type": "llama"}
	}
	repo.Extra = map[string]any{"config": quant}
	return repo
}

// Models of the Hub are judged by what it has read of their configs, from one
// start to the next without being asked for again; what is pinned is listed.
func TestRemoteModelsByTheirConfig(t *testing.T) {
	t.Parallel()
	hub := hubtest.New(t)
	for _, repo := range []hubtest.Repo{configured("org/a", "awq", ""), configured("org/b", "", ""), configured("org/c", "gptq", ""), configured("org/d", "", "mlx")} {
		hub.AddRepo(repo)
	}
	cache, ofModels := tempDir(t, "cache"), hubtest.Filter{Path: "/api/models/org/*"}
	flags := append(hubFlags(hub), "--backend", "metal")
	d := startOn(t, tempDir(t, "mnt"), cache, flags...)
	for _, name := range []string{"a", "b", "c", "d"} {
		if _, err := os.Stat(d.path("org", name, "config.json")); err != nil {
			t.Error(err)
		}
	}
	wantNames := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, shownIn(t, d.path("org"))); diff != "" {
			t.Errorf("the namespace (-want +got):\n%s", diff)
		}
	}
	wantNames("b", "d")
	if _, errs, code := modelfs(t, "pin", "--cache", cache, "org/a"); code != 0 {
		t.Fatalf("pin exited with %d: %s", code, errs)
	}
	wantNames("a", "b", "d")
	out, _, _ := modelfs(t, "ls", "-a", "--cache", cache, "org/c")
	wantIn(t, "ls -a", out, "gptq 4-bit", "nothing of it runs on metal", "cuda,rocm,intel,cpu")
	d.stop()
	before := len(hub.Requests(ofModels))
	d = startOn(t, tempDir(t, "mnt"), cache, flags...)
	wantNames("a", "b", "d")
	if n := len(hub.Requests(ofModels)) - before; n != 0 {
		t.Errorf("listing what is recorded cost %d requests", n)
	}
	if _, errs, code := modelfs(t, "unpin", "--cache", cache, "org/a"); code != 0 {
		t.Fatalf("unpin exited with %d: %s", code, errs)
	}
	wantNames("b", "d")
	checkReads(t, d.path("org/a/model.safetensors"), pattern{'a', 20_000}, "read") // by name it opens
	d.stop()
	d = startOn(t, tempDir(t, "mnt"), cache, append(hubFlags(hub), "--backend", "cuda")...)
	wantNames("a", "b", "c", "d")
}

// A tree's model is judged by the config that lies in it.
func TestLocalModelsByTheirConfig(t *testing.T) {
	t.Parallel()
	awq, mlx := []byte(`{"quantization_config":{"quant_method":"awq","bits":4}}`), []byte(`{"quantization":{"group_size":64,"bits":4}}`)
	tree := writeTree(t, map[string][]byte{
		"a/config.json": awq, "a/model.safetensors": []byte("x"), "b/config.json": mlx, "b/model.safetensors": []byte("x"),
		"c/config.json": []byte(`{"model_type":"llama"}`), "c/model.safetensors": []byte("x")})
	for backend, want := range map[string][]string{"cuda": {"a", "c"}, "metal": {"b", "c"}, "cpu": {"a", "b", "c"}} {
		for _, as := range []string{"--local", "--shared"} {
			d := start(t, "--hf-endpoint", "", "--backend", backend, as, tree)
			var got []string
			eventually(t, "all is decided", 20*time.Second, func() bool {
				got = without(shownIn(t, d.path()), "CACHEDIR.TAG")
				return slices.Equal(got, want)
			})
			d.stop()
		}
	}
}

// An operator's table of what runs where counts instead of the built-in one;
// a faulty one ends modelfs with 2, and the message says where it is wrong.
func TestBackendRules(t *testing.T) {
	t.Parallel()
	dir := tempDir(t, "rules")
	rules, settings := filepath.Join(dir, "rules.json"), filepath.Join(dir, "config.yaml")
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(settings, "backend_rules: "+rules+"\n")
	write(rules, `{"rules":[{"name":"mine","formats":["gguf"],"on":{"cuda":"no","metal":"yes"},"evidence":"tried"}]}`)
	tree := writeTree(t, map[string][]byte{"g/model.gguf": []byte("x"), "mac/model.metal.bin": []byte("x")})
	d := start(t, "--hf-endpoint", "", "--backend", "cuda", "--local", tree, "--config", settings)
	if diff := cmp.Diff([]string{"mac"}, without(shownIn(t, d.path()), "CACHEDIR.TAG")); diff != "" {
		t.Errorf("the root (-want +got):\n%s", diff)
	}
	wantShown(t, d.path("g"), "model.gguf")
	out, _, _ := modelfs(t, "ls", "-a", "--cache", d.cache, "g")
	wantIn(t, "ls -a", out, "nothing of it runs on cuda: gguf needs metal")
	for text, want := range map[string]string{
		"{": "unexpected EOF",
		`{"rules":[{"name":"mine","formats":["gufg"],"on":{},"evidence":"e"}]}`:               `rule 1 ("mine"): "gufg" is no format`,
		`{"rules":[{"name":"mine","formats":["gguf"],"on":{"cuda":"nope"},"evidence":"e"}]}`:  `"nope" on cuda is none of`,
		`{"rules":[{"name":"mine","formats":["gguf"],"on":{"abacus":"no"},"evidence":"e"}]}`:  `"abacus" is no backend`,
		`{"rules":[{"name":"mine","formats":["gguf"],"on":{"cuda":"no"},"evidense":"typo"}]}`: `unknown field "evidense"`,
	} {
		write(rules, text)
		for _, command := range [][]string{{"mount", tempDir(t, "mnt")}, {"ls"}, {"doctor"}} {
			_, errs, code := modelfs(t, append(command, "--config", settings, "--hf-endpoint", "", "--cache", filepath.Join(dir, "cache"))...)
			if code != 2 || !strings.Contains(errs, rules) || !strings.Contains(errs, want) {
				t.Errorf("%v with %s exited with %d: %s", command, text, code, errs)
			}
		}
	}
}

// A router that hangs costs a listing the lookup deadline at most, and not at
// all where it was listed before: that stands until it answers again.
func TestListingWithARouterThatHangs(t *testing.T) {
	t.Parallel()
	router := oldRouter(t)
	for i := range 3 {
		router.SetModel(routerModel(fmt.Sprintf("r%d", i), pattern{2, 70_000}))
	}
	cache, tree := tempDir(t, "cache"), writeTree(t, map[string][]byte{"here/model.gguf": []byte("x")})
	flags := []string{"--hf-endpoint", "", "--router", router.URL(), "--allow", router.URL() + "/*", "--local", tree, "--backend", "cpu"}
	d := startOn(t, tempDir(t, "mnt"), cache, flags...)
	wantRoot := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, without(shownIn(t, d.path()), "CACHEDIR.TAG")); diff != "" {
			t.Errorf("the root (-want +got):\n%s", diff)
		}
	}
	wantRoot("here", "r0", "r1", "r2")
	checkReads(t, d.path("r1/model.gguf"), pattern{2, 70_000}, "read")
	router.Fault(hubtest.Filter{}, hubtest.Always(), hubtest.Hang())
	defer router.ClearFaults()
	wantRoot("here", "r0", "r1", "r2")
	d.stop()
	d = startOn(t, tempDir(t, "mnt"), cache, flags...)
	for range 2 {
		took := timedLs(t, "-1U", d.mount)
		if took > onTime {
			t.Errorf("ls took %v", took)
		}
		wantRoot("here", "r1") // what is recorded of the router, since it says nothing
	}
	router.ClearFaults()
	eventually(t, "the router's models are listed again", 30*time.Second, func() bool { return slices.Contains(shownIn(t, d.path()), "r0") })
}
