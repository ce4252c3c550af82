package format

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

func TestParseConfig(t *testing.T) {
	for _, tt := range []struct {
		name, json string
		want       model.Traits
	}{
		{"plain", `{"architectures":["LlamaForCausalLM"],"model_type":"llama","torch_dtype":"bfloat16"}`, model.Traits{Architecture: "llama", Dtype: "bfloat16"}},
		{"architectures only, new dtype", `{"architectures":["X"],"dtype":"torch.float16"}`, model.Traits{Architecture: "X", Dtype: "float16"}},
		{"gptq", `{"quantization_config":{"quant_method":"gptq","bits":4}}`, model.Traits{Scheme: "gptq", Bits: 4}},
		{"exl2", `{"quantization_config":{"quant_method":"exl2","bits":2.25}}`, model.Traits{Scheme: "exl2", Bits: 2.25}},
		{"bits as text", `{"quantization_config":{"quant_method":"awq","bits":"4"}}`, model.Traits{Scheme: "awq", Bits: 4}},
		{"bits that are none", `{"quantization_config":{"quant_method":"awq","bits":[4]}}`, model.Traits{Scheme: "awq"}},
		{"bitsandbytes without method", `{"quantization_config":{"load_in_4bit":true}}`, model.Traits{Scheme: "bitsandbytes", Bits: 4}},
		{"fp8", `{"quantization_config":{"quant_method":"fp8"}}`, model.Traits{Scheme: "fp8"}},
		{"fbgemm", `{"quantization_config":{"quant_method":"fbgemm_fp8"}}`, model.Traits{Scheme: "fbgemm"}},
		{"compressed fp8", `{"quantization_config":{"quant_method":"compressed-tensors","format":"float-quantized"}}`, model.Traits{Scheme: "fp8"}},
		{"compressed int8", `{"quantization_config":{"quant_method":"compressed-tensors","format":"int-quantized"}}`, model.Traits{Scheme: "int8"}},
		{"compressed nvfp4", `{"quantization_config":{"quant_method":"compressed-tensors","format":"nvfp4-pack-quantized"}}`, model.Traits{Scheme: "nvfp4"}},
		{"compressed int4", `{"quantization_config":{"quant_method":"compressed-tensors","format":"pack-quantized"}}`, model.Traits{Scheme: "compressed-tensors"}},
		{"old compressed", `{"compression_config":{"quant_method":"compressed-tensors","format":"float-quantized"}}`, model.Traits{Scheme: "fp8"}},
		{"modelopt", `{"quantization_config":{"quant_method":"modelopt","quant_algo":"NVFP4"}}`, model.Traits{Scheme: "nvfp4"}},
		{"mxfp4", `{"quantization_config":{"quant_method":"mxfp4"}}`, model.Traits{Scheme: "mxfp4"}},
		{"MLX", `{"quantization":{"group_size":64,"bits":4}}`, model.Traits{Scheme: "mlx", Bits: 4, MLX: true}},
		{"new MLX", `{"quantization":{"group_size":64,"bits":4},"quantization_config":{"group_size":64,"bits":4}}`, model.Traits{Scheme: "mlx", Bits: 4, MLX: true}},
		{"a method that nobody knows", `{"quantization_config":{"quant_method":"Foo"}}`, model.Traits{Scheme: "foo"}},
		{"hostile texts", `{"model_type":"\u001b[2J","dtype":{"a":1},"quantization_config":{"quant_method":"a\u0007"}}`, model.Traits{}},
	} {
		got, err := ParseConfig([]byte(tt.json))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(&tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	for _, bad := range []string{"", "[]", `{"model_type":1}`, "{", strings.Repeat(" ", maxConfig+1)} {
		if _, err := ParseConfig([]byte(bad)); !model.IsKind(err, model.Invalid) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestInspect(t *testing.T) {
	const shard = `{"weight_map":{"a":"m-00001-of-00002.safetensors","b":"m-00002-of-00002.safetensors","c":"extra.safetensors"}}`
	bf16 := safetensors(`{"__metadata__":{"format":"pt"},"t":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}`, 4)
	mlx := safetensors(`{"__metadata__":{"format":"mlx"},"t":{"dtype":"U32","shape":[1],"data_offsets":[0,4]}}`, 4)
	whole := goodGGUF(le)
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
		arch  string
		size  string
	}{
		{name: "config outranks the name", files: map[string]string{"config.json": `{"model_type":"qwen3","torch_dtype":"float16"}`, "model.safetensors": bf16},
			want: []string{`safetensors "fp16": model.safetensors`}, arch: "qwen3"},
		{name: "the header's type where the config has none", files: map[string]string{"model.safetensors": bf16, "config.json": "{}"},
			want: []string{`safetensors "bf16": model.safetensors`}},
		{name: "nearest config", files: map[string]string{"config.json": `{"quantization_config":{"quant_method":"awq","bits":4}}`, "model.bin": "x",
			"fp/config.json": `{}`, "fp/deep/model.bin": "x"},
			want: []string{`pickle: fp/deep/model.bin`, `pickle/awq "awq 4-bit": model.bin`}},
		{name: "GPTQ's own file", files: map[string]string{"config.json": `{"model_type":"llama"}`, "quantize_config.json": `{"bits":4,"group_size":128}`, "model.safetensors": bf16},
			want: []string{`safetensors/gptq "gptq 4-bit": model.safetensors`}, arch: "llama"},
		{name: "AWQ's own file, read before config.json is", files: map[string]string{"quant_config.json": `{"w_bit":4}`, "model.bin": "x"},
			want: []string{`pickle/awq "awq": model.bin`}},
		{name: "ModelOpt's own file", files: map[string]string{"hf_quant_config.json": `{"quantization":{"quant_algo":"NVFP4"}}`, "config.json": "{}", "model.bin": "x"},
			want: []string{`pickle/nvfp4 "nvfp4": model.bin`}},
		{name: "MLX by its header", files: map[string]string{"model.safetensors": mlx}, want: []string{`mlx/mlx: model.safetensors`}},
		{name: "index", files: map[string]string{"m.safetensors.index.json": shard, "m-00001-of-00002.safetensors": bf16, "m-00002-of-00002.safetensors": bf16},
			want: []string{`safetensors "bf16": m-00001-of-00002.safetensors m-00002-of-00002.safetensors !extra.safetensors, which m.safetensors.index.json names, is missing`}},
		{name: "GGUF", files: map[string]string{"a-Q4_K_M.gguf": whole}, want: []string{`gguf "Q4_K_M": a-Q4_K_M.gguf`}, arch: "llama", size: "8B"},
		{name: "GGUF whose name says nothing", files: map[string]string{"a.gguf": whole}, want: []string{`gguf "Q4_K_M": a.gguf`}, arch: "llama", size: "8B"},
		{name: "truncated GGUF", files: map[string]string{"a.gguf": whole[:len(whole)-1]},
			want: []string{`gguf "Q4_K_M": a.gguf !a.gguf is truncated: it has 639 of 640 bytes`}, arch: "llama", size: "8B"},
		{name: "no GGUF", files: map[string]string{"a.gguf": "version https://git-lfs.github.com/spec/v1\n"},
			want: []string{`gguf: a.gguf !a.gguf: it is not a GGUF file: it does not begin with GGUF`}},
		{name: "truncated safetensors", files: map[string]string{"a.safetensors": bf16[:len(bf16)-1]},
			want: []string{`safetensors "bf16": a.safetensors !a.safetensors is truncated: it has 97 of 98 bytes`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, h := inspect(t, "acme/a", tt.files)
			s := Of(m, h)
			if diff := cmp.Diff(tt.want, lines(s)); diff != "" {
				t.Error(diff)
			}
			if s.Architecture != tt.arch || s.Parameters != tt.size {
				t.Errorf("architecture %q, parameters %q", s.Architecture, s.Parameters)
			}
		})
	}
}

// A file that can't be opened or read ends the inspection; what it says is
// something else.
func TestInspectReportsReaders(t *testing.T) {
	m := repo("a", nil, "a.gguf", "model.safetensors")
	broken := errors.New("the share is gone")
	_, err := Inspect(m, func(*model.File) (Local, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("opening: %v", err)
	}
	for _, p := range split("a.gguf model.safetensors config.json m.index.json") {
		closed := 0
		_, err := Inspect(repo("a", nil, p), func(*model.File) (Local, error) { return failing{broken, &closed}, nil })
		if !errors.Is(err, broken) || closed != 1 || !strings.Contains(err.Error(), p) {
			t.Errorf("reading %s: %v, closed %d times", p, err, closed)
		}
	}
}

type failing struct {
	err    error
	closed *int
}

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }
func (f failing) Close() error                      { *f.closed++; return nil }

var _ io.ReaderAt = failing{}

func TestParseIndex(t *testing.T) {
	got, err := ParseIndex([]byte(`{"metadata":{"total_size":1},"weight_map":{"b":"2.bin","a":"1.bin","c":"1.bin"}}`))
	if diff := cmp.Diff([]string{"1.bin", "2.bin"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, bad := range []string{"", "{", `{"weight_map":{"a":"../x"}}`, `{"weight_map":{"a":""}}`, `{"weight_map":[]}`} {
		if _, err := ParseIndex([]byte(bad)); !model.IsKind(err, model.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseIndexIsBounded(t *testing.T) {
	if _, err := ParseIndex(make([]byte, MaxIndex+1)); !model.IsKind(err, model.Invalid) {
		t.Error(err)
	}
}

func FuzzParseIndex(f *testing.F) {
	for _, seed := range []string{`{"weight_map":{"a":"x.safetensors","b":"x.safetensors"}}`, `{"weight_map":{"a":"x.safetensors","b":"../y"}}`,
		`{}`, `null`, `[]`, `{"weight_map":[]}`, `{"weight_map":{"a":"../x"}}`, `{"weight_map":{"a":1}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		parts, err := ParseIndex(raw)
		if err != nil && !model.IsKind(err, model.Invalid) {
			t.Errorf("kind of %v", err)
		}
		for i, p := range parts {
			if !model.ValidPath(p) || i > 0 && parts[i-1] >= p {
				t.Errorf("parts %q", parts)
			}
		}
	})
}
