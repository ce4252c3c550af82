package directory

import (
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// The tree of the tables below: every form that a name can have.
var zoo = map[string]string{
	"gpt2/config.json":                          "{}",
	"gpt2/model.safetensors":                    "weights",
	"Qwen/Qwen3-8B/model.gguf":                  "weights",
	"Qwen/Empty/":                               "",
	"Qwen/Notes/README.md":                      "text",
	"Qwen/OnlyConfig/config.json":               "{}",
	"Qwen/deep/a/b/model.onnx":                  "weights",
	"unsloth/G-GGUF/G-Q4_K_M.gguf":              "weights",
	"unsloth/G-GGUF/G-Q8_0.gguf":                "weights",
	"unsloth/G-GGUF/BF16/G-00001-of-00002.gguf": "weights",
	"unsloth/G-GGUF/BF16/G-00002-of-00002.gguf": "weights",
	"docs/README.md":                            "text",
	"diffuser/model_index.json":                 "{}",
	"diffuser/unet/model.safetensors":           "weights",
	"case/ONE/model.gguf":                       "weights",
	"case/one/model.gguf":                       "weights",
	"loose.gguf":                                "weights",
	"Big.Q4_K_M.gguf":                           "weights",
	"plain.safetensors":                         "weights",
	"both.gguf":                                 "weights",
	"both/model.gguf":                           "weights",
	"two.bin":                                   "weights",
	"two.gguf":                                  "weights",
	"part-00001-of-00002.gguf":                  "weights",
	"mmproj-x.gguf":                             "weights",
	"notes.txt":                                 "text",
	"llama3:8b/model.gguf":                      "weights",
	"trainer/optimizer.pt":                      "state",
	"trainer/training_args.bin":                 "state",
	"partial/model.gguf.partial":                "half",
	".hidden/model.gguf":                        "weights",
	"empty/":                                    "",
}

func TestFind(t *testing.T) {
	tree := maps.Clone(zoo)
	tree["apple/M.mlpackage/Data/weight.bin"] = "weights"
	s := local(t, plant(t, tree))
	for name, want := range map[string]string{
		"gpt2":                       "model gpt2",
		"GPT2":                       "model gpt2",
		"gpt2/model.safetensors":     "not found",
		"apple":                      "model apple",
		"apple/M.mlpackage":          "not found",
		"gpt2@main":                  "not found",
		"Qwen":                       "namespace Qwen",
		"qwen":                       "namespace Qwen",
		"qwen:Q4_K_M":                "not found",
		"Qwen/Qwen3-8B":              "model Qwen/Qwen3-8B",
		"qwen/qwen3-8b":              "model Qwen/Qwen3-8B",
		"Qwen/Empty":                 "not found",
		"Qwen/Notes":                 "not found",
		"Qwen/OnlyConfig":            "model Qwen/OnlyConfig BROKEN it holds no weights",
		"Qwen/deep":                  "model Qwen/deep",
		"Qwen/absent":                "not found",
		"unsloth/G-GGUF":             "model unsloth/G-GGUF",
		"unsloth/G-GGUF:Q4_K_M":      "model unsloth/G-GGUF",
		"unsloth/G-GGUF:q4_k_m":      "model unsloth/G-GGUF",
		"unsloth/G-GGUF:BF16":        "model unsloth/G-GGUF",
		"unsloth/G-GGUF:Q4_K":        "not found",
		"unsloth/G-GGUF:Q4_K_M@main": "not found",
		"gpt2:Q4_K_M":                "not found",
		"docs":                       "not found",
		"diffuser":                   "model diffuser",
		"diffuser/unet":              "not found",
		"case/ONE":                   "model case/ONE",
		"case/one":                   "model case/one",
		"case/One":                   "not found",
		"loose.gguf":                 "file loose.gguf",
		"LOOSE.gguf":                 "file loose.gguf",
		"loose":                      "model loose",
		"Loose":                      "model loose",
		"loose:Q8_0":                 "not found",
		"Big.Q4_K_M:Q4_K_M":          "model Big.Q4_K_M",
		"plain":                      "model plain",
		"both":                       "model both",
		"both.gguf":                  "file both.gguf",
		"two":                        "model two",
		"part-00001-of-00002.gguf":   "file part-00001-of-00002.gguf BROKEN part-00002-of-00002.gguf of the set is missing",
		"part-00001-of-00002":        "not found",
		"mmproj-x":                   "not found",
		"mmproj-x.gguf":              "file mmproj-x.gguf",
		"notes.txt":                  "not found",
		"llama3:8b":                  "model llama3:8b",
		"llama3":                     "not found",
		"trainer":                    "not found",
		"partial":                    "not found",
		"empty":                      "not found",
		"absent":                     "not found",
		"absent/absent":              "not found",
	} {
		if got := outcome(find(t, s, name)); got != want {
			t.Errorf("Find(%s) = %s, want %s", name, got, want)
		}
	}
}

func TestBroken(t *testing.T) {
	index := `{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`
	for name, c := range map[string]struct {
		files map[string]string
		want  string // part of the reason; "" for a whole model
	}{
		"empty file":       {map[string]string{"model.gguf": ""}, "model.gguf is empty"},
		"pointer":          {map[string]string{"model.safetensors": pointer, "config.json": "{}"}, "Git-LFS pointer"},
		"one of two":       {map[string]string{"a.gguf": "weights", "b.gguf": pointer}, "b.gguf is a Git-LFS pointer"},
		"small but real":   {map[string]string{"model.gguf": "GGUF"}, ""},
		"split whole":      {map[string]string{"m-00001-of-00002.gguf": "w", "m-00002-of-00002.gguf": "w"}, ""},
		"split gap":        {map[string]string{"m-00001-of-00003.gguf": "w", "m-00003-of-00003.gguf": "w"}, "m-00002-of-00003.gguf of the set is missing"},
		"split huge total": {map[string]string{"m-00001-of-99999.gguf": "w"}, "m-00002-of-99999.gguf of the set is missing"},
		"split empty part": {map[string]string{"m-00001-of-00002.gguf": "w", "m-00002-of-00002.gguf": ""}, "is empty"},
		"index whole": {map[string]string{"model.safetensors.index.json": index,
			"model-00001-of-00002.safetensors": "w", "model-00002-of-00002.safetensors": "w"}, ""},
		"index missing": {map[string]string{"model.safetensors.index.json": `{"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}`,
			"x.safetensors": "w"}, "y.safetensors of the set is missing"},
		"index in a folder": {map[string]string{"unet/m.safetensors.index.json": `{"weight_map":{"a":"x.safetensors"}}`,
			"unet/x.safetensors": "w", "model_index.json": "{}"}, ""},
		"index of odd names": {map[string]string{"m.bin.index.json": `{"weight_map":{"a":"w.dat"}}`, "w.dat": "", "x.bin": "w"}, "w.dat is empty"},
		"index malformed":    {map[string]string{"m.safetensors.index.json": `{"weight_map":[1]}`, "x.safetensors": "w"}, "can't be used"},
		"index hostile":      {map[string]string{"m.safetensors.index.json": `{"weight_map":{"a":"../../x"}}`, "x.safetensors": "w"}, "names the part"},
		"index empty":        {map[string]string{"m.safetensors.index.json": `{}`, "x.safetensors": "w"}, ""},
		"no weights":         {map[string]string{"config.json": "{}"}, "holds no weights"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := make(map[string]string)
			for f, content := range c.files {
				tree["org/repo/"+f] = content
				tree["top/"+f] = content
			}
			s := local(t, plant(t, tree))
			for _, n := range []string{"org/repo", "top"} {
				f, err := find(t, s, n)
				must(t, err)
				if (c.want == "") != (f.Broken == "") || !strings.Contains(f.Broken, c.want) {
					t.Errorf("%s: broken = %q, want %q", n, f.Broken, c.want)
				}
			}
		})
	}
}

// Only the files of the quantisation that was asked for have to be whole.
func TestQuantIsJudgedAlone(t *testing.T) {
	s := local(t, plant(t, map[string]string{"m/m-Q4_K_M.gguf": "w", "m/m-Q8_0.gguf": pointer}))
	for name, broken := range map[string]bool{"m": true, "m:Q4_K_M": false, "m:Q8_0": true} {
		f, err := find(t, s, name)
		must(t, err)
		if got := f.Broken != ""; got != broken {
			t.Errorf("%s: broken = %q", name, f.Broken)
		}
	}
}

func TestNames(t *testing.T) {
	s := local(t, plant(t, zoo))
	var got []string
	found, err := s.Names(context.Background())
	must(t, err)
	for _, f := range found {
		got = append(got, outcome(f, nil))
		if _, err := find(t, s, f.Name); err != nil {
			t.Errorf("%s is listed and not found: %v", f.Name, err)
		}
	}
	want := []string{"model Big.Q4_K_M", "file Big.Q4_K_M.gguf", "model Qwen/Qwen3-8B", "model Qwen/deep", "model both",
		"file both.gguf", "model case/ONE", "model case/one", "model diffuser", "model gpt2", "model llama3:8b", "model loose",
		"file loose.gguf", "file mmproj-x.gguf", "file part-00001-of-00002.gguf", "model plain", "file plain.safetensors",
		"model two", "file two.bin", "file two.gguf", "model unsloth/G-GGUF"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMissingRoot(t *testing.T) {
	gone := t.TempDir() + "/gone"
	l, sh := local(t, gone), source(t, gone, model.Shared)
	if got := outcome(find(t, l, "x")); got != "not found" {
		t.Errorf("local: %s", got)
	}
	if got := outcome(find(t, sh, "x")); got != "unavailable" {
		t.Errorf("shared: %s", got)
	}
	if names, err := l.Names(context.Background()); err != nil || len(names) != 0 {
		t.Errorf("local names: %v, %v", names, err)
	}
	if _, err := sh.Names(context.Background()); !model.IsKind(err, model.Unavailable) {
		t.Errorf("shared names: %v", err)
	}
}

// A file of a listing is unknown, not absent, once its share is gone.
func TestPlaceOfAShareThatIsGone(t *testing.T) {
	root := plant(t, map[string]string{"m/model.gguf": "w", "m/other.gguf": "w"})
	s := source(t, root, model.Shared)
	m := list(t, s, "m")
	must(t, removeAll(root+"/m/other.gguf"))
	if _, err := m.File("other.gguf").Place.Stat(context.Background()); !model.IsKind(err, model.NotFound) {
		t.Errorf("removed file: %v", err)
	}
	must(t, removeAll(root))
	if _, err := m.File("model.gguf").Place.Stat(context.Background()); !model.IsKind(err, model.Unavailable) {
		t.Errorf("removed share: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []Config{{Kind: model.Local}, {Root: "/x", Kind: model.Hub}} {
		if _, err := New(c); !model.IsKind(err, model.Invalid) {
			t.Errorf("New(%+v): %v", c, err)
		}
	}
}
