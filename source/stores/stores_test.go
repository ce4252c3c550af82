package stores

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

func TestLMStudio(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "x.gguf")
	must(t, os.WriteFile(outside, []byte("elsewhere"), 0o644))
	root := plant(t, map[string]string{
		"lmstudio-community/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf": "four",
		"lmstudio-community/Qwen3-8B-GGUF/Qwen3-8B-Q8_0.gguf":   "eight",
		"lmstudio-community/Qwen3-8B-GGUF/mmproj-Qwen3.gguf":    "eyes",
		"lmstudio-community/Qwen3-8B-GGUF/next.gguf.part":       "half",
		"mlx-community/Tiny-4bit/config.json":                   "{}",
		"mlx-community/Tiny-4bit/model.safetensors":             "weights",
		"mlx-community/Half/model-00001-of-00002.safetensors":   "one",
		"mlx-community/Empty/":                                  "",
		"me/linked/in.gguf":                                     "->../../lmstudio-community/Qwen3-8B-GGUF/Qwen3-8B-Q8_0.gguf",
		"me/linked/out.gguf":                                    "->" + outside,
		"me/linked/gone.gguf":                                   "->nothing.gguf",
		"me/level.gguf":                                         "too high",
		"top.gguf":                                              "too high",
		".internal/x/y.gguf":                                    "hidden",
	})
	age(t, root)
	s := source(t, LMStudio, root)
	expect(t, s,
		[]string{"model lmstudio-community/Qwen3-8B-GGUF", "model me/linked", "model mlx-community/Half", "model mlx-community/Tiny-4bit"},
		map[string]string{
			"lmstudio-community":                    "namespace lmstudio-community",
			"LMstudio-community/qwen3-8b-gguf":      "model lmstudio-community/Qwen3-8B-GGUF",
			"lmstudio-community/Qwen3-8B-GGUF:q8_0": "model lmstudio-community/Qwen3-8B-GGUF",
			"lmstudio-community/Qwen3-8B-GGUF:Q2_K": "not found",
			"lmstudio-community/Qwen3-8B-GGUF@main": "not found",
			"mlx-community/Half":                    "model mlx-community/Half BROKEN model-00002-of-00002.safetensors of the set is missing",
			"mlx-community/Empty":                   "not found",
			"me/level.gguf":                         "not found",
			"top.gguf":                              "not found",
			"top":                                   "not found",
			"nobody/x":                              "not found",
		},
		map[string]map[string]string{
			"lmstudio-community/Qwen3-8B-GGUF": {"Qwen3-8B-Q4_K_M.gguf": "four", "Qwen3-8B-Q8_0.gguf": "eight", "mmproj-Qwen3.gguf": "eyes"},
			"mlx-community/Tiny-4bit":          {"config.json": "{}", "model.safetensors": "weights"},
			"me/linked":                        {"in.gguf": "eight"},
		})
	put(t, root, "new/model/m.gguf", "new")
	must(t, os.RemoveAll(filepath.Join(root, "me")))
	if d := cmp.Diff([]string{"model lmstudio-community/Qwen3-8B-GGUF", "model mlx-community/Half", "model mlx-community/Tiny-4bit", "model new/model"}, names(t, s)); d != "" {
		t.Errorf("after changes:\n%s", d)
	}
	if got := outcome(find(t, s, "me/linked")); got != "not found" {
		t.Error(got)
	}
}

const commitA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func TestModelScope(t *testing.T) {
	s := source(t, ModelScope, plant(t, map[string]string{
		"models/Qwen--Qwen3-8B/snapshots/master/config.json":                   "{}",
		"models/Qwen--Qwen3-8B/snapshots/master/model.safetensors":             "new",
		"models/Qwen--Qwen3-8B/snapshots/master/model2.safetensors.incomplete": "half",
		"models/Qwen--Qwen3-8B/snapshots/master/m.bin.parallel_tmp":            "half",
		"models/Qwen--Qwen3-8B/snapshots/v1.0/model.safetensors":               "old",
		"models/Qwen--pinned/snapshots/" + commitA + "/model.gguf":             "pinned",
		"models/Qwen--two/snapshots/a/model.gguf":                              "a",
		"models/Qwen--two/snapshots/b/model.gguf":                              "b",
		"models/Qwen--none/snapshots/":                                         "",
		"models/legacy/Llama-3___2-1B/model.safetensors":                       "legacy",
		"models/legacy/Llama-3___2-1B/.msc":                                    "x",
		"models/._____temp/legacy/X/model.gguf":                                "half",
		"hub/models/older/M2___5/model.gguf":                                   "older",
		"hub/models/Qwen/Qwen3-8B/model.safetensors":                           "the copy that the client goes on using",
		"hub/oldest/GGUF/m-Q4_K_M.gguf":                                        "oldest",
		"hub/datasets/acme/x.bin":                                              "data",
		"datasets/acme--data/snapshots/master/x.bin":                           "data",
		"credentials/token":                                                    "secret",
	}))
	expect(t, s,
		[]string{"model Qwen/Qwen3-8B", "model Qwen/pinned", "model legacy/Llama-3.2-1B", "model older/M2.5", "model oldest/GGUF"},
		map[string]string{
			"Qwen":                  "namespace Qwen",
			"Qwen/Qwen3-8B@v1.0":    "model Qwen/Qwen3-8B",
			"Qwen/Qwen3-8B@v2":      "not found",
			"Qwen/two":              "not found",
			"Qwen/two@b":            "model Qwen/two",
			"Qwen/none":             "not found",
			"legacy/Llama-3___2-1B": "not found",
			"legacy/llama-3.2-1b":   "model legacy/Llama-3.2-1B",
			"oldest/GGUF:Q4_K_M":    "model oldest/GGUF",
			"datasets":              "not found",
			"acme/data":             "not found",
		},
		map[string]map[string]string{
			"Qwen/Qwen3-8B":        {"model.safetensors": "the copy that the client goes on using"},
			"Qwen/Qwen3-8B@master": {"config.json": "{}", "model.safetensors": "new"},
			"Qwen/Qwen3-8B@v1.0":   {"model.safetensors": "old"},
			"Qwen/two@b":           {"model.gguf": "b"},
			"legacy/Llama-3.2-1B":  {"model.safetensors": "legacy"},
			"older/M2.5":           {"model.gguf": "older"},
		})
	if f, err := find(t, s, "Qwen/pinned"); err != nil || f.Revision != commitA {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err := find(t, s, "Qwen/Qwen3-8B@v1.0"); err != nil || f.Revision != "" {
		t.Errorf("a tag is no commit: %+v, %v", f, err)
	}
}

func TestLlamaCpp(t *testing.T) {
	s := source(t, LlamaCpp, plant(t, map[string]string{
		"ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf":      "gemma",
		"ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf.etag": `"etag"`,
		"ggml-org_gemma-3-1b-it-GGUF_mmproj-model-f16.gguf":          "eyes",
		"manifest=ggml-org=gemma-3-1b-it-GGUF=latest.json":           `{"ggufFile":{"rfilename":"gemma-3-1b-it-Q4_K_M.gguf"},"mmprojFile":{"rfilename":"mmproj-model-f16.gguf"}}`,
		"a_b_c_d_e.gguf":                            "sidecar",
		"a_b_c_d_e.gguf.json":                       `{"etag":"x","lastModified":"y","url":"https://huggingface.co/a_b/c/resolve/main/d/e.gguf"}`,
		"big_GGUF_Q4_big-00001-of-00002.gguf":       "one",
		"big_GGUF_Q4_big-00002-of-00002.gguf":       "two",
		"manifest=big=GGUF=Q4.json":                 `{"ggufFile":{"rfilename":"Q4/big-00001-of-00002.gguf"}}`,
		"half_GGUF_h-00001-of-00003.gguf":           "one",
		"manifest=half=GGUF=latest.json":            `{"ggufFile":{"rfilename":"h-00001-of-00003.gguf"}}`,
		"ai_smollm2_135M-Q4_0.gguf":                 "docker",
		"evil_x_y.gguf":                             "evil",
		"evil_x_y.gguf.json":                        `{"url":"https://huggingface.co/evil/../resolve/main/x_y.gguf"}`,
		"manifest=..=..=x.json":                     `{"ggufFile":{"rfilename":"../../etc/passwd"}}`,
		"manifest=big.json":                         `[`,
		"unfinished_GGUF_u.gguf.downloadInProgress": "half",
		"notes.txt":                                 "text",
	}))
	expect(t, s,
		[]string{"model a_b/c", "model ai_smollm2_135M-Q4_0", "file ai_smollm2_135M-Q4_0.gguf", "model big/GGUF", "model evil_x_y", "file evil_x_y.gguf",
			"model ggml-org/gemma-3-1b-it-GGUF", "model half/GGUF"},
		map[string]string{
			"ggml-org":                           "namespace ggml-org",
			"ggml-org/gemma-3-1b-it-GGUF:Q4_K_M": "model ggml-org/gemma-3-1b-it-GGUF",
			"half/GGUF":                          "model half/GGUF BROKEN h-00002-of-00003.gguf of the set is missing",
			"unfinished":                         "not found",
			"evil":                               "not found",
		},
		map[string]map[string]string{
			"ggml-org/gemma-3-1b-it-GGUF": {"gemma-3-1b-it-Q4_K_M.gguf": "gemma", "mmproj-model-f16.gguf": "eyes"},
			"a_b/c":                       {"d/e.gguf": "sidecar"},
			"big/GGUF":                    {"Q4/big-00001-of-00002.gguf": "one", "Q4/big-00002-of-00002.gguf": "two"},
			"ai_smollm2_135M-Q4_0":        {"model.gguf": "docker"},
			"ai_smollm2_135M-Q4_0.gguf":   {"ai_smollm2_135M-Q4_0.gguf": "docker"},
		})
}

func TestNode(t *testing.T) {
	s := source(t, Node, plant(t, map[string]string{
		"gpt-oss-20b/model.gguf":         "gguf",
		"gpt-oss-20b/model.gguf.lock":    "",
		"gpt-oss-20b/manifest.json":      `{"format":"gguf","quantization":"Q4_K_M","files":[{"name":"model.gguf"},{"name":"model.metal.bin"},{"name":"extra","optional":true}]}`,
		"gpt-oss-20b/manifest.json.lock": "",
		"gpt-oss-20b/x.lock.lock/y":      "",
		"qwen/qwen2.5/config.json":       "{}",
		"qwen/qwen2.5/tokenizer.json":    "{}",
		"qwen/qwen2.5/model.safetensors": "weights",
		"qwen/notok/config.json":         "{}",
		"qwen/notok/model.safetensors":   "weights",
		"qwen/listed/model.gguf":         "gguf",
		"qwen/listed/manifest.json":      `{"format":"gguf","files":[{"name":"model.gguf"},{"name":"mmproj.gguf"},{"name":"../../x"}]}`,
		"qwen/wrong/model.gguf":          "gguf",
		"qwen/wrong/manifest.json":       `{"formats":["safetensors"]}`,
		"qwen/badjson/model.gguf":        "gguf",
		"qwen/badjson/manifest.json":     `{`,
		"empty/model.gguf":               "",
		"oss/metal/model.bin":            "metal",
		"oss/config.json":                "{}",
		"onlymetal/model.metal.bin":      "metal",
		"whisper/ggml-base.bin":          "bin",
		"partial/model.gguf.partial":     "half",
		".etag_cache.json":               "{}",
	}))
	expect(t, s,
		[]string{"model empty", "model gpt-oss-20b", "model onlymetal", "model oss", "model qwen/badjson", "model qwen/listed", "model qwen/notok", "model qwen/qwen2.5",
			"model qwen/wrong", "model whisper"},
		map[string]string{
			"GPT-OSS-20B":        "model gpt-oss-20b",
			"gpt-oss-20b:Q4_K_M": "model gpt-oss-20b",
			"gpt-oss-20b:Q8_0":   "not found",
			"Qwen/Qwen2.5":       "model qwen/qwen2.5",
			"qwen":               "namespace qwen",
			"qwen/notok":         "model qwen/notok BROKEN tokenizer.json is missing",
			"qwen/listed":        "model qwen/listed BROKEN mmproj.gguf is missing, which its manifest lists",
			"qwen/wrong":         "model qwen/wrong BROKEN it holds nothing of the formats in its manifest",
			"qwen/badjson":       "model qwen/badjson",
			"empty":              "model empty BROKEN model.gguf is empty",
			"oss":                "model oss BROKEN it holds no weights",
			"oss/metal":          "not found",
			"onlymetal":          "model onlymetal BROKEN it holds no weights",
			"whisper":            "model whisper",
			"partial":            "not found",
		},
		map[string]map[string]string{
			"qwen/qwen2.5": {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "weights"},
			"whisper":      {"ggml-base.bin": "bin"},
		})
	if _, files := list(t, s, "gpt-oss-20b"); len(files) != 2 || files["model.gguf"] != "gguf" {
		t.Errorf("%v", files)
	}
}

func TestNew(t *testing.T) {
	for _, c := range []struct {
		l Layout
		c Config
	}{{"", Config{Root: "/x"}}, {"other", Config{Root: "/x"}}, {Docker, Config{}}, {Docker, Config{Root: "/x", Kind: model.Hub}}} {
		if _, err := New(c.l, c.c); !model.IsKind(err, model.Invalid) {
			t.Errorf("%v: %v", c, err)
		}
	}
	for l := range shelves {
		s := source(t, l, filepath.Join(t.TempDir(), "none"))
		if got := outcome(find(t, s, "a/b")); got != "not found" {
			t.Errorf("%s: %s", l, got)
		}
		if got := names(t, s); got != nil {
			t.Errorf("%s: %v", l, got)
		}
		if err := s.Refresh(context.Background()); err != nil && !model.IsKind(err, model.NotFound) {
			t.Errorf("%s: %v", l, err)
		}
		shared, err := New(l, Config{Root: filepath.Join(t.TempDir(), "none"), Kind: model.Shared})
		must(t, err)
		if got := outcome(find(t, shared, "a/b")); got != "unavailable" {
			t.Errorf("%s, shared: %s", l, got)
		}
		shared.Close()
	}
}

// After a restart a file is found again by the path that its place had.
func TestAt(t *testing.T) {
	root := plant(t, map[string]string{"acme/m/config.json": "{}", "acme/m/model.safetensors": "weights", "acme/m/twin.safetensors": "->model.safetensors"})
	s := source(t, LMStudio, root)
	m, _ := list(t, s, "acme/m")
	if len(m.Files) != 3 {
		t.Errorf("%d files", len(m.Files))
	}
	for _, f := range m.Files {
		p := s.At(f.Place.Path())
		if p == nil || p.Path() != f.Place.Path() || readAll(t, p) != readAll(t, f.Place) {
			t.Errorf("%s is found as %v", f.Path, p)
		}
	}
	if p := s.At(root + "2/acme/m/config.json"); p != nil {
		t.Errorf("outside: %s", p.Path())
	}
}
