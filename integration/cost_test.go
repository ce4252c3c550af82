package integration

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// optional are the names that engines try inside a model without knowing
// whether they are there.
var optional = strings.Fields(`adapter_config.json adapter_model.safetensors added_tokens.json chat_template.jinja chat_template.json
	consolidated.safetensors consolidated.safetensors.index.json consolidated.00.pth flax_model.msgpack generation_config.json hf_quant_config.json
	image_processor_config.json merges.txt model.bin model.metal.bin model.safetensors model.safetensors.index.json model_index.json modules.json
	params.json preprocessor_config.json processor_config.json pytorch_model.bin pytorch_model.bin.index.json quantize_config.json
	quant_config.json sentence_bert_config.json sentencepiece.bpe.model special_tokens_map.json spiece.model tekken.json tf_model.h5
	tokenizer.json tokenizer.model tokenizer.model.v3 tokenizer_config.json video_preprocessor_config.json vocab.json vocab.txt
	1_Pooling/config.json .git custom_generate/generate.py`)

func TestProbingInsideAModelCostsNothing(t *testing.T) {
	hub, router := hubtest.New(t), oldRouter(t)
	hub.AddRepo(hubRepo("org/m", pattern{1, 70_000}))
	hub.AddRepo(hubRepo("single", pattern{1, 70_000}))
	d := start(t, append(hubFlags(hub), "--router", router.URL())...)
	wantProbe(t, d.path("org/m"), 0)
	heard(t, router)
	for _, m := range []string{"org/m", "single"} {
		if got := inside(t, d.path(m)); len(got) != 4 {
			t.Fatalf("the model has %q", got)
		}
		hub.Reset()
		router.Reset()
		for _, name := range optional {
			if _, err := os.Open(d.path(m, name)); !os.IsNotExist(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := os.Stat(d.path(path.Dir(m), "adapter_config.json")); !os.IsNotExist(err) {
			t.Errorf("beside the model: %v", err)
		}
		if asked := append(hub.Requests(hubtest.Filter{}), router.Requests(hubtest.Filter{})...); len(asked) > 0 {
			t.Errorf("%d requests for optional files, such as %s", len(asked), asked[0].Path)
		}
	}
}

// Typos and probes, one at a time and all at once, at a Hub with its
// documented quota of 500: a name that was seen before opens at once, a new
// one that is refused is unknown and not absent, explain says why, and the
// next tries find it within seconds.
func TestUnknownNamesLeaveTheHubOpen(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		atOnce bool
	}{{"300 in a row", 300, false}, {"300 at once", 300, true}, {"1000 at once", 1000, true}} {
		t.Run(c.name, func(t *testing.T) {
			hub := hubtest.New(t)
			for i, id := range []string{"org/m", "org/new", "new"} {
				hub.AddRepo(hubRepo(id, pattern{uint64(i), 70_000}))
			}
			d := start(t, hubFlags(hub)...)
			wantProbe(t, d.path("org/m"), 0)
			absent := 0
			for _, p := range probes(t, probeJob{Call: "stat", AtOnce: c.atOnce, Paths: names(d, "typo", c.n)}) {
				switch p.Errno {
				case syscall.ENOENT:
					absent++
				case syscall.EHOSTUNREACH: // beyond what typos may spend
				default:
					t.Errorf("%s: %v", p.Path, errnoText(p.Errno))
				}
				if p.Took > crowdOnTime {
					t.Errorf("%s took %v", p.Path, p.Took)
				}
			}
			if absent < 50 {
				t.Errorf("only %d of %d names were answered", absent, c.n)
			}
			wantProbe(t, d.path("org/m/model.gguf"), 0)
			wantExplained(t, d)
			for _, name := range []string{"org/new", "new"} {
				eventually(t, "the next tries find "+name, 10*time.Second, func() bool {
					_, err := os.Stat(d.path(name, "model.gguf"))
					if err != nil && !errors.Is(err, syscall.EHOSTUNREACH) {
						t.Errorf("%s: %v", name, err)
					}
					return err == nil
				})
			}
			checkReads(t, d.path("org/m/model.gguf"), pattern{0, 70_000})
			checkReads(t, d.path("org/new/model.gguf"), pattern{1, 70_000})
			wantHalfOfTheQuota(t, hub)
		})
	}
}

// wantExplained finds a name that is refused for the quota: explain says so.
func wantExplained(t testing.TB, d *daemon) {
	t.Helper()
	tries := 0
	eventually(t, "a new name is refused, and explain names the quota", 5*time.Second, func() bool {
		tries++
		name := fmt.Sprintf("late-%d", tries)
		_, err := os.Stat(d.path(name))
		return errors.Is(err, syscall.EHOSTUNREACH) && strings.Contains(jsonText(d.control("explain/"+name+".json")), "quota; the next one may be made at")
	})
}

// wantHalfOfTheQuota fails if lookups took more than half of the quota of 500,
// or if the Hub refused one request.
func wantHalfOfTheQuota(t testing.TB, hub *hubtest.Hub) {
	t.Helper()
	lookups := 0
	for _, q := range hub.Requests(hubtest.Filter{Path: "/api/models*"}) {
		if q.Status == 429 {
			t.Errorf("%s was one too many", q.Path)
		}
		if !strings.Contains(q.Path, "/tree/") {
			lookups++
		}
	}
	if lookups > 250 {
		t.Errorf("lookups took %d of 500 requests", lookups)
	}
	t.Logf("%d lookups", lookups)
}

// What one model of the Hub costs, by each kind of name.
func TestWhatAHubModelCosts(t *testing.T) {
	for _, c := range []struct {
		name, id string
		renamed  []string
		api      int // requests
	}{
		{"org/m", "org/m", nil, 3},                             // is org a namespace, the info, the tree
		{"gpt2", "gpt2", nil, 3},                               // the same three
		{"gpt2", "openai-community/gpt2", []string{"gpt2"}, 4}, // and a redirect
		{"org/old-name", "org/m", []string{"org/old-name"}, 4},
		{"org/m@main", "org/m", nil, 3},
	} {
		t.Run(c.name+" is "+c.id, func(t *testing.T) {
			hub := hubtest.New(t)
			repo := hubRepo(c.id, pattern{1, 3 << 20})
			repo.Renamed = c.renamed
			commit := hub.AddRepo(repo)
			d := start(t, hubFlags(hub)...)
			checkReads(t, d.path(c.name, "model.gguf"), pattern{1, 3 << 20})
			for _, f := range []string{"config.json", "README.md"} {
				if _, err := os.ReadFile(d.path(c.name, f)); err != nil {
					t.Error(err)
				}
			}
			api := hub.Requests(hubtest.Filter{Host: hubtest.AtHub, Path: "/api/models*"})
			if len(api) > c.api {
				t.Errorf("%d API requests, want at most %d: %s", len(api), c.api, requestList(api))
			}
			for _, f := range repo.Files {
				asked := resolves(hub, "HEAD", f.Path)
				if len(asked) != 1 {
					t.Errorf("%d resolve requests for %s, want one: %s", len(asked), f.Path, requestList(asked))
				}
				if got := resolves(hub, "GET", f.Path); f.LFS && len(got) > 0 || len(got) > 1 {
					t.Errorf("more requests for %s: %s", f.Path, requestList(got))
				}
				for _, q := range asked {
					if !strings.Contains(q.Path, "/resolve/"+commit+"/") {
						t.Errorf("%s is not pinned to %s", q.Path, commit)
					}
				}
			}
			hub.SentAtMost(t, c.id+"/m-Q4_K_M.gguf", 1)
		})
	}
}

// resolves are the requests for a file's address. What git holds has no other
// address, so its content comes from there too: once.
func resolves(hub *hubtest.Hub, method, file string) []hubtest.Request {
	return hub.Requests(hubtest.Filter{Host: hubtest.AtHub, Method: method, Path: "/*/resolve/*/" + file})
}

func requestList(list []hubtest.Request) string {
	var b strings.Builder
	for _, q := range list {
		fmt.Fprintf(&b, "\n%s %s %v: %d", q.Method, q.Path, q.Query, q.Status)
	}
	return b.String()
}

// pushed is a Hub with a model of two shards, and a daemon that has read the
// first one, under the name, before another commit was pushed.
func pushed(t *testing.T, name string, flags ...string) (hub *hubtest.Hub, d *daemon, first string) {
	hub = hubtest.New(t)
	shards := func(a, b uint64) []hubtest.File {
		return []hubtest.File{{Path: "model-00001-of-00002.safetensors", Content: pattern{a, 50_000}.content(), LFS: true},
			{Path: "model-00002-of-00002.safetensors", Content: pattern{b, 60_000}.content(), LFS: true}}
	}
	first = hub.AddRepo(hubtest.Repo{ID: "org/m", Files: shards(1, 2)})
	d = start(t, append(flags, hubFlags(hub)...)...)
	checkReads(t, d.path(name+"/model-00001-of-00002.safetensors"), pattern{1, 50_000})
	hub.Push("org/m", shards(3, 4)...)
	return hub, d, first
}

// A push in the middle of a model changes nothing of it: its files are those
// of the commit that was looked up.
func TestMainIsPinnedToItsCommit(t *testing.T) {
	t.Parallel()
	hub, d, first := pushed(t, "org/m")
	checkReads(t, d.path("org/m/model-00002-of-00002.safetensors"), pattern{2, 60_000})
	checkReads(t, d.path("org/m@"+first+"/model-00002-of-00002.safetensors"), pattern{2, 60_000})
	checkReads(t, d.path("org/m@"+hub.Commit("org/m", "main")+"/model-00001-of-00002.safetensors"), pattern{3, 50_000})
}

func TestTheCommitOutlivesARestart(t *testing.T) {
	t.Parallel()
	settings := filepath.Join(tempDir(t, "settings"), "config.yaml")
	writeFile(t, settings, []byte("models: {llama: {hf: org/m}}\n"))
	for _, name := range []string{"org/m", "llama"} {
		hub, d, _ := pushed(t, name, "--config", settings)
		d.stop()
		again := startOn(t, d.mount, d.cache, append(hubFlags(hub), "--config", settings)...)
		checkReads(t, again.path(name+"/model-00001-of-00002.safetensors"), pattern{1, 50_000})
		checkReads(t, again.path(name+"/model-00002-of-00002.safetensors"), pattern{2, 60_000})
	}
}
