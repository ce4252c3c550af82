package backend

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/format"
)

// The columns of the matrix.
var columns = []Backend{CUDA, ROCm, Metal, Vulkan, DirectML, CPU, Intel, Neuron, TPU}

// matrix are models, each with one kind of weights, and for each column: Y it
// runs, y it runs with limits, - it does not and the root does not list it,
// ? it is not certain and is shown.
var matrix = []struct {
	name  string
	tags  string
	files string
	cells string
}{
	//                                                         cuda rocm metal vulkan directml cpu intel neuron tpu
	{"unsloth/Qwen3-8B-GGUF", "gguf", "Qwen3-8B-Q4_K_M.gguf", "YYYY-Yy--"},
	{"acme/plain", "safetensors", "model.safetensors", "YYY--YYYY"},
	{"acme/pickle", "pytorch", "pytorch_model.bin", "YYY--YYYY"},
	{"mlx-community/Qwen3-8B-4bit", "mlx safetensors 4-bit", "model.safetensors", "--Y--y---"},
	{"mlx-community/Qwen3-8B-bf16", "mlx safetensors", "model.safetensors", "??Y--????"},
	{"acme/a", "gptq 4-bit", "model.safetensors", "Yy---yy--"},
	{"acme/a", "awq 4-bit", "model.safetensors", "Yy---yY--"},
	{"acme/a", "bitsandbytes 4-bit", "model.safetensors", "Yy---yy--"},
	{"acme/a", "fp8", "model.safetensors", "Yy-----y-"},
	{"acme/a-FP8", "compressed-tensors", "model.safetensors", "Yy-----y-"},
	{"acme/a-quantized.w8a8", "compressed-tensors 8-bit", "model.safetensors", "Y----Y--y"},
	{"acme/a", "compressed-tensors", "model.safetensors", "???--????"},
	{"openai/gpt-oss-20b", "mxfp4 8-bit", "model.safetensors", "Yy?--????"},
	{"nvidia/a-NVFP4", "modelopt", "model.safetensors", "Y-?--????"},
	{"acme/a", "aqlm", "model.safetensors", "Y?---y---"},
	{"acme/a", "eetq", "model.safetensors", "Y?-------"},
	{"acme/a", "higgs", "model.safetensors", "Y?-------"},
	{"acme/a", "vptq", "model.safetensors", "Y?-------"},
	{"acme/a", "fbgemm-fp8", "model.safetensors", "Y?-------"},
	{"turboderp/a-exl2", "", "output.safetensors", "Y--------"},
	{"acme/a", "exl3", "model.safetensors", "Y--------"},
	{"acme/a", "hqq", "model.safetensors", "Yy---Yy--"},
	{"acme/a", "torchao", "model.safetensors", "Yy---Yy--"},
	{"acme/a", "quanto", "model.safetensors", "Yyy--Yy--"},
	{"amd/a", "quark", "model.safetensors", "yY---y---"},
	{"acme/a", "onnx", "model.onnx", "Yyy-YYY--"},
	{"acme/a", "openvino", "openvino_model.xml openvino_model.bin", "-----YY--"},
	{"acme/a", "", "rank0.engine rank1.engine config.json", "Y--------"},
	{"acme/a", "", "Model.mlpackage/Data/com.apple.CoreML/weights/weight.bin Model.mlpackage/Manifest.json", "--Y------"},
	{"acme/a", "", "model.neff", "-------Y-"},
	{"acme/a", "", "model.neuron config.json", "-------Y-"},
	{"acme/a", "jax", "flax_model.msgpack", "y----Y--Y"},
	{"acme/a", "", "model.metal.bin", "--Y------"},
	{"acme/a", "", "metal/model.bin", "--Y------"},
	{"acme/a", "", "model.directml.bin", "----Y----"},
	{"acme/a", "", "model.dml.bin", "----Y----"},
	{"acme/a", "", "directml/directml-int4-awq-block-128/model.onnx", "----Y----"},
	{"acme/a", "", "cuda/cuda-int4-rtn-block-32/model.onnx", "Y--------"},
	{"acme/a", "", "model.cuda.bin", "Y--------"},
	{"acme/a", "", "model.rocm.bin", "-Y-------"},
	{"acme/a", "", "vulkan/model.bin", "---Y-----"},
	{"acme/a", "", "cpu_and_mobile/cpu-int4-rtn-block-32/model.onnx", "YYY-YYY--"},
	{"acme/a", "", "gpu/gpu-int4-awq-block-128/model.onnx", "???-?Y?--"},
	// What no row decides is shown everywhere.
	{"acme/a", "", "model.tflite", "?????????"},
	{"ggerganov/whisper.cpp", "", "ggml-base.en.bin", "?????????"},
	{"acme/a", "", "model.nemo", "?????????"},
	{"acme/a", "spqr", "model.safetensors", "???--????"},
}

// configs are what the Hub states of repositories whose names and tags say
// nothing, and the cells of the matrix that this decides.
var configs = []struct{ config, cells string }{
	{`{"model_type":"llama","architectures":["LlamaForCausalLM"]}`, "YYY--YYYY"},
	{`{"quantization":{"group_size":64,"bits":4}}`, "--Y--y---"},
	{`{"quantization_config":{"quant_method":"gptq","bits":4}}`, "Yy---yy--"},
	{`{"quantization_config":{"quant_method":"awq","bits":4}}`, "Yy---yY--"},
	{`{"quantization_config":{"quant_method":"bitsandbytes","load_in_4bit":true}}`, "Yy---yy--"},
	{`{"quantization_config":{"load_in_8bit":true}}`, "Yy---yy--"},
	{`{"quantization_config":{"quant_method":"fp8"}}`, "Yy-----y-"},
	{`{"quantization_config":{"quant_method":"compressed-tensors","format":"float-quantized"}}`, "Yy-----y-"},
	{`{"quantization_config":{"quant_method":"compressed-tensors","format":"int-quantized"}}`, "Y----Y--y"},
	{`{"compression_config":{"quant_method":"compressed-tensors","format":"int-quantized"}}`, "Y----Y--y"},
	{`{"quantization_config":{"quant_method":"compressed-tensors","format":"nvfp4-pack-quantized"}}`, "Y-?--????"},
	{`{"quantization_config":{"quant_method":"modelopt","quant_algo":"NVFP4"}}`, "Y-?--????"},
	{`{"quantization_config":{"quant_method":"mxfp4"}}`, "Yy?--????"},
	{`{"quantization_config":{"quant_method":"aqlm"}}`, "Y?---y---"},
	{`{"quantization_config":{"quant_method":"eetq"}}`, "Y?-------"},
	{`{"quantization_config":{"quant_method":"higgs"}}`, "Y?-------"},
	{`{"quantization_config":{"quant_method":"vptq"}}`, "Y?-------"},
	{`{"quantization_config":{"quant_method":"fbgemm_fp8"}}`, "Y?-------"},
	{`{"quantization_config":{"quant_method":"exl2","bits":2.25}}`, "Y--------"},
	{`{"quantization_config":{"quant_method":"exl3","bits":3.5}}`, "Y--------"},
	{`{"quantization_config":{"quant_method":"hqq"}}`, "Yy---Yy--"},
	{`{"quantization_config":{"quant_method":"quanto"}}`, "Yyy--Yy--"},
	{`{"quantization_config":{"quant_method":"torchao"}}`, "Yy---Yy--"},
	{`{"quantization_config":{"quant_method":"quark"}}`, "yY---y---"},
	{`{"quantization_config":{"quant_method":"of-tomorrow"}}`, "???--????"},
}

func TestMatrixByConfig(t *testing.T) {
	r := rulesOf(t)
	for _, tt := range configs {
		traits, err := format.ParseConfig([]byte(tt.config))
		if err != nil {
			t.Fatal(err)
		}
		m := repo("acme/a", nil, "model.safetensors")
		m.Traits = *traits
		got := ""
		for _, b := range columns {
			got += cellOf(r.Runs(only(b), format.Of(m, format.Hints{}).Artifacts[0]))
		}
		if got != tt.cells {
			t.Errorf("%s:\n got %s\nwant %s", tt.config, got, tt.cells)
		}
	}
}

func TestMatrix(t *testing.T) {
	r := rulesOf(t)
	for _, tt := range matrix {
		m := repo(tt.name, split(tt.tags), split(tt.files)...)
		s := format.Of(m, format.Hints{})
		if len(s.Artifacts) != 1 {
			t.Errorf("%s %s: %d artifacts", tt.name, tt.files, len(s.Artifacts))
			continue
		}
		got := ""
		for _, b := range columns {
			cell := cellOf(r.Runs(only(b), s.Artifacts[0]))
			shown := r.Filter(only(b), s)
			if shown.Model != (cell != "-") || (shown.Why == "") != shown.Model || shown.Hidden != nil {
				t.Errorf("%s %s on %s: %s, but the filter says %+v", tt.name, tt.files, b, cell, shown)
			}
			got += cell
		}
		if got != tt.cells {
			t.Errorf("%s (%s) %s:\n got %s\nwant %s", tt.name, tt.tags, tt.files, got, tt.cells)
		}
		checkSupport(t, r.Support(s), tt.cells)
	}
}

func cellOf(r Result) string {
	switch {
	case r.Verdict == No:
		return "-"
	case r.Verdict == Unknown:
		return "?"
	case r.Limited:
		return "y"
	}
	return "Y"
}

// checkSupport compares the lists for `modelfs ls` with a row of the matrix.
func checkSupport(t *testing.T, s Support, cells string) {
	t.Helper()
	of := func(cell byte) (list []Backend) {
		for _, b := range allBackends {
			for i, c := range columns {
				if b == c && cells[i] == cell {
					list = append(list, b)
				}
			}
		}
		return list
	}
	drop := func(list []Backend) (out []Backend) { // Gaudi is in no column
		for _, b := range list {
			if b != Gaudi {
				out = append(out, b)
			}
		}
		return out
	}
	got := Support{Yes: drop(s.Yes), Limited: drop(s.Limited), Unknown: drop(s.Unknown)}
	if diff := cmp.Diff(Support{Yes: of('Y'), Limited: of('y'), Unknown: of('?')}, got); diff != "" {
		t.Error(diff)
	}
}

// Of several backends the best counts.
func TestUnionOfBackends(t *testing.T) {
	r := rulesOf(t)
	a := format.Artifact{Format: format.Safetensors, Scheme: "gptq"}
	for _, tt := range []struct {
		sel  Selection
		want Result
	}{
		{only(Vulkan), Result{Verdict: No, Rule: "gptq"}},
		{only(Vulkan, ROCm), Result{Verdict: Yes, Rule: "gptq", Limited: true}},
		{only(Vulkan, ROCm, CUDA), Result{Verdict: Yes, Rule: "gptq"}},
		{only(Gaudi), Result{Verdict: Unknown, Rule: "gptq"}},
		{Selection{All: true}, Result{Verdict: Yes}},
	} {
		if diff := cmp.Diff(tt.want, r.Runs(tt.sel, a)); diff != "" {
			t.Errorf("%s: %s", tt.sel, diff)
		}
	}
}

// Every rule is there for something, and says why.
func TestRulesAreUsed(t *testing.T) {
	r := rulesOf(t)
	used := map[string]bool{}
	for _, tt := range matrix {
		s := format.Of(repo(tt.name, split(tt.tags), split(tt.files)...), format.Hints{})
		used[r.Runs(only(CUDA), s.Artifacts[0]).Rule] = true
	}
	for _, rule := range r.list {
		if !used[rule.Name] {
			t.Errorf("no row of the matrix uses rule %s", rule.Name)
		}
	}
}

func TestParseRulesRefuses(t *testing.T) {
	row := func(s string) string { return `{"rules":[` + s + `]}` }
	good := `{"name":"a","formats":["gguf"],"on":{"cpu":"no"},"evidence":"e"}`
	if _, err := ParseRules([]byte(row(good))); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, table, want string }{
		{"not JSON", "rules: []", "table of rules"},
		{"unknown field", row(strings.Replace(good, "name", "title", 1)), "title"},
		{"no name", row(strings.Replace(good, `"a"`, `""`, 1)), "no name"},
		{"no evidence", row(strings.Replace(good, `"e"`, `""`, 1)), "no evidence"},
		{"no formats", row(strings.Replace(good, `["gguf"]`, `[]`, 1)), "no formats"},
		{"unknown format", row(strings.Replace(good, "gguf", "gufg", 1)), `"gufg" is no format`},
		{"unknown backend", row(strings.Replace(good, "cpu", "npu", 1)), `"npu" is no backend`},
		{"unknown outcome", row(strings.Replace(good, `"no"`, `"maybe"`, 1)), "maybe"},
		{"twice", row(good + "," + good), "twice"},
		{"more after the end", row(good) + "{}", "follows"},
		{"too large", strings.Repeat(" ", maxRules+1), "larger"},
	} {
		if _, err := ParseRules([]byte(tt.table)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

// An operator's table replaces the built-in one: what it does not say is
// unknown, and shown.
func TestReplacedRules(t *testing.T) {
	r, err := ParseRules([]byte(`{"rules":[{"name":"mine","formats":["gguf"],"on":{"cuda":"no"},"evidence":"tried"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	gguf := format.Of(repo("a", nil, "a.gguf"), format.Hints{})
	mlx := format.Of(repo("a", split("mlx 4-bit"), "a.safetensors"), format.Hints{})
	if s := r.Filter(only(CUDA), gguf); s.Model {
		t.Errorf("gguf is shown: %+v", s)
	}
	if s := r.Filter(only(CUDA), mlx); !s.Model || s.Hidden != nil {
		t.Errorf("mlx is not shown: %+v", s)
	}
}
