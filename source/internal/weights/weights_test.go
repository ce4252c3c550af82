package weights

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/format"
	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// files is a Reader of contents.
type files map[string]string

func (f files) Size(p string) (int64, error) {
	c, ok := f[p]
	if !ok {
		return 0, model.Errorf(model.NotFound, "%s", p)
	}
	if c == "!" {
		return 0, errors.New("the disk is gone")
	}
	return int64(len(c)), nil
}

func (f files) Head(p string, n int64) ([]byte, error) {
	return []byte(f[p])[:min(n, int64(len(f[p])))], nil
}

const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:x\nsize 1\n"

func TestJudge(t *testing.T) {
	index := `{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}`
	for label, c := range map[string]struct {
		have  files
		quant string
		want  string
	}{
		"whole":                {have: files{"config.json": "{}", "m.gguf": "w"}},
		"nothing":              {have: files{"config.json": "{}", "tokenizer.bin": "x"}, want: "it holds no weights"},
		"empty":                {have: files{"m.gguf": ""}, want: "m.gguf is empty"},
		"pointer":              {have: files{"m.gguf": pointer}, want: "m.gguf is a Git-LFS pointer, not the file itself; run git lfs pull"},
		"not a pointer":        {have: files{"m.gguf": pointer + strings.Repeat("x", 2000)}},
		"a part is missing":    {have: files{"m-00002-of-00003.gguf": "w", "m-00001-of-00003.gguf": "w"}, want: "m-00003-of-00003.gguf of the set is missing"},
		"all parts":            {have: files{"m-00002-of-00002.gguf": "w", "m-00001-of-00002.gguf": "w"}},
		"index":                {have: files{"model.safetensors.index.json": index, "m-1.safetensors": "w", "m-2.safetensors": "w"}},
		"index, a part short":  {have: files{"model.safetensors.index.json": index, "m-1.safetensors": "w"}, want: "m-2.safetensors of the set is missing"},
		"index in a directory": {have: files{"t/model.safetensors.index.json": index, "t/m-1.safetensors": "w"}, want: "t/m-2.safetensors of the set is missing"},
		"hostile index":        {have: files{"model.safetensors.index.json": `{"weight_map":{"a":"../x"}}`, "m.safetensors": "w"}, want: `model.safetensors.index.json can't be used: it names the part "../x"`},
		"quant":                {have: files{"m-Q4_K_M.gguf": "w", "m-Q8_0.gguf": ""}, quant: "q4_k_m"},
		"quant, empty":         {have: files{"m-Q4_K_M.gguf": "w", "m-Q8_0.gguf": ""}, quant: "Q8_0", want: "m-Q8_0.gguf is empty"},
		"quant, none":          {have: files{"m-Q4_K_M.gguf": "w"}, quant: "Q4_K", want: "not found"},
		"quant, not GGUF":      {have: files{"m-Q4.safetensors": "w"}, quant: "Q4", want: "not found"},
		"a failing disk":       {have: files{"m.gguf": "!"}, want: "internal error"},
	} {
		got, err := Judge(slices.Sorted(maps.Keys(c.have)), c.quant, c.have)
		if err != nil {
			got = model.KindOf(err).String()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", label, got, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string][4]bool{ // weights, GGUF, index, marker
		"model.gguf": {true, true}, "M.GGUF": {true, true}, "a/b/model.safetensors": {true}, "training_args.bin": {}, "tokenizer.bin": {},
		"config.json": {false, false, false, true}, "model.safetensors.index.json": {false, false, true, true}, "README.md": {},
	} {
		if got := [4]bool{Is(name), format.IsGGUF(name), IsIndex(name), IsMarker(name)}; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for file, want := range map[string]string{"x.gguf": "x", "x-00001-of-00002.gguf": "", "mmproj-x.gguf": "", "x.txt": "", ".gguf": ""} {
		if got, ok := Loose(file); ok != (want != "") || ok && got != want {
			t.Errorf("Loose(%s) = %q, %v", file, got, ok)
		}
	}
	if IsOf("m-Q4_K_M.gguf", "") || IsOf("", "Q4") || !IsOf("Q4_K_M/x.gguf", "q4_k_m") || IsOf("m-Q4_K_M.gguf", "Q4_K") {
		t.Error("labels")
	}
	if d := cmp.Diff([]string{"a/m-00001-of-00002.gguf", "a/m-00002-of-00002.gguf"}, Parts("a/m-00002-of-00002.gguf")); d != "" {
		t.Error(d)
	}
	for _, none := range []string{"m.gguf", "m-00001-of-99999.gguf"} {
		if Parts(none) != nil {
			t.Errorf("%s has parts", none)
		}
	}
}

// What an engine is not given to load, and what says that a directory is a
// model's all the same.
func TestNotWeights(t *testing.T) {
	for _, name := range []string{"optimizer.pt", "scheduler.pt", "rng_state_0.pth", "Scaler.pt", "trainer_state.bin", "model.gguf.txt", "gguf", ""} {
		if Is(name) || Is("a/b/"+name) {
			t.Errorf("%q is something to load", name)
		}
	}
	for _, name := range []string{"model_index.json", "pytorch_model.bin.index.json", "Model.Safetensors.Index.json"} {
		if !IsMarker(name) {
			t.Errorf("%q says nothing", name)
		}
	}
	if IsMarker("tokenizer_config.json") || !IsProjector("x/MMPROJ-F16.gguf") || IsProjector("mmproj/x.gguf") {
		t.Error("markers and projectors")
	}
}

// Errors of the reader are not verdicts.
func TestJudgePassesErrorsOn(t *testing.T) {
	gone := errors.New("the share is gone")
	index := "m.safetensors.index.json"
	for label, r := range map[string]failing{
		"size": {size: gone}, "the head of a small file": {head: gone, of: "m.safetensors"}, "an index": {head: gone, of: index},
	} {
		if why, err := Judge([]string{"m.safetensors", index}, "", r); !errors.Is(err, gone) {
			t.Errorf("%s: %q, %v", label, why, err)
		}
	}
}

// failing is a Reader of small files that fails in one way.
type failing struct {
	size, head error
	of         string // the file whose head can't be read
}

func (f failing) Size(string) (int64, error) { return 1, f.size }

func (f failing) Head(file string, _ int64) ([]byte, error) {
	if file == f.of {
		return nil, f.head
	}
	return []byte("{}"), nil
}

// FuzzLabel: a file that carries a quantisation is of it, for each that a name
// can have.
func FuzzLabel(f *testing.F) {
	for _, seed := range [][2]string{{"m-Q4_K_M.gguf", "Q4_K_M"}, {"m-Q4_K_M.gguf", "Q4_K"}, {"BF16/m.gguf", "bf16"}, {"", ""}, {"aa", "a"}, {"İ-q4", "q4"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, file, quant string) {
		if _, err := model.ParseName("m:" + quant); err == nil && !strings.Contains(quant, "@") && !IsOf("m-"+quant+".gguf", quant) {
			t.Errorf("m-%s.gguf is not of it", quant)
		}
		IsOf(file, quant)
	})
}
