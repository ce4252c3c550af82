package huggingface

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

// What the Hub has read of configs and headers comes with the listing, in the
// requests that the listing costs anyway.
func TestTraitsComeWithTheListing(t *testing.T) {
	hub := hubtest.New(t)
	hub.AddRepo(hubtest.Repo{ID: "org/m", Tags: []string{"safetensors"}, Library: "transformers",
		Files: []hubtest.File{{Path: "model.safetensors", Content: hubtest.Text("x")}, {Path: "config.json", Content: hubtest.Text("{}")}},
		Extra: map[string]any{
			"config":      map[string]any{"model_type": "llama", "quantization_config": map[string]any{"quant_method": "awq", "bits": 4}},
			"safetensors": map[string]any{"parameters": map[string]any{"I32": 200, "F16": 100}, "total": 300}}})
	m, err := list(t, atHub(t, hub, ""), "org/m")
	must(t, err)
	want := model.Traits{Library: "transformers", Architecture: "llama", Scheme: "awq", Bits: 4, Dtype: "I32", Parameters: 300}
	if diff := cmp.Diff(want, m.Traits); diff != "" {
		t.Error(diff)
	}
	if n := len(hub.Site.Requests(hubtest.Filter{})); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestTraits(t *testing.T) {
	for _, tt := range []struct {
		name, fields string
		want         model.Traits
	}{
		{"nothing", ``, model.Traits{}},
		{"nulls", `,"config":null,"gguf":null,"safetensors":null,"library_name":null`, model.Traits{}},
		{"other types", `,"config":[1],"gguf":"x","safetensors":{"parameters":[1]},"library_name":{}`, model.Traits{}},
		{"an architecture alone", `,"config":{"architectures":["GPT2LMHeadModel"]}`, model.Traits{Architecture: "GPT2LMHeadModel"}},
		{"GGUF", `,"gguf":{"total":8030261248,"architecture":"llama","context_length":8192}`, model.Traits{Architecture: "llama", Parameters: 8030261248}},
		{"GGUF beside a config", `,"config":{"model_type":"mllama"},"gguf":{"total":5,"architecture":"llama"}`, model.Traits{Architecture: "llama", Parameters: 5}},
		{"safetensors", `,"safetensors":{"parameters":{"F32":1,"BF16":2},"total":3}`, model.Traits{Dtype: "BF16", Parameters: 3}},
		{"negative counts", `,"safetensors":{"total":-3},"gguf":{"total":-1,"architecture":"a"}`, model.Traits{Architecture: "a"}},
		{"hostile texts", `,"library_name":"\u001b[2J","config":{"model_type":"` + strings.Repeat("x", 65) + `"},"gguf":{"architecture":"\u0007"}`, model.Traits{}},
		{"MLX", `,"library_name":"mlx","config":{"quantization":{"group_size":64,"bits":4}}`, model.Traits{Library: "mlx", MLX: true, Scheme: "mlx", Bits: 4}},
	} {
		info, err := parseInfo([]byte(`{"id":"org/m","sha":"` + commit + `"` + tt.fields + `}`))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err) // what is odd here makes no name unknown
			continue
		}
		if diff := cmp.Diff(tt.want, info.traits()); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestTagsAreBounded(t *testing.T) {
	tags := append([]string{strings.Repeat("x", maxTag+1), "gguf"}, make([]string, 2*maxTags)...)
	if got := boundedTags(tags); len(got) != maxTags || got[0] != "gguf" {
		t.Errorf("%d tags, the first %.20q", len(got), got[0])
	}
}
