package format

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// labels is the grammar of labels.
var labels = regexp.MustCompile(`(UD-)?(BF16|F16|F32|MXFP4(_MOE)?|NVFP4|IQ[0-9]_[A-Z]+(_[A-Z]+)*|T?Q[0-9]_[0-9K](_[A-Z]+)*)`)

func TestLabelsFollowTheGrammar(t *testing.T) {
	piece := rapid.SampledFrom(split("UD- BF16 F16 F 16 F32 MXFP4 _MOE NVFP4 IQ 4 _ XS T Q 4_K _M _0 K B - . U D a TQ1_0 Q4_ é"))
	rapid.Check(t, func(t *rapid.T) {
		name := strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "pieces"), "")
		want := ""
		if all := labels.FindAllString(name, -1); all != nil {
			want = all[len(all)-1]
		}
		if got := lastLabel(name); got != want {
			t.Fatalf("the last label of %q is %q, want %q", name, got, want)
		}
	})
}

func TestQuantLabel(t *testing.T) {
	for _, tt := range []struct{ path, want string }{
		{"Qwen3-8B-Q4_K_M.gguf", "Q4_K_M"}, {"qwen3-8b.q4_k_m.GGUF", "Q4_K_M"}, {"model_Q8_0.gguf", "Q8_0"}, {"a-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"},
		{"a-IQ4_XS.gguf", "IQ4_XS"}, {"a-IQ2_XXS.gguf", "IQ2_XXS"}, {"a-TQ1_0.gguf", "TQ1_0"}, {"a-BF16.gguf", "BF16"}, {"a.f16.gguf", "F16"},
		{"a-F32.gguf", "F32"}, {"gpt-oss-20b-MXFP4.gguf", "MXFP4"}, {"a-mxfp4_moe.gguf", "MXFP4_MOE"}, {"a-NVFP4.gguf", "NVFP4"},
		{"a-Q4_0-Q8_0.gguf", "Q8_0"}, {"a-Q4_K_M-00001-of-00003.gguf", "Q4_K_M"}, {"Q5_K_S/part-00001-of-00002.gguf", "Q5_K_S"},
		{"Q5_K_S/sub/a-Q2_K.gguf", "Q2_K"}, {"Q6_K/sub/a.gguf", "Q6_K"}, {"model.gguf", ""}, {"llama-7b.gguf", ""}, {"", ""}, {"a/b/c", ""},
		{"/Q4_0/a.gguf", "Q4_0"},
	} {
		if got := QuantLabel(tt.path); got != tt.want {
			t.Errorf("the label of %q is %q, want %q", tt.path, got, tt.want)
		}
	}
}

func TestMatchesQuant(t *testing.T) {
	for _, tt := range []struct {
		path, quant string
		want        bool
	}{
		{"a-Q4_K_M.gguf", "Q4_K_M", true}, {"a-Q4_K_M.gguf", "q4_k_m", true}, {"a_Q4_K_M.gguf", "Q4_K_M", true}, {"a-Q4_K_M.gguf", "Q4_K", false},
		{"a-UD-Q4_K_XL.gguf", "Q4_K_XL", true}, {"a-UD-Q4_K_XL.gguf", "UD-Q4_K_XL", true}, {"a-IQ4_XS.gguf", "Q4_XS", false},
		{"Q8_0/a.gguf", "Q8_0", true}, {"a-Q8_0-v2.gguf", "Q8_0", true}, {"a-custom.gguf", "custom", true}, {"a.gguf", "", false}, {"a.gguf", "-", false},
	} {
		if got := MatchesQuant(tt.path, tt.quant); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.path, tt.quant, got)
		}
	}
}

func TestHasQuant(t *testing.T) {
	files := repo("a", nil, "a-Q4_K_M.gguf", "mmproj-F16.gguf", "a-BF16.safetensors").Files
	for quant, want := range map[string]bool{"Q4_K_M": true, "F16": false, "BF16": false} {
		if got := HasQuant(files, quant); got != want {
			t.Errorf("has %s: %v", quant, got)
		}
	}
}

func TestSizeLabel(t *testing.T) {
	for name, want := range map[string]string{"Qwen/Qwen3-8B": "8B", "unsloth/Qwen3-0.6b-GGUF": "0.6B", "mistralai/Mixtral-8x7B-v0.1": "8x7B",
		"Qwen/Qwen3-30B-A3B": "30B", "google/gemma-3-270m-it": "270M", "google/gemma-3n-E4B-it": "E4B", "gpt2": "", "llama3.2:1b": "1B",
		"acme/model-4bit": "", "Phi-3.5-mini": "", "openai/gpt-oss-120b": "120B", "acme/12345B": ""} {
		if got := SizeLabel(name); got != want {
			t.Errorf("the size of %q is %q, want %q", name, got, want)
		}
	}
}
