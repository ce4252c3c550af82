package describe

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
	"modelfs/resolver"
)

func machineFor(t *testing.T, backends string) Machine {
	t.Helper()
	m, err := LookAt(backends, "")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// repo is a model of files, separated by spaces.
func repo(name, files string) *model.Model {
	m := &model.Model{Name: name, Source: "hub:x", Kind: model.Hub}
	for _, p := range strings.Fields(files) {
		m.Files = append(m.Files, model.File{Path: p, Size: 1, Key: model.GitKey(name, p, 1)})
	}
	m.Files, _ = model.Listing(m.Files)
	return m
}

func never(model.Key) bool { return false }

func filterFor(t *testing.T, backends string) func(*model.Model, string) resolver.Filtered {
	t.Helper()
	return New(machineFor(t, backends), never).Filter
}

func TestFilter(t *testing.T) {
	for _, tt := range []struct {
		name, backends, files, quant string
		hidden                       string
		runs                         bool
		why                          string
	}{
		{name: "a/m", backends: "cuda", files: "config.json m.gguf model.metal.bin", hidden: "model.metal.bin", runs: true, why: "needs metal"},
		{name: "a/m", backends: "metal", files: "config.json m.gguf model.metal.bin", runs: true},
		{name: "a/tiny-mlx-4bit", backends: "cuda", files: "config.json model.safetensors", why: "nothing of it runs on cuda"},
		{name: "a/m", backends: "cuda", files: "README.md m-Q4_K_M.gguf m-Q8_0.gguf mmproj-F16.gguf", quant: "Q8_0", hidden: "m-Q4_K_M.gguf", runs: true,
			why: "weights that are not Q8_0"},
		{name: "a/m", backends: "cuda", files: "m-Q4_K_M.gguf m-Q8_0.gguf model.metal.bin", quant: "q8_0", hidden: "m-Q4_K_M.gguf model.metal.bin", runs: true,
			why: "weights that are not q8_0"},
		{name: "a/m", backends: "cuda", files: "m-Q4_K_M.gguf m-Q8_0.gguf", quant: "Q2_K", runs: true},
		{name: "a/m", backends: "tpu", files: "m-Q4_K_M.gguf model.safetensors", quant: "Q4_K_M", hidden: "model.safetensors", runs: true,
			why: "weights that are not Q4_K_M"}, // what is asked for is listed, though nothing runs it
	} {
		f := filterFor(t, tt.backends)
		for range 2 { // from memory the second time
			got := f(repo(tt.name, tt.files), tt.quant)
			if diff := cmp.Diff(strings.Fields(tt.hidden), slices.Sorted(maps.Keys(got.Hidden))); diff != "" && tt.hidden+strings.Join(slices.Sorted(maps.Keys(got.Hidden)), "") != "" {
				t.Errorf("%s on %s, %q: %s", tt.files, tt.backends, tt.quant, diff)
			}
			if got.Runs != tt.runs || !strings.Contains(got.Why, tt.why) || (got.Why == "") != (tt.why == "") {
				t.Errorf("%s on %s, %q: %+v", tt.files, tt.backends, tt.quant, got)
			}
		}
	}
	for _, all := range []string{"all", "cuda,all"} {
		if got := filterFor(t, all)(repo("a/m", "m-Q4_0.gguf m-Q8_0.gguf model.metal.bin"), "Q8_0"); got.Hidden != nil || !got.Runs || got.Why != "" {
			t.Errorf("something is left out where everything is shown: %+v", got)
		}
	}
}

// What is remembered is remembered of the same listing only.
func TestFilterNoticesAnotherListing(t *testing.T) {
	f := filterFor(t, "cuda")
	m := repo("a/m", "model.metal.bin")
	if f(m, "").Runs {
		t.Error("it runs")
	}
	if !f(repo("a/m", "model.metal.bin model.gguf"), "").Runs {
		t.Error("it does not run with a GGUF beside")
	}
	sized := repo("a/m", "model.metal.bin model.gguf")
	sized.Files[0].Size = 0
	if got := f(sized, ""); got.Hidden != nil {
		t.Errorf("an empty GGUF is all that is left: %+v", got)
	}
	for i := range maxJudged + 1 {
		f(repo("a/"+strings.Repeat("x", i%50), strings.Repeat("y", i/50+1)), "")
	}
	if f(m, "").Runs {
		t.Error("it runs after much else")
	}
}

func TestPinnedIsListed(t *testing.T) {
	m := repo("a/m", "config.json model.metal.bin")
	pinned := map[model.Key]bool{}
	f := New(machineFor(t, "cuda"), func(k model.Key) bool { return pinned[k] }).Filter
	if f(m, "").Runs {
		t.Error("it is listed")
	}
	pinned[m.File("model.metal.bin").Key] = true
	if got := f(m, ""); !got.Runs || got.Hidden != nil {
		t.Errorf("it is pinned: %+v", got)
	}
	clear(pinned)
	if f(m, "").Runs {
		t.Error("it is listed after it was released")
	}
	m.Files[0].SHA256 = "aa"
	pinned[model.SHA256Key("aa")] = true
	if !f(m, "").Runs {
		t.Error("it is pinned by hash")
	}
	m.Kind = model.Local
	if f(m, "").Runs {
		t.Error("a tree's model is never pinned")
	}
}

func TestLookAtMachine(t *testing.T) {
	if got := machineFor(t, "cuda, openvino").Names(); !slices.Equal(got, []string{"cuda", "intel"}) {
		t.Errorf("%v", got)
	}
	if got := machineFor(t, "auto").Names(); len(got) == 0 || got[0] == "" {
		t.Errorf("nothing was detected: %v", got)
	}
	file := filepath.Join(t.TempDir(), "rules.json")
	for text, want := range map[string]bool{`{"rules":[{"name":"n","formats":["gguf"],"on":{"cuda":"no"},"evidence":"e"}]}`: true, `{`: false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := LookAt("cuda", file)
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", text, err)
		}
		if want && New(m, never).Filter(repo("a/m", "m.gguf"), "").Runs {
			t.Error("the file's rules are not used")
		}
	}
	for _, args := range [][2]string{{"abacus", ""}, {"cuda", file + ".none"}} {
		if _, err := LookAt(args[0], args[1]); !model.IsKind(err, model.Invalid) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
