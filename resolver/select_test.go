package resolver

import (
	"strings"
	"testing"

	"modelfs/internal/format"
	"modelfs/internal/model"
)

func TestLabels(t *testing.T) {
	for path, want := range map[string]string{
		"Llama-2-7B-Q4_K_M.gguf":           "Q4_K_M",
		"model.Q5_K_S.gguf":                "Q5_K_S",
		"model-BF16.gguf":                  "BF16",
		"model-f16.gguf":                   "F16",
		"model-IQ4_XS.gguf":                "IQ4_XS",
		"qwen3-8b-q4_k_m.gguf":             "Q4_K_M",
		"Qwen3-8B-UD-Q4_K_XL.gguf":         "UD-Q4_K_XL",
		"gpt-oss-20b-MXFP4.gguf":           "MXFP4",
		"gpt-oss-20b-MXFP4_MOE.gguf":       "MXFP4_MOE",
		"x-NVFP4.gguf":                     "NVFP4",
		"x-TQ1_0.gguf":                     "TQ1_0",
		"x_Q8_0.gguf":                      "Q8_0",
		"F16-to-Q6_K.gguf":                 "Q6_K", // the last one counts
		"Q4_K_M/model.gguf":                "Q4_K_M",
		"BF16/model-Q2_K.gguf":             "Q2_K",
		"Q3_K_L/x-00001-of-00002.gguf":     "Q3_K_L",
		"x-Q3_K_L-00001-of-00002.gguf":     "Q3_K_L",
		"llama-model.gguf":                 "",
		"model.gguf":                       "",
		".gguf":                            "",
		"Q/F/MX/MXAB/Q4-K-M/instruct.gguf": "",
	} {
		if got := format.QuantLabel(path); got != want {
			t.Errorf("label(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestDefaultFile(t *testing.T) {
	for _, c := range []struct {
		name   string
		files  string // separated by spaces
		hidden string
		quant  string
		want   string
	}{
		{"no GGUF", "config.json model.safetensors", "", "", ""},
		{"the only one", "README.md x.gguf", "", "", "x.gguf"},
		{"preferred", "x-F16.gguf x-Q4_K_M.gguf x-Q8_0.gguf", "", "", "x-Q4_K_M.gguf"},
		{"second preference", "x-F16.gguf x-Q2_K.gguf x-Q8_0.gguf", "", "", "x-Q8_0.gguf"},
		{"order of names", "b-Q3_K_S.gguf a-F16.gguf", "", "", "a-F16.gguf"},
		{"asked for", "x-F16.gguf x-Q4_K_M.gguf", "", "F16", "x-F16.gguf"},
		{"asked for, other case", "x-F16.gguf x-Q4_K_M.gguf", "", "f16", "x-F16.gguf"},
		{"an exact label before a longer one", "a-UD-Q4_K_M.gguf b-Q4_K_M.gguf", "", "Q4_K_M", "b-Q4_K_M.gguf"},
		{"a longer one if there is no other", "a-UD-Q4_K_M.gguf b-Q8_0.gguf", "", "Q4_K_M", "a-UD-Q4_K_M.gguf"},
		{"a prefix is another quantisation", "x-Q4_K_M.gguf x-Q8_0.gguf", "", "Q4_K", "x-Q4_K_M.gguf"},
		{"no match: as if not asked (the source's own tag)", "x-F16.gguf x-Q8_0.gguf", "", "20b", "x-Q8_0.gguf"},
		{"a word that is no label", "x-20b.gguf x-120b.gguf", "", "120b", "x-120b.gguf"},
		{"in a directory", "F16/x.gguf Q4_K_M/x.gguf", "", "", "Q4_K_M/x.gguf"},
		{"a projector", "mmproj-F16.gguf x-mmproj-Q4_K_M.gguf", "", "", ""},
		{"a projector first", "mmproj-Q4_K_M.gguf x-Q8_0.gguf", "", "", "x-Q8_0.gguf"},
		{"companions", "x.imatrix.gguf mtp-x-Q4_K_M.gguf y-Q2_K.gguf", "", "", "y-Q2_K.gguf"},
		{"parts", "x-Q4_K_M-00001-of-00002.gguf x-Q4_K_M-00002-of-00002.gguf", "", "", ""},
		{"parts asked for", "x-F16-00001-of-00002.gguf x-F16-00002-of-00002.gguf x-Q8_0.gguf", "", "F16", ""},
		{"parts preferred, a file there", "x-F16.gguf x-Q4_K_M-00001-of-00002.gguf", "", "", "x-F16.gguf"},
		{"a set of one", "x-Q4_K_M-00001-of-00001.gguf", "", "", "x-Q4_K_M-00001-of-00001.gguf"},
		{"a real file", "model.gguf x-Q4_K_M.gguf", "", "", ""},
		{"a real file further down", "a/model.gguf", "", "", "a/model.gguf"},
		{"hidden", "x-Q4_K_M.gguf x-Q8_0.gguf", "x-Q4_K_M.gguf", "", "x-Q8_0.gguf"},
		{"upper-case ending", "X.GGUF", "", "", "X.GGUF"},
	} {
		files := []model.File{}
		for _, p := range strings.Fields(c.files) {
			files = append(files, model.File{Path: p})
		}
		files, _ = model.Listing(files)
		got, why := defaultFile(files, map[string]bool{c.hidden: true}, c.quant, defaultQuants)
		if got != c.want || why == "" {
			t.Errorf("%s: defaultFile(%s, quant %q) = %q (%s), want %q", c.name, c.files, c.quant, got, why, c.want)
		}
	}
}

func TestHasQuant(t *testing.T) {
	files := []model.File{{Path: "mmproj-F16.gguf"}, {Path: "x-Q8_0.safetensors"}, {Path: "BF16/x-00001-of-00002.gguf"}, {Path: "x-UD-Q4_K_XL.gguf"}}
	for quant, want := range map[string]bool{
		"BF16": true, "bf16": true, "UD-Q4_K_XL": true, "Q4_K_XL": true, "F16": false, "Q8_0": false, "Q4_K": false, "UD": true, "x": true, ".": false, "": false,
	} {
		if got := format.HasQuant(files, quant); got != want {
			t.Errorf("hasQuant(%q) = %v, want %v", quant, got, want)
		}
	}
}

func FuzzDefaultFile(f *testing.F) {
	f.Add("x-Q4_K_M.gguf", "mmproj-F16.gguf", "Q4_K_M")
	f.Add("a/b/x-00001-of-00002.gguf", ".gguf", "")
	f.Add("/", "..", "-")
	f.Add("//x", "Q4_K_M/", ".")
	f.Fuzz(func(t *testing.T, a, b, quant string) {
		files, _ := model.Listing([]model.File{{Path: a}, {Path: b}})
		_ = format.QuantLabel(a)
		got, why := defaultFile(files, nil, quant, defaultQuants)
		if why == "" {
			t.Error("no reason is given")
		}
		if got != "" && (got != a && got != b || format.IsCompanion(got) || isPart(got) || !format.IsGGUF(got)) {
			t.Errorf("chose %q of %q and %q", got, a, b)
		}
	})
}
